"""Journey: a run that went on from a model, validation and test sets -> CHOOSE how much of the run its weights get -> export.py.

The more of the run, the better a strange voice is heard, and the more of the old is forgotten (export.between). The rule, in
which the voices that the evaluation calls unseen have no part: the lowest mean word error rate of the validation sets where
every set of BOUNDS keeps its bound; where no share keeps them all, the one that comes nearest. The share is printed alone on
standard output, the figures go to standard error and to choice.json beside the checkpoint.

    python choose.py --run .../run-foreign --from-model .../models/invented
"""
import argparse
import json
import sys
from pathlib import Path

import torch

from evaluate import quick_wer
from export import between
from make_data import CACHE

BOUNDS = {"everyday": 13.5, "flite": 2., "noise10db": 4.5, "espeak": .85}   # %, on the first ROWS sentences of the test sets
ROWS = 80
SHARES = [.5, .6, .8, 1.]


def excess(wer):
    """How much of its bound the worst set uses: at most 1 where all bounds are kept."""
    return max(wer[name] / bound for name, bound in BOUNDS.items())


def strangers(wer):
    """The mean word error rate of the validation sets."""
    names = wer.keys() - BOUNDS.keys()
    return sum(wer[name] for name in names) / len(names)


def choose(found):
    """found: share -> set -> word error rate in %; returns (share, are the bounds kept). Of two alike, the smaller share."""
    keeping = [share for share in sorted(found) if excess(found[share]) <= 1]
    if keeping:
        return min(keeping, key=lambda share: strangers(found[share])), True
    return min(sorted(found), key=lambda share: excess(found[share])), False


def main():
    """Command line."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--run", type=Path, required=True)
    ap.add_argument("--from-model", type=Path, required=True, help="exported model that the run went on from")
    ap.add_argument("--data", type=Path, default=CACHE / "data")
    ap.add_argument("--shares", type=float, nargs="+", default=SHARES)
    a = ap.parse_args()
    torch.set_num_threads(1)
    state = torch.load(a.run / "checkpoint.pt", map_location="cpu")["averaged"]
    validation, test, found = torch.load(a.data / "validation.pt"), torch.load(a.data / "test.pt"), {}
    names = [*validation, *BOUNDS]
    for share in a.shares:
        found[share] = quick_wer(between(state, a.from_model, share), validation | test, names, ROWS)
        print(f"share {share}: {found[share]}", file=sys.stderr, flush=True)
    share, kept = choose(found)
    if not kept:
        print(f"no share keeps every bound of {BOUNDS}; {share} comes nearest", file=sys.stderr)
    (a.run / "choice.json").write_text(json.dumps({"share": share, "bounds_kept": kept, "wer": found}, indent=1) + "\n")
    print(share)


if __name__ == "__main__":
    main()
