"""Journey: features of a shard -> AUGMENT: speaker, channel, noise and masks on log-mel frames -> train.py.

An utterance is made once but seen several times; these changes cost about a millisecond and differ every time. In the
log-mel domain a gain or an equaliser is an addition, and noise is a log-sum-exp with the features of noise.
"""
import math

import torch

FLOOR = math.log(2 ** -24)                                                  # the extractor's zero guard
DB = math.log(10) / 10


def mel_hz(m):
    """Slaney mel -> Hz."""
    return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)


def hz_mel(f):
    """Hz -> Slaney mel."""
    return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)


UNIT = hz_mel(8000) / 81
CENTRES = torch.tensor([mel_hz((k + 1) * UNIT) for k in range(80)])


def warp_matrices(low=.8, high=1.18, count=20):
    """Vocal tract length changes: column k of matrix a reads the bin at frequency a * centre(k)."""
    out = []
    for i in range(count):
        a = low + (high - low) * i / (count - 1)
        w = torch.zeros(80, 80)
        for k in range(80):
            p = min(max(hz_mel(min(mel_hz((k + 1) * UNIT) * a, 8000.)) / UNIT - 1, 0), 79)
            j = min(int(p), 78)
            w[j, k], w[j + 1, k] = 1 - (p - j), p - j
        out.append(w)
    return out


WARP = warp_matrices()


def noise_frames(r, pool, n):
    """n frames of noise of level 1: a random mixture of two pieces of the pool, sometimes coming and going."""
    def piece():
        k = pool[r.randrange(len(pool))]
        a = r.randrange(len(k) - 400)
        k = k[a:a + n].float()
        return k if len(k) == n else k.repeat(-(-n // len(k)), 1)[:n]
    x = piece() if r.random() < .6 else torch.logaddexp(piece() + DB * r.uniform(-12, 0), piece())
    if r.random() < .2:
        g = torch.tensor([[[r.choice([-12., 0., 3.]) for _ in range(max(2, n // 60))]]])
        x = x + DB * torch.nn.functional.interpolate(g, size=n, mode="linear", align_corners=True)[0, 0, :, None]
    return x


def field(r, n, size):
    """A smooth random surface over n frames and 80 bins, with a hill or a valley every 90 ms and six over frequency."""
    g = torch.tensor([[[[r.uniform(-size, size) for _ in range(7)] for _ in range(n // 9 + 2)]]])
    return torch.nn.functional.interpolate(g, size=(n, 80), mode="bilinear", align_corners=True)[0, 0]


def change(f, level, r, noise, strength=1.):
    """One utterance: f float32 [frames, 80], level of its speech in dB; noise: (pool or None, how often 0 to 1); `strength`
    scales how often anything is changed, 0 = never.
    """
    n, (pool, often) = len(f), noise
    if r.random() < .45 * strength:
        f = f @ WARP[r.randrange(len(WARP))]
    if r.random() < .4 * strength:                                          # equaliser: straight lines between 6 points
        g = torch.tensor([[[r.uniform(-7, 7) for _ in range(6)]]])
        f = f + DB * torch.nn.functional.interpolate(g, size=80, mode="linear", align_corners=True)[0]
    if r.random() < .3 * strength:                                          # sounds a little stronger or weaker here and there
        f = f + DB * field(r, n, r.uniform(2, 6))
    if r.random() < .35 * strength:                                         # formants duller or sharper than the voice's own
        mean = f.mean(1, keepdim=True)
        f = mean + (f - mean) * r.uniform(.8, 1.4)
    if r.random() < .12 * strength:                                         # telephone band
        f = f.clone()
        f[:, CENTRES > r.uniform(3300, 3900)] = FLOOR + r.choice([0, 2])
        if r.random() < .5:
            f[:, CENTRES < r.uniform(150, 320)] -= 4.
    if r.random() < .4 * strength:                                          # level
        g = r.uniform(-12, 8)
        f, level = f + DB * g, level + g
    if r.random() < often * strength and pool is not None:
        snr = r.uniform(5, 20) if r.random() < .55 else r.uniform(20, 40)
        f = torch.logaddexp(f, noise_frames(r, pool, n) + DB * (level - snr))
    f = f.clamp(min=FLOOR)
    if r.random() < .5 * strength:                                          # masks hold the mean: raw 0 would be very loud
        f = f.clone()
        mean = f.mean()
        for _ in range(2):
            a = r.randrange(max(1, n - 10))
            f[a:a + r.randrange(10)] = mean
        a = r.randrange(72)
        f[:, a:a + r.randrange(10)] = mean
    return f
