"""Speech made while a GPU trains, here on the CPU: audio and tokens lie where they should, features are the stock ones."""
import argparse
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import channel
import live
from lattice import NEVER
from model import frames_out, tokens


def chunk(path, texts, seconds=1.5):
    """A chunk of tones, one a text, with evenly spread token times."""
    rng, rows = np.random.default_rng(1), []
    for i, text in enumerate(texts):
        n = int(live.RATE * (seconds + .1 * i))
        x = .3 * np.sin(np.arange(n) * (.05 + .01 * i)).astype(np.float32) + 1e-3 * rng.standard_normal(n).astype(np.float32)
        ids = tokens(text)
        rows.append((ids, x, [1000 * n / live.RATE * (k + .5) / len(ids) for k in range(len(ids))], 1.))
    live.put(live.write, rows, path)
    return rows


@pytest.fixture
def feed(tmp_path, monkeypatch):
    """A feed without speaking processes, and the rows of its pool."""
    monkeypatch.setattr(live, "TEXTS", 20)
    monkeypatch.setattr(channel, "BANK_S", 2)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "open.txt").write_text("this is a sentence\nand here is another one\n")
    args = argparse.Namespace(seed=1, device="cpu", pool_hours=.01, chunks=tmp_path / "chunks", speakers=0, inventing=.6, augment=0., frames=600,
                              data=tmp_path / "data", spelling_rows=3)
    feed = live.Feed(args, 0, 0)
    rows = chunk(tmp_path / "chunks" / "0" / "a", ["go on", "stop", "it's half past nine", "a b"])
    feed.look()
    return feed, rows


def test_a_chunk_goes_into_the_pool_once(feed):
    feed, rows = feed
    assert feed.pool.utterances == 4 and not list(feed.folder.iterdir())
    for (start, samples, first, count), level, (ids, x, *_) in zip(feed.pool.rows, feed.pool.level, rows):
        back = feed.pool.audio[start:start + samples].numpy() * level
        assert feed.pool.ids[first:first + count].tolist() == ids
        assert abs(np.corrcoef(back, x)[0, 1] - 1) < 1e-6 and .5 < back.std() < 1.5


def test_a_full_pool_takes_nothing_more(feed, tmp_path):
    feed, _ = feed
    feed.pool.audio = feed.pool.audio[:feed.pool.used + 10]
    chunk(tmp_path / "chunks" / "0" / "b", ["go on"])
    before = feed.pool.used
    feed.look()
    assert feed.pool.used == before and not list(feed.folder.iterdir())


def test_audio_and_tokens_of_a_chain_lie_where_they_are_placed(feed):
    feed, rows = feed
    chain = [[(0, 1.), (2, 1.)], [(1, 1.)]]
    heard = {}
    feed.channel.hear = lambda x, inside, empty, played: heard.setdefault("x", x)
    placed = feed.place(chain)
    feed.place = lambda _: placed
    feats, frames, y, at, u = feed.batch(chain)
    utterance, _, row, first, ends = placed
    for m, i, o in zip(utterance, row, first):
        x = rows[m][1]
        part = heard["x"][i, o:o + len(x)].numpy()
        assert np.corrcoef(part, x)[0, 1] > .999
    assert u.tolist() == [len(rows[0][0]) + len(rows[2][0]), len(rows[1][0])]
    assert y[0, :u[0]].tolist() == rows[0][0] + rows[2][0] and y[1, :u[1]].tolist() == rows[1][0]
    wanted = [1000 * o / live.RATE + t for m, o in zip(utterance[:2], first[:2]) for t in rows[m][2]]
    assert all(0 <= f - int(ms / 40) <= 1 for f, ms in zip(at[0].tolist(), wanted))
    assert at[1, u[1]:].tolist() == [NEVER] * (at.shape[1] - int(u[1]))
    assert frames.tolist() == [e // 160 for e in ends] and feats.shape[1] >= max(frames)
    assert not feats[1, frames[1]:].any()


def test_without_changes_the_features_are_the_stock_ones(feed):
    feed, _ = feed
    heard = {}
    hear = feed.channel.hear
    feed.channel.hear = lambda *given: heard.setdefault("x", hear(*given))
    feats, frames, *_ = feed.batch([[(0, 1.)], [(3, 1.)]])
    for x, f, n, end in zip(heard["x"], feats, frames, frames * 160):
        stock = feed.channel.extractor(x[:end + 159].numpy(), sampling_rate=16000, return_tensors="pt")["input_features"][0, :n]
        assert torch.allclose(f[:n - 2], stock[:n - 2], atol=2e-3)          # the last window reaches behind the row
        assert x.abs().max() <= 1 and f[n:].eq(0).all()


def test_speed_moves_audio_and_times_alike(feed):
    feed, rows = feed
    placed = feed.place([[(2, 1.25)]])
    feed.place = lambda _: placed
    _, frames, _, at, u = feed.batch([[(2, 1.25)]])
    lead = 1000 * placed[3][0] / live.RATE
    assert abs(int(at[0, u[0] - 1]) - int((lead + rows[2][2][-1] / 1.25) / 40)) <= 1
    assert int(frames[0]) < len(rows[2][1]) / 1.25 / 160 + 165


def test_frames_ascend_and_end_inside():
    ms = torch.tensor([[0., 10., 20., 300., 9000.], [500., float(NEVER), float(NEVER), float(NEVER), float(NEVER)]])
    at = live.Feed.frames_of(ms, torch.tensor([5, 1]), torch.tensor([50, 40]))
    assert at.tolist() == [[0, 1, 2, 7, 49], [12] + [NEVER] * 4]


def test_every_change_keeps_shape_and_sense():
    torch.manual_seed(0)
    c = channel.Channel("cpu", 3)
    t = torch.arange(24000) / 16000
    x = torch.stack([sum(torch.sin(6.283 * 120 * k * t) / k for k in range(1, 30)) for _ in range(4)])
    x[:, :4000] = 0
    other = c.voice(x.clone(), torch.tensor([1., 1.1, 1.5, 1.7]))
    assert other.shape == x.shape and other[:, :2500].abs().max() < 1e-2
    spectrum = torch.fft.rfft(other[:, 6000:22000]).abs()
    assert all(int(s[100:140].argmax()) + 100 == 120 for s in spectrum)     # 1 Hz bins: the pitch stays
    assert not torch.allclose(other, x, atol=.05)
    assert c.room(x.clone()).shape == x.shape
    inside = torch.ones(4, 24000, dtype=torch.bool)
    silent = c.hear(x.clone(), inside, torch.ones(4, dtype=torch.bool), torch.ones(4))
    assert silent.abs().max() <= 1
    feats, frames = c(x, torch.full((4,), 20000), torch.zeros(4, dtype=torch.bool), torch.tensor([1., 1., 1.6, 1.6]))
    assert torch.isfinite(feats).all() and frames.tolist() == [125] * 4 and feats[:, 125:].eq(0).all()


def test_formants_come_back_when_a_voice_is_played_fast():
    c = channel.Channel("cpu", 3)
    c.uniform = lambda low, high, *shape: torch.full(shape, (low + high) / 2)
    f = torch.fft.rfftfreq(16000, 1 / 16000)
    pulses = torch.fft.rfft((torch.arange(16000) % 100 == 0).float())
    vowel = torch.fft.irfft(pulses / (1 + ((f - 1800) / 150) ** 2), 16000)
    peak = [int(torch.fft.rfft(x).abs().argmax()) for x in (vowel, c.voice(vowel[None], torch.tensor([1.5]))[0])]
    assert abs(peak[0] - 1800) <= 80 and abs(peak[1] - 1800 * 1.0942 / 1.5) <= 80       # 1.0942: the middle of what is drawn


def test_spoken_words_have_times():
    class Says:
        """A synthesizer that needs no library."""

        def __call__(self, text, voice, *how):
            return np.ones(32000, np.float32) * .1, 16000, [0., 900.] if len(text.split()) == 2 else None
    x, times, pace = live.spoken(random.Random(1), "go on", "kal", SimpleNamespace(espeak=None, flite=Says()))
    assert 32000 <= len(x) < 33000 and len(times) == 6 and times == sorted(times) and times[3] > 900 and 1 <= pace < 1.8
    assert live.spoken(random.Random(1), "go", "kal", SimpleNamespace(espeak=None, flite=Says())) is None


def test_one_step_on_live_speech(feed, tmp_path):
    import train
    feed, _ = feed
    torch.manual_seed(1)
    model = train.build(dim=32, layers=1, channels=8, pred=16)
    ctc = torch.nn.Linear(32, 30)
    rows = next(iter(feed.plan(np.arange(4))))
    feats, frames, y, at, u = feed.batch(rows)
    loss, log = train.losses(model, ctc, (feats, frames, y, at, u), 3, (1., .8, (.1, feed.words())))
    loss.backward()
    assert torch.isfinite(loss) and set(log) == {"ctc", "path", "rnnt", "text"}
    assert frames_out(frames).max() > 0


def test_a_process_speaks_until_it_is_stopped(tmp_path, monkeypatch):
    """Ours, with a synthesizer that needs no library; the parent's end is what ends it."""
    class Says:
        """One second a word."""

        def __call__(self, text, voice, *how):
            n = len(text.split())
            return np.sin(np.arange(live.RATE * n) * .1).astype(np.float32), live.RATE, [1000. * i for i in range(n)]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "open.txt").write_text("this is a sentence\nand here is another one\n")
    monkeypatch.setattr(live, "Maker", lambda: SimpleNamespace(espeak=Says(), flite=Says()))
    monkeypatch.setattr(live.signal, "signal", lambda *_: None)
    parents = iter([1, 1, 2])
    monkeypatch.setattr(live.os, "getppid", lambda: next(parents))
    live.speak_on("0-1", argparse.Namespace(seed=1, data=tmp_path / "data", women=.25, pico=0.), tmp_path, False)
    chunks = sorted(tmp_path.glob("*.npz"))
    assert [f.name for f in chunks] == ["0-1_000000.npz", "0-1_000001.npz"]
    with np.load(chunks[0]) as c:
        assert len(c["samples"]) == live.CHUNK and c["samples"].sum() == len(c["audio"]) and c["count"].sum() == len(c["ids"])
