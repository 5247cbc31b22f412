"""ONNX Runtime and OpenVINO on the same weights: the offline encoder, and the streaming step of the encoder with caches.

Comes in: a stock Hugging Face model.  Goes out: ONNX files of fixed shapes (exported with torch.onnx), and runners.
Must not know: our engine, audio, what is compared with what.

The exports are the best we can give these runtimes: shapes are fixed, masks and relative positions are constants that
both runtimes fold at load time, the caches are plain inputs and outputs.  Every export is checked against eager PyTorch.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch

import workload


class Offline(torch.nn.Module):
    """Features [group, frames, mel] → projected encoder frames, one pass, fixed shape."""

    def __init__(self, net, lookahead, example):
        super().__init__()
        self.net, encoder = net, net.encoder
        with torch.no_grad():
            frames = encoder.subsampling(example).shape[1]
            embedded = torch.zeros(len(example), frames, encoder.config.hidden_size)
            self.register_buffer("positions", encoder.encode_positions(embedded).contiguous(), persistent=False)
        chunk = torch.arange(frames) // (lookahead + 1)
        difference = chunk[:, None] - chunk[None, :]
        reach = (encoder.config.sliding_window - 1) // (lookahead + 1)
        self.register_buffer("mask", ((difference >= 0) & (difference <= reach))[None, None], persistent=False)

    def forward(self, features):
        encoder = self.net.encoder
        hidden = encoder.subsampling(features) * encoder.input_scale
        for layer in encoder.layers:
            hidden = layer(hidden, attention_mask=self.mask, position_embeddings=self.positions)
        return self.net.encoder_projector(hidden)


class Step(torch.nn.Module):
    """One steady-state chunk: features and all caches → projected frames and all caches."""

    def __init__(self, net, lookahead, streams):
        super().__init__()
        self.net, config = net, net.encoder.config
        chunk, left = lookahead + 1, config.sliding_window - 1
        embedded = torch.zeros(streams, chunk, config.hidden_size)
        with torch.no_grad():
            positions = net.encoder.encode_positions(embedded, cached_frames=left)
        self.register_buffer("positions", positions.contiguous(), persistent=False)
        visible = torch.arange(left + chunk) >= left - left // chunk * chunk
        self.register_buffer("mask", visible.expand(1, 1, chunk, -1).contiguous(), persistent=False)

    def forward(self, features, *caches):
        encoder = self.net.encoder
        kept = Caches(encoder, caches)
        hidden = encoder.subsampling(features, padding_cache=kept) * encoder.input_scale
        for layer in encoder.layers:
            hidden = layer(
                hidden,
                attention_mask=self.mask,
                position_embeddings=self.positions,
                past_key_values=kept.attention,
                padding_cache=kept,
            )
        return (self.net.encoder_projector(hidden), *kept.outputs())


class Caches:
    """Stands in for transformers' cache classes: plain tensors in, plain tensors out."""

    def __init__(self, encoder, tensors):
        self.names = cache_names(encoder)
        self.tensors = dict(zip(self.names, tensors))
        self.left = encoder.config.sliding_window - 1
        self.attention = AttentionCaches(self)

    def update(self, hidden, cache_key, module):
        """Convolution caches: the frames before this chunk in front; keeps the last ones."""
        whole = torch.cat([self.tensors[cache_key], hidden], dim=2)
        self.tensors[cache_key] = whole[:, :, -module.left_pad :]
        return whole

    def outputs(self):
        """The caches after the step, in the order of `cache_names`."""
        return [self.tensors[name] for name in self.names]


class AttentionCaches:
    """The part that attention calls."""

    def __init__(self, owner):
        self.owner = owner

    def update(self, keys, values, layer):
        """Keys and values before this chunk in front; keeps the last ones."""
        whole = []
        for kind, new in (("k", keys), ("v", values)):
            both = torch.cat([self.owner.tensors[f"{kind}.{layer}"], new], dim=2)
            self.owner.tensors[f"{kind}.{layer}"] = both[:, :, -self.owner.left :]
            whole.append(both)
        return whole


def cache_names(encoder):
    """Names of all caches in a fixed order."""
    subsampling = [f"subsampling.{i}" for i in range(1 + len(encoder.subsampling.layers))]
    layers = [f"{kind}.{i}" for i in range(len(encoder.layers)) for kind in ("k", "v", "conv")]
    return subsampling + layers


def empty_caches(net, streams):
    """Zero caches of the right shapes."""
    config, made = net.encoder.config, []
    heads, left = config.num_attention_heads, config.sliding_window - 1
    for name in cache_names(net.encoder):
        kind, index = name.split(".")
        if kind == "subsampling":
            bins = config.num_mel_bins
            for _ in range(int(index)):
                bins = bins // 2 + 1
            channels = config.subsampling_conv_channels if int(index) else 1
            made.append(torch.zeros(streams, channels, 1, bins + 3))  # frequency is padded before caching
        elif kind == "conv":
            made.append(torch.zeros(streams, config.hidden_size, config.conv_kernel_size - 1))
        else:
            made.append(torch.zeros(streams, heads, left, config.hidden_size // heads))
    return made


def export(wrapper, inputs, file):
    """Writes an ONNX file once; its inputs are `i0`, `i1`, …, its outputs `o0`, `o1`, …"""
    file = Path(file)
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    wrapper.eval()  # the exporter puts back the mode it finds: left alone, it would switch dropout on
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = wrapper(*inputs)
        count = 1 if torch.is_tensor(outputs) else len(outputs)
        torch.onnx.export(
            wrapper,
            tuple(inputs),
            str(file) + ".part",
            input_names=[f"i{n}" for n in range(len(inputs))],
            output_names=[f"o{n}" for n in range(count)],
            opset_version=18,
            dynamo=False,
        )
    Path(str(file) + ".part").rename(file)
    return file


class OnnxRuntime:
    """An ONNX Runtime session on one ONNX file. fp32 only: its CPU provider has no bfloat16 kernels."""

    def __init__(self, file, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(self, arrays):
        """All outputs for all inputs."""
        return self.session.run(None, {f"i{n}": array for n, array in enumerate(arrays)})


class OpenVino:
    """An OpenVINO model on one ONNX file, in fp32 or bf16."""

    def __init__(self, file, threads, dtype):
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[dtype],
        }
        self.request = core.compile_model(core.read_model(str(file)), "CPU", settings).create_infer_request()
        self.outputs = len(self.request.model_outputs)

    def run(self, arrays):
        """All outputs for all inputs; they are views that the next run overwrites."""
        self.request.infer({f"i{n}": array for n, array in enumerate(arrays)}, share_inputs=True, share_outputs=True)
        return [self.request.get_output_tensor(n).data for n in range(self.outputs)]


def time_offline(runner, features):
    """Seconds of one offline pass."""
    begin = time.perf_counter()
    runner.run([features])
    return {"encoder_s": time.perf_counter() - begin}


def time_steps(runner, features, caches, steps):
    """Mean milliseconds of a step; each step's caches are the outputs of the step before."""
    caches = [np.array(cache) for cache in caches]
    for index in range(3 + steps):
        if index == 3:
            begin = time.perf_counter()
        outputs = runner.run([features, *caches])
        for cache, new in zip(caches, outputs[1:]):
            np.copyto(cache, new)
    return {"encoder_ms": (time.perf_counter() - begin) * 1e3 / steps}


def check(runner, wrapper, inputs, tolerance):
    """A runner must give what eager PyTorch gives, or its time means nothing."""
    with torch.no_grad():
        expected = wrapper(*inputs)
    expected = expected if torch.is_tensor(expected) else expected[0]
    got = np.array(runner.run([one.numpy() for one in inputs])[0])
    distance = float(np.abs(got - expected.numpy()).max())
    assert distance <= tolerance, f"the exported encoder differs from eager PyTorch by {distance:.1e}"
    return distance
