"""Attention and what goes with it: rotary positions, linear attention, causal convolution with a state."""

from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel, with_optional
from ffebm.runtime.kernels.dtypes import torch_dtype


def attention(
    call: Call, query: Tensor, key: Tensor, value: Tensor, *rest: Tensor | None
) -> tuple[Tensor, ...]:
    """Scaled dot-product attention with grouped heads, masks, a key-value cache and a sliding window."""
    mask, past_key, past_value, filled = with_optional(rest, 4)
    packed = query.ndim == 3
    if packed:
        query = _heads(query, call.integer("q_num_heads"))
        key = _heads(key, call.integer("kv_num_heads"))
        value = _heads(value, call.integer("kv_num_heads"))
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    before = 0 if past_key is None else past_key.shape[2]
    bias = _attention_bias(call, query, key.shape[2], before, mask, filled)
    weights, shown = _attention_weights(call, query, _shared(key, query), bias)
    y = weights @ _shared(value, query)
    return (_joined(y) if packed else y), key, value, shown


def _attention_weights(call: Call, query: Tensor, key: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of each key for each query, and the stage of its computation that is asked for."""
    scale = sqrt(call.number("scale", 1 / sqrt(query.shape[-1])))
    scores = (query * scale) @ (key * scale).transpose(-1, -2)
    cap = call.number("softcap")
    capped = cap * torch.tanh(scores / cap) if cap > 0 else scores
    biased = capped + bias
    precision = torch_dtype(call.integer("softmax_precision")) if "softmax_precision" in call.attrs else None
    unseen = torch.isneginf(bias).all(-1, keepdim=True)
    weights = torch.softmax(torch.where(unseen, 0, biased), -1, dtype=precision)
    weights = torch.where(unseen, 0, weights).to(query.dtype)
    stages = (scores, capped, biased, weights)
    return weights, stages[call.integer("qk_matmul_output_mode")]


def _attention_bias(
    call: Call, query: Tensor, n_keys: int, before: int, mask: Tensor | None, filled: Tensor | None
) -> Tensor:
    """What is added to the scores: the mask, and minus infinity where a query may not look."""
    n_queries = query.shape[2]
    bias = torch.zeros(n_queries, n_keys, dtype=query.dtype, device=query.device)
    if mask is not None:
        bias = bias + _additive(mask, n_keys, query.dtype)
    offset = torch.full((1, 1, 1, 1), before, device=query.device)
    keys = torch.arange(n_keys, device=query.device)
    seen = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=query.device)
    if filled is not None:
        lengths = filled.reshape(-1, 1, 1, 1)
        offset = lengths - n_queries if before == 0 else offset
        seen = seen & (keys < lengths)
    distance = torch.arange(n_queries, device=query.device).unsqueeze(1) + offset - keys
    left, right = call.integer("left_window_size", -1), call.integer("right_window_size", -1)
    if call.integer("is_causal"):
        seen = seen & (distance >= 0)
    if left >= 0:
        seen = seen & (distance <= left)
    if right >= 0:
        seen = seen & (-distance <= right)
    return torch.where(seen, bias, -torch.inf)


def _additive(mask: Tensor, n_keys: int, dtype: torch.dtype) -> Tensor:
    """A mask as numbers to add, covering all keys."""
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    return functional.pad(mask, (0, n_keys - mask.shape[-1]), value=-torch.inf)


def _heads(x: Tensor, count: int) -> Tensor:
    """[batch, time, heads * size] -> [batch, heads, time, size]."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """[batch, heads, time, size] -> [batch, time, heads * size]."""
    return x.transpose(1, 2).flatten(2)


def _shared(x: Tensor, query: Tensor) -> Tensor:
    """Each key or value head once for every query head that uses it."""
    return x.repeat_interleave(query.shape[1] // x.shape[1], dim=1)


def causal_conv_with_state(
    call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Depthwise convolution over the past only, whose last elements are the next call's state."""
    n_past = weight.shape[-1] - 1
    history = functional.pad(x, (n_past, 0)) if past is None else torch.cat([past, x], 2)
    y = functional.conv1d(history, weight, bias, groups=x.shape[1])
    if call.text("activation", "none") in ("silu", "swish"):
        y = functional.silu(y)
    return y, history[:, :, history.shape[2] - n_past :]


def flex_attention(call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention whose scores and probabilities may each pass through a subgraph."""
    scale = sqrt(call.number("scale", 1 / sqrt(query.shape[-1])))
    wide = torch.promote_types(query.dtype, torch.float32)
    precision = torch_dtype(call.integer("softmax_precision")) if "softmax_precision" in call.attrs else wide
    scores = ((query * scale) @ (_shared(key, query) * scale).transpose(-1, -2)).to(precision)
    if "score_mod" in call.graphs:
        (scores,) = call.graphs["score_mod"](scores)
    weights = torch.softmax(scores, -1)
    if "prob_mod" in call.graphs:
        (weights,) = call.graphs["prob_mod"](weights)
    return (weights @ _shared(value, query).to(precision)).to(value.dtype)


def linear_attention(
    call: Call, query: Tensor, key: Tensor, value: Tensor, *rest: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention by a matrix state that each step decays, corrects and writes to."""
    past, decay, beta = with_optional(rest, 3)
    n_heads = call.integer("kv_num_heads")
    q = _heads(query, call.integer("q_num_heads"))
    k, v = _heads(key, n_heads), _heads(value, n_heads)
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    keep = None if decay is None else _heads(decay, n_heads).to(wide).exp()
    rate = None if beta is None else _heads(beta, beta.shape[-1]).to(wide)
    state = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1]) if past is None else past.to(wide)
    outputs = []
    for t in range(q.shape[2]):
        written = v[:, :, t]
        if keep is not None:
            state = state * keep[:, :, t].unsqueeze(-1)
        if rate is not None:
            recalled = torch.einsum("bhkv,bhk->bhv", state, k[:, :, t])
            written = rate[:, :, t] * (written - recalled)
        state = state + k[:, :, t].unsqueeze(-1) * written.unsqueeze(-2)
        outputs.append(torch.einsum("bhkv,bhk->bhv", _shared(state, q), q[:, :, t]))
    scale = call.number("scale") or 1 / sqrt(q.shape[-1])
    y = _joined(torch.stack(outputs, 2) * scale).to(query.dtype)
    return y, state.to(query.dtype if past is None else past.dtype)


def rotary_embedding(
    call: Call, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None
) -> Tensor:
    """Rotates pairs of elements by an angle that grows with the position."""
    packed = x.ndim == 3
    y = _heads(x, call.integer("num_heads")) if packed else x
    size = call.integer("rotary_embedding_dim") or y.shape[-1]
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    turned, kept = y[..., :size], y[..., size:]
    if call.integer("interleaved"):
        a, b = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([cos * a - sin * b, sin * a + cos * b], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        turned = torch.cat([cos * a - sin * b, sin * a + cos * b], -1)
    y = torch.cat([turned, kept], -1)
    return _joined(y) if packed else y


ATTENTION: dict[str, Kernel] = {
    "Attention": attention,
    "CausalConvWithState": causal_conv_with_state,
    "LinearAttention": linear_attention,
    "RotaryEmbedding": rotary_embedding,
    "ai.onnx.preview.FlexAttention": flex_attention,
}
