"""SVOX Pico's women: they speak, at the pace and pitch asked for, and their words have times."""
import random

import numpy as np
import pytest

import svox
from sound import Maker, voice_for


@pytest.fixture(scope="module")
def maker():
    """All synthesizers; skipped where svox.sh was never run."""
    try:
        svox.folder()
    except FileNotFoundError as e:
        pytest.skip(str(e))
    return Maker()


@pytest.mark.parametrize("voice", sorted(svox.PICO))
def test_she_speaks_and_pace_and_pitch_are_hers_to_change(maker, voice):
    text = "the castle opens at nine on tuesday"
    plain, slow, high = (maker.pico(text, voice, *how) for how in ((100, 100), (80, 100), (100, 125)))
    assert svox.RATE < len(plain) < 5 * svox.RATE and .1 < np.abs(plain).max() < 1.
    assert len(slow) > 1.1 * len(plain) and not np.array_equal(plain, high[:len(plain)])


@pytest.mark.parametrize("voice", sorted(svox.PICO))
def test_every_word_has_a_start_inside_the_speech(maker, voice):
    text = "the castle opens at nine on tuesday"
    x, rate, starts = maker.woman(random.Random(1), text, voice)
    assert len(starts) == len(text.split()) and starts == sorted(starts)
    assert 0 <= starts[0] < 150 and starts[-1] < 1000 * len(x) / rate - 200


def test_an_invented_speaker_can_have_her_voice(maker):
    rows = maker.invented(random.Random(3), "nice to meet you", 3, "pico-us")
    assert [r[3] for r in rows] == ["pico-us+invented", "pico-us+invented", rows[2][3]] and rows[2][3].endswith("+pico-us+invented")
    assert all(len(r[2]) == 4 and r[2] == sorted(r[2]) for r in rows)


def test_an_unknown_voice_and_a_missing_library_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(svox, "CACHE", tmp_path)
    with pytest.raises(FileNotFoundError, match="svox.sh"):
        svox.Pico()


def test_her_share_of_voices_is_what_is_asked_for():
    r = random.Random(1)
    said = [voice_for(r, pico=.25) for _ in range(2000)]
    assert .2 < sum(v in svox.PICO for v in said) / 2000 < .3
    assert not any(voice_for(r) in svox.PICO for _ in range(200))
