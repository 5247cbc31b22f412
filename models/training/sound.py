"""Journey: speech (voices.py) -> CHANNEL: speed, pitch, room, noise, level, 16 bits, log-mel features -> shards.

Only changes that need the waveform are made here; cheap ones (more noise, equaliser, telephone band, vocal tract length)
are made anew on the features in every training step, see augment.py.
"""
from functools import cached_property

import numpy as np
import torch

from augment import FLOOR
from foreign import MAN, Festival
from overlay import laid_over
from speakers import Recording, Speaker, invent, read
from svox import PICO, Pico
from voices import ESPEAK_BASE, ESPEAK_PLAIN, ESPEAK_VARIANT, FLITE, FLITE_HZ, FLITE_MORPH, FLITE_UNSEEN, Espeak, Flite

RATE = 16000
WOMAN = .16                                                                 # log of her formants over a man's
KNOWN = "awb"                                                               # whose times are laid over a voice that tells none
LEAD, TRAIL = .1, .3                                                        # s of silence around both for that


def noise(r, n, kind):
    """White (0), pink (1) or brown (2) noise of unit level: float32 [n]."""
    x = np.random.default_rng(r.getrandbits(32)).standard_normal(n).astype(np.float32)
    if kind:
        m = 1 << max(9, (n - 1).bit_length())
        f = np.fft.rfft(x, m)
        f *= np.maximum(np.arange(len(f)), m * 40 / RATE) ** (-.5 * kind)
        x = np.fft.irfft(f, m)[:n].astype(np.float32)
    return x / (x.std() + 1e-9)


def resample(x, rate, speed=1., cut=None):
    """To 16 kHz by FFT; `speed` > 1 makes it shorter and higher; `cut` = low pass in Hz."""
    n = -(-(len(x) + 400) // 512) * 512
    m = int(round(n * RATE / (rate * speed)))
    f = np.fft.rfft(x, n)
    k = np.zeros(m // 2 + 1, dtype=np.complex64)
    c = min(len(f), len(k))
    k[:c] = f[:c]
    if cut:
        k *= np.clip((cut * 1.1 - np.linspace(0, RATE / 2, len(k))) / (cut * .1), 0, 1)
    return (np.fft.irfft(k, m) * (m / n)).astype(np.float32)


def room(r, x):
    """A few echoes, or a short room tail."""
    if r.random() < .5:
        y = np.concatenate([x, np.zeros(3200, np.float32)])
        for _ in range(r.randint(1, 3)):
            d = r.randint(160, 2400)
            y[d:d + len(x)] += r.uniform(.1, .4) * x
        return y
    n = r.randint(1600, 4800)
    h = noise(r, n, 0) * np.exp(-np.arange(n) / (n / 6.9)) * r.uniform(.01, .04)
    h[0] = 1
    m = len(x) + n
    return np.fft.irfft(np.fft.rfft(x, m) * np.fft.rfft(h, m), m).astype(np.float32)


def dress(r, x, lead, trail, level=-24., snr=None, kind=0):
    """Silence around the speech (s), level of the speech (dB of full scale), noise (dB below it), 16-bit rounding."""
    act = x[np.abs(x) > .02 * np.abs(x).max()] if len(x) else x
    x = x / ((act.std() if len(act) else 0) + 1e-9)
    x = np.concatenate([np.zeros(int(lead * RATE), np.float32), x, np.zeros(int(trail * RATE), np.float32)])
    if snr is not None:
        b = noise(r, len(x), kind)
        if r.random() < .2:                                            # noise that comes and goes
            b *= np.interp(np.arange(len(x)), np.sort([r.randrange(len(x)) for _ in range(6)]),
                           [r.choice([.1, 1, 1.5]) for _ in range(6)])
        x = x + b * 10 ** (-snr / 20)
    return np.round(np.clip(x * 10 ** (level / 20), -1, 1) * 32767).astype(np.int16)


def empty(r):
    """No speech: silence or noise only, int16."""
    n = int(RATE * r.uniform(.5, 4))
    x = noise(r, n, r.choice([0, 1, 1, 2])) * 10 ** (r.uniform(-80, -18) / 20) * (r.random() < .85)
    if r.random() < .3:
        x *= np.interp(np.arange(n), np.sort([r.randrange(n) for _ in range(8)]), [r.choice([0, .3, 1]) for _ in range(8)])
    return np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)


def flite_change(r, kind, high, easy):
    """Changes of a flite utterance: (speed and formants, pitch, duration); `kind` and `high` are drawn from 0 to 1.

    Four in ten are plain, because plain voices are what is asked for. All trained flite voices are men: higher pitch and a
    shorter vocal tract stand in for women in three of ten.
    """
    if kind < (.8 if easy else .4):
        return 1., 1., r.uniform(.95, 1.08)
    speed, f0 = (r.uniform(1.1, 1.28), 1.15 + .5 * high) if kind < .7 else (r.uniform(.88, 1.12), .85 + .45 * high)
    return speed, f0, r.uniform(.85, 1.2) * speed ** .8


def morph(a, b, share):
    """One sentence by two voices -> by a voice between (share 0 to 1) or beyond them: (features, segment ends in ms).

    a, b: (features [frames, 80], segment ends in ms, as many in both). Three voices are learned by heart: what is between
    and beyond them makes a speaker nobody has heard before.
    """
    (fa, ea), (fb, eb) = ((f.float().numpy(), np.append(e, max(10. * len(f), e[-1]))) for f, e in (a, b))
    k = min(max(share, 0.), 1.)
    ends = (1 - k) * ea + k * eb
    at = np.arange(5, ends[-1] - 5, 10)

    def laid_over(f, e):
        return read(f, np.interp(at, np.append(0, ends), np.append(0, e)) / 10 - .5)
    x = (1 - share) * laid_over(fa, ea) + share * laid_over(fb, eb)
    return torch.from_numpy(np.maximum(x, FLOOR)).half(), ends[:-1]


def voice_for(r, easy=False, flite=.6, pico=0.):
    """The name of a trained voice; `pico`: the share of SVOX Pico's women, where they are there."""
    if pico and r.random() < pico:
        return r.choice(sorted(PICO))
    if r.random() < flite:
        return r.choice(FLITE)
    return r.choice(ESPEAK_BASE[:5]) + r.choice(ESPEAK_PLAIN) if easy else r.choice(ESPEAK_BASE) + r.choice(ESPEAK_VARIANT)


class Maker:
    """Makes rows from sentences."""

    def __init__(self, easy=False):
        from transformers import NemotronAsrStreamingFeatureExtractor
        self.espeak, self.flite = Espeak(), Flite()
        self.easy = easy
        self.extractor = NemotronAsrStreamingFeatureExtractor()

    @cached_property
    def festival(self):
        """The Festival process, started when it is first asked for."""
        return Festival()

    @cached_property
    def pico(self):
        """SVOX Pico, loaded when it is first asked for."""
        return Pico()

    def features(self, audio):
        """Raw log-mel features of the stock extractor: int16 [samples] -> float16 [frames, 80]."""
        o = self.extractor(audio.astype(np.float32) / 32768, sampling_rate=RATE, return_tensors="pt")
        return o["input_features"][0, :int(o["attention_mask"].sum())].half()

    def speak(self, r, text, voice, plain=False):
        """Clean speech at 16 kHz and its word starts in ms; `plain` = the voice's own speed and pitch."""
        if voice in FLITE + FLITE_UNSEEN:
            kind, high = r.random(), r.random()                            # drawn for plain ones too: same test sets as ever
            speed, f0, stretch = (1., 1., 1.) if plain else flite_change(r, kind, high, self.easy)
            x, rate, w = self.flite(text, voice, stretch, f0)
        elif voice in PICO:
            speed = 1.
            x, rate, w = self.woman(r, text, voice)
        elif voice == MAN:
            speed = 1.
            _, _, w = self.flite(text, r.choice(FLITE_MORPH), r.uniform(.85, 1.2))
            rng = np.random.default_rng(r.getrandbits(32))
            x, rate, _ = self.festival(rng, self.flite.phones, np.array(self.flite.ends), voice, r.uniform(85, 130))
        else:
            share = 0. if plain else .12 if self.easy else .4
            speed = r.uniform(.9, 1.15) if r.random() < share else 1.
            wide = 10 if self.easy else 30
            wpm, pitch, rng = (165, 50, 50) if plain else (
                r.randint(165 - wide - 5, 165 + 2 * wide), r.randint(50 - wide, 50 + wide), r.randint(50 - wide, 50 + wide))
            x, rate, w = self.espeak(text, voice, wpm, pitch, rng)
        return resample(x, rate, speed), [t / speed for t in w] if w else None

    def woman(self, r, text, voice):
        """A text by one of PICO: (audio, its rate, word starts in ms or None)."""
        x = self.pico(text, voice, r.randint(80, 125), r.randint(78, 125))
        known, rate, w = self.flite(text, KNOWN, 1.)
        both = [self.features(dress(r, a, LEAD, TRAIL, -24.)).float().numpy() for a in (resample(known, rate), x)]
        return x, RATE, (laid_over(np.array(w) + 1000 * LEAD, *both) - 1000 * LEAD).clip(0).tolist() if w else None

    def mixed(self, r, text):
        """One training row of a mixture of two flite voices, or None where they divide the text differently."""
        voices, lead, trail = r.sample(FLITE_MORPH, 2), r.choice([0., r.uniform(.05, .5)]), r.uniform(.3, .8)
        level, both = r.uniform(-40, -12), []
        speed, f0, stretch = flite_change(r, r.random(), r.random(), False)
        for v in voices:
            x, rate, w = self.flite(text, v, stretch, f0)
            ends = np.array(self.flite.ends) / speed + 1000 * int(lead * RATE) / RATE
            both.append((self.features(dress(r, resample(x, rate, speed), lead, trail, level)), ends))
        if w is None or len(both[0][1]) != len(both[1][1]):
            return None
        feats, ends = morph(*both, r.uniform(-.4, 1.4))
        starts = np.interp([t / speed + 1000 * int(lead * RATE) / RATE for t in w], both[1][1], ends)
        return text, feats, starts.tolist(), "+".join(voices), level

    def invented(self, r, text, count, foreign=None):
        """`count` rows of one sentence by speakers who do not exist (speakers.py); [] where the voices divide it differently.

        One voice is also recorded with a woman's pitch; it is the main one of two thirds of the rows. rms has one pitch and
        must speak slowly and be played faster, which moves its formants too; speakers.py moves them back. With a `foreign`
        voice (foreign.py, or one of PICO) that one is the main one instead, and one of the others in the last third.
        """
        lead, trail, level = r.choice([0., r.uniform(.05, .5)]), r.uniform(.3, .8), r.uniform(-36, -14)
        late = 1000 * int(lead * RATE) / RATE

        def kept(x, rate, speed=1.):
            return self.features(dress(r, resample(x, rate, speed), lead, trail, level)).float().numpy()

        def record(voice, rise, speed):
            x, rate, w = self.flite(text, voice, speed, rise / speed)
            return Recording(kept(x, rate, speed), np.array(self.flite.ends) / speed + late), [t / speed + late for t in w or []]
        said = {v: record(v, r.uniform(.9, 1.15), 1.) for v in FLITE_MORPH}
        phones, woman = self.flite.phones, r.choice(FLITE_MORPH)
        rise = r.uniform(150, 220) / FLITE_HZ[woman]
        speed = rise if woman == "rms" else rise ** r.choice([0., .5])
        high = record(woman, rise, speed)
        if len({len(x.ends) for x, _ in [*said.values(), high]}) > 1 or len(high[1]) != len(text.split()):
            return []
        rows, rng = [], np.random.default_rng(r.getrandbits(32))
        plain, raised = (-.12, .18), tuple(np.array((.0, .26)) - np.log(speed))
        strange = self.strange(r, rng, foreign, (text, phones, said[r.choice(FLITE_MORPH)], late), kept) if foreign else None
        for i in range(count):
            main = woman if i % 3 else r.choice(FLITE_MORPH)
            (rec, starts), tract = (high, raised) if i % 3 else (said[main], plain)
            others = [said[v][0] for v in r.sample(FLITE_MORPH, 3) if v != main]
            if foreign and i % 3 == 2:
                others = [strange[0], others[0]]
            elif foreign:
                main, (rec, starts, tract) = foreign, strange
            f, new = invent(Speaker(rng, len(others), tract), phones, rec, others)
            voices = [main] + [foreign] * (foreign not in (None, main)) + ["invented"]
            rows.append((text, f, np.interp(starts, rec.ends, new).tolist(), "+".join(voices), level))
        return rows

    def strange(self, r, rng, voice, timing, kept):
        """A sentence by a voice of foreign.py or PICO: (recording, word starts in ms, range of the log of the formant shift).

        timing: (text, segment names, (recording, word starts) whose times it keeps or is laid over, ms in front of the speech);
        kept(audio, rate) -> features. Half of the time the man among them has a woman's pitch.
        """
        text, phones, (model, starts), late = timing
        if voice in PICO:
            f = kept(self.pico(text, voice, r.randint(80, 125), r.randint(78, 125)), RATE)
            ends = laid_over(model.ends, model.feats, f)
            return Recording(f, ends, size=WOMAN), np.interp(starts, model.ends, ends), (-.14, .14)
        man = voice == MAN
        hertz = r.uniform(85, 130) if man and r.random() < .5 else r.uniform(150, 225)
        x, rate, missing = self.festival(rng, phones, model.ends - late, voice, hertz)
        if man:
            return Recording(kept(x, rate), model.ends), starts, (0., .26) if hertz > 140 else (-.12, .18)
        return Recording(kept(x, rate), model.ends, missing, WOMAN), starts, (-.12, .14)

    def row(self, r, text, voice):
        """One training row: (text, features, word starts in ms, voice, speech level in dB)."""
        if voice in FLITE and not self.easy and r.random() < .3:
            row = self.mixed(r, text)
            if row:
                return row
        x, w = self.speak(r, text, voice)
        if not self.easy and r.random() < .15:
            x = room(r, x)
        lead = r.choice([0., r.uniform(0, .3), r.uniform(.1, .8)])
        trail = r.uniform(.3, .8)
        level = -26 + r.uniform(-1, 1) * (5 if self.easy else 14)
        snr = None if r.random() < .4 else r.uniform(30, 50) if self.easy or r.random() < .5 else r.uniform(8, 30)
        a = dress(r, x, lead, trail, level, snr, r.choice([0, 0, 1, 1, 2]))
        return text, self.features(a), [t + 1000 * int(lead * RATE) / RATE for t in w] if w else None, voice, level
