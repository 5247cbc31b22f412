"""Fixed audio for the golden files: synthetic, seeded, int16, 16 kHz mono.

Comes in: a name, a length in samples and a seed.  Goes out: an int16 numpy array, the same on every machine
(the generator is numpy's PCG64; every value is rounded once, at the end).
Must not know: models, features, files.
"""

import numpy as np

SAMPLE_RATE_HZ = 16_000


def _envelope(rng, samples):
    """Bursts of 40 to 200 ms with silence in between, so that features change like those of speech."""
    gain = np.zeros(samples)
    at = 0
    while at < samples:
        length = int(rng.integers(640, 3200))
        if rng.random() < 0.75:
            gain[at : at + length] = 10 ** rng.uniform(-2.5, -0.3)
        at += length
    return gain


def bursts(samples, seed):
    """Voiced buzzes (a pitch, some formant-like partials) and noise, in bursts of different level."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / SAMPLE_RATE_HZ
    pitch = 120 + 60 * np.sin(2 * np.pi * 0.7 * time + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE_HZ
    tone = sum(rng.uniform(0.2, 1) * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 25)) / 6
    noise = rng.standard_normal(samples)
    mix = np.where(np.sin(2 * np.pi * 1.9 * time + rng.uniform(0, 6)) > 0.2, noise * 0.4, tone)
    return _round(mix * _envelope(rng, samples))


def sweep(samples, seed):
    """A rising sweep with steps of level; its first part is digital silence, its last part clips."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / SAMPLE_RATE_HZ
    span = max(samples / SAMPLE_RATE_HZ, 0.01)
    phase = 2 * np.pi * (80 * time + (6000 - 80) * time**2 / (2 * span))
    level = np.repeat(10 ** rng.uniform(-2, 0, size=samples // 1600 + 1), 1600)[:samples]
    level[: samples // 8] = 0
    level[samples - samples // 8 :] = 3
    return _round(np.sin(phase) * level)


def quiet(samples, seed):
    """One bit of noise: the smallest audio that is not silence."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 2, size=samples, dtype=np.int16)


def _round(signal):
    """Full scale is 1; beyond it clips, as a microphone's converter does."""
    return np.clip(np.round(signal * 32767), -32768, 32767).astype(np.int16)
