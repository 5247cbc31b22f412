"""Journey: sentences and voices -> SHARDS of features and word times, and the TEST SETS -> train.py, evaluate.py.

A shard is one file {text, starts, voice, level: lists; at: frame offsets; feats: float16 [frames, 80]}; the trainer maps it
into memory. Everything is seeded; an existing shard is kept, so the command can be stopped and started again.

    python make_data.py --test              # the test sets, with their 16 kHz audio
    python make_data.py --easy --shards 6   # near-clean speech, fewer voices: the first phase of training
    python make_data.py --shards 60
    python make_data.py --validation        # a woman who is never trained, for choose.py
"""
import argparse
import os
import random
import time
from pathlib import Path

import numpy as np
import torch

import opentext
from cache import CACHE
from foreign import MAN, VALIDATION_WOMAN, WOMEN
from grammar import EVERYDAY_TEST, Sentences, digits, held_out_sentences
from sound import RATE, Maker, dress, empty, noise, resample, voice_for
from svox import PICO

ESPEAK_TEST = ["en-us", "en", "en-us+m3", "en+m5", "en-us+f2", "en+f3", "en-us+f5", "en-us+m7"]
FLITE_TEST = ["kal", "awb", "rms"]
SPEAKERS, FOREIGN_SPEAKERS = 8, 5                                           # invented ones for a sentence
STRANGE = [MAN, *WOMEN, *PICO, *PICO]                                       # the voices that invented ones are made with; English women most


def pack(rows):
    """Rows as one dictionary that torch.load can map into memory."""
    return {"text": [r[0] for r in rows], "starts": [r[2] for r in rows], "voice": [r[3] for r in rows],
            "level": [r[4] for r in rows], "at": np.cumsum([0] + [len(r[1]) for r in rows]).tolist(),
            "feats": torch.cat([r[1] for r in rows])}


def train_shard(maker, sentences, k, size, invented=0., foreign=False):
    """Rows of shard k; about the share `invented` of them by speakers who do not exist, SPEAKERS of them for a sentence."""
    r, rows, speakers = random.Random(1000 + k), [], FOREIGN_SPEAKERS if foreign else SPEAKERS
    while len(rows) < size:
        if invented and r.random() < invented / (invented + speakers * (1 - invented)):
            rows += maker.invented(r, sentences(r), speakers, r.choice(STRANGE) if foreign else None)
        elif r.random() < .02:
            rows.append(("", maker.features(empty(r)), [], "", -26.))
        else:
            voice = r.choice([MAN, *PICO]) if foreign and r.random() < .3 else voice_for(r, maker.easy)
            rows.append(maker.row(r, sentences(r), voice))
    return rows


def test_row(maker, r, text, voice, level=-26., snr=50., kind=1, cut=None, lead=.3, trail=.5):
    """One test row with a plain voice: (text, features, word starts, voice, level, audio)."""
    x, w = maker.speak(r, text, voice, plain=True)
    if cut:
        x = resample(x, RATE, cut=cut)
    a = dress(r, x, lead, trail, level, snr, kind)
    return text, maker.features(a), [s + 1000 * lead for s in w] if w else None, voice, level, torch.from_numpy(a)


def test_sets(maker, n):
    """name -> rows; the sentences are never used in training."""
    r, domain = random.Random(7), held_out_sentences(n)
    seen = ESPEAK_TEST + FLITE_TEST
    both = ["en-us", "en"]
    plan = {"espeak": (ESPEAK_TEST, {}), "flite": (FLITE_TEST, {}), "noise10db": (seen, {"snr": 10}),
            "band8k": (seen, {"cut": 3600}), "quiet": (seen, {"level": -45.}), "everyday": (seen, {}),
            "unseen_f4": ([v + "+f4" for v in both], {}), "unseen_klatt2": ([v + "+klatt2" for v in both], {}),
            "unseen_andrea": ([v + "+Andrea" for v in both], {}), "unseen_slt": (["slt"], {}),
            "at_once": (seen, {"lead": 0.})}
    out = {}
    for name, (voices, o) in plan.items():
        text = EVERYDAY_TEST[:None if n >= 100 else n] if name == "everyday" else domain
        out[name] = [test_row(maker, r, t, voices[i % len(voices)], **{**({"kind": i % 2} if "snr" in o else {}), **o})
                     for i, t in enumerate(text)]
    out["digits"] = [test_row(maker, r, digits(r), seen[i % len(seen)]) for i in range(n // 2)]
    out["nospeech"] = []
    for i in range(n // 2):
        a = empty(r) if i < n // 2 - 10 else np.zeros(RATE * 4, np.int16)
        out["nospeech"].append(("", maker.features(a), [], "", -26., torch.from_numpy(a)))
    return out


def validation_sets(maker, n):
    """name -> n rows by invented speakers who have a voice that is never trained as their main one, or as a part."""
    r, main, part = random.Random(77), [], []
    for text in held_out_sentences(2 * n):                                  # some the voices divide differently
        rows = maker.invented(r, text, 3, VALIDATION_WOMAN) if len(main) < n else []
        main, part = main + rows[1:2], part + rows[2:3]
    return {f"{VALIDATION_WOMAN}_main": main, f"{VALIDATION_WOMAN}_part": part}


def noise_pool(maker, seconds=40):
    """Features of noise of level 1 (full scale rms; float, not clipped): float16 [kinds, frames, 80], for augment.py."""
    r, out = random.Random(3), []
    for kind in (0, .5, 1, 1.5, 2):
        x = noise(r, seconds * RATE, kind)
        out.append(maker.extractor(x, sampling_rate=RATE, return_tensors="pt")["input_features"][0, :seconds * 100].half())
    return torch.stack(out)


def save(value, path):
    """Writes a file in one step, so that a reader never sees half of it."""
    torch.save(value, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def note_pids(folder, pids):
    """Adds processes to train.pid, so that a person can pause (kill -STOP) and go on (kill -CONT); drops dead ones."""
    f = folder / "train.pid"
    old = [int(p) for p in f.read_text().split()] if f.exists() else []
    f.write_text("".join(f"{p}\n" for p in [p for p in old if Path(f"/proc/{p}").exists() and p not in pids] + pids))


def main():
    """Command line."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, default=CACHE / "data")
    ap.add_argument("--shards", type=int, default=12)
    ap.add_argument("--first", type=int, default=0)
    ap.add_argument("--stride", type=int, default=1, help="every n-th shard, to share the work between processes")
    ap.add_argument("--size", type=int, default=1000, help="rows in one shard")
    ap.add_argument("--easy", action="store_true", help="near-clean speech of 26 voices, for the first phase")
    ap.add_argument("--invented", type=float, default=0., help="share of rows by invented speakers (speakers.py)")
    ap.add_argument("--foreign", action="store_true", help="Festival's voices too (foreign.py), as parts of invented speakers")
    ap.add_argument("--test", action="store_true")
    ap.add_argument("--validation", action="store_true", help="half as many sentences as --test-size, twice")
    ap.add_argument("--test-size", type=int, default=120)
    a = ap.parse_args()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    note_pids(a.out.parent, [os.getpid()])
    maker = Maker(a.easy)
    if a.test:
        sets = test_sets(maker, a.test_size)
        save(noise_pool(maker), a.out / "noise.pt")
        save(sets, a.out / "test.pt")
        print({k: (len(v), round(sum(len(x[1]) for x in v) / 6000, 1)) for k, v in sets.items()}, "(rows, minutes)")
        return
    if a.validation:
        return save(validation_sets(maker, a.test_size // 2), a.out / "validation.pt")
    sentences = Sentences(*opentext.load(a.out.parent / "text" / "open.txt"))
    first = a.first + (100000 if a.easy else 0)                            # easy shards have their own seeds and names
    for k in range(first, first + a.shards, a.stride):
        f = a.out / f"{'easy' if a.easy else 'train'}_{k:06d}.pt"
        if f.exists():
            continue
        t0 = time.time()
        rows = train_shard(maker, sentences, k, a.size, a.invented, a.foreign)
        save(pack(rows), f)
        h = sum(len(x[1]) for x in rows) / 360000
        print(f"shard {k}: {h:.2f} h in {time.time() - t0:.0f} s, aligned {np.mean([x[2] is not None for x in rows]):.2f}",
              flush=True)


if __name__ == "__main__":
    main()
