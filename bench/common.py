"""What all benchmarks share: the machine's description, alternating repeats, rows, a table.

Comes in: functions that measure one thing once.  Goes out: the best of several alternating repeats, printed and
appended to `target/bench/<name>.jsonl`.  Must not know: models, runtimes.
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "target" / "bench"


@dataclass
class Row:
    """One comparison. `ratio` is how many times better we are, whatever the unit's good direction."""

    bench: str
    case: str
    ours: float
    peer: float
    peer_name: str
    unit: str
    goal: float
    lower_is_better: bool = True

    def record(self):
        """The row as it is written: `{bench, case, ours, peer, peer_name, ratio, unit, goal, pass}`."""
        ratio = self.peer / self.ours if self.lower_is_better else self.ours / self.peer
        return {
            "bench": self.bench,
            "case": self.case,
            "ours": round(self.ours, 4),
            "peer": round(self.peer, 4),
            "peer_name": self.peer_name,
            "ratio": round(ratio, 3),
            "unit": self.unit,
            "goal": self.goal,
            "pass": ratio >= self.goal,
        }


def machine(packages):
    """Facts that a figure means nothing without."""
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    return facts | {name: importlib.metadata.version(name) for name in packages}


def cpu_model():
    """The processor's own name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def alternate(contestants, repeats):
    """Runs `{name: measure}` in turn, `repeats` times; returns `{name: [results]}`.

    Every contestant meets the same weather: noise of a shared machine comes and goes in seconds.
    """
    results = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, measure in contestants.items():
            results[name].append(measure())
    return results


def best(results, key):
    """Smallest value of a key over the repeats: other programs only ever add time."""
    return min(result[key] for result in results)


class Report:
    """Prints rows as they come and appends them to the bench's file. `peers_only`: the goals are not judged."""

    def __init__(self, name, facts, peers_only=False):
        self.peers_only = peers_only
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.file = RESULTS / f"{name}.jsonl"
        self.facts = facts
        self.failed = 0
        print("  ".join(f"{key} {value}" for key, value in facts.items()))
        print(f"{'case':58} {'ours':>10} {'peer':>10} {'unit':10} {'ratio':>6} {'goal':>5}  peer")

    def add(self, row):
        """Prints and keeps one row."""
        record = row.record()
        missed = not record["pass"] and not self.peers_only
        self.failed += missed
        verdict = "  MISSED" if missed else ""
        print(
            f"{row.bench + ' ' + row.case:58} {row.ours:10.3f} {row.peer:10.3f} {row.unit:10} "
            f"{record['ratio']:5.2f}x {row.goal:4.1f}x  {row.peer_name}{verdict}",
            flush=True,
        )
        with self.file.open("a") as lines:
            lines.write(json.dumps({**record, "machine": self.facts}) + "\n")

    def close(self):
        """The last line: how many goals were missed and where the rows are."""
        print(f"{self.failed} goals missed; rows in {self.file.relative_to(ROOT)}", file=sys.stderr)
