"""Ops of torch that have no ONNX name: torch runs them itself, with the arguments that the model recorded.

An instruction holds an argument under its name in torch's schema: a plain value, or `%n` for its n-th input;
in a list, `%n`, `%none` or a number. `train.NAME` is what the argument is while the network trains.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import ModelError
from ffebm.limits import VALUE_ELEMENTS
from ffebm.plan.torch_ops import DTYPES, TRAIN, op_problem, overload
from ffebm.runtime.kernels.call import Call

UNFOLD_BACKWARD = "aten.unfold_backward.default"
"""The inverse of cutting into windows: what a write through such a view becomes."""


def torch_op(call: Call, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Run an op by its name in torch, `namespace.name.overload`."""
    function = _function(call.op)
    schema = function._schema.arguments
    makes_anew = not any("Tensor" in str(argument.real_type) for argument in schema)
    given: dict[str, Any] = {**call.attrs, **{name: held.item() for name, held in call.tensors.items()}}
    if call.training:
        given.update((n.removeprefix(TRAIN), v) for n, v in list(given.items()) if n.startswith(TRAIN))
    args: list[Any] = []
    named: dict[str, Any] = {}
    for argument in schema:
        if argument.name in given:
            value = _decoded(given[argument.name], str(argument.real_type), inputs, call)
        elif argument.name == "device":
            value = _device(call) if makes_anew else None
        else:
            value = argument.default_value
        if argument.kwarg_only:
            named[argument.name] = value
        else:
            args.append(value)
    if call.op == UNFOLD_BACKWARD:
        _check_windows(*args)
    if makes_anew:
        _check_size(call.op, function(*args, **{**named, "device": "meta"}))
    result = _tensors(function(*args, **named))
    return torch.zeros_like(result) if isinstance(result, Tensor) and _is_stray(call.op) else result


@cache
def _function(op: str) -> Any:
    """The overload; one that may not run is refused here too, whoever made the plan."""
    problem = op_problem(op)
    if problem:
        raise ModelError(
            problem, hint="import the package that registers it, or take the torch that compiled the plan"
        )
    return overload(op)


def _check_size(op: str, made: Tensor) -> None:
    """Nothing a few bytes ask for takes all memory."""
    VALUE_ELEMENTS.check(made.numel(), f"{op} makes {made.numel():,} elements")


def _check_windows(windows: Tensor, sizes: Sequence[int], dim: int, size: int, step: int) -> None:
    """The sum of windows into what they were cut from; torch does not look whether they could be."""
    source = torch.empty(tuple(sizes), device="meta")
    if source.unfold(dim, size, step).shape != windows.shape:
        raise ModelError(f"{UNFOLD_BACKWARD} of windows {list(windows.shape)} into {list(sizes)}")


def _is_stray(op: str) -> bool:
    """Whether an op returns whatever lay in memory before."""
    return op.split(".")[1].removeprefix("new_").startswith("empty")


def _decoded(value: object, kind: str, inputs: tuple[Tensor, ...], call: Call) -> object:
    """An argument as torch takes it; `kind` is its type in the schema."""
    if isinstance(value, tuple):
        return [_decoded(item, kind, inputs, call) for item in value]
    if not isinstance(value, str):
        return value
    if value == "%none":
        return None
    if value.startswith("%"):
        operand = inputs[int(value[1:])]
        return operand if "Tensor" in kind else operand.item()
    for name, decode in _DECODERS.items():
        if name in kind:
            return decode(value, call)
    return value


_WORDS: dict[str, Any] = {
    **{name: getattr(torch, name) for name in sorted(DTYPES)},
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
    "contiguous_format": torch.contiguous_format,
    "preserve_format": torch.preserve_format,
    "strided": torch.strided,
}
"""Element types, formats and layouts by their names."""


def _device(call: Call) -> torch.device:
    return torch.device("cpu") if call.generator is None else call.generator.device


_DECODERS: dict[str, Callable[[str, Call], object]] = {
    "ScalarType": lambda text, _: _WORDS[text],
    "MemoryFormat": lambda text, _: _WORDS[text],
    "Layout": lambda text, _: _WORDS[text],
    "Device": lambda _, call: _device(call),
    "Int": lambda text, _: int(text),
    "int": lambda text, _: int(text),
}
"""How a text is read that stands for an argument of a type."""


def _tensors(result: object) -> Tensor | tuple[Tensor, ...]:
    """A result as tensors; sizes become tensors of their own."""
    if isinstance(result, Tensor):
        return result
    if result is None:
        return torch.empty(0)
    if isinstance(result, tuple | list):
        return tuple(part for item in result for part in _as_tuple(_tensors(item)))
    return torch.tensor(result)


def _as_tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)
