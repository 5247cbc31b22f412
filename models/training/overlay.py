"""Journey: one sentence by two voices, times known for one -> OVERLAY: the same times in the other -> sound.py, speakers.py.

Pico (svox.py) says a sentence and not when its phones end; flite does. Both are laid over each other by dynamic time warping of
their cepstra (Sakoe and Chiba 1978, "Dynamic programming algorithm optimization for spoken word recognition").
"""
import numpy as np

MEL, CEPSTRA = 80, 14
STEP = 2                                                                    # feature frames (10 ms) in a step of the path
DIAGONAL = 1.6                                                              # cost of a diagonal step, 2 = no preference for it


def cosines():
    """The matrix from a log-mel spectrum to its first cepstra [80, CEPSTRA]."""
    k, m = np.arange(CEPSTRA)[:, None], np.arange(MEL)[None]
    return (np.cos(np.pi * k * (m + .5) / MEL) * np.sqrt(np.where(k, 2., 1.) / MEL)).T.astype(np.float32)


COSINES = cosines()


def cepstra(f):
    """What is compared: log-mel features [frames, 80] -> cepstra and how they change, each of variance 1 (energy less)."""
    c = f @ COSINES
    c = (c - c.mean(0)) / (c.std(0) + 1e-3)
    d = np.gradient(c, axis=0)
    c[:, 0] *= .5
    return np.concatenate([c, .6 * d / (d.std(0) + 1e-3)], 1)[::STEP]


def path(a, b):
    """For each row of a [A, n] the row of b [B, n] that it lies on, as a mean where there are several: [A]."""
    rows, columns = len(a), len(b)
    cost = np.sqrt(np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0))
    total, way = np.full((rows + 1, columns + 1), 1e9), np.zeros((rows, columns), np.int8)
    total[0, 0] = 0
    for s in range(rows + columns - 1):                                     # all points of an anti-diagonal at once
        i = np.arange(max(0, s - columns + 1), min(rows, s + 1))
        j, here = s - i, cost[i, s - i]
        ways = np.stack([total[i, j] + DIAGONAL * here, total[i, j + 1] + here, total[i + 1, j] + here])
        way[i, j] = ways.argmin(0)
        total[i + 1, j + 1] = ways.min(0)
    i, j, sums, count = rows - 1, columns - 1, np.zeros(rows), np.zeros(rows)
    while i >= 0 and j >= 0:
        sums[i], count[i] = sums[i] + j, count[i] + 1
        i, j = i - (way[i, j] != 2), j - (way[i, j] != 1)
    return sums / np.maximum(count, 1)


def laid_over(times, known, other):
    """Times in ms of `known` [frames, 80] -> the times in `other` at which the same is heard, never falling."""
    at = path(cepstra(known), cepstra(other))
    frames = np.interp(np.asarray(times, float) / (10 * STEP) - .25, np.arange(len(at)), at)
    return np.maximum.accumulate((frames + .25) * 10 * STEP)
