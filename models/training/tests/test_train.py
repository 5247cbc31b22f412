"""Training on tiny made-up shards: it runs, stops, goes on from its checkpoint, and can be exported."""
import argparse
import json
import random

import torch

import export
import make_data
import optim
import train


def shard(path, seed):
    """A shard of 12 random rows."""
    r, rows = random.Random(seed), []
    for _ in range(12):
        n = r.randrange(150, 200)
        rows.append(("go on", torch.randn(n, 80).half(), [200., 700.], "en", -26.))
    make_data.save(make_data.pack(rows), path)


def run(tmp_path, monkeypatch, stop, *more):
    """One training command."""
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "text" / "open.txt").write_text("this is a sentence\nand here is another one\n")
    folders = ["--data", str(tmp_path / "data"), "--run", str(tmp_path / "run")]
    phases = ["--decay-from", "2", "--easy-until", "1", "--rnnt-from", "1", "--align-until", "3"]
    monkeypatch.setattr("sys.argv", ["train.py", *folders, *phases, "--stop", str(stop), "--frames", "700", "--save", "2",
                                      *more])
    train.main()
    return torch.load(tmp_path / "run" / "checkpoint.pt")


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    shard(tmp_path / "data" / "easy_000000.pt", 1)
    shard(tmp_path / "data" / "train_000000.pt", 2)
    first = run(tmp_path, monkeypatch, 2)
    assert first["step"] == 2
    again = run(tmp_path, monkeypatch, 2)
    assert again["step"] == 2 and all(torch.equal(v, again["model"][k]) for k, v in first["model"].items())
    more = run(tmp_path, monkeypatch, 4)
    assert more["step"] == 4 and more["cpu"] > first["cpu"]
    assert any(not torch.equal(v, more["model"][k]) for k, v in first["model"].items())
    assert all(torch.isfinite(v).all() for v in more["averaged"].values())
    assert json.dumps(more["args"])


def test_rate_stays_and_falls_in_steps_and_in_seconds():
    assert optim.warm_up(0) < .02 and optim.warm_up(500) == 1
    assert optim.rate(500, 1000, 2000) == 1
    assert abs(optim.rate(1500, 1000, 2000) - .5) < 1e-9
    assert optim.rate(5000, 1000, 2000) == .01
    start, end = train.moment("2026-01-01T10:00Z"), train.moment("2026-01-01T11:00Z")
    assert abs(optim.rate(start + 900, start, end) - .75) < 1e-9
    assert train.moment("1200") == 1200 and isinstance(train.moment("1200"), int)


def test_an_exported_model_is_trained_further(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    shard(tmp_path / "data" / "train_000000.pt", 2)
    first = run(tmp_path, monkeypatch, 2)
    export.export(tmp_path / "run" / "checkpoint.pt", tmp_path / "model", "averaged")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    more = run(tmp_path, monkeypatch, 2, "--from-model", str(tmp_path / "model"))
    assert more["step"] == 2 and more["cpu"] >= round(first["cpu"])
    assert all(torch.allclose(v, more["model"][k], atol=1e-5) for k, v in first["averaged"].items())


def test_spelling_is_learned_from_text_alone():
    torch.manual_seed(0)
    model = train.build(pred=32)
    e, n = torch.randn(2, 9, 32), torch.tensor([9, 5])
    rows = [torch.tensor(train.tokens(t)) for t in ("the cat sat", "go on")]
    words = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    before = train.spelling(model, e, n, words)
    behind = e.clone()
    behind[1, 5:] = 1e3                                            # padding of the batch does not count
    assert torch.equal(before, train.spelling(model, behind, n, words))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        train.spelling(model, e, n, words).backward()
        optimizer.step()
    assert train.spelling(model, e, n, words) < .2 * before


def test_text_is_drawn_with_its_own_padding(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "open.txt").write_text("this is a sentence\n")
    args = argparse.Namespace(seed=1, spelling_rows=5, data=tmp_path / "data")
    words = train.Text(args, 0, 7)()
    assert len(words) == 5 and torch.equal(words, train.Text(args, 0, 7)())
    for row in words.tolist():
        kept = [t for t in row if t >= 0]
        assert kept and row == kept + [-100] * (len(row) - len(kept))
        assert train.BLANK not in kept


def test_tokens_are_spread_over_the_words():
    at = train.align("go on", train.tokens("go on"), [200., 700.], 60)
    assert len(at) == 6 and at == sorted(set(at)) and 5 <= at[0] <= 9 and 17 <= at[3] <= 21
    assert train.align("go on", train.tokens("go on"), None, 60) is None


def test_the_export_tells_the_run_before_and_not_where_it_lay(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    shard(tmp_path / "data" / "train_000000.pt", 2)
    run(tmp_path, monkeypatch, 2)
    export.export(tmp_path / "run" / "checkpoint.pt", tmp_path / "base", "averaged")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    run(tmp_path, monkeypatch, 4, "--from-model", str(tmp_path / "base"))
    export.export(tmp_path / "run" / "checkpoint.pt", tmp_path / "next", "averaged", tmp_path / "base", .6)
    told = json.loads((tmp_path / "next" / "training.json").read_text())
    assert told["before"] == json.loads((tmp_path / "base" / "training.json").read_text())
    assert told["share"] == .6 and told["arguments"]["from_model"] == "base"
