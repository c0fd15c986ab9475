"""Ops of torch that have no ONNX name: torch runs them itself, with the arguments that the model recorded.

An instruction holds an argument under its name in torch's schema: a plain value, or `%n` for its n-th input;
in a list, `%n`, `%none` or a number. `train.NAME` is what the argument is while the network trains.
"""

from collections.abc import Callable
from functools import cache, reduce
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import ModelError
from ffebm.runtime.kernels.call import Call

TRAIN = "train."
"""Prefix of what an argument is while the network trains."""


def torch_op(call: Call, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """Run an op by its name in torch, `namespace.name.overload`."""
    overload = _overload(call.op)
    schema = overload._schema.arguments
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
    return _tensors(overload(*args, **named))


@cache
def _overload(op: str) -> Any:
    namespace, *path = op.split(".")
    try:
        return reduce(getattr, path, getattr(torch.ops, namespace))
    except AttributeError:
        raise ModelError(
            f"no torch op is named {op!r}",
            hint="import the package that registers it, or take the torch that compiled the plan",
        ) from None


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


def _device(call: Call) -> torch.device:
    return torch.device("cpu") if call.generator is None else call.generator.device


_DECODERS: dict[str, Callable[[str, Call], object]] = {
    "ScalarType": lambda text, _: getattr(torch, text),
    "MemoryFormat": lambda text, _: getattr(torch, text),
    "Layout": lambda text, _: getattr(torch, text),
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
