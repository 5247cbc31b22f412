"""The pinned reference, asked for everything a golden file holds.

Comes in: a stock model and processor of `transformers`, and int16 audio.  Goes out: features, encoder output, the greedy
path with its logits, and the result of the reference's own chunk-by-chunk streaming, each checked against `generate`.
Must not know: files, seeds, how the models were made.

Traps of 5.23.0 that this file steps around: `generate` on a batch decodes short rows over their padding (one row at a
time here); the processor's subsampling factor is a class attribute, 8 for every model (taken from the config here); a
chunk's pre-emphasis does not know the sample before the chunk (cut from pre-emphasized audio here).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForRNNT, AutoProcessor

HOP = 160
DIGEST_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass
class GreedyPath:
    """A greedy path: per step the frame, the argmax and all logits; per token its frame and log-probability."""

    step_frames: list
    step_tokens: list
    logits: torch.Tensor
    tokens: list
    frames: list
    log_probs: list

    def margin(self):
        """Smallest distance between the best and the second logit of any step."""
        if not len(self.logits):
            return float("inf")
        best = self.logits.topk(2, dim=-1).values
        return float((best[:, 0] - best[:, 1]).min())


def load(folder):
    """Model (fp32, evaluation mode, plain attention) and processor of a folder, by the stock Auto classes."""
    model = AutoModelForRNNT.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoProcessor.from_pretrained(folder)


def digest(folder):
    """`sha256:…` over the folder's manifest, identical to `sha256sum <files> | sha256sum`."""
    lines = []
    for name in DIGEST_FILES:
        data = (Path(folder) / name).read_bytes()
        lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def features(processor, audio):
    """Valid log-mel frames [frames, mel] and the extractor's full output (one masked frame more) with its mask."""
    out = processor.feature_extractor(to_float(audio), sampling_rate=16000, return_tensors="pt")
    valid = int(out["attention_mask"].sum())
    return out["input_features"][0, :valid], out


def to_float(audio):
    """int16 samples as f32 in [-1, 1)."""
    return audio.astype(np.float32) / 32768


@torch.no_grad()
def offline(model, processor, audio, lookahead):
    """Encoder output [frames, hidden] and greedy path of one pass, checked against `generate`."""
    _, inputs = features(processor, audio)
    encoder, path = search(model, inputs, lookahead)
    # the default bound counts the start token as well: a path with `max_symbols_per_step` in every frame loses its last
    steps = model.config.max_symbols_per_step * len(encoder) + 1
    generated = model.generate(**inputs, num_lookahead_tokens=lookahead, max_new_tokens=steps)
    assert_same_as_generate(model, path, generated)
    return encoder, path


@torch.no_grad()
def search(model, inputs, lookahead):
    """Encoder output and greedy path of the extractor's output, unchecked."""
    out = model.get_audio_features(**inputs, num_lookahead_tokens=lookahead)
    valid = int(out.attention_mask.sum())
    return out.last_hidden_state[0, :valid], greedy(model, out.pooler_output[0, :valid])


@torch.no_grad()
def greedy(model, pooled):
    """Greedy RNN-T search over projected encoder frames [frames, decoder_hidden], one row.

    A blank moves to the next frame; so does the `max_symbols_per_step`-th token in one frame, which still feeds the LSTM.
    """
    blank, decoder = model.config.blank_token_id, model.decoder
    path = GreedyPath([], [], torch.empty(0, model.config.vocab_size), [], [], [])
    state, token, logits = None, blank, []
    frame = symbols = 0
    while frame < len(pooled):
        if state is None or token != blank:
            out, state = decoder.lstm(decoder.embedding(torch.tensor([[token]])), state)
            predicted = decoder.decoder_projector(out)[0, 0]
        step = model.joint(decoder_hidden_states=predicted, encoder_hidden_states=pooled[frame])
        token = int(step.argmax())
        logits.append(step)
        path.step_frames.append(frame)
        path.step_tokens.append(token)
        if token != blank:
            path.tokens.append(token)
            path.frames.append(frame)
            path.log_probs.append(float(step.log_softmax(-1)[token]))
            symbols += 1
        if token == blank or symbols == model.config.max_symbols_per_step:
            frame, symbols = frame + 1, 0
    if logits:
        path.logits = torch.stack(logits)
    return path


def assert_same_as_generate(model, path, generated):
    """The stock `generate` gives the same steps: its sequence has the start token in front, its durations 0 there."""
    sequence, advance = generated.sequences[0].tolist(), generated.durations[0].tolist()
    frames = (np.cumsum(advance) - np.asarray(advance)).tolist()
    assert sequence[0] == model.config.blank_token_id
    assert sequence[1:] == path.step_tokens, "greedy search differs from generate"
    assert frames[1:] == path.step_frames, "frames differ from those of generate"


def stream_samples(samples, subsampling, lookahead):
    """Length of the audio when its last chunk is filled with zero samples."""
    frames = samples // HOP
    first, later = 1 + subsampling * lookahead, subsampling * (lookahead + 1)
    missing = max(0, frames - first)
    whole = first + -(-missing // later) * later
    return samples if whole == frames else whole * HOP


def chunks(model, processor, audio, lookahead):
    """Mel chunks [1, frames, mel] of a stream: exactly the sizes that the reference's `generate` demands."""
    extractor, subsampling = processor.feature_extractor, model.config.encoder_config.subsampling_factor
    first, later = 1 + subsampling * lookahead, subsampling * (lookahead + 1)
    signal = torch.from_numpy(to_float(audio))
    signal = torch.cat([signal[:1], signal[1:] - extractor.preemphasis * signal[:-1]])
    until = (first - 1) * HOP + extractor.win_length // 2
    yield extractor._torch_extract_fbank_features(signal[None, :until], center=True)[:, :first]
    half = extractor.n_fft // 2
    signal = torch.nn.functional.pad(signal, (half, extractor.n_fft))  # frame n now starts at sample n * HOP
    for at in range(first, len(audio) // HOP, later):
        piece = signal[at * HOP : (at + later - 1) * HOP + extractor.n_fft]
        yield extractor._torch_extract_fbank_features(piece[None], center=False)


@torch.no_grad()
def streaming(model, processor, audio, lookahead):
    """Features, encoder output and greedy path of a chunked run with caches, checked against streaming `generate`."""
    past = padding = None
    hidden, pooled, mels = [], [], []
    for chunk in chunks(model, processor, audio, lookahead):
        out = model.get_audio_features(
            input_features=chunk,
            past_key_values=past,
            padding_cache=padding,
            num_lookahead_tokens=lookahead,
            use_cache=True,
            output_attention_mask=False,
        )
        past, padding = out.past_key_values, out.padding_cache
        mels.append(chunk[0])
        hidden.append(out.last_hidden_state[0])
        pooled.append(out.pooler_output[0])
    path = greedy(model, torch.cat(pooled))
    generated = model.generate(
        input_features=chunks(model, processor, audio, lookahead), num_lookahead_tokens=lookahead
    )
    assert_same_as_generate(model, path, generated)
    return torch.cat(mels), torch.cat(hidden), path


def text(processor, path):
    """The reference's own text for a path."""
    return processor.batch_decode([path.tokens], skip_special_tokens=True)[0]
