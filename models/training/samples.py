"""Journey: test sets and exported model -> SAMPLES: a few short WAV files with text and word times, for tests and quickstart.

    python samples.py --model ../demo-asr

Takes held-out utterances that the model gets right at every look-ahead from 1 on; file names are fixed.
"""
import argparse
import json
import wave
from pathlib import Path

import torch

from evaluate import recognise
from make_data import CACHE
from model import LOOKAHEADS, text_of

# file name: (test set, voice prefixes, least and most seconds of the whole file)
WANTED = {"quickstart": ("espeak", ("en-us", "en"), 4.1, 6.0), "espeak-1": ("espeak", ("en-us",), 2.0, 5.5),
          "espeak-2": ("espeak", ("en+",), 2.0, 5.5), "flite-1": ("flite", ("rms",), 2.0, 5.5),
          "flite-2": ("flite", ("awb",), 2.0, 5.5), "noise-1": ("noise10db", ("en", "rms"), 2.0, 5.5)}


def write_wav(path, audio):
    """int16 [samples] -> 16 kHz mono WAV."""
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(16000)
        w.writeframes(audio.numpy().tobytes())


def right_at_all(model, rows, lookaheads):
    """True for each row that is recognised without an error at all look-aheads."""
    ok = [True] * len(rows)
    for look in lookaheads:
        def run(x, n):
            o = model.encoder(input_features=x, attention_mask=torch.arange(x.shape[1])[None] < n[:, None],
                              num_lookahead_tokens=look)
            return o.last_hidden_state, o.attention_mask.sum(-1)
        with torch.no_grad():
            hyps = recognise(run, model, rows)
        ok = [a and text_of(t for t, _ in h) == r[0] for a, r, h in zip(ok, rows, hyps)]
    return ok


def main():
    """Command line."""
    from transformers import NemotronAsrStreamingForRNNT
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, required=True)
    ap.add_argument("--data", type=Path, default=CACHE / "data")
    ap.add_argument("--lookahead", type=int, nargs="+", default=LOOKAHEADS[1:])
    ap.add_argument("--any", action="store_true", help="take an utterance even if none is recognised (a smoke run)")
    a = ap.parse_args()
    torch.set_num_threads(1)
    model = NemotronAsrStreamingForRNNT.from_pretrained(a.model, dtype=torch.float32).eval()
    test, out, used = torch.load(a.data / "test.pt"), a.model / "samples", set()
    out.mkdir(exist_ok=True)
    index = []
    for name, (group, voices, low, high) in WANTED.items():
        rows = [r for r in test[group] if r[3].startswith(voices) and low <= len(r[5]) / 16000 <= high and r[0] not in used][:14]
        good = [r for r, k in zip(rows, right_at_all(model, rows, a.lookahead)) if k] or (rows if a.any else [])
        if not good:
            if not a.any:
                raise SystemExit(f"no utterance for {name} is right at all look-aheads {a.lookahead}")
            continue
        r = max(good, key=lambda r: len(set(r[0].split())))                # the richest sentence
        used.add(r[0])
        write_wav(out / f"{name}.wav", r[5])
        index.append({"file": f"{name}.wav", "text": r[0], "voice": r[3], "set": group, "seconds": round(len(r[5]) / 16000, 3),
                      "words": [{"word": w, "start_ms": round(s)} for w, s in zip(r[0].split(), r[2])]})
        print(name, r[3], r[0])
    (out / "samples.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
