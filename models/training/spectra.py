"""Journey: rows of invented speakers (speakers.py) -> SPECTRA: a pool of features on the GPU, batches of them -> train.py.

Invented speakers exist as log-mel features and not as sound. Their rows wait on the GPU like the sound of live.py, and are
played at another pace and dressed anew in every step (Channel.redress).
"""
import numpy as np
import torch

from lattice import NEVER
from model import frames_out
from pool import Rows

MEL = 80
LONGEST = 1600                                                              # frames


class Spectra(Rows):
    """Features on the device; takes what fits into `hours`."""

    def __init__(self, device, hours):
        super().__init__(device, hours, 1_000_000)
        self.feats = torch.zeros(int(hours * 360_000) + 1, MEL, dtype=torch.float16, device=device)

    def add(self, chunk):
        """Takes a chunk of write(); False if it is full."""
        return self.take(self.feats, chunk["feats"], chunk["frames"], chunk) is not None

    def plan(self, rng, most, count, strength):
        """Batches of rows of similar length, at most `most` frames with padding: [(rows, their pace), ...] of `count` rows."""
        chosen = rng.choice(self.utterances, min(self.utterances, count), replace=False)
        change = rng.random(len(chosen)) < .4 * strength
        pace = np.where(change, np.exp(rng.uniform(-.16, .2, len(chosen))), 1.)
        size, out, batch = self.rows[chosen, 1] / pace, [], []
        for i in np.argsort(size):
            if batch and (len(batch) + 1) * size[i] > most:
                out.append(batch)
                batch = []
            batch.append(i)
        out.append(batch)
        return [(chosen[b], pace[b]) for b in (out[i] for i in rng.permutation(len(out)))]

    def batch(self, rows, pace, redress):
        """(features [batch, frames, 80], their lengths, tokens [batch, U], their times in ms, token counts), on the device.

        rows, pace: numpy, from plan(); redress: Channel.redress.
        """
        start, frames, first, count = self.rows[rows].T
        size = np.maximum((frames / pace).astype(np.int64), 1)
        width = -(-(int(size.max()) + 4) // 32) * 32 - 4                    # 8 j encoder frames (frames_out), as in live.py
        dev = self.device
        start, frames, size, first, count, pace, level = (
            torch.from_numpy(np.ascontiguousarray(v)).to(dev)
            for v in (start, frames, size, first, count, pace.astype(np.float32), self.level[rows]))
        at = torch.arange(width, device=dev) * pace[:, None]
        low = at.long().minimum((frames - 1)[:, None])
        part = (at - low).clamp(0, 1)[..., None]
        high = (low + 1).minimum((frames - 1)[:, None])
        x = self.feats[start[:, None] + low].float() * (1 - part) + self.feats[start[:, None] + high].float() * part
        inside = torch.arange(width, device=dev) < size[:, None]
        most = max(1, int(self.rows[rows, 3].max()))
        k = torch.arange(most, device=dev)
        source, known = (first[:, None] + k).clamp(max=len(self.ids) - 1), k < count[:, None]
        y = torch.where(known, self.ids[source].long(), 0)
        ms = torch.where(known, self.times[source] / pace[:, None], float(NEVER))
        return redress(x, inside, level), size, y, ms, count


def write(rows, file):
    """One chunk: rows (token ids, features, token times in ms, level in dB) as arrays, one behind the other."""
    np.savez(file, feats=np.concatenate([r[1].numpy() for r in rows]), frames=[len(r[1]) for r in rows],
             ids=np.concatenate([np.uint8(r[0]) for r in rows]), count=[len(r[0]) for r in rows],
             times=np.concatenate([np.float32(r[2]) for r in rows]), level=np.float32([r[3] for r in rows]))


def frames_of_batch(batch, frames_of):
    """What train.losses takes: token times become frames."""
    x, size, y, ms, count = batch
    return x, size, y, frames_of(ms, count, frames_out(size)), count
