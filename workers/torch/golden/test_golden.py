"""Tests of the golden files and of the demo model with stock transformers.  Run by `make test` in the pinned Python.

Comes in: committed files.  Goes out: pass or fail.  Must not know: our engine.
"""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForRNNT, AutoProcessor

import check
import generate
import reference

sys.path.append(str(generate.DEMO.parent / "training"))
from model import edits  # noqa: E402

generate.set_up_torch()
pytestmark = pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
SAMPLES = sorted((generate.DEMO / "samples").glob("*.wav"))


@pytest.mark.parametrize("name", check.committed())
def test_committed_files_equal_the_reference(name):
    with torch.no_grad():
        assert check.differences(name) == []


def test_every_model_has_golden_files():
    expected = {tiny.name for tiny in generate.models.TINY} | {"demo-asr"}
    assert set(check.committed()) == expected


def test_golden_files_are_small():
    size = sum(file.stat().st_size for folder in check.committed() for file in (check.HERE / folder).rglob("*.*"))
    assert size < 6.1e6, f"{size / 1e6:.1f} MB: choose shorter cases"


@pytest.mark.parametrize("key", ["features", "r3.encoder", "r3.logits", "r3.log_probs", "r3.tokens"])
def test_a_changed_file_is_noticed(key, tmp_path, monkeypatch):
    name, case = "tiny-4x-bf16", "bursts.safetensors"
    shutil.copytree(check.HERE / name, tmp_path / name)
    index = json.loads((tmp_path / name / "index.json").read_text())
    index["cases"] = [one for one in index["cases"] if one["file"] == case]
    (tmp_path / name / "index.json").write_text(json.dumps(index))
    tensors = load_file(tmp_path / name / case)
    tensors[key].view(-1)[-1] += 1 if key.endswith("tokens") else 1e-2
    save_file(tensors, tmp_path / name / case)
    monkeypatch.setattr(check, "HERE", tmp_path)
    assert [line for line in check.differences(name) if f"{key}:" in line]


@pytest.mark.parametrize("samples,subsampling,lookahead,expected", [
    (16000, 4, 3, 109 * 160),  # 13 frames, then 16 at a time: 13 + 6 * 16 = 109
    (109 * 160 + 37, 4, 3, 109 * 160 + 37),
    (160, 8, 0, 160),
    (320, 8, 0, 9 * 160),
])  # fmt: skip
def test_a_stream_is_filled_to_whole_chunks(samples, subsampling, lookahead, expected):
    assert reference.stream_samples(samples, subsampling, lookahead) == expected


def test_the_demo_model_has_samples():
    assert SAMPLES, "models/demo-asr/samples holds no WAV file"


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_stock_transformers_transcribe_the_demo_samples(file):
    """AutoProcessor and AutoModelForRNNT alone, as a user of the model card would call them."""
    processor = AutoProcessor.from_pretrained(generate.DEMO)
    model = AutoModelForRNNT.from_pretrained(generate.DEMO, dtype=torch.float32).eval()
    inputs = processor(reference.to_float(generate.read_wav(file)), sampling_rate=16000)
    text = processor.batch_decode(model.generate(**inputs).sequences, skip_special_tokens=True)[0].strip()
    listed = json.loads((generate.DEMO / "samples" / "samples.json").read_text())
    spoken = next(sample["text"] for sample in listed if sample["file"] == file.name)
    wrong = edits(spoken.split(), text.split())
    assert wrong <= max(2, len(spoken.split()) // 3), f"{text!r} where {spoken!r} was said"
