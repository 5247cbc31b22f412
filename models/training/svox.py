"""Journey: sentences (grammar.py) -> SPEECH by two English women (SVOX Pico, libttspico by ctypes) -> sound.py.

flite's three men, mixed and raised as one likes, stay men. Pico is free (Apache-2.0) and has an American and a British woman;
svox.sh fetches and builds it. It does not tell when words start: overlay.py finds out.
"""
import ctypes

import numpy as np

from cache import CACHE

PICO = {"pico-us": "en-US", "pico-gb": "en-GB"}
RATE = 16000
VOLUME = 50                                                              # at 100 loud vowels are cut off


def folder():
    """Where svox.sh put the library and its voices."""
    found = sorted(CACHE.glob("svox-*/libttspico.so"))
    if not found:
        raise FileNotFoundError("no libttspico.so below the training cache; models/training/svox.sh fetches and builds it")
    return found[-1].parent


class Pico:
    """libttspico: one engine a voice, started when it first speaks."""

    def __init__(self):
        self.folder, self.engines, self.heard = folder(), {}, []
        c, v, u = ctypes, ctypes.c_void_p, ctypes.c_uint32
        audio = c.CFUNCTYPE(c.c_bool, v, u, u, c.c_int, v, u, c.c_bool)
        self.callback = audio(self.on_audio)                             # kept: C holds only a pointer to it
        self.lib = c.CDLL(str(self.folder / "libttspico.so"))
        self.lib.TtsEngine_Create.restype, self.lib.TtsEngine_Create.argtypes = v, [c.c_char_p, c.c_char_p, audio]
        self.lib.TtsEngine_Speak.restype, self.lib.TtsEngine_Speak.argtypes = c.c_bool, [v, c.c_char_p, v]
        for name in ("Rate", "Pitch", "Volume"):
            getattr(self.lib, f"TtsEngine_Set{name}").argtypes = [v, c.c_int]

    def on_audio(self, _user, _rate, _format, _channels, audio, size, _final):
        """Keeps a block of audio; True asks Pico to go on."""
        if size:
            self.heard.append(ctypes.string_at(audio, size))
        return True

    def engine(self, voice):
        """The engine of a voice."""
        if voice not in self.engines:
            self.engines[voice] = self.lib.TtsEngine_Create(f"{self.folder}/lang/".encode(), PICO[voice].encode(), self.callback)
            if not self.engines[voice]:
                raise RuntimeError(f"Pico has no voice {voice} in {self.folder}/lang")
            self.lib.TtsEngine_SetVolume(self.engines[voice], VOLUME)
        return self.engines[voice]

    def __call__(self, text, voice, rate=100, pitch=100):
        """Speaks a text: float32 [samples] at RATE Hz; `rate` and `pitch` in % of the voice's own."""
        engine = self.engine(voice)
        self.lib.TtsEngine_SetRate(engine, rate)
        self.lib.TtsEngine_SetPitch(engine, pitch)
        self.heard.clear()
        self.lib.TtsEngine_Speak(engine, text.encode(), None)
        x = np.frombuffer(b"".join(self.heard), np.int16).astype(np.float32) / 32768
        if len(x) < RATE // 10 or np.abs(x).max() < .01:
            raise RuntimeError(f"Pico said nothing for {text!r}")
        return x
