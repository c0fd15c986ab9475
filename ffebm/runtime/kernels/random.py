"""Random numbers, from the call's generator."""

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import torch_dtype


def bernoulli(call: Call, x: Tensor) -> Tensor:
    """One with the probability that x gives."""
    drawn = torch.rand(x.shape, generator=call.generator, device=x.device) < x
    return drawn.to(_dtype(call, x.dtype))


def dropout(
    call: Call, x: Tensor, ratio: Tensor | None = None, training_mode: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """In training, zeroes elements at random and scales up the others; also gives what was kept."""
    rate = call.number("ratio", 0.5) if ratio is None else float(ratio)
    training = call.training or (training_mode is not None and bool(training_mode))
    if not training or rate == 0:
        return x if call.n_outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))
    keep = torch.rand(x.shape, generator=call.generator, device=x.device) >= rate
    return torch.where(keep, x / (1 - rate), 0), keep


def multinomial(call: Call, x: Tensor) -> Tensor:
    """Draws classes from rows of log probabilities."""
    call.check_size((len(x), call.integer("sample_size", 1)))
    drawn = torch.multinomial(
        torch.softmax(x, 1), call.integer("sample_size", 1), replacement=True, generator=call.generator
    )
    return drawn.to(torch_dtype(call.integer("dtype", 6)))


def random_normal(call: Call) -> Tensor:
    """Normal numbers of a given shape."""
    call.check_size(call.integers("shape"))
    return _normal(call, call.integers("shape"), torch_dtype(call.integer("dtype", 1)), torch.device("cpu"))


def random_normal_like(call: Call, x: Tensor) -> Tensor:
    """Normal numbers in the shape of x."""
    return _normal(call, x.shape, _dtype(call, x.dtype), x.device)


def random_uniform(call: Call) -> Tensor:
    """Uniform numbers of a given shape."""
    call.check_size(call.integers("shape"))
    return _uniform(call, call.integers("shape"), torch_dtype(call.integer("dtype", 1)), torch.device("cpu"))


def random_uniform_like(call: Call, x: Tensor) -> Tensor:
    """Uniform numbers in the shape of x."""
    return _uniform(call, x.shape, _dtype(call, x.dtype), x.device)


def _dtype(call: Call, default: torch.dtype) -> torch.dtype:
    return torch_dtype(call.integer("dtype")) if "dtype" in call.attrs else default


def _normal(call: Call, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    drawn = torch.randn(shape, generator=call.generator, device=device)
    return (drawn * call.number("scale", 1.0) + call.number("mean")).to(dtype)


def _uniform(call: Call, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    low, high = call.number("low"), call.number("high", 1.0)
    return (torch.rand(shape, generator=call.generator, device=device) * (high - low) + low).to(dtype)


RANDOM: dict[str, Kernel] = {
    "Bernoulli": bernoulli,
    "Dropout": dropout,
    "Multinomial": multinomial,
    "RandomNormal": random_normal,
    "RandomNormalLike": random_normal_like,
    "RandomUniform": random_uniform,
    "RandomUniformLike": random_uniform_like,
}
