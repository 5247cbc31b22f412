"""Hugging Face eager: the streaming step with caches at B streams, and batch throughput.

Comes in: a model folder, audio, type and threads.  Goes out: milliseconds a step, seconds a batch.
Must not know: our engine, other peers.

The streaming step is transformers' own modules in the leanest loop we know: encoder with its caches, then prediction
network and joint per symbol with its decoder cache.  `generate` does the same with more bookkeeping around it, so this
favours the peer.  Batch throughput is plain `generate`.
"""

import time

import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModelForRNNT
from transformers.models.nemotron_asr_streaming.generation_nemotron_asr_streaming import (
    NemotronAsrStreamingRNNTDecoderCache,
)

import workload

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class HuggingFace:
    """One loaded model."""

    def __init__(self, model, dtype, device="cpu"):
        self.spec, self.dtype, self.device = model, DTYPES[dtype], device
        self.net = AutoModelForRNNT.from_pretrained(model.folder, dtype=self.dtype).eval().to(device)
        self.extractor = AutoFeatureExtractor.from_pretrained(model.folder)
        self.running = {}  # streams → their state with full caches, so that a repeat need not fill them again

    @torch.inference_mode()
    def step_times(self, audio, streams, steps):
        """Times `steps` steps of `streams` streams after as many as fill the caches; ms as a dict."""
        known = streams in self.running
        warm_up = 3 if known else 80 // (self.spec.lookahead + 1) + 3
        wave = torch.from_numpy(workload.stream_audio(self.spec, audio, streams, warm_up + steps)).to(self.device)
        state, times = self.running.setdefault(streams, Stream(self, streams)), []
        at = workload.chunk_samples(self.spec, True)
        if not known:
            state.step(wave[:, :at], first=True)
        later = workload.chunk_samples(self.spec, False)
        for index in range(1, warm_up + steps):
            begin = time.perf_counter()
            # the window of the first frame begins 296 samples back, its pre-emphasis one more
            encoder_s = state.step(wave[:, at - 297 : at + later], first=False)
            at += later
            if index >= warm_up:
                times.append((time.perf_counter() - begin, encoder_s))
        walls, encoders = (sorted(column) for column in zip(*times))
        return {
            "step_ms_p50": walls[len(walls) // 2] * 1e3,
            "step_ms_p99": walls[min(len(walls) - 1, len(walls) * 99 // 100)] * 1e3,
            "encoder_ms": sum(encoders) / len(encoders) * 1e3,
        }

    @torch.inference_mode()
    def batch_time(self, waves):
        """Seconds to transcribe a group of utterances of one length."""
        begin = time.perf_counter()
        inputs = self.extractor(list(waves), sampling_rate=16000, return_tensors="pt", device="cpu").to(self.device)
        inputs["input_features"] = inputs["input_features"].to(self.dtype)
        self.net.generate(**inputs, num_lookahead_tokens=self.spec.lookahead)
        self.wait()
        return {"wall_s": time.perf_counter() - begin}

    @torch.inference_mode()
    def encoder_time(self, features):
        """Seconds of the offline encoder alone on features [group, frames, mel]."""
        begin = time.perf_counter()
        self.net.get_audio_features(features, num_lookahead_tokens=self.spec.lookahead)
        self.wait()
        return {"encoder_s": time.perf_counter() - begin}

    def wait(self):
        """Until a GPU has done what it was told."""
        if self.device != "cpu":
            torch.cuda.synchronize()


class Stream:
    """State of B streams that advance together."""

    def __init__(self, owner, streams):
        self.owner, self.past, self.padding = owner, None, None
        self.decoder = NemotronAsrStreamingRNNTDecoderCache(owner.net.config)
        blank = owner.net.config.blank_token_id
        self.token = torch.full((streams, 1), blank, device=owner.device)

    def step(self, wave, first):
        """One chunk for all streams: features, encoder, greedy search; returns the encoder's seconds."""
        owner = self.owner
        mel = self.features(wave, first)
        begin = time.perf_counter()
        out = owner.net.get_audio_features(
            input_features=mel.to(owner.dtype),
            past_key_values=self.past,
            padding_cache=self.padding,
            num_lookahead_tokens=owner.spec.lookahead,
            use_cache=True,
            output_attention_mask=False,
        )
        self.past, self.padding = out.past_key_values, out.padding_cache
        owner.wait()
        encoder_s = time.perf_counter() - begin
        for frame in out.pooler_output.unbind(1):
            self.search(frame)
        owner.wait()
        return encoder_s

    def features(self, wave, first):
        """Log-mel frames of a chunk [streams, frames, mel]."""
        extractor = self.owner.extractor
        emphasized = wave[:, 1:] - extractor.preemphasis * wave[:, :-1]
        frames = 1 + self.owner.spec.subsampling * self.owner.spec.lookahead
        if first:
            emphasized = torch.cat([wave[:, :1], emphasized], dim=1)
            return extractor._torch_extract_fbank_features(emphasized, self.owner.device, center=True)[:, :frames]
        padded = torch.nn.functional.pad(emphasized, (0, 56))
        later = self.owner.spec.subsampling * (self.owner.spec.lookahead + 1)
        return extractor._torch_extract_fbank_features(padded, self.owner.device, center=False)[:, :later]

    def search(self, frame):
        """Greedy search in one encoder frame [streams, decoder_hidden] for all streams."""
        net, blank = self.owner.net, self.owner.net.config.blank_token_id
        done = torch.zeros(len(frame), dtype=torch.bool, device=frame.device)
        for _ in range(net.config.max_symbols_per_step):
            predicted = net.decoder(self.token, cache=self.decoder)
            logits = net.joint(decoder_hidden_states=predicted[:, 0], encoder_hidden_states=frame)
            token = logits.argmax(-1).masked_fill(done, blank)
            self.token = token[:, None]
            done |= token == blank
            if bool(done.all()):
                return
        net.decoder(self.token, cache=self.decoder)
