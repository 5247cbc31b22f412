"""Journey: encoder and predictor output -> TRANSDUCER LOSS in a band around the known word times -> train.py.

The synthesizers tell when words start, so the token of every frame is known roughly. `along_path` scores that one path
(cheap, used first). `band_loss` is the RNN-T loss over all paths that stay within BACK tokens behind and BAND - BACK - 1
ahead of it: a band of BAND tokens and not all of them, about a quarter of the time and memory of the full lattice. It also
keeps the emitted words close to the audio. The frames of the tokens come as `at` [batch, U], ascending, NEVER behind the last.
"""
import functools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from model import BLANK

BAND, BACK = 14, 9
NEVER = 1_000_000                                                           # a frame that no utterance has


def band_start(at, u, T):
    """First token count of the band for every frame: at [batch, U], token counts u [batch] -> [batch, T]."""
    known = torch.searchsorted(at, torch.arange(T, device=at.device).expand(len(at), T).contiguous())
    return (known - BACK).clamp(min=0).minimum((u + 1 - BAND).clamp(min=0)[:, None])


def shift(x, d, fill):
    """x [batch, S] moved left by d [batch] places."""
    i = np.arange(x.shape[1])[None] + d[:, None]
    return np.where(i < x.shape[1], np.take_along_axis(x, np.minimum(i, x.shape[1] - 1), 1), fill)


def forward_backward(blank, emit, lo, n, u):
    """Log probabilities blank, emit [batch, T, S], band starts lo [batch, T] -> (-log P [batch], d/d blank, d/d emit)."""
    B, T, S = blank.shape
    low, rows = -1e9, np.arange(B)
    count = lo[:, :, None] + np.arange(S)                                   # token count at each point
    emit = np.where(count < u[:, None, None], emit, -1e4)
    before = np.concatenate([np.zeros((B, T, 1)), np.cumsum(emit, 2)[..., :-1]], 2)
    step = np.diff(lo, axis=1)
    alpha, beta = np.full((T, B, S), low), np.full((T + 1, B, S), low)
    start = np.full((B, S), low)
    start[:, 0] = 0                                                         # lo is 0 in the first frame
    for t in range(T):
        h = start if t == 0 else shift(alpha[t - 1] + blank[:, t - 1], step[:, t - 1], low)
        alpha[t] = np.logaddexp.accumulate(h - before[:, t], 1) + before[:, t]
    after = np.full((T, B, S), low)                                         # beta of the next frame, in this frame's places
    for t in range(T - 1, -1, -1):
        if t < T - 1:
            d = step[:, t]
            i = np.arange(S)[None] - d[:, None]
            after[t] = np.where(i >= 0, np.take_along_axis(beta[t + 1], np.maximum(i, 0), 1), low)
        end = n - 1 == t
        after[t][end] = np.where(count[end, t] == u[end, None], 0., low)
        g = after[t] + blank[:, t] + before[:, t]
        beta[t] = np.logaddexp.accumulate(g[:, ::-1], 1)[:, ::-1] - before[:, t]
    total = beta[0][rows, 0]
    inside = (np.arange(T)[:, None] < n)[..., None]
    db = np.where(inside, np.exp(np.minimum(alpha + blank.swapaxes(0, 1) + after - total[:, None], 0)), 0)
    nxt = np.concatenate([beta[:T, :, 1:], np.full((T, B, 1), low)], 2)
    de = np.where(inside, np.exp(np.minimum(alpha + emit.swapaxes(0, 1) + nxt - total[:, None], 0)), 0)
    return -total, -db.swapaxes(0, 1), -de.swapaxes(0, 1)


def kernel_source():
    """lattice.cu with its constant."""
    return f"#define S {BAND}\n" + (Path(__file__).parent / "lattice.cu").read_text()


@functools.cache
def kernel():
    """lattice.cu, compiled for the GPU of this machine."""
    from torch.utils import cpp_extension
    cpp_extension.CUDA_HOME = cpp_extension.CUDA_HOME or "/"                # asked for by torch; no header is included
    return torch.cuda._compile_kernel(kernel_source(), "band")


def forward_backward_cuda(blank, emit, lo, n, u):
    """forward_backward on the GPU: all arguments and results are tensors there."""
    (B, T, S), at = blank.shape, blank.device
    lo, n, u = (x.to(at, torch.int32).contiguous() for x in (lo, n, u))
    loss, alpha = torch.empty(B, device=at), torch.empty(B, T, S, dtype=torch.double, device=at)
    db, de = torch.zeros(B, T, S, device=at), torch.zeros(B, T, S, device=at)
    blank, emit = blank.detach().float().contiguous(), emit.detach().float().contiguous()
    kernel()(grid=(-(-B // 32), 1, 1), block=(32, 1, 1), args=[blank, emit, lo, n, u, alpha, loss, db, de, B, T])
    return loss, db, de


class Lattice(torch.autograd.Function):
    """Sum of -log P over the batch; the gradient is the occupancy of every arc."""

    @staticmethod
    def forward(ctx, blank, emit, lo, n, u):
        """See forward_backward; all are tensors."""
        if blank.is_cuda:
            loss, db, de = forward_backward_cuda(blank, emit, lo, n, u)
        else:
            b, e = (x.detach().double().numpy() for x in (blank, emit))
            loss, db, de = map(torch.from_numpy, forward_backward(b, e, lo.numpy(), n.numpy(), u.numpy()))
        ctx.save_for_backward(db.to(blank), de.to(emit))
        return loss.sum().float()

    @staticmethod
    def backward(ctx, grad):
        """Gradient of blank and emit."""
        db, de = ctx.saved_tensors
        return grad * db, grad * de, None, None, None


def band_loss(joint, e, d, y, at, n, u, dtype=torch.bfloat16):
    """RNN-T loss per token: e [batch, T, J] encoder, d [batch, U + 1, J] predictor, y [batch, U] tokens, at their frames."""
    B, T, J = e.shape
    lo = band_start(at, u, T)
    count = lo[..., None] + torch.arange(BAND, device=e.device)
    inside = count.clamp(max=d.shape[1] - 1)
    flat = (inside + torch.arange(B, device=e.device)[:, None, None] * d.shape[1]).flatten()
    dd = F.embedding(flat, d.to(dtype).flatten(0, 1)).view(B, T, BAND, J)
    z = F.relu(dd + e.to(dtype)[:, :, None])
    logp = F.linear(z, joint.head.weight.to(dtype), joint.head.bias.to(dtype)).float().log_softmax(-1)
    token = F.pad(y, (0, 1)).gather(1, inside.flatten(1)).view(B, T, BAND, 1)
    loss = Lattice.apply(logp[..., BLANK], logp.gather(-1, token)[..., 0], lo, n, u)
    return loss / u.sum().clamp(min=1)


def along_path(model, logits, e, d, y, at, n):
    """Cross-entropy of a frame classifier (logits [batch, T, V]) and of the transducer along the one known path."""
    B, T, _ = logits.shape
    frame, known = torch.arange(T, device=e.device).expand(B, T).contiguous(), at < NEVER
    target = torch.where(frame < n[:, None], BLANK, -100)
    row = torch.arange(B, device=e.device)[:, None].expand_as(at)
    target[row[known], at[known]] = y[known]
    state = torch.searchsorted(at, frame)                                   # tokens before a frame
    after, where = torch.where(known, BLANK, -100), at.where(known, 0)
    weight = torch.ones(BLANK + 1, device=e.device)
    weight[BLANK] = .3
    J = d.shape[-1]
    path = model.joint(d.gather(1, state[..., None].expand(-1, -1, J)), e)
    rest = model.joint(d[:, 1:], e.gather(1, where[..., None].expand(-1, -1, J)))
    return (2 * F.cross_entropy(logits.flatten(0, 1), target.flatten(), weight=weight, ignore_index=-100, label_smoothing=.05)
            + F.cross_entropy(path.flatten(0, 1), target.flatten(), weight=weight, ignore_index=-100)
            + .1 * F.cross_entropy(rest.flatten(0, 1), after.flatten(), ignore_index=-100))
