"""Times of one voice in another: laid over by what is heard."""
import numpy as np
import pytest

from overlay import STEP, laid_over, path


def spoken(lengths, level=0.):
    """Features of four different sounds of so many frames: [frames, 80]."""
    rng = np.random.default_rng(3)
    sounds = np.cumsum(rng.normal(0, 1, (len(lengths), 80)), 1).astype(np.float32)
    out = np.concatenate([np.repeat(s[None], n, 0) for s, n in zip(sounds, lengths)])
    return out + level + np.random.default_rng(len(out)).normal(0, .05, out.shape).astype(np.float32)


@pytest.mark.parametrize("other", [[20, 30, 40, 25], [40, 15, 30, 50], [10, 60, 12, 20]])
def test_borders_are_found(other):
    first = [20, 30, 40, 25]
    got = laid_over(10. * np.cumsum(first)[:3], spoken(first), spoken(other, 3.))
    assert got == pytest.approx(10. * np.cumsum(other)[:3], abs=10 * STEP)


def test_times_never_fall():
    got = laid_over(np.linspace(0, 1500, 40), spoken([20, 30, 40, 25]), spoken([60, 5, 5, 60]))
    assert (np.diff(got) >= 0).all()


def test_a_path_goes_from_corner_to_corner():
    a, b = np.random.default_rng(1).normal(size=(9, 3)), np.random.default_rng(2).normal(size=(5, 3))
    at = path(a, b)
    assert len(at) == 9 and at[0] < 1.5 and at[-1] > 2.5 and (np.diff(at) >= 0).all()


def test_the_same_lies_on_itself():
    a = np.random.default_rng(1).normal(size=(12, 3))
    assert path(a, a).tolist() == list(range(12))
