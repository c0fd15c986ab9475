"""The functional form of torch's ops that write: another schema, sometimes with other argument names."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch


@dataclass(frozen=True)
class Functional:
    """The op that computes what another one writes.

    Attributes:
        target: The overload that makes new values and writes nothing.
        names: Its name for each argument of the op that writes, where it takes that argument.
        written: The argument that the other op writes.
        defaults: What that op takes for arguments that are left out, where this one takes something else.
    """

    target: Any
    names: dict[str, str]
    written: str
    defaults: dict[str, object]

    def arguments(self, given: dict[str, object]) -> dict[str, object]:
        """Arguments of this op for those of the other one."""
        return {self.names[k]: v for k, v in {**self.defaults, **given}.items() if k in self.names}


@cache
def functional_of(target: Any) -> Functional | None:
    """The functional form of an op that writes one tensor: its first argument, or one named `out`.

    Args:
        target: An overload of torch whose schema is mutable.

    Returns:
        The form; None if the op writes something else, or torch has no form that takes the same arguments.
    """
    schema = target._schema
    written = [a.name for a in schema.arguments if _is_written(a)]
    outs = {a.name for a in schema.arguments if a.is_out}
    in_place = schema.name.endswith("_") and written == [schema.arguments[0].name]
    if len(written) != 1 or not (in_place or set(written) == outs):
        return None

    taken = [a for a in schema.arguments if a.name not in outs]
    for overload in _candidates(schema, in_place=in_place):
        names = _named(taken, overload._schema.arguments)
        if names is not None and [_kind(made) for made in overload._schema.returns] == ["Tensor"]:
            return Functional(overload, names, written[0], _unlike(taken, overload._schema.arguments, names))
    return None


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _candidates(schema: Any, *, in_place: bool) -> list[Any]:
    """Overloads that write nothing, the one of the same name first."""
    space, name = schema.name.split("::")
    if in_place:  # add_, __iadd__
        name = f"__{name.removeprefix('__i')}" if name.startswith("__i") else name.removesuffix("_")
    made = (getattr(getattr(torch.ops, space), key, None) for key in (name, f"{name}_functional"))
    packets = [packet for packet in made if packet is not None]
    first = schema.overload_name or "default"
    overloads = [
        getattr(packet, o)
        for packet in packets
        for o in sorted(packet.overloads(), key=lambda o: (o != first, o))
    ]
    return [overload for overload in overloads if not overload._schema.is_mutable]


def _named(taken: list[Any], arguments: list[Any]) -> dict[str, str] | None:
    """Which argument is which: by name and type; the tensor that is left on both sides is the same one."""
    theirs = {a.name: a for a in arguments}
    names = {a.name: a.name for a in taken if a.name in theirs and _kind(a) == _kind(theirs[a.name])}
    ours = [a for a in taken if a.name not in names]
    free = [a for a in arguments if a.name not in names.values() and not a.has_default_value()]
    if len(ours) == len(free) == 1 and _kind(ours[0]) == _kind(free[0]) == "Tensor":
        return {**names, ours[0].name: free[0].name}
    return None if ours or free else names


def _unlike(taken: list[Any], arguments: list[Any], names: dict[str, str]) -> dict[str, object]:
    """Defaults of `taken` that are not those of the same arguments in the other schema."""
    theirs = {a.name: a for a in arguments}
    return {
        a.name: a.default_value
        for a in taken
        if a.has_default_value()
        and not (
            theirs[names[a.name]].has_default_value()
            and theirs[names[a.name]].default_value == a.default_value
        )
    }


def _kind(value: Any) -> str:
    """A type of a schema, without what it says of memory."""
    return str(value.real_type if hasattr(value, "real_type") else value.type)
