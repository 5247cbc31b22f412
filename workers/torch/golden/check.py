"""Compares the committed golden files with what the pinned reference answers now.

    python check.py [model …]

Comes in: the committed folders beside this file.  Goes out: exit 0, or 1 with one line per difference.
Must not know: our engine (its own tests compare it with the same files), how the tiny models were drawn.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

import generate
import reference

HERE = Path(__file__).resolve().parent
# Files of another CPU model differ by what its transforms and sums round: ten times the engine's own tolerance
# (5.5 times were seen between an AMD EPYC and an Intel Xeon). Tokens, frames and texts must be equal.
LIMITS = {"features": 1e-4, "encoder": 1e-3, "logits": 1e-3, "log_probs": 1e-3}
# What a transform rounds, as a part of a frame's loudest amplitude; it shows in the logarithm of quiet bins beside
# loud ones, and differs between CPU models.
ROUNDING = 2.0 ** -20


def main():
    """Checks the models named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="folders of golden files; default: all")
    args = parser.parse_args()
    generate.set_up_torch()
    wrong = []
    for name in args.models or committed():
        found = differences(name)
        wrong += found
        print(f"{name}: {'equal to the reference' if not found else f'{len(found)} differences'}", flush=True)
    for line in wrong:
        print(line, file=sys.stderr)
    raise SystemExit(bool(wrong))


def committed():
    """Names of the folders that hold golden files."""
    return sorted(index.parent.name for index in HERE.glob("*/index.json"))


def differences(name):
    """One line per difference between the files of a model and the reference."""
    index = json.loads((HERE / name / "index.json").read_text())
    folder = HERE / name / index["folder"]
    if reference.digest(folder) != index["digest"]:
        again = f"python {Path(generate.__file__).relative_to(HERE.parents[2])} --only {name}"
        return [f"{name}: the model was replaced since its golden files were made: run {again}"]
    if transformers.__version__ != index["transformers"]:
        return [f"{name}: made with transformers {index['transformers']}, this is {transformers.__version__}"]
    model, processor = reference.load(folder)
    lines = []
    for case in index["cases"]:
        stored = load_file(HERE / name / case["file"])
        lines += [f"{name}/{case['name']}: {line}" for line in case_differences(model, processor, index, case, stored)]
    return lines


def case_differences(model, processor, index, case, stored):
    """Differences of one case: shapes and tokens exactly, numbers within LIMITS, texts and counts of the index."""
    audio = stored["audio"].numpy()
    feature, _ = reference.features(processor, audio)
    expected = {"audio": stored["audio"], "features": feature}
    lines = []
    for entry in case["results"]:
        result, _, tensors = generate.answer(model, processor, audio, entry["lookahead"])
        expected |= {f"r{entry['lookahead']}.{key}": value for key, value in tensors.items()}
        for key in result:
            if entry[key] != result[key]:
                lines.append(f"index: {key} is {entry[key]!r}, reference {result[key]!r}")
    if set(stored) != set(expected):
        return [*lines, f"tensors differ by name: {sorted(set(stored) ^ set(expected))}"]
    for key, value in sorted(expected.items()):
        line = tensor_difference(key, stored[key], value)
        if line:
            lines.append(line)
    return lines


def tensor_difference(key, stored, expected):
    """What differs between two tensors of one name, or nothing."""
    if stored.shape != expected.shape or stored.dtype != expected.dtype:
        return f"{key}: {stored.dtype} {tuple(stored.shape)}, reference {expected.dtype} {tuple(expected.shape)}"
    limit = LIMITS.get(key.rsplit(".", 1)[-1], 0)
    distance = (stored.double() - expected.double()).abs()
    if key == "features":
        distance = distance - ROUNDING * ((stored.double().amax(-1, keepdim=True) - stored.double()) / 2).exp()
    distance = float(distance.max()) if stored.numel() else 0.0
    return None if distance <= limit else f"{key}: differs by {distance:.1e}, limit {limit:.0e}"


if __name__ == "__main__":
    with torch.no_grad():
        main()
