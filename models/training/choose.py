"""Journey: runs that went on from a model, validation and test sets -> CHOOSE how much of each the weights get -> export.py.

The more of a run, the better a strange voice is heard, and the more of the old is forgotten (export.between). The rule, in
which the voices that the evaluation calls unseen have no part: the lowest mean word error rate of the validation sets where
every set of BOUNDS keeps its bound; where no share keeps them all, the one that comes nearest. Of two runs, the second of
which went on from the first, the shares are picked together: what one gives up the other may keep. The shares are printed
alone on standard output, the figures go to standard error and to choice.json beside the last checkpoint.

    python choose.py --run .../run-foreign --from-model .../models/invented
    python choose.py --run .../run-gpu .../run-cpu --from-model .../models/foreign
"""
import argparse
import itertools
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from evaluate import quick_wer
from export import lerp
from make_data import CACHE
from model import unfold_input

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
    """found: share (of several runs: shares) -> set -> word error rate in %; returns (share, are the bounds kept). Of two alike,
    the smaller share.
    """
    keeping = [share for share in sorted(found) if excess(found[share]) <= 1]
    if keeping:
        return min(keeping, key=lambda share: strangers(found[share])), True
    return min(sorted(found), key=lambda share: excess(found[share])), False


def mixed(runs, folder, shares):
    """The weights of the model in `folder`, then so much of the way to each run's, one after the other."""
    state = unfold_input(load_file(folder / "model.safetensors"))
    for run, share in zip(runs, shares, strict=True):
        state = lerp(state, run, share)
    return state


def main():
    """Command line."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--run", type=Path, required=True, nargs="+")
    ap.add_argument("--from-model", type=Path, required=True, help="exported model that the first run went on from")
    ap.add_argument("--data", type=Path, default=CACHE / "data")
    ap.add_argument("--shares", type=float, nargs="+", default=SHARES)
    a = ap.parse_args()
    torch.set_num_threads(1)
    runs = [torch.load(run / "checkpoint.pt", map_location="cpu")["averaged"] for run in a.run]
    validation, test, found = torch.load(a.data / "validation.pt"), torch.load(a.data / "test.pt"), {}
    names = [*validation, *BOUNDS]
    for shares in itertools.product(a.shares, repeat=len(runs)):
        found[shares] = quick_wer(mixed(runs, a.from_model, shares), validation | test, names, ROWS)
        print(f"shares {shares}: {found[shares]}", file=sys.stderr, flush=True)
    shares, kept = choose(found)
    if not kept:
        print(f"no share keeps every bound of {BOUNDS}; {shares} comes nearest", file=sys.stderr)
    figures = [{"shares": tried, "wer": wer} for tried, wer in found.items()]
    (a.run[-1] / "choice.json").write_text(json.dumps({"shares": shares, "bounds_kept": kept, "tried": figures}, indent=1) + "\n")
    print(*shares)


if __name__ == "__main__":
    main()
