"""Our engine beside Hugging Face eager, ONNX Runtime and OpenVINO: same weights, machine, run and threads.

    tools/bench-engine.sh            # about 8 minutes;  --quick about 1 minute

Comes in: the demo model, a random model at the width of the published 0.6 B one, `engine-bench` (our engine's program).
Goes out: a table, and rows in target/bench/asr-engine.jsonl.  Must not know: gateway, queue, worker.

Contestants run in turn, several times; of each the best repeat counts.  See README.md for what each row compares.
"""

import argparse
import json
import os
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

import exported
import workload
from common import ROOT, Report, Row, alternate, best, machine
from hugging_face import HuggingFace

SECONDS = 10.0
# Encoder frames of an utterance in a step of our batch. A worker takes up to eight chunks of the largest look-ahead (112).
STEP_FRAMES = 32


@dataclass
class Setting:
    """What stays the same within one comparison."""

    model: workload.Model
    dtype: str
    threads: int
    repeats: int
    steps: int

    def case(self, what):
        """Words that name the comparison in table and file."""
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        return f"{self.model.name}, {self.dtype}, {threads}, {what}"


def main():
    """Runs the comparisons that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="demo model, one thread, 8 streams, two repeats")
    parser.add_argument("--peers-only", action="store_true", help="measure the peers without our engine: figures to beat")
    parser.add_argument("--repeats", type=int, help="alternating repeats (default 3; 2 where slow or quick)")
    parser.add_argument("--layers", type=int, default=4, help="encoder layers of the 0.6 B width (of 24)")
    parser.add_argument("--only", choices=["demo", "width"], help="one of the two models")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default 1 2, quick 1)")
    parser.add_argument("--dtypes", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"], help="types")
    parser.add_argument("--engine", type=Path, default=default_engine(), help="our program (default: %(default)s)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Using the model-agnostic default")
    if not args.peers_only and not args.engine.exists():
        raise SystemExit(f"failed to find {args.engine}: build it with tools/bench-engine.sh, or give --peers-only")
    facts = machine(["torch", "transformers", "onnxruntime", "openvino"])
    report = Report("asr-engine-peers" if args.peers_only else "asr-engine", facts, args.peers_only)
    for model in chosen_models(args):
        for dtype in args.dtypes:
            for threads in args.threads or ([1] if args.quick else [1, 2]):
                wide = model.name != "demo"
                repeats = args.repeats or (2 if args.quick or wide else 3)
                setting = Setting(model, dtype, threads, repeats, 10 if wide else 20)
                compare(setting, Ours(args, setting), report)
    report.close()


def default_engine():
    """Where tools/bench-engine.sh builds our program."""
    return Path(os.environ.get("ENGINE_BENCH", ROOT / "target" / "release" / "engine-bench"))


def chosen_models(args):
    """The models to compare on."""
    models = []
    if args.only != "width":
        models.append(workload.demo())
    if args.only != "demo" and not (args.quick and not args.only):
        models.append(workload.published_width(args.layers))
    for model in models if args.quick else []:
        model.streams = [8]
    return models


class Ours:
    """Our engine, by its own program; with --peers-only a stand-in that takes one unit for everything."""

    def __init__(self, args, setting):
        self.program, self.setting = None if args.peers_only else args.engine, setting

    def stream(self, streams):
        """One run of live streams."""
        return self.run("stream", streams, "--steps", self.setting.steps)

    def batch(self, group):
        """One run of a batch of whole utterances, in steps of as many frames whatever the look-ahead."""
        chunks = STEP_FRAMES // (self.setting.model.lookahead + 1)
        return self.run("batch", group, "--utterances", group, "--seconds", SECONDS, "--chunks", chunks)

    def run(self, mode, streams, *more):
        """The JSON line that `engine-bench` prints."""
        if self.program is None:
            return {"step_ms_p50": 1.0, "encoder_ms": 1.0, "wall_s": 1.0, "encoder_s": 1.0}
        setting = self.setting
        command = [self.program, "--model", setting.model.folder, "--mode", mode, "--streams", streams, *more]
        command += ["--dtype", setting.dtype, "--threads", setting.threads, "--lookahead", setting.model.lookahead]
        command += ["--audio", workload.speech()[1]]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"failed to run engine-bench:\n{done.stderr.strip()}")
        return json.loads(done.stdout.splitlines()[-1])


def compare(setting, ours, report):
    """All rows of one model, type and thread count."""
    torch.set_num_threads(setting.threads)
    audio, _ = workload.speech()
    reference = HuggingFace(setting.model, "fp32")
    face = reference if setting.dtype == "fp32" else HuggingFace(setting.model, setting.dtype)
    for streams in setting.model.streams:
        compare_stream(setting, ours, face, reference, streams, audio, report)
    compare_batch(setting, ours, face, reference, audio, report)


def compare_stream(setting, ours, face, reference, streams, audio, report):
    """The step of live streams: whole against Hugging Face, encoder against the runtimes."""
    runtimes, mel, caches = step_runtimes(setting, reference.net, streams)
    contestants = {
        "ours": lambda: ours.stream(streams),
        "Hugging Face eager": lambda: face.step_times(audio, streams, setting.steps),
    }
    for name, runner in runtimes.items():
        contestants[name] = lambda runner=runner: exported.time_steps(runner, mel.numpy(), caches, setting.steps)
    results = alternate(contestants, setting.repeats)
    case = setting.case(f"{streams} streams")
    mine = results.pop("ours")
    peer = results.pop("Hugging Face eager")
    step = (best(mine, "step_ms_p50"), best(peer, "step_ms_p50"))
    report.add(Row("streaming step", case, *step, "Hugging Face eager", "ms", 2.0))
    add_best_runtime(report, "streaming encoder", case, mine, results, "encoder_ms", "ms")


def compare_batch(setting, ours, face, reference, audio, report):
    """Whole utterances: transcription against Hugging Face, offline encoder against the runtimes."""
    group = setting.model.group
    waves = workload.utterances(audio, group, SECONDS)
    runtimes, features = offline_runtimes(setting, reference, waves)
    contestants = {
        "ours": lambda: ours.batch(group),
        "Hugging Face eager": lambda: face.batch_time(waves),
    }
    for name, runner in runtimes.items():
        runner.run([features])  # first runs allocate
        contestants[name] = lambda runner=runner: exported.time_offline(runner, features)
    face.batch_time(waves)
    results = alternate(contestants, setting.repeats)
    case = setting.case(f"{group} x {SECONDS:.0f} s")
    mine = results.pop("ours")
    peer = results.pop("Hugging Face eager")
    report.add(Row("batch", case, best(mine, "wall_s"), best(peer, "wall_s"), "Hugging Face eager", "s", 2.0))
    add_best_runtime(report, "offline encoder", case, mine, results, "encoder_s", "s")


def add_best_runtime(report, bench, case, mine, results, key, unit):
    """One row against the fastest of the runtimes; the others' figures stand in its name."""
    figures = {name: best(result, key) for name, result in results.items()}
    winner = min(figures, key=figures.get)
    others = "".join(f"; {name} {value:.3f}" for name, value in figures.items() if name != winner)
    report.add(Row(bench, case, best(mine, key), figures[winner], winner + others, unit, 1.0))


def step_runtimes(setting, net, streams):
    """Runtimes loaded with the streaming step, its features and its empty caches."""
    model = setting.model
    wrapper = exported.Step(net, model.lookahead, streams)
    caches = exported.empty_caches(net, streams)
    mel = torch.randn(streams, model.subsampling * (model.lookahead + 1), net.config.encoder_config.num_mel_bins)
    file = exported.export(wrapper, [mel, *caches], onnx_folder(model) / f"step-r{model.lookahead}-b{streams}.onnx")
    return loaded(setting, file, wrapper, [mel, *caches]), mel, [cache.numpy() for cache in caches]


def offline_runtimes(setting, face, waves):
    """Runtimes loaded with the offline encoder, and its features."""
    model = setting.model
    features = face.extractor(list(waves), sampling_rate=16000, return_tensors="pt")["input_features"]
    features = features[:, : int(SECONDS * 100)].contiguous()  # the extractor's last frame is padding
    wrapper = exported.Offline(face.net, model.lookahead, features)
    with torch.inference_mode():
        exact = face.net.get_audio_features(features, num_lookahead_tokens=model.lookahead).pooler_output
        torch.testing.assert_close(wrapper(features), exact, atol=1e-4, rtol=1e-4)
    file = exported.export(wrapper, [features], onnx_folder(model) / f"offline-r{model.lookahead}-b{len(waves)}.onnx")
    return loaded(setting, file, wrapper, [features]), features.numpy()


def loaded(setting, file, wrapper, inputs):
    """The runtimes that have kernels for the type, each checked against eager PyTorch."""
    runtimes = {"OpenVINO": exported.OpenVino(file, setting.threads, setting.dtype)}
    if setting.dtype == "fp32":
        runtimes["ONNX Runtime"] = exported.OnnxRuntime(file, setting.threads)
    for runner in runtimes.values():
        exported.check(runner, wrapper, inputs, 1e-3 if setting.dtype == "fp32" else 0.5)
    return runtimes


def onnx_folder(model):
    """Where the exports of exactly these weights lie."""
    weights = model.folder / "model.safetensors"
    stamp = f"{weights.stat().st_size}-{weights.stat().st_mtime_ns}"
    return workload.CACHE / "onnx" / f"{model.folder.name}-{stamp}-torch{torch.__version__}"


if __name__ == "__main__":
    main()
