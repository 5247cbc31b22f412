"""The tiny random models of the golden files.

Comes in: a name and a seed.  Goes out: a stock model with weights scaled so that every part matters, and a tokenizer;
`save` writes them as a Hugging Face folder.  Must not know: audio, results, where the folder lies.

Plain initial weights (std 0.02) would make a model that is nearly linear and answers the same for every frame: errors in
attention, positions or convolution would stay below any tolerance.
"""

import json
from dataclasses import dataclass, field

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoTokenizer,
    NemotronAsrStreamingConfig,
    NemotronAsrStreamingEncoderConfig,
    NemotronAsrStreamingFeatureExtractor,
    NemotronAsrStreamingForRNNT,
    NemotronAsrStreamingProcessor,
)

LOOKAHEADS = [0, 1, 3, 6, 13]
CHARACTERS = ["<unk>", "▁", "'", *"abcdefghijklmnopqrstuvwxyz"]
PIECES = [
    "<unk>", "▁", "▁the", "▁a", "▁to", "▁and", "▁of", "s", "ing", "ed", "er", "e", "n", "t", "▁in", "▁it", "re", "on",
    "▁that", "al", "ar", "or", "le", "▁s", "▁w", "ou", "ch", "▁b", "th", "ly", "▁is", "▁you", "st", "an", "▁I", "'", ".",
    ",", "?", "▁we", "ve", "ll", "▁S", "ü", "é",
]  # fmt: skip


@dataclass
class Tiny:
    """What one tiny model varies; the rest is common to all."""

    name: str
    encoder: dict
    pieces: list = field(default_factory=lambda: CHARACTERS)
    joint_act: str = "relu"
    decoder_hidden: int = 24
    decoder_layers: int = 1
    max_symbols: int = 10
    unigram: bool = False
    dtype: torch.dtype = torch.float32


TINY = [
    Tiny("tiny-4x", dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=64,
                         conv_kernel_size=9, subsampling_factor=4, sliding_window=29, scale_input=False)),
    Tiny("tiny-8x", dict(hidden_size=48, num_attention_heads=8, num_hidden_layers=2, intermediate_size=96,
                         conv_kernel_size=9, subsampling_factor=8, sliding_window=71, scale_input=True,
                         num_mel_bins=128, subsampling_conv_channels=6),
         pieces=PIECES, decoder_hidden=32, decoder_layers=2, unigram=True),
    Tiny("tiny-4x-nobias", dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=80,
                                conv_kernel_size=5, subsampling_factor=4, sliding_window=16, scale_input=True,
                                attention_bias=False, convolution_bias=False, hidden_act="gelu"),
         joint_act="tanh"),
    Tiny("tiny-8x-relu", dict(hidden_size=40, num_attention_heads=5, num_hidden_layers=1, intermediate_size=40,
                              conv_kernel_size=3, subsampling_factor=8, sliding_window=29, scale_input=False,
                              attention_bias=False, convolution_bias=True, hidden_act="relu"),
         pieces=PIECES, joint_act="silu", decoder_hidden=40, decoder_layers=2, max_symbols=2),
    Tiny("tiny-4x-bf16", dict(hidden_size=24, num_attention_heads=3, num_hidden_layers=3, intermediate_size=48,
                              conv_kernel_size=31, subsampling_factor=4, sliding_window=71, scale_input=False),
         dtype=torch.bfloat16),
]  # fmt: skip


def build(tiny, seed):
    """A model with scaled random weights, fp32 (rounded to the stored type), in evaluation mode."""
    common = dict(num_mel_bins=80, subsampling_conv_channels=8, dropout=0.0, layerdrop=0.0, activation_dropout=0.0,
                  attention_dropout=0.0, default_num_lookahead_tokens=6, max_position_embeddings=512)  # fmt: skip
    vocabulary = len(tiny.pieces) + 1
    config = NemotronAsrStreamingConfig(
        encoder_config=NemotronAsrStreamingEncoderConfig(**{**common, **tiny.encoder}),
        vocab_size=vocabulary,
        blank_token_id=vocabulary - 1,
        decoder_hidden_size=tiny.decoder_hidden,
        num_decoder_layers=tiny.decoder_layers,
        hidden_act=tiny.joint_act,
        max_symbols_per_step=tiny.max_symbols,
    )
    model = NemotronAsrStreamingForRNNT(config).eval()
    blank = config.blank_token_id
    model.generation_config.update(decoder_start_token_id=blank, bos_token_id=blank, pad_token_id=0)
    draw(model, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def draw(model, generator):
    """Draws all weights anew: fan-in scaling with a gain, norms near one, small biases."""
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if "norm" in name:
            weight.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
        elif "embedding" in name:
            weight.copy_(1.5 * noise)
        elif weight.dim() == 1:
            weight.copy_(0.1 * noise)
        elif "bias_u" in name or "bias_v" in name:
            weight.copy_(0.3 * noise)
        else:
            weight.copy_(noise * gain(name) / weight[0].numel() ** 0.5)
    stem = model.encoder.subsampling.conv_in.weight
    stem -= stem.mean(dim=(1, 2, 3), keepdim=True)  # sees change of level, not level: frames differ more


def gain(name):
    """How much louder than unit variance a matrix is."""
    if "joint.head" in name or "encoder_projector" in name:
        return 2.5
    if "decoder_projector" in name:
        return 0.8  # the words so far count less than the frame, or a path repeats one token
    return 1.3


def round_to(model, dtype):
    """Rounds the weights to the type they are stored in; the model stays fp32."""
    model.to(dtype).to(torch.float32)


def tokenizer(tiny):
    """BPE without merges, or Unigram: either way id → piece is the list of the model, blank last."""
    if tiny.unigram:
        core = tokenizer_models.Unigram([(p, -float(i)) for i, p in enumerate(tiny.pieces)], unk_id=0)
    else:
        core = tokenizer_models.BPE({p: i for i, p in enumerate(tiny.pieces)}, [], unk_token="<unk>")
    made = Tokenizer(core)
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("<blank>", special=True)])
    assert made.token_to_id("<blank>") == len(tiny.pieces)
    return made


def save(tiny, model, folder):
    """Writes the folder that stock Auto classes load, processor included."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(tiny.dtype).save_pretrained(folder)
    tokenizer(tiny).save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "ParakeetTokenizer",
        "unk_token": "<unk>",
        "pad_token": "<unk>",
        "extra_special_tokens": {"blank_token": "<blank>"},
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    extractor = NemotronAsrStreamingFeatureExtractor(feature_size=model.config.encoder_config.num_mel_bins)
    NemotronAsrStreamingProcessor(
        extractor,
        AutoTokenizer.from_pretrained(folder),
        supported_num_lookahead_tokens=sorted(LOOKAHEADS, reverse=True),
        default_num_lookahead_tokens=6,
    ).save_pretrained(folder)
    model.to(torch.float32)
