"""The 0.6 B width on a CUDA GPU: how many live streams, how fast a batch, beside Hugging Face on the same GPU.

    tools/bench-gpu.sh               # about 5 minutes on one GPU

Comes in: random weights in the shape of the published 0.6 B model (all 24 layers), `engine-bench` on `--device cuda`.
Goes out: a table, and rows in target/bench/gpu.jsonl.  Must not know: gateway, queue, worker.

`--first-streams 64 --steps 50 --repeats 1` takes two minutes, where a GPU is lent for a short time.

A number of streams passes when the 99th percentile of its steps stays within LIMIT_MS, half of the 160 ms that a chunk
lasts.  It is doubled until it fails, then the gap is halved three times, for both sides alike; the largest that passed counts.
"""

import argparse
import json
import os
import subprocess
import warnings
from pathlib import Path

import torch

import workload
from common import ROOT, Report, Row, machine
from hugging_face import HuggingFace

LIMIT_MS = 80.0
MOST_STREAMS = 2048
COMMON_STREAMS = 64
GROUP, SECONDS = 64, 30.0


def main():
    """Measures both sides; fails clearly where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24, help="encoder layers")
    parser.add_argument("--first-streams", type=int, default=1, help="where the doubling begins, a power of two")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each number of streams")
    parser.add_argument("--repeats", type=int, default=3, help="of the batch, the best counts")
    default = Path(os.environ.get("ENGINE_BENCH", ROOT / "target" / "release" / "engine-bench"))
    parser.add_argument("--engine", type=Path, default=default, help="our program (default: %(default)s)")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("failed to find a CUDA GPU: torch.cuda.is_available() is false; this benchmark needs one")
    if not args.engine.exists():
        raise SystemExit(f"failed to find {args.engine}: build it with tools/bench-gpu.sh")
    warnings.filterwarnings("ignore", message="Using the model-agnostic default")
    facts = machine(["torch", "transformers"]) | {"gpu": torch.cuda.get_device_name(0), "cuda": torch.version.cuda}
    report = Report("gpu", facts)
    model = workload.published_width(args.layers)
    compare(model, args, report)
    report.close()


def compare(model, args, report):
    """Our rows and those of Hugging Face; each side alone on the GPU, ours first, its process gone before theirs."""
    ours = Ours(args, model)
    our_streams = most_streams(ours.step, args.first_streams)
    our_step = ours.step(COMMON_STREAMS)
    our_batch = ours.batch()
    audio, _ = workload.speech()
    face = HuggingFace(model, "bf16", "cuda")
    their_streams = most_streams(lambda streams: face.step_times(audio, streams, args.steps), args.first_streams)
    their_step = face.step_times(audio, COMMON_STREAMS, args.steps)
    waves = workload.utterances(audio, GROUP, SECONDS)
    face.batch_time(waves[:8])
    their_batch = min(face.batch_time(waves)["wall_s"] for _ in range(args.repeats))
    seconds, name = GROUP * SECONDS, "Hugging Face eager"
    limit = f"{model.name}, bf16, streams with p99 step <= {LIMIT_MS:.0f} ms"
    report.add(Row("gpu streams", limit, our_streams, their_streams, name, "streams", 2.0, lower_is_better=False))
    common = f"{model.name}, bf16, {COMMON_STREAMS} streams, p99"
    report.add(Row("gpu step", common, our_step["step_ms_p99"], their_step["step_ms_p99"], name, "ms", 2.0))
    batch = f"{model.name}, bf16, {GROUP} x {SECONDS:.0f} s, RTFx"
    row = Row("gpu batch", batch, seconds / our_batch, seconds / their_batch, name, "x", 2.0, lower_is_better=False)
    report.add(row)


def most_streams(step, first):
    """Largest number of streams whose p99 step stays within the limit, to an eighth of the doubling that fails."""
    passed, streams = 0, first
    while streams <= MOST_STREAMS and fits(step, streams):
        passed, streams = streams, streams * 2
    failed = streams
    for _ in range(3):
        middle = (passed + failed) // 2
        if middle in (passed, failed) or failed > MOST_STREAMS:
            break
        passed, failed = (middle, failed) if fits(step, middle) else (passed, middle)
    return max(passed, 0.5)


def fits(step, streams):
    """Whether so many streams are answered in time; shows their step times."""
    try:
        result = step(streams)
    except torch.cuda.OutOfMemoryError:
        result = None
    if result is None:
        print(f"{streams} streams: out of memory", flush=True)
        return False
    print(f"{streams} streams: p50 {result['step_ms_p50']:.1f} ms, p99 {result['step_ms_p99']:.1f} ms", flush=True)
    return result["step_ms_p99"] <= LIMIT_MS


class Ours:
    """Our engine on the GPU, by its own program."""

    def __init__(self, args, model):
        self.args, self.model, self.known = args, model, {}

    def step(self, streams):
        """Step times at a number of streams, or nothing where the program gives up (out of memory)."""
        if streams not in self.known:
            done = self.run("stream", streams, "--steps", self.args.steps)
            self.known[streams] = None if done.returncode and "out of memory" in done.stderr.lower() else parsed(done)
        return self.known[streams]

    def batch(self):
        """Seconds to transcribe the group, best of three."""
        more = ["--utterances", GROUP, "--seconds", SECONDS]
        return min(parsed(self.run("batch", GROUP, *more))["wall_s"] for _ in range(self.args.repeats))

    def run(self, mode, streams, *more):
        """One run of `engine-bench` on CUDA in bf16."""
        command = [self.args.engine, "--model", self.model.folder, "--device", "cuda", "--dtype", "bf16", "--mode", mode]
        command += ["--streams", streams, "--lookahead", self.model.lookahead, "--audio", workload.speech()[1], *more]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600)


def parsed(done):
    """The JSON line of a run that went well."""
    if done.returncode:
        raise SystemExit(f"failed to run engine-bench on the GPU:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
