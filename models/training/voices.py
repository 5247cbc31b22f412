"""Journey: sentences (grammar.py) -> SPEECH with word times (libespeak-ng and libflite by ctypes) -> sound.py.

Both classes return (audio as float32 [samples], sample rate, word starts in ms or None). The word starts are what makes
training on a small CPU possible, and the truth against which the model's word times are measured.
"""
import ctypes

import numpy as np

ESPEAK_BASE = ["en-us", "en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-gb-x-gbclan",
               "en-gb-x-gbcwmd", "en-029"]                              # "en" is the British voice
ESPEAK_PLAIN = ["", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8", "+f1", "+f2", "+f3", "+f5"]
ESPEAK_VARIANT = ESPEAK_PLAIN * 2 + ["+f1", "+f2", "+f3", "+f5", "+Alicia", "+Andy", "+Annie", "+Gene", "+Gene2", "+Hugo",
    "+Jacky", "+Lee", "+Marco", "+Mario", "+Michael", "+Mike", "+RicishayMax", "+adam", "+anika", "+announcer", "+antonio",
    "+aunty", "+belinda", "+benjamin", "+boris", "+caleb", "+david", "+ed", "+edward", "+grandma", "+grandpa", "+iven",
    "+iven3", "+john", "+klatt", "+klatt", "+klatt3", "+klatt4", "+klatt5", "+linda", "+marcelo", "+max", "+michel", "+miguel",
    "+norbert", "+pablo", "+paul", "+pedro", "+quincy", "+rob", "+robert", "+sandro", "+shelby", "+steph", "+steph2",
    "+travis", "+victor", "+zac"]
ESPEAK_UNSEEN = ["+f4", "+klatt2", "+Andrea"]                            # tests only, never trained
FLITE = ["kal", "kal", "kal", "kal16", "awb", "awb", "awb", "rms", "rms", "rms"]    # kal is the hardest to learn
FLITE_MORPH = ["kal16", "awb", "rms"]                                    # voices with all frequencies, to mix in pairs
FLITE_HZ = {"kal16": 89, "awb": 128, "rms": 101}                        # their pitch
FLITE_UNSEEN = ["slt"]                                                   # tests only, never trained


class Espeak:
    """libespeak-ng in retrieval mode, with the start time of every word."""

    class Event(ctypes.Structure):
        """espeak_EVENT of speak_lib.h."""
        _fields_ = [("type", ctypes.c_int), ("uid", ctypes.c_uint), ("text_position", ctypes.c_int),
                    ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                    ("user", ctypes.c_void_p), ("id", ctypes.c_char * 8)]

    def __init__(self):
        self.lib = ctypes.CDLL("libespeak-ng.so.1")
        self.buf, self.words = [], []
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(self.Event))
        self.callback = call(self.on_audio)                              # kept: C holds only a pointer to it
        self.rate = self.lib.espeak_Initialize(2, 500, None, 0)
        self.lib.espeak_SetSynthCallback(self.callback)

    def on_audio(self, wav, n, event):
        """Keeps a block of audio and its word events (type 1); 0 asks espeak to go on."""
        i = 0
        while event and event[i].type != 0:
            if event[i].type == 1:
                self.words.append((event[i].text_position - 1, event[i].audio_position))
            i += 1
        if n > 0:
            self.buf.append(np.ctypeslib.as_array(wav, shape=(n,)).copy())
        return 0

    def __call__(self, text, voice, wpm, pitch, pitch_range=50):
        """Speaks a text; `wpm` words per minute, `pitch` and `pitch_range` from 0 to 100."""
        self.buf.clear()
        self.words.clear()
        if self.lib.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError("no espeak voice " + voice)
        for key, value in ((1, wpm), (3, pitch), (4, pitch_range)):
            self.lib.espeak_SetParameter(key, value, 0)
        b = text.encode()
        self.lib.espeak_Synth(b, len(b) + 1, 0, 0, 0, 1, None, None)
        self.lib.espeak_Synchronize()
        x = np.concatenate(self.buf).astype(np.float32) / 32768
        return x, self.rate, self.word_starts(text, len(x))

    def word_starts(self, text, samples):
        """One start per word; espeak joins some short words ("of the"): those are interpolated by text position."""
        at, starts, pos = dict(self.words), [], 0
        for w in text.split():
            starts.append((pos, at.get(pos)))
            pos += len(w) + 1
        if not starts or starts[0][1] is None:
            return None
        known = [(p, s) for p, s in starts if s is not None] + [(pos, 1000 * samples / self.rate)]
        ps, ss = zip(*known)
        return [float(np.interp(p, ps, ss)) for p, _ in starts]


class Flite:
    """libflite; word starts come from the segment ends of the utterance structure."""

    class Wave(ctypes.Structure):
        """cst_wave of flite."""
        _fields_ = [("type", ctypes.c_char_p), ("sample_rate", ctypes.c_int), ("num_samples", ctypes.c_int),
                    ("num_channels", ctypes.c_int), ("samples", ctypes.POINTER(ctypes.c_short))]

    def __init__(self):
        self.lib = f = ctypes.CDLL("libflite.so.1", ctypes.RTLD_GLOBAL)
        for n in ("usenglish", "cmulex"):
            ctypes.CDLL(f"libflite_{n}.so.1", ctypes.RTLD_GLOBAL)
        v, s = ctypes.c_void_p, ctypes.c_char_p
        f.flite_synth_text.restype, f.flite_synth_text.argtypes = v, [s, v]
        f.utt_wave.restype, f.utt_wave.argtypes = ctypes.POINTER(self.Wave), [v]
        f.utt_relation.restype, f.utt_relation.argtypes = v, [v, s]
        f.relation_head.restype, f.relation_head.argtypes = v, [v]
        f.item_next.restype, f.item_next.argtypes = v, [v]
        f.ffeature_float.restype, f.ffeature_float.argtypes = ctypes.c_float, [v, s]
        f.ffeature_string.restype, f.ffeature_string.argtypes = s, [v, s]
        f.delete_utterance.argtypes = [v]
        f.feat_set_float.argtypes = [v, s, ctypes.c_float]
        f.flite_init()
        self.voices, self.ends, self.phones = {}, [], []                 # of the last utterance's segments: ends in ms, names

    def voice(self, name):
        """The handle of a voice, loaded once."""
        if name not in self.voices:
            lib = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", ctypes.RTLD_GLOBAL)
            register = getattr(lib, f"register_cmu_us_{name}")
            register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
            self.voices[name] = register(None)
        return self.voices[name]

    def __call__(self, text, voice, stretch, f0=1.):
        """Speaks a text; `stretch` > 1 is slower, `f0` > 1 is higher (kal and awb follow it, rms does not)."""
        f, vox = self.lib, self.voice(voice)
        # cst_voice: {const char *name; cst_features *features; ...}
        feats = ctypes.cast(vox, ctypes.POINTER(ctypes.c_void_p))[1]
        f.feat_set_float(feats, b"duration_stretch", stretch)
        f.feat_set_float(feats, b"f0_shift", f0)
        u = f.flite_synth_text(text.encode(), vox)
        w = f.utt_wave(u)[0]
        x = np.ctypeslib.as_array(w.samples, shape=(w.num_samples,)).astype(np.float32) / 32768
        rate = w.sample_rate
        starts, it = [], f.relation_head(f.utt_relation(u, b"Word"))
        while it:
            if not f.ffeature_string(it, b"name").startswith(b"'"):        # "it's" is said as two words
                starts.append(1000 * f.ffeature_float(it, b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"))
            it = f.item_next(it)
        self.ends, self.phones, it = [], [], f.relation_head(f.utt_relation(u, b"Segment"))
        while it:
            self.ends.append(1000 * f.ffeature_float(it, b"end"))
            self.phones.append(f.ffeature_string(it, b"name").decode())
            it = f.item_next(it)
        f.delete_utterance(u)
        return x, rate, starts if len(starts) == len(text.split()) else None
