"""Journey: gradients -> OPTIMIZER and learning-rate SCHEDULE -> train.py."""
import math

import torch

from model import fast_type


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for matrices; the size of an update matches AdamW. Learns faster than AdamW alone.

    Orthogonalising takes as long as a quarter of the backward pass on a CPU, so it is done in every third step, three times as
    far.
    """
    EVERY = 3

    def __init__(self, params, lr, momentum=.95, weight_decay=.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        """One update; matrices of one shape are orthogonalised together (5 Newton-Schulz rounds)."""
        for g in self.param_groups:
            g["turn"] = (g.get("turn", 0) + 1) % self.EVERY
            ps = [p for p in g["params"] if p.grad is not None]
            ms = [self.state[p].setdefault("m", torch.zeros_like(p)) for p in ps]
            torch._foreach_lerp_(ms, [p.grad for p in ps], 1 - g["momentum"])
            if g["turn"]:
                continue
            shapes = {}
            for p, m in zip(ps, ms):
                shapes.setdefault(tuple(p.flatten(1).shape), []).append((p, m))
            for shape, pairs in shapes.items():
                ps, ms = zip(*pairs)
                us = [u.flatten(1) for u in torch._foreach_lerp([p.grad for p in ps], ms, g["momentum"])]
                x = torch.stack(us)
                tall = shape[0] > shape[1]
                x = x.mT if tall else x
                x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(fast_type(x.device))
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
                x = (x.mT if tall else x).float()
                torch._foreach_mul_(ps, 1 - self.EVERY * g["lr"] * g["weight_decay"])
                torch._foreach_add_(ps, [u.reshape(p.shape) for p, u in zip(ps, x)],
                                    alpha=-self.EVERY * g["lr"] * .2 * math.sqrt(max(shape)))


def optimizers(model, ctc, lr, muon):
    """[AdamW for all small tensors, Muon for the matrices of the encoder layers]; each group keeps its "peak" rate."""
    mats = [p for k, p in model.named_parameters()
            if k.startswith("encoder.layers") and p.dim() >= 2 and min(p.flatten(1).shape) >= 32]
    mine = {id(p) for p in mats}
    other = [p for p in model.parameters() if id(p) not in mine] + list(ctc.parameters())
    out = [torch.optim.AdamW(other, lr=lr, betas=(.9, .98), weight_decay=.01, fused=True), Muon(mats, muon)]
    for o, peak in zip(out, (lr, muon)):
        for g in o.param_groups:
            g["peak"] = peak
    return out


def rate(now, decay_from, stop):
    """Share of the peak rate: stable, then a straight line down to 1 % between decay_from and stop (steps or seconds)."""
    return 1. if now < decay_from else max(.01, (stop - now) / max(1, stop - decay_from))


def warm_up(done, warm=100):
    """Share of the rate for the first steps of new optimizers."""
    return min(1., (done + 1) / warm)
