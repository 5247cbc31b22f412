"""Rows of invented speakers on the training device: features, tokens and times lie where they should, at any pace."""
import numpy as np
import pytest
import torch

import channel
import live
import spectra
from augment import FLOOR
from lattice import NEVER
from model import tokens

TEXTS = ["go on", "stop", "it's half past nine"]


@pytest.fixture
def pool(tmp_path):
    """A pool with three rows, and what went in."""
    rows = []
    for i, text in enumerate(TEXTS):
        n, ids = 120 + 40 * i, tokens(text)
        f = torch.linspace(-12, -2, n)[:, None].expand(n, 80).half() + i
        rows.append((ids, f, [10. * n * (k + .5) / len(ids) for k in range(len(ids))], -20. - i))
    live.put(spectra.write, rows, tmp_path / "a")
    pool = spectra.Spectra("cpu", .01)
    with np.load(tmp_path / "a.npz") as chunk:
        assert pool.add(chunk)
    return pool, rows


def test_a_batch_holds_the_rows_as_they_are(pool):
    pool, rows = pool
    x, size, y, ms, u = pool.batch(np.array([2, 0]), np.ones(2), lambda x, inside, level: x * inside[..., None])
    assert size.tolist() == [200, 120] and (x.shape[1] + 4) % 32 == 0 and x.shape[1] >= 200
    for i, k in enumerate((2, 0)):
        assert torch.equal(x[i, :size[i]], rows[k][1].float()) and not x[i, size[i]:].any()
        assert y[i, :u[i]].tolist() == rows[k][0] and ms[i, :u[i]].tolist() == pytest.approx(rows[k][2])
    assert ms[1, u[1]:].tolist() == [NEVER] * (y.shape[1] - int(u[1]))


def test_a_faster_row_is_shorter_and_its_times_with_it(pool):
    pool, rows = pool
    x, size, _, ms, u = pool.batch(np.array([1]), np.array([1.25]), lambda x, inside, level: x)
    assert size.tolist() == [128]
    assert ms[0, :u[0]].tolist() == pytest.approx([t / 1.25 for t in rows[1][2]])
    assert torch.allclose(x[0, 80], rows[1][1][100].float(), atol=1e-2)


def test_batches_of_a_plan_are_bounded_and_hold_all_rows(pool):
    pool, _ = pool
    plan = pool.plan(np.random.default_rng(0), 330, 10, 0.)
    assert sorted(k for rows, _ in plan for k in rows) == [0, 1, 2]
    assert all(len(rows) * pool.rows[rows, 1].max() <= 330 for rows, _ in plan)


def test_a_full_pool_takes_nothing_more(pool, tmp_path):
    pool, _ = pool
    small, before = spectra.Spectra("cpu", .0005), pool.used
    with np.load(tmp_path / "a.npz") as chunk:
        assert not small.add(chunk)
    assert small.used == 0 and pool.used == before


@pytest.mark.parametrize("strength", [0., 1.])
def test_redressed_rows_stay_features(pool, monkeypatch, strength):
    """Without changes only the faintest noise is added; with all of them nothing falls below the floor, and padding is raw zero."""
    monkeypatch.setattr(channel, "BANK_S", 2)
    pool, rows = pool
    x, size, *_ = pool.batch(np.array([0, 1, 2]), np.ones(3), channel.Channel("cpu", 1, strength).redress)
    for i, n in enumerate(size):
        assert torch.isfinite(x[i]).all() and x[i, :n].min() >= FLOOR and not x[i, n:].any()
        if not strength:
            assert torch.allclose(x[i, :n], rows[i][1].float(), atol=1e-3)


def test_token_times_become_frames(pool):
    pool, rows = pool
    batch = pool.batch(np.array([0]), np.ones(1), lambda x, inside, level: x)
    _, _, _, at, u = spectra.frames_of_batch(batch, live.Feed.frames_of)
    assert all(0 <= f - int(ms / 40) <= 1 for f, ms in zip(at[0, :u[0]].tolist(), rows[0][2]))
