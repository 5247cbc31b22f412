"""Licences of all dependencies against the allow-list of deny.toml, where cargo-deny is not installed.

Comes in: `cargo metadata`. Goes out: one line for each crate whose licence expression is not satisfied, exit
code 1 then; else a count by licence. Only crates built for Linux count. Knows nothing of advisories.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def satisfied(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression (AND, OR, WITH, parentheses; `/` of old crates as OR) is satisfied."""
    text = expression.replace("/", " OR ")
    tokens = re.findall(r"\(|\)|[^\s()]+", text)
    words: list[str] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token in ("(", ")"):
            words.append(token)
        elif token in ("AND", "OR"):
            words.append(token.lower())
        elif at + 2 < len(tokens) and tokens[at + 1] == "WITH":
            words.append(str(f"{token} WITH {tokens[at + 2]}" in allowed))
            at += 2
        else:
            words.append(str(token in allowed))
        at += 1
    # Only True, False, and, or and parentheses are left.
    return bool(words) and bool(eval(" ".join(words), {"__builtins__": {}}))  # noqa: S307


def main() -> int:
    """Checks every crate that is not ours."""
    allowed = set(tomllib.loads((ROOT / "deny.toml").read_text())["licenses"]["allow"])
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features",
               "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    counts: collections.Counter[str] = collections.Counter()
    refused = []
    for package in metadata["packages"]:
        if package["id"] not in used or package["source"] is None:
            continue
        licence = package["license"] or "(none)"
        counts[licence] += 1
        if not satisfied(licence, allowed):
            refused.append(f"{package['name']} {package['version']}: {licence}")
    for line in refused:
        print(f"not allowed  {line}")
    if not refused:
        for licence, count in counts.most_common():
            print(f"{count:5}  {licence}")
    print(f"licences of {sum(counts.values())} crates: {'all allowed' if not refused else 'see above'}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
