"""Journey: features [batch, frames, 80] -> MODEL (stock NemotronAsrStreamingForRNNT, 3.4 M parameters) -> characters.

The weights belong to the stock transformers model; only the training-time forward pass is ours (`encode`), because it takes
about half the CPU time of the stock one: weights and activations in bfloat16 (fast_type), positions projected once and not per row,
no transposes around the pointwise convolutions. tests/ check that both give the same numbers.

Features stay raw, as the stock extractor gives them. In training the first convolution sees (x - MEAN) / SCALE; `fold_input`
moves this into its weight and bias for the export. Padding is raw 0 in both, so the fold is exact at the borders too.
"""
import torch
import torch.nn.functional as F
from transformers import NemotronAsrStreamingConfig, NemotronAsrStreamingEncoderConfig, NemotronAsrStreamingForRNNT

MARK = "\u2581"                                                     # stands in front of every word
TOKENS = ["<unk>", MARK, "'"] + [chr(c) for c in range(97, 123)] + ["<blank>"]
BLANK = len(TOKENS) - 1
IDS = {t: i for i, t in enumerate(TOKENS)}
MEAN, SCALE = -10., 4.
LOOKAHEADS = [0, 1, 3, 6, 13]
LEFT = 70                                                           # frames of left context (sliding_window - 1)
FRAME_MS = 40


def tokens(text):
    """Text -> token ids: one per character, the word mark for each space and in front."""
    return [IDS[MARK if c == " " else c] for c in (" " + text if text else "")]


def text_of(ids):
    """Token ids -> text."""
    return "".join(TOKENS[i] for i in ids).replace(MARK, " ").strip()


def build(dim=144, layers=6, channels=32, pred=160):
    """A new stock model with the usual torch start values (the stock ones, std 0.02, train far slower)."""
    encoder = NemotronAsrStreamingEncoderConfig(
        hidden_size=dim, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=4 * dim, dropout=0., layerdrop=0.,
        subsampling_conv_channels=channels, subsampling_factor=4, num_mel_bins=80, activation_dropout=0.,
        attention_dropout=0., scale_input=False, default_num_lookahead_tokens=6)
    model = NemotronAsrStreamingForRNNT(NemotronAsrStreamingConfig(
        vocab_size=len(TOKENS), blank_token_id=BLANK, pad_token_id=0, decoder_hidden_size=pred, num_decoder_layers=1,
        encoder_config=encoder))
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.LSTM)):
            module.reset_parameters()
    return model


def fold_input(state):
    """The state dictionary for raw features: w' = w / SCALE, b' = b - MEAN / SCALE * sum(w)."""
    s, p = dict(state), "encoder.subsampling.conv_in."
    w = s[p + "weight"].double()
    s[p + "bias"] = (s[p + "bias"].double() - MEAN / SCALE * w.sum((1, 2, 3))).float()
    s[p + "weight"] = (w / SCALE).float()
    return s


def unfold_input(state):
    """The other way round: from the exported weights back to those of the training."""
    s, p = dict(state), "encoder.subsampling.conv_in."
    w = s[p + "weight"].double() * SCALE
    s[p + "bias"] = (s[p + "bias"].double() + MEAN / SCALE * w.sum((1, 2, 3))).float()
    s[p + "weight"] = w.float()
    return s


def frames_out(n):
    """Encoder frames for n feature frames (int or tensor): two causal convolutions of stride 2."""
    return (n // 2 + 1) // 2 + 1


def linear(x, m):
    """A linear layer (or a convolution of width 1) in the type of x."""
    w = m.weight.flatten(1)
    return F.linear(x, w.to(x.dtype), None if m.bias is None else m.bias.to(x.dtype))


def norm(x, m, dtype):
    """Layer norm in float32."""
    return F.layer_norm(x, x.shape[-1:], m.weight, m.bias, m.eps).to(dtype)


class Patches(torch.autograd.Function):
    """What a 3 x 3 convolution of stride 2 sees, channels last; the library's backward pass is several times slower."""

    @staticmethod
    def forward(ctx, x):
        """x [batch, 2T + 1, 2N + 1, C] padded (the last row and column may be missing) -> [batch, T, N, 9 C]."""
        ctx.shape, x = x.shape, x.contiguous()
        B, R, S, C = x.shape
        T, N = (R - 3) // 2 + 1, (S - 3) // 2 + 1
        return x.as_strided((B, T, N, 3, 3 * C), (R * S * C, 2 * S * C, 2 * C, S * C, 1)).reshape(B, T, N, 9 * C)

    @staticmethod
    def backward(ctx, g):
        """The gradient of x."""
        C, gx = ctx.shape[3], g.new_zeros(ctx.shape)
        T, N = g.shape[1:3]
        for i in range(9):
            gx[:, i // 3:i // 3 + 2 * T - 1:2, i % 3:i % 3 + 2 * N - 1:2] += g[..., i * C:(i + 1) * C]
        return gx


class Depthwise1d(torch.autograd.Function):
    """Causal depthwise convolution, channels last, float32."""

    @staticmethod
    def forward(ctx, x, w, bias):
        """x [batch, T, C], w [K, C] -> [batch, T, C]."""
        K, T = len(w), x.shape[1]
        x = F.pad(x, (0, 0, K - 1, 0))
        y = bias + x[:, :T] * w[0]
        for k in range(1, K):
            y.addcmul_(x[:, k:k + T], w[k])
        ctx.save_for_backward(x, w)
        return y

    @staticmethod
    def backward(ctx, g):
        """Gradients of x, w and the bias."""
        (x, w), g = ctx.saved_tensors, g.contiguous()
        K, T, gx, gw = len(w), g.shape[1], torch.zeros_like(x), []
        for k in range(K):
            gx[:, k:k + T].addcmul_(g, w[k])
            gw.append((g * x[:, k:k + T]).flatten(0, 1).sum(0))
        return gx[:, K - 1:], torch.stack(gw), g.flatten(0, 1).sum(0)


class Skew(torch.autograd.Function):
    """Relative scores [heads, batch, T, R >= 2T - 1] -> [heads, batch, T, T]: row i begins i places further left. No copy."""

    @staticmethod
    def view(d):
        """The shifted view of a contiguous tensor."""
        H, B, T, R = d.shape
        return d.as_strided((H, B, T, T), (B * T * R, T * R, R - 1, 1), T - 1)

    @staticmethod
    def forward(ctx, d):
        """See the class."""
        ctx.shape = d.shape
        return Skew.view(d.contiguous())

    @staticmethod
    def backward(ctx, g):
        """Gradients back in their places."""
        z = g.new_zeros(ctx.shape)
        Skew.view(z).copy_(g)
        return z


def silence(h, n):
    """ReLU, and zeros behind the n valid frames of each row: [batch, T, mel, C], changed in place."""
    inside = torch.arange(h.shape[1], device=h.device) < n[:, None]
    return F.relu(h.mul_(inside.to(h.dtype)[:, :, None, None]))


def subsample(s, x, n, dtype):
    """[batch, frames, 80] raw features, zero behind n -> [batch, frames / 4, dim]; channels last inside.

    Each depthwise convolution is multiplied into the pointwise one behind it: one matrix product over patches.
    """
    x = ((F.pad(x, (2, 1, 2, 1)) - MEAN) / SCALE).to(dtype)
    n = n // 2 + 1
    h = silence(linear(Patches.apply(x[..., None]), s.conv_in), n)
    for layer in s.layers:
        n, point, deep = n // 2 + 1, layer.pointwise_conv, layer.depthwise_conv
        p = point.weight.flatten(1)
        w = (p[:, None] * deep.weight.flatten(1).t()).flatten(1)
        h = Patches.apply(F.pad(h, (0, 0, 2, 1, 2, 1)))
        h = silence(F.linear(h, w.to(dtype), (point.bias + p @ deep.bias).to(dtype)), n)
    N, C = h.shape[2:]
    w = s.linear.weight.view(-1, C, N).transpose(1, 2).flatten(1)          # the stock order is channels first
    return F.linear(h.flatten(2), w.to(dtype), s.linear.bias.to(dtype))


def positions(t, dim, device):
    """Sinusoids for the distances t-1 ... -(t-1), and a few more that nobody reads: [2t - 1 or a bit more, dim].

    A multiple of 8 rows: matrix products of odd sizes take twice as long on a GPU.
    """
    f = 1 / 10000 ** (torch.arange(0, dim, 2, device=device) / dim)
    a = torch.arange(t - 1, t - 1 - -(-(2 * t - 1) // 8) * 8, -1, device=device)[:, None] * f
    return torch.stack([a.sin(), a.cos()], -1).flatten(1)


def attend(a, x, pos, mask):
    """Self-attention with relative positions: x [batch, T, dim], pos [R >= 2T - 1, dim], mask [1, batch, T, T] (0 or -1e4).

    Heads come first inside, so that the scores of the positions are one matrix product a head.
    """
    B, T, C = x.shape
    H, D = a.bias_u.shape
    w = torch.cat([a.q_proj.weight * a.scaling, a.k_proj.weight, a.v_proj.weight]).to(x.dtype)
    b = torch.cat([a.q_proj.bias * a.scaling, a.k_proj.bias, a.v_proj.bias]).to(x.dtype)
    q, k, v = F.linear(x, w, b).view(B, T, 3, H, D).permute(2, 3, 0, 1, 4).contiguous()
    near, far = ((q + (bias * a.scaling)[:, None, None].to(x.dtype)) for bias in (a.bias_u, a.bias_v))
    p = linear(pos, a.relative_k_proj).view(-1, H, D).permute(1, 2, 0)
    d = Skew.apply((far.view(H, B * T, D) @ p).view(H, B, T, -1))
    s = near @ k.transpose(2, 3) + d + mask
    o = torch.softmax(s, -1) @ v
    return linear(o.permute(1, 2, 0, 3).flatten(2), a.o_proj)


def convolve(c, x):
    """The causal convolution module: [batch, T, dim] -> the same."""
    x = F.glu(linear(x, c.pointwise_conv1))
    w = c.depthwise_conv
    y = Depthwise1d.apply(x.float(), w.weight.flatten(1).t().contiguous(), w.bias)
    x = F.silu(norm(y, c.norm, x.dtype))
    return linear(x, c.pointwise_conv2)


def feed(f, x):
    """The feed-forward module."""
    return linear(F.silu(linear(x, f.linear1)), f.linear2)


def attention_mask(m, T, lookahead, dtype):
    """What each frame may see: chunks of lookahead + 1 frames, LEFT frames back, no padding; 0 or -1e4."""
    c = torch.arange(T, device=m.device) // (lookahead + 1)
    far = c[:, None] - c[None]
    see = (far >= 0) & (far <= LEFT // (lookahead + 1)) & (torch.arange(T, device=m.device) < m[:, None])[:, None]
    return torch.where(see, 0., -1e4).to(dtype)[None]


def fast_type(device):
    """bfloat16 where the hardware multiplies it; elsewhere that is emulated, and float32 is several times as fast."""
    return torch.bfloat16 if torch.device(device).type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def encode(model, x, n, lookahead, dtype=torch.bfloat16):
    """The encoder: raw features [batch, frames, 80] with n valid frames each -> (float32 [batch, T, dim], T of each row)."""
    e, m = model.encoder, frames_out(n)
    h = subsample(e.subsampling, x, n, dtype).float()
    T = h.shape[1]
    pos = positions(T, h.shape[2], h.device).to(dtype)
    mask = attention_mask(m, T, lookahead, dtype)
    for b in e.layers:
        h = h + .5 * feed(b.feed_forward1, norm(h, b.norm_feed_forward1, dtype))
        h = h + attend(b.self_attn, norm(h, b.norm_self_att, dtype), pos, mask)
        h = h + convolve(b.conv, norm(h, b.norm_conv, dtype))
        h = h + .5 * feed(b.feed_forward2, norm(h, b.norm_feed_forward2, dtype))
        h = norm(h, b.norm_out, torch.float32)
    return h, m


@torch.no_grad()
def greedy(model, h, n, max_symbols=10):
    """Batched RNN-T greedy search over encoder output h [batch, T, dim]: for each row the list of (token, frame)."""
    e, n, B, dev = model.encoder_projector(h), n.to(h.device), len(h), h.device
    H = model.config.decoder_hidden_size
    state = (torch.zeros(1, B, H, device=dev), torch.zeros(1, B, H, device=dev))

    def predict(token, state):
        o, s = model.decoder.lstm(model.decoder.embedding(token[:, None]), state)
        return model.decoder.decoder_projector(o)[:, 0], s

    d, state = predict(torch.full((B,), BLANK, device=dev), state)
    t = torch.zeros(B, dtype=torch.long, device=dev)
    symbols, rows = torch.zeros_like(t), torch.arange(B, device=dev)
    out = [[] for _ in range(B)]
    while bool((t < n).any()):
        k = model.joint(d, e[rows, t.clamp(max=e.shape[1] - 1)]).argmax(-1)
        emit = (k != BLANK) & (t < n) & (symbols < max_symbols)
        if bool(emit.any()):
            for i in emit.nonzero().flatten().tolist():
                out[i].append((int(k[i]), int(t[i])))
            d2, s2 = predict(k, state)
            d = torch.where(emit[:, None], d2, d)
            state = tuple(torch.where(emit[None, :, None], a, b) for a, b in zip(s2, state))
        symbols = torch.where(emit, symbols + 1, torch.zeros_like(symbols))
        t = torch.where(emit, t, t + 1)
    return out


def edits(a, b):
    """Edit distance of two sequences."""
    p = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        q = [i]
        for j, y in enumerate(b, 1):
            q.append(min(p[j] + 1, q[-1] + 1, p[j - 1] + (x != y)))
        p = q
    return p[-1]
