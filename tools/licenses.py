"""Licences, bans and sources of all dependencies as deny.toml wants them, where cargo-deny is not installed.

Comes in: `cargo metadata`. Goes out: one line for each crate whose licence expression is not satisfied, that is banned
or that comes from an unknown place, exit code 1 then; else a count by licence. Only crates built for Linux count.
Knows nothing of advisories.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The one registry that cargo-deny knows unless it is told others.
CRATES_IO = "https://github.com/rust-lang/crates.io-index"


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


def metadata() -> dict:
    """All packages and their edges, as cargo resolves them for Linux."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features",
               "--filter-platform", "x86_64-unknown-linux-gnu"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def licences(packages: list[dict], rules: dict) -> tuple[list[str], collections.Counter[str]]:
    """Crates whose licence is not allowed, and a count of all by licence."""
    allowed = set(rules["licenses"]["allow"])
    counts: collections.Counter[str] = collections.Counter()
    refused = []
    for package in packages:
        licence = package["license"] or "(none)"
        counts[licence] += 1
        if not satisfied(licence, allowed):
            refused.append(f"{name(package)}: {licence}")
    return refused, counts


def banned(packages: list[dict], ours: list[dict], rules: dict) -> list[str]:
    """Crates that deny.toml bans, and our own dependencies on any version at all."""
    reasons = {ban["crate"]: ban["reason"] for ban in rules["bans"]["deny"]}
    refused = [f"{name(package)}: {reasons[package['name']]}" for package in packages if package["name"] in reasons]
    if rules["bans"]["wildcards"] == "deny":
        wild = [(package, need) for package in ours for need in package["dependencies"] if need["req"] == "*"]
        refused += [f"{name(package)} takes any version of {need['name']}" for package, need in wild if not need.get("path")]
    return refused


def strange(packages: list[dict], rules: dict) -> list[str]:
    """Crates that come from elsewhere than the registries and repositories that deny.toml knows."""
    known = rules["sources"].get("allow-registry", [CRATES_IO])
    repositories = rules["sources"].get("allow-git", [])
    refused = []
    for package in packages:
        kind, _, address = package["source"].partition("+")
        address = address.split("?")[0].split("#")[0]
        if address not in (repositories if kind == "git" else known):
            refused.append(f"{name(package)}: from {package['source']}")
    return refused


def name(package: dict) -> str:
    """A crate as people name it."""
    return f"{package['name']} {package['version']}"


def main() -> int:
    """Checks every crate that is not ours."""
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    facts = metadata()
    used = {node["id"] for node in facts["resolve"]["nodes"]}
    ours = [package for package in facts["packages"] if package["source"] is None]
    theirs = [package for package in facts["packages"] if package["source"] and package["id"] in used]
    unlicensed, counts = licences(theirs, rules)
    refused = {"not allowed": unlicensed, "banned": banned(theirs, ours, rules), "unknown source": strange(theirs, rules)}
    for reason, lines in refused.items():
        for line in lines:
            print(f"{reason}  {line}")
    if any(refused.values()):
        print(f"licences, bans and sources of {len(theirs)} crates: see above")
        return 1
    for licence, count in counts.most_common():
        print(f"{count:5}  {licence}")
    print(f"licences, bans and sources of {len(theirs)} crates: all allowed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
