"""Journey: results.json and training.json -> MODEL CARD (README.md of the exported folder), token_delay_ms, SHA256SUMS.

Every number of the card comes out of these files, so the card cannot say what was not measured. The constant delay of the
word marks goes into config.json as `token_delay_ms`: the worker takes it off its word times; transformers ignores it.

    python card.py --model ../demo-asr
"""
import argparse
import hashlib
import json
import textwrap
from pathlib import Path

from grammar import EVERYDAY_TEST, Sentences
from live import TEXTS
from voices import ESPEAK_BASE, ESPEAK_UNSEEN, ESPEAK_VARIANT

SETS = [("espeak", "main domain, espeak-ng, 8 trained voices", "1"),
        ("flite", "main domain, flite kal, awb, rms (trained)", "3"),
        ("noise10db", "the 11 voices, white or pink noise 10 dB below the speech", "6"),
        ("band8k", "the 11 voices, low pass at 3.6 kHz (telephone band)", "2"),
        ("quiet", "the 11 voices, speech at -45 dB of full scale", ""),
        ("at_once", "the 11 voices, speech from the first sample on", ""),
        ("everyday", "everyday English outside the domain, the 11 voices", "15"),
        ("digits", "digit strings and numbers, the 11 voices", ""),
        ("long", "six utterances of different voices in a row, about 20 s", ""),
        ("unseen_f4", "espeak-ng +f4, never trained", "8"), ("unseen_klatt2", "espeak-ng +klatt2, never trained", "8"),
        ("unseen_andrea", "espeak-ng +Andrea, never trained", ""),
        ("unseen_slt", "flite slt, never trained (a woman; the trained flite voices are men)", "15")]

TEXT = """# demo-asr

A small English speech recogniser for demonstrations and tests: `nemotron_asr_streaming` (cache-aware FastConformer RNN-T) with
3.4 million parameters, float32, {size:.1f} MB. It was trained from nothing by `models/training/`, with speech of free
synthesizers only: no recorded human voice, no outside weights, no data set. It understands clear synthesizer speech; it is
**not** made for human speech. Licence: Apache-2.0.

- Loads with stock transformers 5.23.0: `AutoModelForRNNT.from_pretrained(folder)`, `AutoProcessor.from_pretrained(folder)`.
- Input: 16 kHz mono. Output: lower-case English words, numbers as words, no punctuation.
- 4x subsampling (one encoder frame = 40 ms), 30 tokens (letters, apostrophe, word mark, blank), look-aheads 0, 1, 3, 6, 13
  (chunks of 40, 80, 160, 280, 560 ms), left context 70 frames.

## Results
Word error rate in %, RNN-T greedy search, {n} held-out sentences per set (everyday: {ne}, digits: {nd}, long: {nl}).
Measured on this folder with `python models/training/evaluate.py --model models/demo-asr --json models/demo-asr/results.json`
after `python models/training/make_data.py --test`, which makes the test sets.

{table}

Sentences are held out by a rule on their text: a checksum (1 in 16) for the main domain, and for the everyday set no training
sentence shares five words in a row with it. {inside} of the {ne} everyday sentences is made of words of the main domain only;
{unseen} of its {kinds} different words are in none of our word lists. Voices speak at their own speed and pitch in the tests.

Silence and noise alone ({minutes} min): false words at look-ahead {falsewords}.

Word starts at look-ahead 6 (frame of the word mark token, in sentences without an error, against the synthesizer's own event):
constant delay {delay} ms, median error around it {error} ms on espeak-ng; {fdelay} ms and {ferror} ms on flite. The worker takes
`token_delay_ms` of `config.json`, {token_delay} ms, off its word times.

## Training
{runs} `make train-demo-asr` trains one of this kind. The arguments of the last runs are in `training.json`, all numbers by voice in `results.json`. Speech: espeak-ng ({accents} English accents, {variants} voice variants, speeds and pitches varied) and flite
(kal, awb, rms; speed, pitch and vocal tract length varied, up to a woman's), with noise, echoes, room tails, equaliser,
telephone band and levels from about -50 to -5 dB, drawn anew in every step. Text: sentence patterns over {domain} domain words
and {words} everyday words (forms counted), sentences of manuals, package documents and sayings on the building machine, random
words, digits; and {texts} of these sentences without speech, which teach the predictor to spell. Never trained: flite slt,
espeak-ng {held}.

## Limits
Goals of the last column that are reached: {reached}.
Missed: {missed}.
Synthesizer speech only; human voices, music and far microphones are outside. Rare words are spelled by ear. Noise stronger than
10 dB, and voices unlike the trained ones, raise the errors as the table shows. `generate` of transformers 5.23 on a padded
batch goes on over the padding of the short rows: decode one by one or stop each row at its own length.

## Files
`samples/`: six held-out utterances (WAV) with text and word starts (`samples.json`), for tests and the quick start.
`SHA256SUMS`: digests of all files.
"""


def table(res):
    """The results as a Markdown table: one row per test set, one column per look-ahead."""
    looks = list(res)
    out = ["| test set | " + " | ".join(k.replace("lookahead_", "look-ahead ") for k in looks) + " | goal (6) |",
           "| --- |" + " ---: |" * (len(looks) + 1)]
    for name, text, goal in SETS:
        out.append(f"| {text} (`{name}`) | " + " | ".join(f"{res[k][name]['wer']:.1f}" for k in looks) + f" | {goal} |")
    return "\n".join(out)


def token_delay_ms(res):
    """The constant delay of word starts at look-ahead 6, half-way between the two synthesizers."""
    six = res["lookahead_6"]
    return round((six["espeak"]["word_start_delay_ms"] + six["flite"]["word_start_delay_ms"]) / 2)


def goals(six):
    """The sets whose goal is reached and those whose goal is missed, as text."""
    has = [(name, float(goal)) for name, _, goal in SETS if goal]
    return tuple(", ".join(f"`{n}`" for n, g in has if (six[n]["wer"] <= g) == ok) or "none" for ok in (True, False))


def runs(run):
    """How the model was trained, from training.json: {steps, cpu_seconds, gpu_seconds, speech, before: the same of the run it went on from}."""
    old = run.get("before") or {"steps": 0, "cpu_seconds": 0}
    text = runs(old) + " Then, on from those weights, " if old["steps"] else ""
    gpu = run.get("gpu_seconds", 0) - old.get("gpu_seconds", 0)
    parts = [f"{cpu:,} CPU-seconds (two workers together, without making the data)"] if (cpu := run["cpu_seconds"] - old["cpu_seconds"]) else []
    parts += [f"{gpu:,} seconds on one GPU, for which the other cores of the machine spoke meanwhile (`live.py`)"] if gpu else []
    text += f"{run['steps'] - old['steps']:,} steps: {', then '.join(parts)}"
    has = run.get("speech", {})
    if has.get("invented_share"):
        text += (f", with {has['hours']} hours of speech, {has['invented_share']:.0%} of it by invented speakers (`speakers.py`): "
                 "the same sentence by flite kal16, awb and rms, mixed differently for each phone of each invented speaker, "
                 "with other formants, lengths and gains, two thirds of them with a woman's pitch")
    if has.get("festival_share"):
        text += (f"; {has['festival_share']:.0%} with a part of Festival's diphone voices (`foreign.py`): the American `ked` (a man), "
                 "and the women `lp` (Italian) and `dita` (Czech), made to say English segments")
    if has.get("pico_share"):
        text += f"; {has['pico_share']:.0%} with a voice of SVOX Pico's two English women (`svox.py`)"
    how = run.get("arguments", {})
    if how.get("live") and how.get("inventing"):
        text += (f". {how['invented']:.0%} of the batches were by invented speakers (`spectra.py`), half of them with one of SVOX Pico's "
                 f"two English women (`svox.py`), who spoke {how['pico']:.0%} of the other speech as they are")
    if share := run.get("share", .5 if run.get("half_way") else 0):
        text += f". The weights are {'half-way' if share == .5 else f'{share:.0%} of the way'} between those before and behind that run"
    return text + "."


def card(folder):
    """The text of the model card."""
    res, run = (json.loads((folder / f).read_text()) for f in ("results.json", "training.json"))
    six, s = res["lookahead_6"], Sentences()
    reached, missed = goals(six)
    kinds = {w for t in EVERYDAY_TEST for w in t.split()}
    return TEXT.format(
        size=(folder / "model.safetensors").stat().st_size / 1e6, n=six["espeak"]["sentences"], ne=six["everyday"]["sentences"],
        nd=six["digits"]["sentences"], nl=six["long"]["sentences"], table=table(res), kinds=len(kinds),
        inside=sum(set(t.split()) <= set(s.domain_words) for t in EVERYDAY_TEST),
        unseen=len(kinds - set(s.domain_words) - set(s.words) - {w for t in s.fixed for w in t.split()}),
        minutes=six["nospeech"]["minutes"],
        falsewords=", ".join(f"{k.split('_')[1]}: {v['nospeech']['false_words']}" for k, v in res.items()),
        delay=six["espeak"]["word_start_delay_ms"], error=six["espeak"]["word_start_median_error_ms"],
        fdelay=six["flite"]["word_start_delay_ms"], ferror=six["flite"]["word_start_median_error_ms"], runs=textwrap.fill(runs(run), 130),
        reached=reached, missed=missed, token_delay=token_delay_ms(res),
        texts=f"{TEXTS:,}", domain=len(s.domain_words), words=len(s.words), held=", ".join(ESPEAK_UNSEEN),
        accents=len(set(ESPEAK_BASE)), variants=len(set(ESPEAK_VARIANT)))


def main():
    """Command line."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", type=Path, required=True)
    a = ap.parse_args()
    if (a.model / "results.json").exists():
        config = json.loads((a.model / "config.json").read_text())
        config["token_delay_ms"] = token_delay_ms(json.loads((a.model / "results.json").read_text()))
        (a.model / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (a.model / "README.md").write_text(card(a.model))
    files = sorted(str(f.relative_to(a.model)) for f in a.model.rglob("*") if f.is_file() and f.name != "SHA256SUMS")
    (a.model / "SHA256SUMS").write_text("".join(f"{hashlib.sha256((a.model / f).read_bytes()).hexdigest()}  {f}\n" for f in files))


if __name__ == "__main__":
    main()
