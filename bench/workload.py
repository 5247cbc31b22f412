"""The models and the audio that every contestant gets.

Comes in: a case name.  Goes out: a Hugging Face folder (the demo model, or random weights in the shape of the published
0.6 B model with fewer layers), and samples cut exactly as `engine-bench` cuts them.  Must not know: runtimes, clocks.
"""

import json
import os
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import ROOT

DEMO = ROOT / "models" / "demo-asr"
CACHE = Path(os.environ.get("SMALLEST_CACHE", Path.home() / ".cache" / "smallest")) / "bench-models"
HOP = 160


@dataclass
class Model:
    """A folder and how it is benchmarked: the look-ahead whose chunk lasts 160 ms."""

    name: str
    folder: Path
    lookahead: int
    subsampling: int
    streams: list
    group: int


def demo():
    """The committed demo model: 4-fold subsampling, 160 ms chunks at look-ahead 3."""
    return Model("demo", DEMO, 3, 4, [1, 8, 32], 8)


def published_width(layers):
    """Random weights at the width of nemotron-speech-streaming-en-0.6b with `layers` of its 24 layers; made once.

    The blank's bias is so high that no token is emitted: all contestants then decode exactly one step a frame.
    """
    folder = CACHE / f"width-600m-{layers}-layers-v1"
    if not (folder / "config.json").exists():
        make_published_width(folder, layers)
    return Model(f"0.6B width, {layers} of 24 layers", folder, 1, 8, [1, 8], 4)


def make_published_width(folder, layers):
    """Writes the random folder (0.1 GB a layer and 0.05 GB more)."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        NemotronAsrStreamingConfig,
        NemotronAsrStreamingEncoderConfig,
        NemotronAsrStreamingFeatureExtractor,
        NemotronAsrStreamingForRNNT,
    )

    torch.manual_seed(0)
    encoder = NemotronAsrStreamingEncoderConfig(num_hidden_layers=layers, num_mel_bins=128, scale_input=False)
    model = NemotronAsrStreamingForRNNT(NemotronAsrStreamingConfig(encoder_config=encoder)).eval()
    with torch.no_grad():
        model.joint.head.bias[model.config.blank_token_id] = 1e4
    blank = model.config.blank_token_id
    model.generation_config.update(decoder_start_token_id=blank, bos_token_id=blank, pad_token_id=0)
    pieces = {"<unk>": 0, "▁": 1} | {f"▁piece{i}": i for i in range(2, blank)}
    tokenizer = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("<blank>", special=True)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    extractor = NemotronAsrStreamingFeatureExtractor(feature_size=128)
    described = {"feature_extractor": extractor.to_dict(), "blank_token": "<blank>"}
    (folder / "processor_config.json").write_text(json.dumps(described, indent=1, default=str))
    extractor.save_pretrained(folder)
    model.save_pretrained(folder)  # config.json comes last: a folder that has it is complete


def speech():
    """int16 samples of the demo model's quickstart sentence, and the file they come from."""
    file = DEMO / "samples" / "quickstart.wav"
    with wave.open(str(file)) as reader:
        return np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2"), file


def chunk_samples(model, first):
    """Samples of a stream's next chunk, as EngineInfo::step_samples has it."""
    if first:
        return model.subsampling * model.lookahead * HOP + 200
    return model.subsampling * (model.lookahead + 1) * HOP


def stream_audio(model, audio, streams, steps):
    """f32 [streams, samples]: what each stream says over so many steps, cut as `engine-bench` cuts it."""
    later, rows = chunk_samples(model, False), []
    for slot in range(streams):
        row = []
        for step in range(steps):
            length = chunk_samples(model, step == 0)
            start = (step * later + slot * 7919) % (len(audio) - length)
            row.append(audio[start : start + length])
        rows.append(np.concatenate(row))
    return np.stack(rows).astype(np.float32) / 32768


def utterances(audio, count, seconds):
    """f32 [count, samples]: whole utterances, each beginning elsewhere in the repeated audio."""
    length = int(seconds * 16000)
    rows = [np.resize(np.roll(audio, -(index * 7919 % len(audio))), length) for index in range(count)]
    return np.stack(rows).astype(np.float32) / 32768
