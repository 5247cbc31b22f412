"""Journey: sentences and voices -> LIVE SPEECH: processes that speak, a pool on the GPU, batches through channel.py -> train.py.

A GPU trains tens of thousands of times faster than real time, so speech is made while it trains, by all other cores of the
machine, and kept as clean audio on the GPU. Every batch is dressed anew there: speed, voice, room, noise, level. Speakers who
do not exist (speakers.py) are spectra from the start: some of the processes invent them (`--invented`), see spectra.py.

Chunks pass through files of one folder (in memory, /dev/shm): written whole, renamed, read once, removed.
"""
import os
import random
import signal
import time
import zlib
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

import opentext
import spectra
from grammar import Sentences
from lattice import NEVER
from make_data import FOREIGN_SPEAKERS, STRANGE
from model import FRAME_MS, frames_out, tokens
from pool import Rows
from sound import Maker, resample, voice_for
from svox import PICO
from voices import FLITE

RATE = 16000
CHUNK = 64                                                                  # utterances in a file
TEXTS = 30_000                                                              # sentences of the loss on text alone
EMPTY = .02                                                                 # rows without speech
CHAINED = .15                                                               # batches of two or four utterances in a row
SHORTEST, LONGEST = RATE // 4, 14 * RATE


def token_times(text, starts, end):
    """The time of every token in ms: letters are spread over their word; starts of the words and end of the last in ms."""
    out = []
    for w, s, e in zip(text.split(), starts, [*starts[1:], end]):
        n = len(w) + 1                                                      # word mark and letters
        out += [s + (j + .8) / n * (e - s) for j in range(n)]
    return out


def spoken(r, text, voice, maker, women=.25):
    """Clean speech in a voice: (float32 [samples] at 16 kHz, token times in ms, pace) or None where word times are missing.

    All trained flite voices are men. A share `women` of their speech is slow and waits to be played `pace` times as fast, with a
    woman's pitch and, by Channel.voice, her vocal tract; two thirds of the rest are plain, because plain voices are what is
    asked for.
    """
    espeak, flite = maker.espeak, maker.flite
    pace = 1.
    if voice in PICO:
        x, rate, starts = maker.woman(r, text, voice)
    elif voice in FLITE:
        kind = r.random()
        pace = r.uniform(1.3, 1.8) if kind > 1 - women else 1.
        x, rate, starts = flite(text, voice, *((r.uniform(.93, 1.1), 1.) if kind < (1 - women) * 2 / 3 else
                                               (pace * r.uniform(.85, 1.25), r.uniform(.85, 1.9 / pace ** .8))))
    else:
        x, rate, starts = espeak(text, voice, r.randint(130, 225), r.randint(20, 80), r.randint(20, 80))
    if not starts:
        return None
    x = resample(x, rate, cut=RATE / 2.1 / pace if pace > 1 else None)     # nothing folds back when it is played faster
    last = len(text.split()[-1])
    return x, token_times(text, starts, min(1000 * len(x) / RATE, starts[-1] + pace * (90 * last + 80))), pace


def speak_on(rank, a, folder, inventing):
    """A process that speaks until it is stopped, or one that invents speakers."""
    torch.set_num_threads(1)
    os.nice(10)                                                            # the process that trains launches thousands of kernels a second
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sentences = Sentences(*opentext.load(a.data.parent / "text" / "open.txt"))
    maker, r, parent = Maker(), random.Random(f"{a.seed}/{rank}/speech"), os.getppid()
    for k in range(1_000_000):
        if inventing:
            put(spectra.write, invented_chunk(r, sentences, maker), folder / f"{rank}_{k:06d}")
        else:
            put(write, spoken_chunk(r, sentences, maker, a), folder / f"{rank}_{k:06d}")
        if os.getppid() != parent:
            return


def spoken_chunk(r, sentences, maker, a):
    """CHUNK rows (token ids, audio, token times, pace) of the usual voices."""
    rows = []
    while len(rows) < CHUNK:
        text = sentences(r)
        row = spoken(r, text, voice_for(r, pico=a.pico), maker, a.women)
        if row and SHORTEST < len(row[0]) / row[2] < LONGEST and np.abs(row[0]).max() > .01:
            rows.append((tokens(text), *row))
    return rows


def invented_chunk(r, sentences, maker):
    """CHUNK rows or a few more (token ids, features, token times, level) by invented speakers, most of them with one of STRANGE."""
    rows = []
    while len(rows) < CHUNK:
        said = sentences(r)
        for text, f, starts, _, level in maker.invented(r, said, FOREIGN_SPEAKERS, r.choice([*STRANGE, None])):
            end = min(10 * len(f), starts[-1] + 90 * len(text.split()[-1]) + 80)
            if len(f) < spectra.LONGEST:
                rows.append((tokens(text), f, token_times(text, starts, end), level))
    return rows


def put(writer, rows, path):
    """A chunk appears in its folder whole."""
    half = path.with_suffix(".half")
    with open(half, "wb") as f:
        writer(rows, f)
    os.replace(half, path.with_suffix(".npz"))


def write(rows, file):
    """One chunk: audio of unit level as int16 with its scale, tokens and their times, one behind the other."""
    audio, level = [], []
    for _, x, *_ in rows:
        loud = np.abs(x).max()
        active = x[np.abs(x) > .02 * loud]
        audio.append(np.round(x / loud * 32767).astype(np.int16))
        level.append(loud / active.std() / 32767)                          # int16 times this has unit level
    np.savez(file, audio=np.concatenate(audio), samples=[len(x) for x in audio], level=np.float32(level),
             pace=np.float32([r[3] for r in rows]), ids=np.concatenate([np.uint8(r[0]) for r in rows]),
             count=[len(r[0]) for r in rows], times=np.concatenate([np.float32(r[2]) for r in rows]))


class Pool(Rows):
    """Clean speech on the device; takes what fits into `hours`."""

    def __init__(self, device, hours):
        super().__init__(device, hours, 3_000_000)
        self.audio = torch.zeros(int(hours * 3600 * RATE), dtype=torch.int16, device=device)
        self.pace = np.ones(len(self.rows), np.float32)

    def add(self, chunk):
        """Takes a chunk; False if it is full."""
        new = self.take(self.audio, chunk["audio"], chunk["samples"], chunk)
        if new is None:
            return False
        self.pace[new] = chunk["pace"]
        return True


def runs(count):
    """Numbers from 0 to count[0] - 1, then to count[1] - 1, ...; and the run of each (numpy)."""
    run = np.repeat(np.arange(len(count)), count)
    return np.arange(len(run)) - (np.cumsum(count) - count)[run], run


def cubic(audio, at, low, high):
    """Reads int16 audio between samples (Catmull-Rom): `at` relative to `low`, never outside low ... high - 1."""
    i = at.floor()
    t, i = at - i, i.long() + low
    a, b, c, d = (audio[(i + k).clamp(min=low, max=high - 1)].float() for k in (-1, 0, 1, 2))
    return b + .5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


class Feed:
    """An endless stream of batches on the device, like train.Feed; starts the speaking processes and stops them."""

    def __init__(self, a, rank, step):
        from channel import Channel
        self.a, self.rng = a, np.random.default_rng([a.seed, rank, step])
        self.channel = Channel(a.device, zlib.crc32(f"{a.seed}/{rank}/{step}".encode()), a.augment)
        self.pool, self.folder = Pool(a.device, a.pool_hours), Path(a.chunks) / str(rank)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.full = False
        sentences, r = Sentences(*opentext.load(a.data.parent / "text" / "open.txt")), random.Random(f"{a.seed}/{step}/text")
        text = [torch.tensor(tokens(sentences(r)), dtype=torch.int16) for _ in range(TEXTS)]
        self.text = torch.nn.utils.rnn.pad_sequence(text, batch_first=True, padding_value=-100).to(a.device)
        context = get_context("spawn")
        self.inventors = round(a.inventing * a.speakers)
        self.spectra = spectra.Spectra(a.device, a.pool_hours / 2 if self.inventors else 0)
        self.speakers = [context.Process(target=speak_on, args=(f"{rank}-{step}-{i}", a, self.folder, i < self.inventors), daemon=True)
                         for i in range(a.speakers)]

    def words(self):
        """A batch of training sentences as token ids [rows, U], -100 where a row is over."""
        return self.text[torch.randint(len(self.text), (self.a.spelling_rows,), device=self.a.device)].long()

    def start(self):
        """Starts the speaking processes."""
        for p in self.speakers:
            p.start()

    def stop(self):
        """Stops them and removes what they left."""
        for p in self.speakers:
            p.terminate()
        for p in self.speakers:
            p.join()
        for f in self.folder.iterdir():
            f.unlink()

    def look(self, most=40):
        """Takes finished chunks into the pool, at most `most` at a time; stops the speakers when it is full."""
        for f in sorted(self.folder.glob("*.npz"))[:most]:
            with np.load(f) as chunk:
                pool = self.spectra if "feats" in chunk.files else self.pool
                self.full |= not pool.add(chunk)
            f.unlink()
        if self.full:
            return self.stop()
        dead = [p.exitcode for p in self.speakers if p.exitcode not in (None, 0, -signal.SIGTERM)]
        if dead:
            raise RuntimeError(f"a speaking process ended with {dead[0]}")

    def speeds(self, chosen):
        """How fast each utterance is played, which moves pitch and formants too; six in ten at their own pace."""
        change = self.rng.random(len(chosen)) < .4 * self.channel.strength
        wide = np.where(self.pool.pace[chosen] > 1, .12, .28)              # what is fast already changes less
        return self.pool.pace[chosen] * np.where(change, np.exp(wide * self.rng.uniform(-.5, 1, len(chosen))), 1.)

    def plan(self, chosen):
        """Batches of rows of (utterance, speed) of similar length: [[row, ...], ...], at most `frames` with padding."""
        speed = self.speeds(chosen)
        size, out, batch = self.pool.rows[chosen, 1] / speed, [], []
        for i in np.argsort(size):
            if batch and (len(batch) + 1) * (size[i] + .9 * RATE) > self.a.frames * 160:
                out.append(batch)
                batch = []
            batch.append((int(chosen[i]), float(speed[i])))
        out.append(batch)
        for b in (out[i] for i in self.rng.permutation(len(out))):
            k = int(self.rng.choice([2, 2, 2, 4])) if self.rng.random() < CHAINED and len(b) > 8 else 1
            b = [b[i] for i in self.rng.permutation(len(b))]
            yield [b[i:i + k] for i in range(0, len(b), k)]

    def place(self, rows):
        """Where each utterance of the batch goes: arrays (pool row, speed, batch row, first sample), samples of each row.

        A third of the rows begin with speech; there are 0.3 to 0.8 s of silence behind, as between utterances.
        """
        out, ends = [], []
        draw = self.rng.random((len(rows), 2))
        for i, row in enumerate(rows):
            at = int((0, .3 * draw[i, 1], .1 + .7 * draw[i, 1])[int(3 * draw[i, 0])] * RATE)
            for (utterance, speed), pause in zip(row, self.rng.uniform(.3, .8, len(row))):
                out.append((utterance, speed, i, at))
                at += int(self.pool.rows[utterance, 1] / speed) + int(pause * RATE)
            ends.append(at)
        utterance, speed, row, first = zip(*out)
        return np.array(utterance), np.array(speed), np.array(row), np.array(first), np.array(ends)

    def send(self, *arrays):
        """Arrays to the device, without waiting for it."""
        out = (torch.from_numpy(np.ascontiguousarray(x)) for x in arrays)
        return [x.pin_memory().to(self.a.device, non_blocking=True) if self.a.device != "cpu" else x for x in out]

    def batch(self, rows):
        """(features [batch, frames, 80], their lengths, tokens [batch, U], their frames, token counts), on the device.

        Everything that decides a size is drawn here and not on the device, so that nobody waits for it.
        """
        utterance, speed, row, offset, ends = self.place(rows)
        start, samples, first, count = self.pool.rows[utterance].T
        # 8 j encoder frames (frames_out): matrix products of odd sizes take twice as long
        width, size = (-(-(-(-ends.max() // 160) + 4) // 32) * 32 - 4) * 160, (samples / speed).astype(np.int64)
        empty = self.rng.random(len(rows)) < EMPTY
        count = np.where(empty[row], 0, count)
        u = np.bincount(row, count, len(rows)).astype(np.int64)
        most = max(1, int(u.max()))
        per_utterance = self.send(start, start + samples, speed.astype(np.float32), self.pool.level[utterance], row * width + offset)
        x = self.audio(per_utterance, self.send(size)[0], int(size.sum()), (len(rows), width))
        at, run = runs(count)                                              # tokens: those of a row one behind the other
        before = np.cumsum(count) - count
        place = at + (before - (np.cumsum(u) - u)[row])[run]
        played = torch.from_numpy(np.exp(np.bincount(row, np.log(speed), len(rows)) / np.bincount(row, minlength=len(rows))))
        row, place, source, speed, offset, u, ends, empty = self.send(
            row[run], place, first[run] + at, speed[run].astype(np.float32), (offset[run] * 1000 / RATE).astype(np.float32), u, ends,
            empty)
        y = torch.zeros(len(rows), most, dtype=torch.long, device=self.a.device)
        ms = torch.full(y.shape, float(NEVER), device=self.a.device)
        y[row, place] = self.pool.ids[source].long()
        ms[row, place] = self.pool.times[source] / speed + offset
        feats, frames = self.channel(x, ends, empty, played)
        return feats, frames, y, self.frames_of(ms, u, frames_out(frames)), u

    def audio(self, per_utterance, size, total, shape):
        """Clean speech of unit level in its places: [rows, samples]."""
        start, end, speed, level, to = per_utterance
        run = torch.repeat_interleave(torch.arange(len(size), device=size.device), size, output_size=total)
        at = torch.arange(total, device=size.device) - (size.cumsum(0) - size)[run]
        x = torch.zeros(shape, device=size.device)
        x.view(-1)[to[run] + at] = cubic(self.pool.audio, at * speed[run], start[run], end[run]) * level[run]
        return x

    @staticmethod
    def frames_of(ms, u, frames):
        """Token times -> frames, each behind the one before, none behind the last frame of its row; NEVER behind the u tokens."""
        order = torch.arange(ms.shape[1], device=ms.device)
        at = ((ms / FRAME_MS).long() - order).cummax(1).values + order
        return torch.where(order < u[:, None], at.minimum(frames[:, None] - 1), NEVER)

    def some_batches(self):
        """A few batches of sound, and of spectra as `--invented` says, in a random order."""
        rows = 24 * self.a.frames // 400
        sound = list(self.plan(self.rng.choice(self.pool.utterances, min(self.pool.utterances, rows), replace=False)))
        todo = [lambda b=b: self.batch(b) for b in sound]
        if self.inventors:
            want = len(sound) * self.a.invented / (1 - self.a.invented)
            todo += [lambda b=b: spectra.frames_of_batch(self.spectra.batch(*b, self.channel.redress), self.frames_of)
                     for b in self.spectra.plan(self.rng, self.a.frames, rows, self.channel.strength)[:round(want)]]
        for i in self.rng.permutation(len(todo)):
            yield todo[i]()

    def __call__(self, step):
        """Yields batches; waits at the start until there is enough speech for some."""
        self.start()
        try:
            enough = self.a.frames * 160 * 3
            while self.pool.used < min(len(self.pool.audio) // 2, enough) or (
                    self.inventors and self.spectra.used < min(len(self.spectra.feats) // 2, enough // 160)):
                self.look()
                time.sleep(.05)                                            # the speakers have only just begun
            while True:
                self.look()
                yield from self.some_batches()
        finally:
            self.stop()
