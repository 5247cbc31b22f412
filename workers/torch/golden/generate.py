"""Writes the golden files: tiny random models, their answers, and the demo model's answers.

    python generate.py                    # all models
    python generate.py --only demo-asr    # one model (after the demo model was replaced, say)
    python generate.py --again --out DIR  # this machine's answers for the committed models and audio

Comes in: seeds, `models/demo-asr` with its samples.  Goes out: `<model>/…` as README.md describes it.
Must not know: our engine.  Nothing is written for a model until all its assertions held.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
import wave
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

import models
import reference
import signals

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[2] / "models" / "demo-asr"
TOLERANCE = {"features": 1e-4, "encoder": 1e-4, "logits": 1e-4, "log_probs": 1e-4}
MARGIN = 1e-3
SEEDS = 400


def main():
    """Parses the arguments and writes the models asked for."""
    names = [tiny.name for tiny in models.TINY] + ["demo-asr"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=names, help="write this model alone")
    parser.add_argument("--again", action="store_true", help="keep weights and audio; the answers go to --out")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this one)")
    args = parser.parse_args()
    if args.again and args.out.resolve() == HERE:
        parser.error("--again needs --out: the committed files stay as they are")
    set_up_torch()
    for name in [args.only] if args.only else names:
        write_again(name, args.out) if args.again else write(name, args.out)


def set_up_torch():
    """One thread and no autotuning: the same sums in the same order on every run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", message="Using the model-agnostic default")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def write(name, out):
    """Makes one model's folder elsewhere, then puts it in the place of the old one."""
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        made = Path(scratch) / name
        made.mkdir()
        if name == "demo-asr":
            answer_demo(made)
        else:
            answer_tiny(next(t for t in models.TINY if t.name == name), made)
        shutil.rmtree(out / name, ignore_errors=True)
        shutil.copytree(made, out / name)
    size = sum(f.stat().st_size for f in (out / name).rglob("*") if f.is_file())
    print(f"{name}: {size / 1e6:.2f} MB", flush=True)


def write_again(name, out):
    """Answers the committed cases of one model on this machine: CPU models round differently, one machine does not."""
    committed = json.loads((HERE / name / "index.json").read_text())
    root = (HERE / name / committed["folder"]).resolve()
    model, processor = reference.load(root)
    cases = {case["name"]: load_file(HERE / name / case["file"])["audio"].numpy() for case in committed["cases"]}
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    index = answers(model, processor, cases, committed["lookaheads"], folder)
    head = {key: value for key, value in committed.items() if key not in index}
    text = json.dumps({**head, "folder": str(root), **index}, indent=1, ensure_ascii=False)
    (folder / "index.json").write_text(text + "\n")
    print(f"{name}: answered again in {folder}", flush=True)


def answer_tiny(tiny, folder):
    """Looks for a seed whose greedy paths make a good test, then writes model and answers."""
    subsampling = tiny.encoder["subsampling_factor"]
    cases = tiny_cases(subsampling)
    for seed in range(SEEDS):
        model = models.build(tiny, seed)
        models.save(tiny, model, folder / "model")
        model, processor = reference.load(folder / "model")
        calibrate(model, processor, cases)
        models.save(tiny, model, folder / "model")
        model, processor = reference.load(folder / "model")
        why = unfit(tiny, model, processor, cases)
        if not why:
            break
        print(f"{tiny.name}: seed {seed} is unfit: {why}", file=sys.stderr)
    else:
        raise SystemExit(f"failed to find a seed for {tiny.name}: loosen its scaling in models.py")
    index = answers(model, processor, cases, models.LOOKAHEADS, folder)
    assert index["min_margin"] >= MARGIN, index["min_margin"]
    finish(index, tiny.name, folder, "model", {"seed": seed})


def tiny_cases(subsampling):
    """Name → audio: very short, whole chunks for every look-ahead, long beyond every window, clipped, one-bit noise."""
    whole = 1 + subsampling * 27  # 28 encoder frames divide into chunks of 1, 2, 4, 7 and 14
    return {
        "one-frame": signals.bursts(160, 1),
        "few-frames": signals.sweep(160 * 7 + 159, 2),
        "whole-chunks": signals.bursts(160 * whole + 37, 3),
        "bursts": signals.bursts(160 * (subsampling * 55 + subsampling // 2) + 80, 4),
        "sweep": signals.sweep(160 * (subsampling * 9 + 3) + 1, 5),
        "quiet": signals.quiet(160 * subsampling * 3, 6),
    }


@torch.no_grad()
def calibrate(model, processor, cases):
    """Spreads projected frames and logits around zero, then bisects the blank's bias until 0.4 of the steps emit."""
    inputs = [reference.features(processor, cases[name])[1] for name in ("bursts", "whole-chunks")]
    encoder = torch.cat([reference.search(model, one, 6)[0] for one in inputs])
    projector = model.encoder_projector
    projector.weight *= 2.0 / projector(encoder).std(dim=0, keepdim=True).T
    projector.bias -= projector(encoder).mean(dim=0)
    spread_logits(model, projector(encoder))
    low, high = -40.0, 40.0
    for _ in range(12):
        middle = (low + high) / 2
        model.joint.head.bias[model.config.blank_token_id] = middle
        share = sum(emitted_share(reference.search(model, one, 6)[1]) for one in inputs) / len(inputs)
        low, high = (middle, high) if share > 0.4 else (low, middle)


def spread_logits(model, pooled):
    """Makes histories differ as much as frames do, then gives every token's logit mean 0 and deviation 3."""
    tokens = torch.randint(model.config.vocab_size, (40, 4), generator=torch.Generator().manual_seed(0))
    projector = model.decoder.decoder_projector
    projector.weight *= 2.0 / model.decoder(tokens).flatten(0, 1).std(dim=0)[:, None]
    projector.bias -= model.decoder(tokens).flatten(0, 1).mean(dim=0)
    histories = model.decoder(tokens).flatten(0, 1)
    logits = model.joint(decoder_hidden_states=histories[None], encoder_hidden_states=pooled[:, None]).flatten(0, 1)
    head = model.joint.head
    scale = 3.0 / logits.std(dim=0)
    mean = logits.mean(dim=0) - head.bias
    head.weight *= scale[:, None]
    head.bias.copy_(-mean * scale)
    head.bias[0] = -20.0  # <unk> is never written


def emitted_share(path):
    """Part of a path's steps that emit a token."""
    return len(path.tokens) / len(path.step_tokens)


def unfit(tiny, model, processor, cases):
    """Why this seed makes a poor test, or nothing."""
    reached = False
    for lookahead in models.LOOKAHEADS:
        for name, audio in cases.items():
            for samples in {len(audio), stream_length(model, audio, lookahead)}:
                inputs = reference.features(processor, grow(audio, samples))[1]
                _, path = reference.search(model, inputs, lookahead)
                if path.margin() < MARGIN:
                    return f"margin {path.margin():.1e} in {name}, look-ahead {lookahead}"
            reached |= any(np.bincount(path.frames) == tiny.max_symbols) if path.frames else False
            if name in ("bursts", "whole-chunks"):
                share = emitted_share(path)
                if not 0.1 <= share <= 0.75:
                    return f"{share:.0%} of the steps in {name} emit a token"
                if len(set(path.tokens)) < (6 if name == "bursts" else 3):
                    return f"only {len(set(path.tokens))} distinct tokens in {name}"
    if tiny.max_symbols < 5 and not reached:
        return "max_symbols_per_step is never reached"
    return None


def answer_demo(folder):
    """Answers of the demo model for its samples and for synthetic audio that holds no words."""
    model, processor = reference.load(DEMO)
    cases = {
        "noise": signals.bursts(160 * 60 + 99, 7),
        "one-frame": signals.bursts(160, 1),
        "silence": np.zeros(8000, dtype=np.int16),
    }
    cases |= demo_samples(model, processor)
    index = answers(model, processor, cases, models.LOOKAHEADS, folder)
    finish(index, "demo-asr", folder, "../../../../models/demo-asr", {})


def demo_samples(model, processor, count=2):
    """The first samples of the demo model, at most 4 s, whose paths do not hang on the last bits."""
    found = {}
    for file in sorted((DEMO / "samples").glob("*.wav")):
        audio = read_wav(file)
        if len(audio) > 4 * 16000:
            continue
        inputs = reference.features(processor, audio)[1]
        paths = [reference.search(model, inputs, r)[1] for r in models.LOOKAHEADS]
        if min(path.margin() for path in paths) >= MARGIN:
            found[file.stem] = audio
        if len(found) == count:
            break
    return found


def read_wav(file):
    """int16 samples of a 16 kHz mono WAV file."""
    with wave.open(str(file)) as reader:
        form = (reader.getframerate(), reader.getnchannels(), reader.getsampwidth())
        assert form == (16000, 1, 2), f"{file.name} is not 16 kHz mono 16 bit: {form}"
        return np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2").copy()


def answers(model, processor, cases, lookaheads, folder):
    """Asks the reference for every case, writes its tensors, returns the index without its head."""
    index = {"min_margin": float("inf"), "cases": []}
    for name, audio in cases.items():
        feature, _ = reference.features(processor, audio)
        tensors = {"audio": torch.from_numpy(audio), "features": feature}
        results = []
        for lookahead in lookaheads:
            result, margin, more = answer(model, processor, audio, lookahead)
            results.append(result)
            tensors |= {f"r{lookahead}.{key}": value for key, value in more.items()}
            index["min_margin"] = min(index["min_margin"], margin)
        save_file({k: v.contiguous() for k, v in sorted(tensors.items())}, folder / f"{name}.safetensors")
        index["cases"].append(
            {
                "file": f"{name}.safetensors",
                "name": name,
                "samples": len(audio),
                "frames": len(feature),
                "results": results,
            }
        )
    return index


def answer(model, processor, audio, lookahead):
    """Offline and streaming result of one case: index entry, smallest margin, tensors."""
    encoder, path = reference.offline(model, processor, audio, lookahead)
    longer = grow(audio, stream_length(model, audio, lookahead))
    mels, streamed, stream = reference.streaming(model, processor, longer, lookahead)
    long_features, _ = reference.features(processor, longer)
    long_encoder, long_path = reference.offline(model, processor, longer, lookahead)
    torch.testing.assert_close(mels, long_features, atol=1e-4, rtol=0, msg=lambda m: f"chunked features: {m}")
    torch.testing.assert_close(streamed, long_encoder, atol=1e-4, rtol=0, msg=lambda m: f"chunked encoder: {m}")
    assert stream.step_tokens == long_path.step_tokens, "streaming differs from offline"
    assert stream.step_frames == long_path.step_frames, "streaming differs from offline in time"
    result = {
        "lookahead": lookahead,
        "encoder_frames": len(encoder),
        "text": reference.text(processor, path),
        "stream_samples": len(longer),
        "stream_frames": len(streamed),
        "stream_text": reference.text(processor, stream),
    }
    tensors = {
        "encoder": encoder,
        "logits": path.logits,
        "step_frames": integers(path.step_frames),
        "step_tokens": integers(path.step_tokens),
        **result_tensors(path, ""),
        **result_tensors(stream, "stream."),
    }
    return result, min(path.margin(), stream.margin()), tensors


def stream_length(model, audio, lookahead):
    """Samples of the stream that a case becomes."""
    return reference.stream_samples(len(audio), model.config.encoder_config.subsampling_factor, lookahead)


def grow(audio, samples):
    """The audio continued with zeros."""
    return np.pad(audio, (0, samples - len(audio)))


def integers(values):
    """A list as an i32 tensor."""
    return torch.tensor(values, dtype=torch.int32)


def result_tensors(path, prefix):
    """Tokens, frames and log-probabilities of a path."""
    return {
        f"{prefix}tokens": integers(path.tokens),
        f"{prefix}frames": integers(path.frames),
        f"{prefix}log_probs": torch.tensor(path.log_probs, dtype=torch.float32),
    }


def finish(index, name, folder, model_folder, extra):
    """Writes index.json with its head."""
    root = folder / model_folder if model_folder == "model" else DEMO
    config = json.loads((root / "config.json").read_text())
    head = {
        "model": name,
        "folder": model_folder,
        "digest": reference.digest(root),
        "transformers": transformers.__version__,
        "torch": torch.__version__.split("+")[0],
        "frame_ms": 10 * config["encoder_config"]["subsampling_factor"],
        "lookaheads": models.LOOKAHEADS,
        "tolerance": TOLERANCE,
        **extra,
    }
    text = json.dumps({**head, **index}, indent=1, ensure_ascii=False)
    (folder / "index.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
