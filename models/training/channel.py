"""Journey: clean speech [rows, samples] on the training device -> CHANNEL: voice, room, noise, level, log-mel -> train.py.

What sound.py does to one utterance with numpy, for a whole batch with tensors and anew in every step: a GPU hears no sentence
twice in the same way. Random numbers come from one seeded generator on the device. Changes that only move log-mel features
(equaliser, masks) are made on those, as in augment.py.
"""
import math

import torch
import torch.nn.functional as F

from augment import CENTRES, DB, FLOOR, WARP

RATE = 16000
KINDS = (0., .5, 1., 1.5, 2.)                                               # noise: white (0), pink (1), brown (2)
BANK_S = 90                                                                 # seconds of noise of every kind
VOICE_FFT = 1024


def good_size(n):
    """The next length whose prime factors are small: fast to transform, and few different ones."""
    return min(k << max(0, math.ceil(math.log2(n / k))) for k in (2, 3, 5))


class Channel:
    """Changes of a batch; `strength` scales how often anything is changed (0 = never, 1 = as given here)."""

    def __init__(self, device, seed, strength=1.):
        from transformers import NemotronAsrStreamingFeatureExtractor
        self.device, self.strength = device, strength
        self.random, self.drawn = torch.Generator(device).manual_seed(seed), torch.Generator().manual_seed(seed)
        self.extractor = NemotronAsrStreamingFeatureExtractor()
        self.warps = torch.stack(WARP).to(device)
        self.centres = CENTRES.to(device)
        self.bank = self.noise_bank()
        self.heard = self.log_mel(self.bank, torch.ones_like(self.bank))     # the same noise as features [kinds, frames, 80]

    def uniform(self, low, high, *shape):
        """Uniform random numbers."""
        return low + (high - low) * torch.rand(*shape, generator=self.random, device=self.device)

    def some(self, share, rows):
        """Which of the rows are changed: a mask; each with probability share * strength."""
        return torch.rand(rows, generator=self.random, device=self.device) < share * self.strength

    def noise_bank(self):
        """Noise of unit level of every kind: [kinds, samples]."""
        n = BANK_S * RATE
        f = torch.fft.rfft(torch.randn(len(KINDS), n, generator=self.random, device=self.device))
        bins = torch.arange(f.shape[1], device=self.device).clamp(min=n * 40 / RATE)
        x = torch.fft.irfft(f * bins[None] ** (-.5 * torch.tensor(KINDS, device=self.device)[:, None]), n)
        return x / x.std(1, keepdim=True)

    def noise(self, rows, samples):
        """Noise of unit level: one kind or two, a fifth of it coming and going: [rows, samples]."""
        def piece(gain):
            kind = torch.randint(len(KINDS), (rows, 1), generator=self.random, device=self.device)
            start = torch.randint(self.bank.shape[1], (rows, 1), generator=self.random, device=self.device)
            at = (start + torch.arange(samples, device=self.device)) % self.bank.shape[1]
            return gain * self.bank.flatten()[at + kind * self.bank.shape[1]]
        second = torch.where(self.some(.4, rows), 10 ** (self.uniform(-12, 0, rows) / 20), 0.)[:, None]
        x = piece(1.) + piece(second)
        swing = self.curve(rows, max(2, samples // 12000), samples, -15, 3)
        return x * torch.where(self.some(.2, rows)[:, None], 10 ** (swing / 20), 1.)

    def curve(self, rows, points, size, low, high):
        """Straight lines between random points: [rows, size]."""
        return F.interpolate(self.uniform(low, high, rows, 1, points), size=size, mode="linear", align_corners=True)[:, 0]

    def voice(self, x, played):
        """Another vocal tract: the smooth part of every spectrum (its cepstrum below 2 ms) is stretched or shrunk in
        frequency, the harmonics stay where they are: [rows, samples] -> the same shape.

        What was `played` [rows] times as fast has its formants that much higher; they come back to where people have them.
        """
        window = torch.hann_window(VOICE_FFT, device=self.device)
        z = torch.stft(x, VOICE_FFT, VOICE_FFT // 4, window=window, return_complex=True).transpose(1, 2)
        rows, bins = len(x), z.shape[2]
        log = z.abs().clamp(min=1e-5).log()
        cepstrum = torch.fft.irfft(log, VOICE_FFT)
        cepstrum[..., 33:VOICE_FFT - 32] = 0
        smooth = torch.fft.rfft(cepstrum).real
        tract = torch.where(played > 1.2, self.uniform(-.06, .3, rows) - played.log(), self.uniform(-.22, .24, rows))
        factor = (tract[:, None] + self.curve(rows, 6, bins, -.1, .1)).exp()
        at = (torch.arange(bins, device=self.device) / factor).clamp(max=bins - 1.001)
        low = at.long()[:, None].expand(-1, z.shape[1], -1)
        part = (at - at.floor())[:, None]
        moved = smooth.gather(2, low) * (1 - part) + smooth.gather(2, low + 1) * part
        z = z * (moved - smooth).clamp(-4, 4).exp()
        return torch.istft(z.transpose(1, 2), VOICE_FFT, VOICE_FFT // 4, window=window, length=x.shape[1])

    def room(self, x):
        """Echoes, a short room tail, a telephone's band, alone or together: [rows, samples] -> the same shape."""
        rows, n = len(x), good_size(x.shape[1] + 6400)
        t = torch.arange(4800, device=self.device)
        tail = torch.randn(rows, 4800, generator=self.random, device=self.device)
        tail = tail * torch.exp(-6.9 * t / self.uniform(1600, 4800, rows, 1)) * self.uniform(.005, .04, rows, 1)
        echoes = torch.zeros_like(tail)
        delay = torch.randint(160, 2400, (rows, 3), generator=self.random, device=self.device)
        echoes.scatter_(1, delay, self.uniform(.1, .4, rows, 3) * (self.uniform(0, 1, rows, 3) < .6))
        which = self.uniform(0, 1, rows, 1)
        answer = torch.where(which < .35, tail, torch.where(which < .65, echoes, 0.))
        answer[:, 0] = 1
        hz = torch.linspace(0, RATE / 2, n // 2 + 1, device=self.device)
        high, low = self.uniform(3100, 4000, rows, 1), self.uniform(100, 320, rows, 1)
        band = ((high * 1.1 - hz) / (high * .1)).clamp(0, 1)
        band = band * torch.where(self.some(.4, rows)[:, None], (hz / low).clamp(0, 1) ** 2, 1.)
        phone = (which > .6) | (self.uniform(0, 1, rows, 1) < .1)
        f = torch.fft.rfft(x, n) * torch.fft.rfft(answer, n) * torch.where(phone, band, 1.)
        return torch.fft.irfft(f, n)[:, :x.shape[1]]

    def drawn_rows(self, share):
        """Numbers of the rows to change, each with probability share [rows] * strength; drawn here and not on the device, so that nobody waits for how many they are."""
        at = torch.rand(len(share), generator=self.drawn) < share * self.strength
        return at.nonzero()[:, 0].to(self.device, non_blocking=True)

    def hear(self, x, inside, empty, played):
        """Clean speech of unit level -> what a microphone gives: [rows, samples] in -1 ... 1, rounded to 16 bits.

        inside: [rows, samples], False behind the end of a row; empty: rows without speech [rows]; played: how fast they are
        played, on the CPU [rows].
        """
        rows, n = x.shape
        at = self.drawn_rows(torch.where(played > 1.2, .85, .38))
        if len(at):
            x[at] = self.voice(x[at], played.float().to(self.device, non_blocking=True)[at])
        at = self.drawn_rows(torch.full((rows,), .3))
        if len(at):
            x[at] = self.room(x[at])
        level = self.uniform(-46, -10, rows)
        draw = self.uniform(0, 1, rows)
        snr = torch.where(draw < .4, self.uniform(20, 55, rows), self.uniform(2, 22, rows))
        snr = torch.where(draw > .85, 120., snr) if self.strength else torch.full_like(snr, 120.)
        alone = torch.where(draw > .85, -120., self.uniform(-80, -18, rows))
        x = torch.where(empty[:, None], 0., x * 10 ** (level / 20)[:, None])
        x = x + self.noise(rows, n) * 10 ** (torch.where(empty, alone, level - snr) / 20)[:, None]
        return torch.round(x.clamp(-1, 1) * 32767) / 32768 * inside

    def log_mel(self, x, inside):
        """The stock extractor's features, raw: [rows, samples] -> [rows, frames, 80]."""
        x = torch.cat([x[:, :1], x[:, 1:] - self.extractor.preemphasis * x[:, :-1]], 1) * inside
        return self.extractor._torch_extract_fbank_features(x, self.device)

    def redress(self, f, inside, level):
        """Features of rows without sound [rows, frames, 80], their speech at `level` dB [rows]: another level, sounds stronger or weaker
        here and there, a telephone's band, noise, and all of colour(); raw zero where not `inside` [rows, frames].
        """
        rows, frames, mel = f.shape
        gain = torch.where(self.some(.5, rows), self.uniform(-12, 8, rows), 0.)
        f, level = f + DB * gain[:, None, None], level + gain
        hills = self.uniform(-1, 1, rows, 1, frames // 9 + 2, 7) * self.uniform(2, 6, rows, 1, 1, 1)
        hills = F.interpolate(hills, size=(frames, mel), mode="bilinear", align_corners=True)[:, 0]
        f = f + DB * hills * self.some(.3, rows)[:, None, None]
        phone = self.some(.12, rows)[:, None]
        f = torch.where((phone & (self.centres > self.uniform(3300, 3900, rows, 1)))[:, None], FLOOR + 1., f)
        f = f - 4. * (phone & self.some(.5, rows)[:, None] & (self.centres < self.uniform(150, 320, rows, 1)))[:, None]
        noisy = self.some(.7, rows)
        snr = torch.where(noisy, torch.where(self.some(.5, rows), self.uniform(3, 20, rows), self.uniform(20, 45, rows)), 120.)

        def piece(gain):
            kind = torch.randint(len(KINDS), (rows, 1), generator=self.random, device=self.device)
            start = torch.randint(self.heard.shape[1], (rows, 1), generator=self.random, device=self.device)
            at = (start + torch.arange(frames, device=self.device)) % self.heard.shape[1]
            return self.heard[kind, at] + DB * gain[:, None, None]
        second = torch.where(self.some(.4, rows), self.uniform(-12, 0, rows), -120.)
        swing = self.curve(rows, max(2, frames // 75), frames, -15, 3) * self.some(.2, rows)[:, None]
        noise = torch.logaddexp(piece(torch.zeros_like(snr)), piece(second)) + DB * (swing + (level - snr)[:, None])[..., None]
        return self.colour(torch.logaddexp(f, noise).clamp(min=FLOOR)) * inside[..., None]

    def colour(self, f):
        """Changes of log-mel features [rows, frames, 80]: vocal tract, equaliser, dullness, masks that hold the mean."""
        rows, frames, mel = f.shape
        pick = torch.randint(len(self.warps), (rows,), generator=self.random, device=self.device)
        warp = torch.where(self.some(.2, rows)[:, None, None], self.warps[pick], torch.eye(mel, device=self.device))
        f = f @ warp
        f = f + DB * (self.curve(rows, 6, mel, -7, 7) * self.some(.4, rows)[:, None])[:, None]
        low, high = self.uniform(60, 300, rows, 1), self.uniform(5000, 8000, rows, 1)          # voices end where they like
        f = f - (6 * (1 - self.centres / low).clamp(min=0) * self.some(.3, rows)[:, None])[:, None]
        f = f - (20 * (self.centres / high - 1).clamp(min=0) * self.some(.3, rows)[:, None])[:, None]
        mean = f.mean(2, keepdim=True)
        sharp = torch.where(self.some(.3, rows), self.uniform(.8, 1.35, rows), 1.)[:, None, None]
        f = (mean + (f - mean) * sharp).clamp(min=FLOOR)
        hide = torch.zeros(rows, frames, mel, dtype=torch.bool, device=self.device)
        for axis, size, most in ((1, frames, 12), (1, frames, 12), (2, mel, 12)):
            start, width = self.uniform(0, size, rows, 1), self.uniform(0, most, rows, 1)
            i = torch.arange(size, device=self.device)
            here = (i >= start) & (i < start + width) & self.some(.5, rows)[:, None]
            hide = hide | (here[:, :, None] if axis == 1 else here[:, None])
        return torch.where(hide, f.mean((1, 2), keepdim=True), f)

    def __call__(self, x, samples, empty, played):
        """Clean speech of unit level [rows, N], valid samples, which rows are empty, how fast they are played (on the CPU, all
        [rows]) -> (features [rows, T, 80], raw zero behind the valid frames, their counts [rows]).
        """
        inside = torch.arange(x.shape[1], device=self.device) < samples[:, None]
        f = self.colour(self.log_mel(self.hear(x, inside, empty, played), inside))
        frames = samples // self.extractor.hop_length
        f = f[:, :x.shape[1] // self.extractor.hop_length]
        return f * (torch.arange(f.shape[1], device=self.device) < frames[:, None])[..., None], frames
