"""The training-time forward pass, the folded input scale, the tokenizer and the band loss against plain references."""
import ctypes
import itertools
import math
import subprocess

import numpy as np
import torch

import lattice
import model as M
from export import between, tokenizer


def features():
    """Three rows of raw features with zero padding, and their lengths."""
    torch.manual_seed(1)
    n = torch.tensor([130, 97, 64])
    x = torch.randn(3, 130, 80) * 3 - 8
    for i, k in enumerate(n):
        x[i, k:] = 0
    return x, n


def test_tokenizer_round_trip():
    t = tokenizer()
    for text in ("", "hello", "it's half past nine o'clock"):
        assert t.encode(text).ids == M.tokens(text)
        assert M.text_of(M.tokens(text)) == text


def test_encoder_equals_the_stock_encoder_with_folded_input():
    ours = M.build(dim=32, layers=2, channels=8, pred=16).eval()
    stock = M.build(dim=32, layers=2, channels=8, pred=16).eval()
    stock.load_state_dict(M.fold_input(ours.state_dict()))
    x, n = features()
    for look in M.LOOKAHEADS:
        with torch.no_grad():
            o = stock.encoder(input_features=x.clone(), attention_mask=torch.arange(130)[None] < n[:, None],
                              num_lookahead_tokens=look)
            h, m = M.encode(ours, x, n, look, torch.float32)
        assert o.attention_mask.sum(-1).tolist() == m.tolist() == M.frames_out(n).tolist()
        for i, k in enumerate(m):
            assert torch.allclose(o.last_hidden_state[i, :k], h[i, :k], atol=2e-5)


def test_half_way_is_the_mean_with_what_was_exported(tmp_path):
    from safetensors.torch import save_file
    torch.manual_seed(3)
    old, new = M.build().state_dict(), M.build().state_dict()
    save_file({k: v.contiguous() for k, v in M.fold_input(old).items()}, tmp_path / "model.safetensors")
    mean = between(new, tmp_path)
    assert mean.keys() == new.keys()
    for k, v in mean.items():
        expected = (old[k] + new[k]) / 2 if v.is_floating_point() else new[k]
        torch.testing.assert_close(v, expected, atol=1e-4, rtol=1e-4, msg=k)


def test_the_input_scale_folds_and_unfolds():
    s = M.build(dim=32, layers=1, channels=8, pred=16).state_dict()
    again = M.unfold_input(M.fold_input(s))
    assert all(torch.allclose(v, again[k], atol=1e-6) for k, v in s.items())


def test_own_backward_passes():
    torch.manual_seed(2)
    x = torch.randn(2, 7, 3, dtype=torch.double, requires_grad=True)
    w, b = torch.randn(4, 3, dtype=torch.double, requires_grad=True), torch.randn(3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(M.Depthwise1d.apply, (x, w, b))
    y = torch.randn(2, 9, 7, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(M.Patches.apply, (y,))
    assert torch.autograd.gradcheck(M.Patches.apply, (y[:, :8],))           # an even number of rows: the last is not seen
    for more in (0, 1):
        assert torch.autograd.gradcheck(M.Skew.apply, (torch.randn(1, 2, 4, 7 + more, dtype=torch.double, requires_grad=True),))


def all_paths(blank, emit, T, U):
    """-log of the sum over all transducer paths, one by one."""
    total = []
    for at in itertools.combinations_with_replacement(range(T), U):        # the frame of every token
        s, u = 0., 0
        for t in range(T):
            while u < U and at[u] == t:
                s += emit[t, u]
                u += 1
            s += blank[t, u]
        total.append(s)
    return -np.logaddexp.reduce(total)


def test_band_loss_is_the_sum_over_all_paths():
    rng = np.random.default_rng(3)
    blank, emit = -rng.random((1, 6, 5)) * 3, -rng.random((1, 6, 5)) * 3
    loss, db, de = lattice.forward_backward(blank, emit, np.zeros((1, 6), int), np.array([5]), np.array([3]))
    assert math.isclose(loss[0], all_paths(blank[0], emit[0], 5, 3), rel_tol=1e-9)
    for grad, part in ((db, blank), (de, emit)):
        for t, u in itertools.product(range(6), range(3)):
            part[0, t, u] += 1e-5
            more = lattice.forward_backward(blank, emit, np.zeros((1, 6), int), np.array([5]), np.array([3]))[0][0]
            part[0, t, u] -= 1e-5
            assert abs((more - loss[0]) / 1e-5 - grad[0, t, u]) < 1e-3


def test_band_follows_the_known_times():
    at = list(range(2, 42))
    lo = lattice.band_start(torch.tensor([at, [7] + [lattice.NEVER] * 39]), torch.tensor([40, 1]), 60).numpy()
    assert lo[0, 0] == 0 and lo[0, -1] + lattice.BAND - 1 == 40 and max(np.diff(lo[0])) <= 1
    for t in range(60):
        known = sum(a < t for a in at)
        assert lo[0, t] <= known <= lo[0, t] + lattice.BAND - 1
    assert not lo[1].any()


def test_the_gpu_kernel_computes_the_same(tmp_path):
    """lattice.cu as plain C: this machine need not have a GPU."""
    before = """#include <math.h>
#define __global__
#define __device__
static struct { int x; } blockIdx, blockDim = {32}, threadIdx;
"""
    after = """
void all(const float *blank, const float *emit, const int *lo, const int *n, const int *u, double *alpha, float *loss, float *db,
         float *de, int rows, int frames) {
  for (int i = 0; i < rows; i++) {
    blockIdx.x = i / 32, threadIdx.x = i % 32;
    band(blank, emit, lo, n, u, alpha, loss, db, de, rows, frames);
  }
}
"""
    source, library = tmp_path / "lattice.c", tmp_path / "lattice.so"
    body = lattice.kernel_source().replace('extern "C" ', "")
    source.write_text(before + body + after)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    rng, T, n, u = np.random.default_rng(4), 50, np.array([50, 31, 8], np.int32), np.array([40, 20, 0], np.int32)
    at = np.full((3, 40), lattice.NEVER)
    for i, k in enumerate(u):
        at[i, :k] = np.sort(rng.choice(n[i] - 4, k, replace=False)) + 1
    lo = lattice.band_start(torch.from_numpy(at), torch.from_numpy(u), T).numpy().astype(np.int32)
    blank, emit = (-rng.random((3, T, 14), np.float32) * 6 for _ in range(2))
    alpha, loss, db, de = np.zeros((3, T, 14)), np.zeros(3, np.float32), np.zeros((3, T, 14), np.float32), np.zeros((3, T, 14), np.float32)
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (blank, emit, lo, n, u, alpha, loss, db, de)]
    ctypes.CDLL(str(library)).all(*pointers, 3, T)
    wanted = lattice.forward_backward(blank.astype(float), emit.astype(float), lo, n, u)
    for got, want in zip((loss, db, de), wanted):
        assert np.abs(got - want).max() < 1e-4
