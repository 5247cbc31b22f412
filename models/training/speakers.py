"""Journey: one sentence by all flite voices (voices.py) -> INVENTED SPEAKERS: each phone of each is another mixture -> make_data.py.

Three men are soon known by heart, at any pitch, speed and vocal tract; a voice that nobody has heard differs from them phone by
phone. The voices divide a text into the same segments, so their log-mel spectra can be laid over each other segment by segment.
An invented speaker keeps the pitch of one recording and draws, once for each phone: shares of the other voices, between them
and beyond, a gain curve over frequency, a shift of the formants, and how long the phone lasts. A recording by a foreign
voice (foreign.py) leaves what its language lacks to the others.
"""
from typing import NamedTuple

import numpy as np
import torch

from augment import FLOOR, UNIT, hz_mel, mel_hz

MEL, KEEP = 80, 22                                                          # cosines of a spectrum that show formants, not harmonics
EDGE = 12.                                                                  # ms over which one phone's change becomes the next one's
HZ = np.array([mel_hz((k + 1) * UNIT) for k in range(MEL)])


def smoother():
    """The matrix that keeps the smooth part of a log-mel spectrum: its first cosines, fading out."""
    k, n = np.arange(MEL)[:, None], np.arange(MEL)[None]
    c = np.cos(np.pi * k * (n + .5) / MEL) * np.sqrt(np.where(k, 2., 1.) / MEL)
    return (c.T * np.clip((KEEP + 4 - np.arange(MEL)) / 8, 0, 1)) @ c


SMOOTH = smoother().astype(np.float32)


def read(f, at):
    """Rows of f at fractional places."""
    i = np.clip(at.astype(int), 0, len(f) - 2)
    w = np.clip(at - i, 0, 1)[:, None].astype(np.float32)
    return f[i] * (1 - w) + f[i + 1] * w


def moved(f, factor):
    """Spectra whose formants lie `factor` times as high: f [T, 80], factor [T]."""
    known, inverse = np.unique(np.round(factor, 2), return_inverse=True)
    where = np.stack([[hz_mel(h) / UNIT - 1 for h in np.minimum(HZ / k, 8000.)] for k in known])[inverse]
    where = np.clip(where, 0, MEL - 1.001)
    i = where.astype(int)
    w = (where - i).astype(np.float32)
    return np.take_along_axis(f, i, 1) * (1 - w) + np.take_along_axis(f, i + 1, 1) * w


class Recording(NamedTuple):
    """A sentence by one voice; segments are the same ones in all recordings of it."""

    feats: np.ndarray                                                       # log-mel features [frames, 80]
    ends: np.ndarray                                                        # of the segments, in ms; the first lies behind silence
    missing: np.ndarray | None = None                                       # how far a foreign voice lacks each segment, 0 to 1
    size: float = 0.                                                        # log of how much higher the formants lie than a man's


class Speaker:
    """A speaker who does not exist; `rng` is a numpy generator, `others` how many voices are mixed into the main one."""

    def __init__(self, rng, others, tract):
        self.rng, self.phones, self.others = rng, {}, others
        self.tract, self.pace = rng.uniform(*tract), rng.uniform(-.2, .12)
        self.share, self.spread = rng.uniform(-.35, .9, others), rng.uniform(.1, .45)
        self.curve, self.rough, self.vary = rng.normal(0, .5, 7), rng.uniform(.2, 1.3), rng.uniform(.05, .3)
        self.blur = rng.uniform(0, .3) if rng.random() < .5 else 0.
        self.depth = rng.uniform(.55, 1.1)                                  # of the harmonics: a breathy voice has shallow ones

    def phone(self, name):
        """How this speaker says a phone: (shares, gain curve [80], log of the formant shift, log of the length)."""
        if name not in self.phones:
            curve = self.curve + self.rng.normal(0, self.rough, 7)
            self.phones[name] = (
                self.share + self.rng.normal(0, self.spread, self.others),
                np.interp(np.arange(MEL), np.linspace(0, MEL - 1, 7), curve),
                self.tract + self.rng.normal(0, .035), self.pace + self.rng.normal(0, self.vary))
            if name == "pau":
                self.phones[name] = np.zeros(self.others), np.zeros(MEL), 0., self.pace
        return self.phones[name]


def shares(said, main, others):
    """How much of the other voices there is in each segment: [segments, others].

    A foreign voice gives no more of a phone than it has; what the main one lacks comes from those that lack nothing.
    """
    s = np.stack([np.asarray(p[0], np.float32) for p in said])
    whole = [j for j, o in enumerate(others) if o.missing is None]
    for j, o in enumerate(others):
        if o.missing is not None:
            s[:, j] = np.minimum(s[:, j], 1 - o.missing)
    if main.missing is not None and whole:
        s[:, whole] += (np.maximum(main.missing - s.sum(1), 0) / len(whole))[:, None]
    return s


def invent(speaker, phones, main, others):
    """A sentence by an invented speaker: (float16 features [frames, 80], segment ends in ms).

    phones: name of each segment; main, others: recordings of the same segments. What follows the last segment is kept.
    """
    said = [speaker.phone(p) for p in phones]
    f, ends, ways = main.feats, main.ends, [np.asarray(o.ends, float) for o in others]
    tail = max(0., 10. * len(f) - ends[-1])
    length = np.diff(ends, prepend=0)
    k = np.clip(speaker.share[0], 0, 1) if others else 0.
    mixed = (1 - k) * length + (k * np.diff(ways[0], prepend=0) if others else 0)
    new = np.cumsum(np.maximum(mixed * np.exp([s[3] for s in said]), 12.))
    at = np.arange(5, new[-1] + tail - 5, 10)
    bounds, old = np.concatenate([[0], new, [new[-1] + tail]]), np.concatenate([[0], ends, [ends[-1] + tail]])
    x = read(f, np.interp(at, bounds, old) / 10 - .5)
    seg = np.searchsorted(new, at).clip(max=len(said) - 1)
    # near a border a frame is part of both phones
    near = np.clip(.5 - (at - bounds[seg]) / (2 * EDGE), 0, .5) * (seg > 0)

    def each(v):
        w = near.reshape(-1, *[1] * (v.ndim - 1)).astype(np.float32)
        return v[seg] * (1 - w) + v[np.maximum(seg - 1, 0)] * w

    def column(c):
        return each(np.stack([np.asarray(s[c], np.float32) for s in said]))
    share, smooth = each(shares(said, main, others)), x @ SMOOTH
    body = smooth.copy()
    for j, (o, e) in enumerate(zip(others, ways)):
        other = read(o.feats, np.interp(at, bounds, np.concatenate([[0], e, [e[-1] + tail]])) / 10 - .5) @ SMOOTH
        if main.size != o.size:
            other = moved(other, np.full(len(at), np.exp(main.size - o.size)))
        body += share[:, j:j + 1] * (other - smooth)
    x = speaker.depth * (x - smooth) + moved(body, np.exp(column(2))) + column(1)
    if speaker.blur:
        x = (1 - speaker.blur) * x + speaker.blur / 2 * (np.concatenate([x[:1], x[:-1]]) + np.concatenate([x[1:], x[-1:]]))
    return torch.from_numpy(np.maximum(x, FLOOR).astype(np.float32)).half(), new
