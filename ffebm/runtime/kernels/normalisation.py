"""Normalisation over the batch, a layer, a group, an instance or neighbouring channels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.errors import UsageError
from ffebm.runtime.kernels.call import Call, Kernel, Together
from ffebm.runtime.kernels.dtypes import TORCH_DTYPES, axis_of


def batch_normalization(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Normalises each channel, in training over the batch; then gives the new running statistics too.

    The attribute `unbiased`, which ONNX does not have, makes the running variance torch's, by n - 1.
    """
    training = call.training or call.integer("training_mode") != 0
    if training and call.together is not None:
        return _normalised_together(call, call.together, x, scale, bias, mean, var)
    if training and x.numel() == x.shape[1]:
        raise UsageError(  # in torch's words
            f"Expected more than 1 value per channel when training, got input size {x.shape}",
            hint="leave out a last batch of one (drop_last=True), or run in eval()",
        )
    dtype = torch.promote_types(x.dtype, torch.promote_types(scale.dtype, mean.dtype))
    wide, scale, bias = x.to(dtype), scale.to(dtype), bias.to(dtype)
    if not x.numel():  # torch's own kernel divides by the size in its backward pass
        empty = _channelwise(wide, scale, bias).to(x.dtype)
        return (empty, mean, var) if training else empty
    old_mean, old_var = (None, None) if training else (mean.to(dtype), var.to(dtype))
    epsilon = call.number("epsilon", 1e-5)
    y, batch_mean, inverse = torch.native_batch_norm(
        wide, scale, bias, old_mean, old_var, training, 0.0, epsilon
    )
    if not training:
        return y.to(x.dtype)
    found = batch_mean.detach(), inverse.detach() ** -2 - epsilon, x.numel() // x.shape[1]
    return y.to(x.dtype), *_running(call, (mean, var), *found)


def _normalised_together(  # noqa: PLR0913 - the op's inputs
    call: Call, together: Together, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `batch_normalization` in training, over a batch of which other processes have their shares."""
    dtype = torch.promote_types(x.dtype, torch.promote_types(scale.dtype, mean.dtype))
    wide, axes = x.to(dtype), [0, *range(2, x.ndim)]
    values = x.numel() // max(1, x.shape[1])
    count = int(together(torch.tensor(values, dtype=torch.float64, device=x.device)))
    if count == 1:
        raise UsageError(
            f"Expected more than 1 value per channel when training, got input size {x.shape}",
            hint="leave out a last batch of one (drop_last=True), or run in eval()",
        )
    batch_mean = together(wide.sum(axes)) / count
    centred = wide - _per_channel(batch_mean, x)
    batch_var = together(centred.square().sum(axes)) / count
    inverse = torch.rsqrt(batch_var + call.number("epsilon", 1e-5))
    y = _channelwise(centred * _per_channel(inverse, x), scale.to(dtype), bias.to(dtype))
    return y.to(x.dtype), *_running(call, (mean, var), batch_mean.detach(), batch_var.detach(), count)


def _running(
    call: Call, before: tuple[Tensor, Tensor], mean: Tensor, var: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """The new running mean and variance, from those of a batch with so many values a channel."""
    old_mean, old_var = before
    if call.integer("unbiased"):
        var = var * (count / max(1, count - 1))
    keep = call.number("momentum", 0.9)
    new_mean, new_var = old_mean * keep + mean * (1 - keep), old_var * keep + var * (1 - keep)
    return new_mean.to(old_mean.dtype), new_var.to(old_var.dtype)


def group_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalises groups of channels; scale and bias are per channel, before opset 21 per group."""
    groups = call.integer("num_groups")
    channels = x.shape[1]
    if scale.numel() == groups:
        scale, bias = (p.repeat_interleave(channels // groups) for p in (scale, bias))
    grouped = x.reshape(x.shape[0], groups, -1)
    y = _standardised(call, grouped, [-1]).reshape(x.shape)
    return _channelwise(y, scale, bias).to(x.dtype)


def instance_normalization(call: Call, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalises each channel of each sample."""
    return _channelwise(_standardised(call, x, range(2, x.ndim)), scale, bias).to(x.dtype)


def layer_normalization(
    call: Call, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises over the last axes; also gives mean and inverse deviation."""
    axes = list(range(axis_of(call.integer("axis", -1), x.ndim), x.ndim))
    wide = x.to(TORCH_DTYPES[call.integer("stash_type", 1)]) if x.element_size() < 4 else x
    mean = wide.mean(axes, keepdim=True)
    centred = wide - mean
    inverse = torch.rsqrt(centred.square().mean(axes, keepdim=True) + call.number("epsilon", 1e-5))
    y = (centred * inverse).to(x.dtype) * scale
    return (y if bias is None else y + bias), mean, inverse


def local_response_normalization(call: Call, x: Tensor) -> Tensor:
    """Divides by a power of the mean square over neighbouring channels."""
    size = call.integer("size")
    squares = functional.pad(
        x.square().reshape(x.shape[0], 1, x.shape[1], -1), (0, 0, (size - 1) // 2, size // 2)
    )
    mean = functional.avg_pool2d(squares, (size, 1), stride=1).reshape(x.shape)
    base = call.number("bias", 1.0) + call.number("alpha", 1e-4) * mean
    return x / base ** call.number("beta", 0.75)


def lp_normalization(call: Call, x: Tensor) -> Tensor:
    """Divides by the Lp norm along the axis; a zero vector stays zero."""
    norm = torch.linalg.vector_norm(x, call.integer("p", 2), call.integer("axis", -1), keepdim=True)
    return torch.where(norm == 0, 0, x / torch.where(norm == 0, 1, norm))


def mean_variance_normalization(call: Call, x: Tensor) -> Tensor:
    """Subtracts the mean and divides by the deviation over the axes."""
    axes = call.integers("axes", (0, 2, 3))
    deviation = torch.sqrt(x.var(axes, correction=0, keepdim=True))
    return (x - x.mean(axes, keepdim=True)) / (deviation + 1e-9)


def rms_normalization(call: Call, x: Tensor, scale: Tensor) -> Tensor:
    """Divides by the root mean square over the last axes."""
    axes = list(range(axis_of(call.integer("axis", -1), x.ndim), x.ndim))
    wide = x.to(TORCH_DTYPES[call.integer("stash_type", 1)]) if x.element_size() < 4 else x
    mean_square = wide.square().mean(axes, keepdim=True)
    return (wide * torch.rsqrt(mean_square + call.number("epsilon", 1e-5))).to(x.dtype) * scale


def _standardised(call: Call, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Zero mean and unit variance over the axes."""
    centred = x - x.mean(list(axes), keepdim=True)
    variance = centred.square().mean(list(axes), keepdim=True)
    return centred * torch.rsqrt(variance + call.number("epsilon", 1e-5))


def _channelwise(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return x * _per_channel(scale, x) + _per_channel(bias, x)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1 for _ in x.shape[2:]))


NORMALISATION: dict[str, Kernel] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": local_response_normalization,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
