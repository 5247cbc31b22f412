"""Journey: segments and their ends (flite, voices.py) -> FOREIGN SPEECH: Festival's diphone voices say them -> sound.py.

flite has three men. Festival has one more (`ked`, American) and women of other languages: `lp` Italian, `dita` Czech, `lj`
Finnish. A woman's voice, voice bars and bursts are real there; what her language lacks (th, r, most lax vowels) is marked
as such, and speakers.py takes it from an Englishman. No voice that a test set speaks with is among them.
"""
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path("/usr/share/festival/voices")
VOICES = {"ked": ("ked_diphone", "english/ked_diphone/group/kedlpc16k.group"),
          "lp": ("lp_diphone", "italian/lp_diphone/group/lp_diphone.group"),
          "dita": ("czech_dita", "czech/czech_dita/group/dita.group"),
          "lj": ("suo_fi_lj_diphone", "finnish/suo_fi_lj_diphone/group/ljlpc.group")}
MAN, WOMEN = "ked", ["lp", "dita"]
VALIDATION_WOMAN = "lj"                                                     # never trained
UNVOICED = dict(zip("b d g z v z~ dz~ h dZ".split(), "p t k s f s~ c~ ch tS".split()))

# English phone: its parts in the language, then how far it is missing there (0 = it is the same sound)
SAME = {p: (p, 0) for p in "b d f g m n s v z".split()}
COMMON = {**SAME, "pau": ("#", 0), "aa": ("a", 0), "ae": ("e a", .7), "ah": ("a", .6), "ao": ("o", 0), "aw": ("a u", 0),
          "ax": ("e", .8), "ay": ("a i", 0), "dh": ("d", 1), "eh": ("e", 0), "er": ("e", 1), "ey": ("e i", 0), "hh": ("h", .6),
          "ih": ("i", .6), "iy": ("i", 0), "k": ("k", .3), "l": ("l", .2), "ng": ("n", .8), "ow": ("o u", 0), "oy": ("o i", 0),
          "p": ("p", .3), "r": ("l", 1), "t": ("t", .3), "th": ("f", 1), "uh": ("u", .6), "uw": ("u", 0), "w": ("u", .4),
          "y": ("i", .3)}
PARTS = {
    "lp": {**COMMON, "ae": ("E", .6), "eh": ("E", 0), "ao": ("O", 0), "ch": ("tS", 0), "jh": ("dZ", 0), "sh": ("S", 0),
           "zh": ("z", 1), "hh": ("f", 1)},
    "dita": {**COMMON, "ch": ("c~", 0), "jh": ("dz~", 0), "sh": ("s~", 0), "zh": ("z~", 0), "y": ("j", 0)},
    "lj": {**COMMON, "ax": ("@", .4), "ch": ("t s", .8), "er": ("7", .8), "jh": ("d j", 1), "sh": ("s", 1), "z": ("s", 1),
           "zh": ("s", 1), "y": ("j", 0)}}


def index(group):
    """The diphones of a grouped Festival database: a set of (left, right)."""
    head, rest = group.read_bytes().split(b"EST_Header_End\n", 1)
    count = int(head.split(b"NumEntries")[1].split()[0])
    names = (line.split()[0].decode("latin1") for line in rest.split(b"\n", count)[:count])
    return {tuple(n.split("-")) for n in names if n.count("-") == 1}


def joined(parts, known):
    """Parts (name, ms, segment) whose neighbours all form diphones: another voicing, a glide or a short stop between them.

    Returns the parts and the segments that no longer are what they should be. Languages that lose voicing at the end of
    a word or in a cluster have no such diphones.
    """
    out, odd = [list(parts[0])], set()
    voiced = {v: k for k, v in UNVOICED.items()}
    for name, ms, seg in parts[1:]:
        a = out[-1]
        if (a[0], name) not in known:
            before = out[-2][0] if len(out) > 1 else None
            other = next((x for x in (UNVOICED.get(a[0]), voiced.get(a[0])) if x and (x, name) in known
                          and (before is None or (before, x) in known)), None)
            odd |= {seg, a[2]}
            if other:
                a[0] = other
            else:
                glue = "j" if (a[0], "j") in known and ("j", name) in known else "#"
                out.append([glue, 12., seg])
                ms = max(ms - 12., 12.)
        out.append([name, ms, seg])
    return out, odd


def melody(rng, ends, phones, hertz):
    """Pitch targets (ms, Hz): a line that falls, with a hill on every third vowel or so."""
    out, total = [], ends[-1]
    for p, a, b in zip(phones, np.concatenate([[0], ends]), ends):
        if p[0] in "aeiou":
            hill = rng.uniform(.06, .22) if rng.random() < .4 else rng.normal(0, .03)
            out.append(((a + b) / 2, hertz * float(np.exp(.1 - .22 * (a + b) / 2 / total + hill))))
    return out or [(total / 2, hertz)]


class Festival:
    """A Festival process that says segments in one of VOICES."""

    def __init__(self):
        self.process = subprocess.Popen(["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.known = {}                                                    # voice -> its diphones, read when it first speaks
        self.folder = tempfile.TemporaryDirectory(prefix="festival-")
        self.wave = os.path.join(self.folder.name, "said.raw")

    def __call__(self, rng, phones, ends, voice, hertz):
        """Speaks flite's segments with their ends in ms: (float32 [samples], rate, how far each segment is missing [segments])."""
        parts, missing = [], np.zeros(len(phones))
        for i, (p, ms) in enumerate(zip(phones, np.diff(ends, prepend=0))):
            names, missing[i] = (p, 0) if voice == MAN else PARTS[voice][p]
            names = names.split()
            parts += [(n, max(ms / len(names), 12.), i) for n in names]
        if voice != MAN:                                                  # ked's own rules replace what it lacks
            if voice not in self.known:
                self.known[voice] = index(ROOT / VOICES[voice][1])
            parts, odd = joined(parts, self.known[voice])
            missing[list(odd)] = np.maximum(missing[list(odd)], .8)
        at, lines, tune = 0., [], melody(rng, ends, phones, hertz)
        for name, ms, _ in parts:
            inside = [(t - at, hz) for t, hz in tune if at <= t < at + ms]
            lines.append(f'("{name}" {ms / 1000:.4f} ' + " ".join(f"({t / 1000:.4f} {hz:.1f})" for t, hz in inside) + ")")
            at += ms
        said = self.ask(f"(voice_{VOICES[voice][0]}) (set! u (utt.synth (Utterance Segments ({' '.join(lines)}))))"
                        f' (format t "rate %d\\n" (cadr (assoc \'sample_rate (wave.info (utt.wave u)))))'
                        f' (utt.save.wave u "{self.wave}" \'raw)')
        x = np.fromfile(self.wave, np.int16).astype(np.float32) / 32768
        if len(x) < 1000 or np.abs(x).max() < .01:
            raise RuntimeError("Festival said nothing")
        return x, int(said.split("rate ")[1].split()[0]), missing

    def ask(self, command):
        """What Festival prints for a command."""
        self.process.stdin.write(command + ' (format t "done\\n") (fflush nil)\n')
        self.process.stdin.flush()
        out = ""
        for line in self.process.stdout:
            if line.strip() == "done":
                return out
            out += line
        raise RuntimeError("Festival ended: " + out)
