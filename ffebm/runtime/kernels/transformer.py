"""Ops of com.microsoft that onnxruntime's optimiser writes in transformers."""

from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.errors import ModelError
from ffebm.runtime.kernels.call import Call, Kernel, with_optional

MASKED = -10000.0
"""What onnxruntime adds to the scores of hidden keys, unless the model says otherwise."""


def multi_head_attention(call: Call, query: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of many heads, with the keys and values of earlier runs; also gives all keys and values.

    Args:
        call: Has the number of heads.
        query: [batch, time, heads * size].
        rest: Key and value of that form or [batch, heads, keys, size]; bias of all three; mask of keys;
            numbers to add to the scores; keys and values of earlier runs.
    """
    key, value, bias, mask, added, past_key, past_value, length, beams = with_optional(rest, 9)
    if query.ndim != 3 or key is None or value is None or length is not None or beams is not None:
        raise ModelError(
            f"{call.op}: packed queries, shared buffers or beams",
            allowed="query, key and value apart, [batch, time, heads * size]",
        )
    heads = call.integer("num_heads")
    if bias is not None:
        width = query.shape[-1]
        query = query + bias[:width]
        if key.ndim == 3:
            key = key + bias[width : width + key.shape[-1]]
            value = value + bias[width + key.shape[-1] :]
    query, key, value = (x if x.ndim == 4 else _heads(x, heads) for x in (query, key, value))
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    scale = call.number("scale") or 1 / sqrt(query.shape[-1])
    scores = (query @ key.mT) * scale + _hidden(call, mask, scores_like=query, n_keys=key.shape[2])
    if added is not None:
        scores = scores + added
    y = torch.softmax(scores, -1) @ value
    return y.transpose(1, 2).flatten(2), key, value


def _hidden(call: Call, mask: Tensor | None, *, scores_like: Tensor, n_keys: int) -> Tensor:
    """What hides keys: numbers to add to the scores, broadcast to [batch, heads, queries, keys]."""
    query = scores_like
    (n, _, n_queries, _), dtype = query.shape, query.dtype
    filtered = call.number("mask_filter_value", MASKED)
    total = torch.zeros(1, 1, 1, n_keys, dtype=dtype, device=query.device)
    if mask is not None:
        seen = _seen(call, mask, n, n_keys)
        total = total + torch.where(seen, 0.0, filtered).to(dtype)
    if call.integer("unidirectional"):
        later = torch.arange(n_keys, device=query.device) - (n_keys - n_queries)
        future = later > torch.arange(n_queries, device=query.device).unsqueeze(1)
        total = total.masked_fill(future, torch.finfo(dtype).min)
    return total


def _seen(call: Call, mask: Tensor, n: int, n_keys: int) -> Tensor:
    """Which keys a mask shows: by sample, by key, or by query and key."""
    keys = torch.arange(n_keys, device=mask.device)
    if mask.ndim == 1 and mask.shape[0] in (n, 2 * n):
        end = mask[:n].reshape(-1, 1, 1, 1)
        start = mask[n:].reshape(-1, 1, 1, 1) if mask.shape[0] == 2 * n else torch.zeros_like(end)
        return (keys >= start) & (keys < end)
    if mask.ndim == 2:
        return mask.reshape(n, 1, 1, n_keys) > 0
    if mask.ndim == 3:
        return mask.unsqueeze(1) > 0
    raise ModelError(
        f"{call.op}: a mask of shape {list(mask.shape)}",
        allowed="[batch], [2 * batch], [batch, keys] or [batch, queries, keys]",
    )


def _heads(x: Tensor, count: int) -> Tensor:
    """[batch, time, heads * size] -> [batch, heads, time, size]."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def embed_layer_normalization(
    call: Call, ids: Tensor, segments: Tensor | None, words: Tensor, positions: Tensor, *rest: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised sum of embeddings; also the number of words of each sample, and the sum."""
    segment_table, gamma, beta, mask, where = with_optional(rest, 5)
    assert gamma is not None
    assert beta is not None
    at = torch.arange(ids.shape[1], device=ids.device) if where is None else where.long()
    total = words[ids.long()] + positions[at]
    if segments is not None and segment_table is not None:
        total = total + segment_table[segments.long()]
    y = functional.layer_norm(total, gamma.shape, gamma, beta, call.number("epsilon", 1e-12))
    count = torch.zeros(ids.shape[0], dtype=torch.int32, device=ids.device)
    if mask is not None:
        count = (mask > 0).sum(1, dtype=torch.int32)
    return y, count, total


TRANSFORMER: dict[str, Kernel] = {
    "com.microsoft.EmbedLayerNormalization": embed_layer_normalization,
    "com.microsoft.MultiHeadAttention": multi_head_attention,
}
