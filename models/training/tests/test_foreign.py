"""Foreign voices: only diphones that exist, times kept, and what was replaced is told; Festival itself where it is installed."""
import shutil

import numpy as np
import pytest

from foreign import PARTS, ROOT, VOICES, Festival, joined, melody
from voices import FLITE_UNSEEN

KNOWN = {("#", "a"), ("a", "d"), ("a", "t"), ("t", "#"), ("d", "a"), ("a", "#"), ("u", "j"), ("j", "o")}


def test_the_test_voice_is_no_part():
    assert not set(FLITE_UNSEEN) & set(VOICES) and not any("slt" in group for _, group in VOICES.values())


def test_existing_diphones_stay():
    parts = [("#", 50., 0), ("a", 80., 1), ("d", 60., 2), ("a", 80., 3), ("#", 50., 4)]
    assert joined(parts, KNOWN) == ([list(p) for p in parts], set())


def test_a_voiced_end_becomes_unvoiced_and_is_told():
    out, odd = joined([("#", 50., 0), ("a", 80., 1), ("d", 60., 2), ("#", 50., 3)], KNOWN)
    assert [p[0] for p in out] == ["#", "a", "t", "#"] and 2 in odd


@pytest.mark.parametrize("a, b, glue", [("u", "o", "j"), ("a", "o", "#")])
def test_a_glide_or_a_stop_stands_between_and_the_time_is_kept(a, b, glue):
    out, odd = joined([(a, 80., 0), (b, 60., 1)], KNOWN)
    assert [p[0] for p in out] == [a, glue, b] and sum(p[1] for p in out) == 140 and odd == {0, 1}


def test_every_woman_has_a_part_for_every_phone():
    known = set(PARTS["lp"])
    assert all(set(p) == known for p in PARTS.values()) and len(known) == 41
    assert all(0 <= missing <= 1 and parts for p in PARTS.values() for parts, missing in p.values())


def test_the_melody_is_near_its_pitch_and_inside():
    tune = melody(np.random.default_rng(0), np.array([100., 200., 300., 400.]), ["pau", "aa", "t", "iy"], 180)
    assert [t for t, _ in tune] == [150., 350.] and all(130 < hz < 260 for _, hz in tune)


@pytest.mark.skipif(not (shutil.which("festival") and all((ROOT / g).exists() for _, g in VOICES.values())),
                    reason="Festival's voices are not installed")
@pytest.mark.parametrize("voice", list(VOICES))
def test_festival_keeps_the_times(voice):
    ends = np.array([200., 300., 420., 500., 700., 900.])
    x, rate, missing = Festival()(np.random.default_rng(0), ["pau", "dh", "ih", "jh", "ow", "pau"], ends, voice, 180)
    assert abs(1000 * len(x) / rate - 900) < 60 and np.abs(x).max() > .05 and len(missing) == 6
    assert (missing[1] == 1) == (voice != "ked")
