"""Journey: shards (make_data.py) -> TRAIN -> checkpoint -> export.py. Trains the demo model, or an exported one further.

Phases, by step: losses along the known path (until --align-until, fading), RNN-T loss in a band (from --rnnt-from); easy
shards alone (until --easy-until), then all. The learning rate is stable until --decay-from and falls to --stop, so one run
can be cut or continued: give other numbers and run the same command again, it goes on from the checkpoint. Both may be
times of the day instead of steps: on a shared machine nobody knows how many steps an hour holds.
`--workers 2` runs two processes on one set of weights in shared memory, each on its own batches and optimizer, without
waiting for each other (on a shared machine one is often held up). Averaged weights (EMA) are what is tested and exported.
With `--live`, and on a GPU, speech is made meanwhile (live.py), and no shards are read.
Text alone trains the predictor too (`spelling`): there is far more text than speech, and what is wrong late in a training
is mostly spelling.

    python train.py --workers 2 --stop 12000 --decay-from 9000
    python train.py --workers 2 --from-model ../demo-asr --decay-from 2026-11-21T15:30Z --stop 2026-11-21T16:35Z
"""
import argparse
import json
import os
import random
import time
from datetime import datetime
from pathlib import Path

import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file

import augment
import lattice
import live
import opentext
from evaluate import quick_wer
from grammar import Sentences
from make_data import CACHE, note_pids, save
from model import BLANK, FRAME_MS, build, encode, fast_type, frames_out, tokens, unfold_input
from optim import optimizers, rate, warm_up
from voices import FLITE

LOOK = [13, 6, 6, 6, 6, 3, 3, 3, 1, 0]                              # look-aheads, drawn per batch


def moment(text):
    """A point of the schedule: a step (int), or a time as seconds (float) from an ISO date and time."""
    return int(text) if text.isdigit() else datetime.fromisoformat(text).timestamp()


def now(a, step):
    """Where the run is, in the unit of --stop."""
    return time.time() if isinstance(a.stop, float) else step


def align(text, ids, starts, frames):
    """The frame of every token: letters spread over their word; None where a word time is missing or too tight."""
    if starts is None:
        return None
    out, last = [], -1
    end = min(frames * FRAME_MS, starts[-1] + 90 * len(text.split()[-1]) + 80) if starts else 0
    for ms in live.token_times(text, starts, end):
        last = max(int(ms / FRAME_MS), last + 1)
        out.append(last)
    return out if len(out) == len(ids) and (not out or out[-1] < frames) else None


def load_rows(folder, pattern, known, rows):
    """Adds rows (ids, features mapped from the file, alignment, (level, is it flite)) of shards not yet known."""
    for f in sorted(folder.glob(pattern)):
        if f in known:
            continue
        known.add(f)
        s = torch.load(f, mmap=True)
        for i, text in enumerate(s["text"]):
            a, b = s["at"][i], s["at"][i + 1]
            ids = tokens(text)
            at = align(text, ids, s["starts"][i], frames_out(b - a))
            if at is not None:
                rows.append((ids, s["feats"][a:b], at, (s["level"][i], s["voice"][i].split("+")[0] in FLITE)))


def batches(rows, max_frames, rng):
    """Shuffled batches of similar length, at most `max_frames` with padding."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    out = []
    for a in range(0, len(order), 1500):
        b = []
        for i in sorted(order[a:a + 1500], key=lambda i: len(rows[i][1])):
            if b and (len(b) + 1) * len(rows[i][1]) > max_frames:
                out.append(b)
                b = []
            b.append(i)
        out.append(b)
    rng.shuffle(out)
    return out


def joined(rows):
    """Utterances in a row: one long row. All but the last are cut to whole encoder frames."""
    ids, feats, at, frames = [], [], [], 0
    for i, r in enumerate(rows):
        f = r[1].float()
        if i < len(rows) - 1:
            f = f[:len(f) - len(f) % 4]
        ids, at = ids + r[0], at + [x + frames for x in r[2]]
        frames += len(f) // 4
        feats.append(f)
    return ids, torch.cat(feats), at, rows[0][3]


def trim(row, rng):
    """Cuts long silence: keeps 0.1-0.4 s in front of the first token and 0.3-0.5 s behind the last loud frame.

    Saves a tenth of the work, and moves the speech against the chunks of the encoder every time.
    """
    ids, f, at, about = row
    if not ids:
        return row
    cut = max(0, at[0] * 4 - rng.randrange(10, 40)) // 4
    loud = f.float().amax(1)
    last = int((loud > loud.max() - 9).nonzero()[-1])                # 9 is 39 dB
    end = max(last + rng.randrange(30, 50), 4 * at[-1] + 8)
    return ids, f[4 * cut:end], [t - cut for t in at], about


def collate(rows, rng, pool, strength):
    """Rows -> (features [batch, frames, 80], their lengths, tokens [batch, U], their frames, token counts)."""
    # flite's synthetic voices drown in noise long before espeak's
    feats = [augment.change(r[1].float(), r[3][0], rng, (pool, .8 if r[3][1] else .55), strength) for r in rows]
    u = torch.tensor([len(r[0]) for r in rows])

    def padded(column, fill):
        return torch.tensor([r[column] + [fill] * (max(1, int(u.max())) - len(r[column])) for r in rows], dtype=torch.long)
    return (torch.nn.utils.rnn.pad_sequence(feats, batch_first=True), torch.tensor([len(f) for f in feats]), padded(0, 0),
            padded(2, lattice.NEVER), u)


def losses(model, ctc, batch, lookahead, weights):
    """The training loss and its parts for the log; `weights`: (known path, RNN-T, (spelling, its text))."""
    w_align, w_rnnt, (w_text, words) = weights
    dev = next(ctc.parameters()).device
    x, n, y, at, u = (t.to(dev) for t in batch)
    (h, m), log, total = encode(model, x, n, lookahead, fast_type(dev)), {}, 0.
    d = model.decoder(F.pad(y, (1, 0), value=BLANK))
    e = model.encoder_projector(h)
    if w_align or w_rnnt < 1:
        logits = ctc(h)
        c = F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), y, m, u, blank=BLANK, zero_infinity=True, reduction="sum")
        c = c / u.sum().clamp(min=1)
        total, log["ctc"] = total + (1 - w_rnnt) * c, c.detach()
    if w_align:
        a = lattice.along_path(model, logits, e, d, y, at, m)
        total, log["path"] = total + w_align * a, a.detach()
    if w_rnnt:
        t = lattice.band_loss(model.joint, e, d, y, at, m, u, fast_type(dev))
        total, log["rnnt"] = total + w_rnnt * t, t.detach()
    if w_text and w_rnnt:
        s = spelling(model, e, m, words.to(dev))
        total, log["text"] = total + w_text * s, s.detach()
    return total, log


def spelling(model, e, n, words):
    """Cross-entropy of the next character, from text alone; the encoder's part is its mean over this batch.

    Internal language model training (Meng et al. 2021, "Internal Language Model Training for Domain-Adaptive End-to-End
    Speech Recognition"), with the mean of e [batch, T, J] instead of zeros, so that the joint network works where it does
    with speech. words: token ids [rows, U], -100 where a row is over.
    """
    inside = (torch.arange(e.shape[1], device=e.device) < n.to(e.device)[:, None])[..., None]
    mean = e.detach().masked_fill(~inside, 0).sum((0, 1)) / inside.sum()
    d = model.decoder(F.pad(words.clamp(min=0), (1, 0), value=BLANK))[:, :-1]
    logits = model.joint.head(F.relu(d + mean))[..., :BLANK]
    return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=-100)


class Text:
    """Endless batches of training sentences as token ids."""

    def __init__(self, a, rank, step):
        self.rng, self.rows = random.Random(f"{a.seed}/{rank}/{step}/text"), a.spelling_rows
        self.sentences = Sentences(*opentext.load(a.data.parent / "text" / "open.txt"))

    def __call__(self):
        """Token ids [rows, U], -100 where a row is over."""
        rows = [torch.tensor(tokens(self.sentences(self.rng))) for _ in range(self.rows)]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)


class Feed:
    """An endless stream of batches; picks up new shards at every pass and starts over with a new shuffle on a restart."""

    def __init__(self, a, rank, step):
        self.a, self.rng = a, random.Random(f"{a.seed}/{rank}/{step}")
        self.known, self.easy, self.hard, self.words = set(), [], [], Text(a, rank, step)
        f = a.data / "noise.pt"
        self.pool = torch.load(f) if f.exists() else None

    def batch(self, rows, chosen, step):
        """One collated batch; one in seven is made of pairs or longer chains, so that long audio is known."""
        r = [trim(rows[i], self.rng) if self.rng.random() < .7 else rows[i] for i in chosen]
        k = self.rng.choice([2, 2, 2, 4]) if self.rng.random() < .15 and len(r) > 3 and step > self.a.rnnt_from else 1
        if k > 1:
            self.rng.shuffle(r)
            r = [joined(r[i:i + k]) for i in range(0, len(r), k)]
        return collate(r, self.rng, self.pool, 0. if step < self.a.easy_until else self.a.augment)

    def __call__(self, step):
        """Yields batches from `step()` on; leaves the easy phase at once when it is over."""
        while True:
            first = step() < self.a.easy_until
            load_rows(self.a.data, "easy_*.pt", self.known, self.easy)
            if not first or not self.easy:
                load_rows(self.a.data, "train_*.pt", self.known, self.hard)
            rows = self.easy if first and self.easy else self.hard + self.easy
            todo = batches(rows, self.a.frames, self.rng)
            for b in todo[:max(20, len(todo) // 4)]:                # a quarter, then look for new shards
                if first and step() >= self.a.easy_until:
                    break
                yield self.batch(rows, b, step())


class Keeper:
    """Worker 0: averaged weights, log, tests and checkpoints."""

    def __init__(self, a, model, ctc, ema, step):
        self.a, self.model, self.ctc, self.ema = a, model, ctc, ema
        self.test = torch.load(a.data / "test.pt") if (a.data / "test.pt").exists() else None
        self.wall, self.last = time.time(), step

    @torch.no_grad()
    def average(self, step):
        """EMA over about 300 steps (fewer at the start); called every few steps."""
        keep = min(.97, step / (step + 40))
        torch._foreach_lerp_(self.ema, list(self.model.parameters()), 1 - keep)

    def averaged(self):
        """The model's state dictionary with averaged weights."""
        s = self.model.state_dict()
        s.update(zip([k for k, _ in self.model.named_parameters()], self.ema))
        return s

    def log(self, step, cpu, log):
        """A line in log.jsonl every 100 steps, with word error rates every --test steps."""
        line = {"step": step, "cpu_s": round(sum(cpu)), "wall_s": round(time.time() - self.wall),
                **{k: round(float(v), 4) for k, v in log.items()}}
        if self.test and step // self.a.test > self.last // self.a.test:
            line["wer"] = quick_wer(self.averaged(), self.test)
        self.last = step
        print(json.dumps(line), flush=True)
        with open(self.a.run / "log.jsonl", "a") as f:
            f.write(json.dumps(line) + "\n")

    def checkpoint(self, step, cpu):
        """Everything that is needed to go on or to export; `gpu` = seconds with the GPU in hand, speech made meanwhile."""
        args = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self.a).items()}
        save({"model": {k: v.clone() for k, v in self.model.state_dict().items()}, "averaged": self.averaged(),
              "ctc": self.ctc.state_dict(), "ema": self.ema, "step": step, "cpu": sum(cpu), "args": args,
              "gpu": self.a.gpu_before + (time.time() - self.wall if self.a.device != "cpu" else 0.)},
             self.a.run / "checkpoint.pt")


def work(rank, a, model, ctc, ema, counter, cpu, base):
    """One worker: batches, gradients, updates of the shared weights, until --stop."""
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed + rank)
    model.train()
    opts = optimizers(model, ctc, a.lr, a.muon)
    own, done = a.run / f"optimizer{rank}.pt", 0
    if counter.value and own.exists():
        done = 100                                                  # warm already
        for o, s, peak in zip(opts, torch.load(own, map_location=a.device), (a.lr, a.muon)):
            o.load_state_dict(s)
            for g in o.param_groups:
                g["peak"] = peak                                    # a new command line may ask for another rate
    keeper = Keeper(a, model, ctc, ema, counter.value) if rank == 0 else None
    everything = [p for o in opts for g in o.param_groups for p in g["params"]]
    rng, mine, start = random.Random(f"{a.seed}/{rank}/{counter.value}/look"), 0, time.process_time()
    saved, feed = counter.value, (live.Feed if a.live else Feed)(a, rank, counter.value)
    stream = feed(lambda: counter.value)
    batch = next(stream)
    while now(a, step := counter.value) < a.stop:
        w_rnnt = 0. if step < a.rnnt_from else .8 if step < a.align_until else 1.
        weights = max(0., 1 - step / a.align_until), w_rnnt, (a.spelling, feed.words() if a.spelling else None)
        loss, log = losses(model, ctc, batch, rng.choice(LOOK), weights)
        for p in everything:
            p.grad = None
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([p for p in everything if p.grad is not None], 5.)
        batch = next(stream)                                        # a GPU is still busy with the gradients
        if torch.isfinite(norm):
            for o in opts:
                for g in o.param_groups:
                    g["lr"] = g["peak"] * rate(now(a, step), a.decay_from, a.stop) * warm_up(mine + done)
                o.step()
        with counter.get_lock():
            counter.value += 1
        mine += 1
        cpu[rank] = base * (rank == 0) + (time.process_time() - start if a.device == "cpu" else 0.)
        if keeper and mine % 5 == 0:
            keeper.average(counter.value)
        if keeper and step // 100 > keeper.last // 100:
            keeper.log(step, cpu, {**log, "norm": norm})
        if step - saved >= a.save:
            saved = step
            save([o.state_dict() for o in opts], own)
            if keeper:
                keeper.checkpoint(counter.value, cpu)
    stream.close()
    save([o.state_dict() for o in opts], own)
    if keeper:
        keeper.checkpoint(counter.value, cpu)


def main():
    """Command line: starts the workers on a new model or on the checkpoint."""
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", type=Path, default=CACHE / "data")
    ap.add_argument("--run", type=Path, default=CACHE / "run")
    ap.add_argument("--from-model", type=Path, help="exported folder to begin with, if there is no checkpoint yet")
    ap.add_argument("--stop", type=moment, default=12000, help="step or time (ISO) at which the run ends")
    ap.add_argument("--decay-from", type=moment, default=9000, help="step or time from which the learning rate falls")
    ap.add_argument("--easy-until", type=int, default=700)
    ap.add_argument("--align-until", type=int, default=900)
    ap.add_argument("--rnnt-from", type=int, default=520)
    ap.add_argument("--frames", type=int, default=5000, help="feature frames in a batch (100 per second)")
    ap.add_argument("--lr", type=float, default=2e-3, help="AdamW, for small tensors, the predictor and the joint network")
    ap.add_argument("--muon", type=float, default=3e-3, help="Muon, for the matrices of the encoder layers")
    ap.add_argument("--augment", type=float, default=.6, help="share of the changes of augment.py, 0 to 1")
    ap.add_argument("--spelling", type=float, default=.15, help="weight of the loss on text alone; 0 = none")
    ap.add_argument("--spelling-rows", type=int, default=64, help="sentences a step for it")
    ap.add_argument("--save", type=int, default=100)
    ap.add_argument("--test", type=int, default=500, help="steps between tests")
    ap.add_argument("--workers", type=int, default=1)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--device", default="cpu", help="cpu, or cuda with one worker and larger --frames: speech is made live")
    ap.add_argument("--live", action="store_true", help="speech is made while it trains, on a CPU too; always with cuda")
    ap.add_argument("--women", type=float, default=.25, help="share of flite's speech that is changed towards women, for --live")
    ap.add_argument("--pico", type=float, default=.2, help="share of speech by SVOX Pico's women, for --live")
    ap.add_argument("--invented", type=float, default=.5, help="share of batches by invented speakers, for --live")
    ap.add_argument("--inventing", type=float, default=.6, help="share of the --speakers that invent them; 0 = none")
    ap.add_argument("--speakers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="processes that speak, for --live")
    ap.add_argument("--pool-hours", type=float, default=300, help="clean speech kept; 1 h is 115 MB")
    ap.add_argument("--chunks", default="/dev/shm/smallest-speech", help="where spoken chunks wait")
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    a.live = a.live or a.device != "cpu"
    if type(a.stop) is not type(a.decay_from):
        ap.error("--stop and --decay-from must both be steps or both be times")
    a.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    model, step, used = build().to(a.device), 0, 0.
    ctc = torch.nn.Linear(model.config.encoder_config.hidden_size, BLANK + 1).to(a.device)
    ema = [p.detach().clone() for p in model.parameters()]
    ck, a.gpu_before = a.run / "checkpoint.pt", 0.
    if ck.exists():
        s = torch.load(ck, map_location=a.device)
        model.load_state_dict(s["model"])
        ctc.load_state_dict(s["ctc"])
        ema, step, used, a.gpu_before = s["ema"], s["step"], s["cpu"], s.get("gpu", 0.)
    elif a.from_model:
        model.load_state_dict(unfold_input(load_file(a.from_model / "model.safetensors", a.device)))
        run = json.loads((a.from_model / "training.json").read_text())
        ema, step, used = [p.detach().clone() for p in model.parameters()], run["steps"], run["cpu_seconds"]
        a.gpu_before = run.get("gpu_seconds", 0.)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, start at step {step}", flush=True)
    counter, cpu = mp.get_context("spawn").Value("l", step), mp.get_context("spawn").Array("d", a.workers)
    note_pids(a.run.parent, [os.getpid()])
    cpu[0] = used
    if a.workers == 1:
        return work(0, a, model, ctc, ema, counter, cpu, used)
    model.share_memory(), ctc.share_memory()
    ps = [mp.get_context("spawn").Process(target=work, args=(i, a, model, ctc, ema, counter, cpu, used)) for i in range(a.workers)]
    for p in ps:
        p.start()
    note_pids(a.run.parent, [q.pid for q in ps])
    for p in ps:
        p.join()


if __name__ == "__main__":
    main()
