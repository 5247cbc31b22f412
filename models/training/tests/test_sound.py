"""Voices between voices: the mixture of two recordings of one sentence keeps text and time."""
import numpy as np
import pytest
import torch

from augment import FLOOR
from sound import morph


def steps(ends, levels):
    """Features with one level a segment: (float16 [frames, 80], segment ends in ms)."""
    frames = int(ends[-1] / 10)
    level = [levels[int(np.searchsorted(ends, 10 * i + 5))] for i in range(frames)]
    return torch.tensor(level)[:, None].repeat(1, 80).half(), np.array(ends, float)


A, B = steps([100, 300, 400], [-10., -4., -8.]), steps([200, 300, 600], [-12., -6., -2.])


@pytest.mark.parametrize("share,ends,levels", [
    (0., [100, 300, 400], [-10, -4, -8]),
    (1., [200, 300, 600], [-12, -6, -2]),
    (.5, [150, 300, 500], [-11, -5, -5]),
    (1.25, [200, 300, 600], [-12.5, -6.5, -.5]),       # beyond a voice: its times, and further away from the other
    (-.25, [100, 300, 400], [-9.5, -3.5, -9.5]),
])
def test_a_mixture_lies_between_or_beyond(share, ends, levels):
    feats, at = morph(A, B, share)
    assert np.allclose(at, ends) and abs(len(feats) - ends[-1] / 10) <= 1
    middles = [int((a + b) / 20) for a, b in zip([0, *ends], ends)]
    assert torch.allclose(feats[middles, 0].float(), torch.tensor(levels).float(), atol=.02)


def test_nothing_falls_below_the_floor_of_the_extractor():
    quiet, loud = steps([300], [-16.]), steps([300], [-2.])
    assert morph(quiet, loud, -.4)[0].float().min() >= FLOOR - .01
