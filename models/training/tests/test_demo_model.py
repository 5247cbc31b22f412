"""The exported model: checksums, loading with stock transformers, and its own samples."""
import hashlib
import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "demo-asr"


def test_checksums():
    lines = (FOLDER / "SHA256SUMS").read_text().splitlines()
    assert any(line.endswith("model.safetensors") for line in lines)
    for line in lines:
        digest, name = line.split(maxsplit=1)
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_size():
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) <= 20e6


@pytest.fixture(scope="module")
def loaded():
    """(processor, model), loaded the stock way."""
    from transformers import AutoModelForRNNT, AutoProcessor
    return AutoProcessor.from_pretrained(FOLDER), AutoModelForRNNT.from_pretrained(FOLDER, dtype=torch.float32).eval()


def say(loaded, audio, look=6):
    """The text that stock `generate` finds in float32 [samples]."""
    processor, model = loaded
    processor.set_num_lookahead_tokens(look)
    out = model.generate(**processor([audio], sampling_rate=16000)).sequences
    return processor.batch_decode(out, skip_special_tokens=True)[0].strip()


def test_samples_are_recognised(loaded):
    for s in json.loads((FOLDER / "samples" / "samples.json").read_text()):
        with wave.open(str(FOLDER / "samples" / s["file"])) as w:
            assert (w.getframerate(), w.getnchannels(), w.getsampwidth()) == (16000, 1, 2)
            audio = np.frombuffer(w.readframes(w.getnframes()), np.int16).astype(np.float32) / 32768
        assert say(loaded, audio) == s["text"]
        assert [x["word"] for x in s["words"]] == s["text"].split()


def test_silence_gives_no_words(loaded):
    assert say(loaded, np.zeros(32000, np.float32)) == ""
