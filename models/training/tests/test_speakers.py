"""Invented speakers: the mixture of recordings of one sentence keeps its order and its time, and differs from all of them."""
import numpy as np
import pytest

from augment import FLOOR
from speakers import MEL, SMOOTH, Recording, Speaker, invent, moved, shares

PHONES = ["pau", "hh", "ax", "l", "ow"]


def recording(seed, scale=1.):
    """Made-up features of five segments, 60 to 100 ms long, and 100 ms of silence behind."""
    r = np.random.default_rng(seed)
    length = np.round(r.uniform(60, 100, 5) * scale, -1)
    rows = np.repeat(r.uniform(-14, -3, (5, 1)), (length / 10).astype(int), 0) + r.normal(0, .5, (int(length.sum() / 10), MEL))
    return Recording(np.concatenate([rows, np.full((10, MEL), FLOOR)]).astype(np.float32), np.cumsum(length))


def still(speaker):
    """The speaker without any change."""
    speaker.phone = lambda name: (np.zeros(speaker.others), np.zeros(MEL), 0., 0.)
    speaker.share, speaker.blur, speaker.depth = np.zeros(speaker.others), 0., 1.
    return speaker


def test_no_change_gives_the_main_recording():
    main = recording(1)
    f, ends = invent(still(Speaker(np.random.default_rng(0), 2, (0, 0))), PHONES, main, [recording(2), recording(3)])
    assert np.allclose(ends, main[1]) and 0 <= len(main[0]) - len(f) <= 1
    assert np.abs(f.float().numpy()[1:-1] - main[0][1:len(f) - 1]).max() < .03


@pytest.mark.parametrize("seed", range(4))
def test_segments_stay_in_order_and_above_the_floor(seed):
    speaker = Speaker(np.random.default_rng(seed), 2, (0., .26))
    f, ends = invent(speaker, PHONES, recording(1), [recording(2, .5), recording(3, 2.)])
    assert len(ends) == 5 and (np.diff(ends, prepend=0) >= 12).all() and abs(10 * len(f) - ends[-1] - 100) <= 10
    assert f.float().min() >= FLOOR - .01 and f.float().isfinite().all()


def test_a_speaker_says_a_phone_in_one_way_and_speakers_differ():
    a, b = (Speaker(np.random.default_rng(s), 2, (0., .2)) for s in (1, 2))
    assert a.phone("l") is a.phone("l")
    assert not np.allclose(a.phone("l")[1], b.phone("l")[1]) and not np.allclose(a.phone("l")[1], a.phone("ow")[1])


def test_formants_move_and_harmonics_are_left_to_the_main_recording():
    peak = np.zeros((1, MEL), np.float32)
    peak[0, 30] = 5
    assert moved(peak, np.array([1.2])).argmax() > 32 and np.allclose(moved(peak, np.array([1.])), peak, atol=1e-4)
    comb = np.cos(2 * np.pi * np.arange(MEL) / 3).astype(np.float32)
    assert np.abs(comb @ SMOOTH)[5:-5].max() < .1


def test_what_a_language_lacks_comes_from_a_voice_that_has_it():
    missing = np.array([0, 1, .5, 0, 0])
    foreign, native = recording(1)._replace(missing=missing, size=.16), recording(2)
    said = [(np.full(1, .2),)] * 5
    assert np.allclose(shares(said, foreign, [native])[:, 0], [.2, 1, .5, .2, .2])
    assert np.allclose(shares([(np.full(1, .8),)] * 5, native, [foreign])[:, 0], [.8, 0, .5, .8, .8])
