"""Journey: checkpoint (train.py) -> EXPORT: stock transformers folder -> the platform, evaluate.py.

Writes config.json, generation_config.json, model.safetensors (float32, averaged weights), tokenizer.json,
tokenizer_config.json, processor_config.json and training.json. The input scale is folded into the first convolution, so the
folder takes the raw features of the stock extractor. Then loads the folder the stock way and compares texts.

    python export.py --out ../demo-asr
    python export.py --out ../demo-asr --half-way-from ../demo-asr    # after a run with --from-model ../demo-asr
"""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from foreign import VOICES
from make_data import CACHE
from model import BLANK, LOOKAHEADS, TOKENS, build, encode, fold_input, greedy, text_of, tokens, unfold_input
from svox import PICO


def tokenizer():
    """The tokenizers object: one token per character, a word mark in front of every word."""
    t = Tokenizer(models.BPE({t: i for i, t in enumerate(TOKENS[:-1])}, [], unk_token="<unk>"))      # no merges
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.decoder = decoders.Metaspace()
    t.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("<blank>", special=True)])
    assert t.token_to_id("<blank>") == BLANK and t.get_vocab_size() == len(TOKENS)
    assert t.encode("it's a test").ids == tokens("it's a test")
    return t


def before(out, origin, steps):
    """training.json of the model this run went on from, or None; of the one in `out`, before it is replaced, if `origin` is gone."""
    f = (origin if origin.exists() else out) / "training.json"
    old = json.loads(f.read_text()) if f.exists() else {}
    return old if old.get("steps", steps) < steps else old.get("before")


def speech(data):
    """What lies in the shards: their number, hours, and the shares of hours by invented speakers (speakers.py), of those with a
    part of Festival's voices (foreign.py), and of those with SVOX Pico's (svox.py).
    """
    hours, invented, festival, pico, files = 0., 0., 0., 0., sorted(Path(data).glob("train_*.pt"))
    for f in files:
        s = torch.load(f, mmap=True)
        for voice, a, b in zip(s["voice"], s["at"], s["at"][1:]):
            h = (b - a) / 360000
            hours, invented = hours + h, invented + h * voice.endswith("+invented")
            festival += h * bool(VOICES.keys() & voice.split("+"))
            pico += h * bool(PICO.keys() & voice.split("+"))
    return {"shards": len(files), "hours": round(hours, 1), "invented_share": round(invented / max(hours, 1e-9), 2),
            "festival_share": round(festival / max(hours, 1e-9), 2), "pico_share": round(pico / max(hours, 1e-9), 2)}


def between(state, folder, share=.5):
    """Weights between those of the exported model a run went on from (share 0) and its own (1).

    A short run for something new (a woman's voice) forgets a little of the old (everyday words); between both it keeps
    nearly all of either, since both lie in one basin (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    """
    return lerp(unfold_input(load_file(folder / "model.safetensors")), state, share)


def lerp(old, new, share):
    """Weights so much of the way from the old to the new ones."""
    return {k: torch.lerp(old[k].to(v), v, share) if v.is_floating_point() else v for k, v in new.items()}


def export(checkpoint, out, weights, origin=None, share=.5):
    """Writes the folder; `weights` is "averaged" or "model" (the last step), `origin` the model to mix in (see between)."""
    from transformers import AutoTokenizer, NemotronAsrStreamingFeatureExtractor, NemotronAsrStreamingProcessor
    s = torch.load(checkpoint, map_location="cpu")
    model = build()
    if origin:
        s[weights] = between(s[weights], origin, share)
    model.load_state_dict(fold_input(s[weights]))
    out.mkdir(parents=True, exist_ok=True)
    model.eval().generation_config.update(decoder_start_token_id=BLANK, bos_token_id=BLANK, pad_token_id=0)
    model.save_pretrained(out)
    tokenizer().save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "ParakeetTokenizer", "unk_token": "<unk>", "pad_token": "<unk>",
        "extra_special_tokens": {"blank_token": "<blank>"}, "clean_up_tokenization_spaces": False,
        "model_max_length": 1000000}, indent=2) + "\n")
    processor = NemotronAsrStreamingProcessor(
        NemotronAsrStreamingFeatureExtractor(), AutoTokenizer.from_pretrained(out),
        supported_num_lookahead_tokens=LOOKAHEADS, default_num_lookahead_tokens=6)
    processor.save_pretrained(out)
    keep = {k: v for k, v in s["args"].items() if k not in ("data", "run", "save", "test", "chunks", "gpu_before")}
    run = {"steps": s["step"], "cpu_seconds": round(s["cpu"]), "gpu_seconds": round(s.get("gpu", 0.)), "weights": weights,
           "arguments": keep}
    if not keep.get("live"):
        run["speech"] = speech(s["args"]["data"])
    if origin:
        run["share"] = share
    if keep.get("from_model"):
        origin = Path(keep["from_model"])
        keep["from_model"] = origin.name                                    # where it lay is nobody's business
        run["before"] = before(out, origin, s["step"])
    (out / "training.json").write_text(json.dumps(run, indent=2) + "\n")
    return s


@torch.no_grad()
def check(out, data, state, n):
    """Stock `generate` (one by one: in a batch, transformers 5.23 goes on over the padding) against the training code."""
    from transformers import AutoModelForRNNT, AutoProcessor
    processor = AutoProcessor.from_pretrained(out)
    stock = AutoModelForRNNT.from_pretrained(out, dtype=torch.float32).eval()
    ours = build()
    ours.load_state_dict(state)
    test = torch.load(data / "test.pt")
    rows = [r for name in ("espeak", "flite", "unseen_slt") for r in test[name][:n]]
    same = count = 0
    for look in LOOKAHEADS:
        processor.set_num_lookahead_tokens(look)
        for r in rows:
            got = stock.generate(**processor([(r[5].float() / 32768).numpy()], sampling_rate=16000)).sequences
            text = processor.batch_decode(got, skip_special_tokens=True)[0].strip()
            h, m = encode(ours, r[1].float()[None], torch.tensor([len(r[1])]), look, torch.float32)
            same += text == text_of(t for t, _ in greedy(ours, h, m)[0])
            count += 1
    print(f"stock generate: {same} of {count} texts as in the training code")


def main():
    """Command line."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--run", type=Path, default=CACHE / "run")
    ap.add_argument("--data", type=Path, default=CACHE / "data")
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--weights", choices=["averaged", "model"], default="averaged")
    ap.add_argument("--half-way-from", type=Path, help="exported model that the run went on from: weights between its and the run's")
    ap.add_argument("--share", type=float, default=.5, help="how much of the run there is in the weights, with --half-way-from")
    ap.add_argument("--check", type=int, default=6, help="utterances per test set for the check; 0 = none")
    a = ap.parse_args()
    torch.set_num_threads(1)
    s = export(a.run / "checkpoint.pt", a.out, a.weights, a.half_way_from, a.share)
    print("size", sum(f.stat().st_size for f in a.out.iterdir() if f.is_file()), "bytes")
    if a.check:
        check(a.out, a.data, s[a.weights], a.check)


if __name__ == "__main__":
    main()
