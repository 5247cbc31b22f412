"""Journey: exported model and test sets -> EVALUATE: word error rates and word times -> results.json, model card.

RNN-T greedy search, whole utterances in batches with the attention mask of each look-ahead (the same numbers as streaming,
see the golden tests). Everything that is printed is measured here.

    python evaluate.py --model ../demo-asr --json ../demo-asr/results.json
"""
import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from make_data import CACHE
from model import FRAME_MS, LOOKAHEADS, MARK, TOKENS, build, edits, encode, fold_input, greedy, text_of


LOGGED = ("espeak", "flite", "noise10db", "everyday", "unseen_f4", "unseen_slt")


@torch.no_grad()
def recognise(run, model, rows, batch=40):
    """For each row the list of (token, frame); run(features, lengths) -> encoder output. Rows are sorted to save padding."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][1]))
    out = [None] * len(rows)
    for a in range(0, len(rows), batch):
        b = order[a:a + batch]
        n = torch.tensor([len(rows[i][1]) for i in b])
        x = torch.nn.utils.rnn.pad_sequence([rows[i][1].float() for i in b], batch_first=True)
        for i, hyp in zip(b, greedy(model, *run(x, n))):
            out[i] = hyp
    return out


def quick_wer(state, test, names=LOGGED, n=30, lookahead=6):
    """Word error rates in % of the first n rows of a few sets, for the training log and for choose.py."""
    model = build()
    model.load_state_dict(state)
    res = {}
    for name in names:
        rows = test[name][:n]
        hyps = recognise(lambda x, m: encode(model, x, m, lookahead, torch.float32), model, rows)
        k = sum(len(r[0].split()) for r in rows)
        res[name] = round(100 * sum(edits(r[0].split(), text_of(t for t, _ in h).split()) for r, h in zip(rows, hyps)) / k, 1)
    return res


def word_times(hyp):
    """Start of each word in ms: the frame in which its word mark comes out."""
    return [f * FRAME_MS for t, f in hyp if TOKENS[t] == MARK]


def add_long(test):
    """Long audio: six utterances of different voices in a row, about 20 s each."""
    mixed = [r for p in zip(test["espeak"], test["flite"][1:]) for r in p][:90]
    test["long"] = [(" ".join(r[0] for r in mixed[i:i + 6]), torch.cat([r[1] for r in mixed[i:i + 6]]), None, "mixed")
                    for i in range(0, len(mixed), 6)]


def score(rows, hyps):
    """Error rates in %, word time statistics in ms, and word error rates by voice."""
    w = c = nw = nc = right = 0
    off, by = [], {}
    for r, h in zip(rows, hyps):
        text = text_of(t for t, _ in h)
        ref, got = r[0].split(), text.split()
        e = edits(ref, got)
        w, nw, c, nc = w + e, nw + len(ref), c + edits(r[0], text), nc + len(r[0])
        right += text == r[0]
        v = by.setdefault(r[3], [0, 0])
        v[0], v[1] = v[0] + e, v[1] + len(ref)
        if text == r[0] and r[2]:
            off += [x - y for x, y in zip(word_times(h), r[2])]
    delay = statistics.median(off) if off else 0
    return {"wer": round(100 * w / nw, 2), "cer": round(100 * c / nc, 2), "sentences_right": round(100 * right / len(rows), 1),
            "sentences": len(rows), "words": nw, "word_start_delay_ms": round(delay),
            "word_start_median_error_ms": round(statistics.median(abs(x - delay) for x in off)) if off else None,
            "wer_by_voice": {k: round(100 * a / b, 1) for k, (a, b) in by.items()}}


def evaluate(a, look):
    """All test sets at one look-ahead: (its key, set -> numbers); `a` are the command's arguments."""
    from transformers import NemotronAsrStreamingForRNNT
    torch.set_num_threads(1)
    stock = NemotronAsrStreamingForRNNT.from_pretrained(a.model, dtype=torch.float32).eval()

    def run(x, n):
        o = stock.encoder(input_features=x, attention_mask=torch.arange(x.shape[1])[None] < n[:, None], num_lookahead_tokens=look)
        return o.last_hidden_state, o.attention_mask.sum(-1)

    test, res = torch.load(a.data / "test.pt"), {}
    add_long(test)
    for name, rows in test.items():
        if a.sets and name not in a.sets:
            continue
        rows, cpu = rows[:a.limit or None], time.process_time()
        hyps = recognise(run, stock, rows)
        cpu, sec = time.process_time() - cpu, sum(len(r[1]) for r in rows) / 100
        texts = [(r[0], text_of(t for t, _ in h)) for r, h in zip(rows, hyps)]
        if name == "nospeech":
            res[name] = {"false_words": sum(len(t.split()) for _, t in texts), "minutes": round(sec / 60, 2)}
        else:
            res[name] = {**score(rows, hyps), "audio_s_per_cpu_s": round(sec / cpu)}
        print(look, name, json.dumps(res[name]), flush=True)
        for ref, text in [p for p in texts if p[0] != p[1]][:a.show]:
            print("     ", ref, "\n    >", text)
    return f"lookahead_{look}", res


def main():
    """Command line."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, required=True)
    ap.add_argument("--data", type=Path, default=CACHE / "data")
    ap.add_argument("--lookahead", type=int, nargs="+", default=LOOKAHEADS)
    ap.add_argument("--sets", nargs="+", help="default: all")
    ap.add_argument("--limit", type=int, default=0, help="rows per set; 0 = all")
    ap.add_argument("--show", type=int, default=0, help="wrong sentences to print per set")
    ap.add_argument("--workers", type=int, default=1, help="look-aheads at a time")
    ap.add_argument("--json", type=Path)
    a = ap.parse_args()
    with torch.multiprocessing.get_context("spawn").Pool(a.workers) as pool:
        res = dict(pool.starmap(evaluate, [(a, look) for look in a.lookahead], chunksize=1))
    if a.json:
        a.json.write_text(json.dumps(res, indent=1) + "\n")


if __name__ == "__main__":
    main()
