"""Arguments of ONNX ops in digital programs: as many inputs and of the types that ONNX's own schemas say."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from ffebm.plan.program import Instruction

KERNEL_OPSET = 20
"""The opset that the kernels implement; what newer ones add, they take as well."""
NEWEST = 2**31 - 1


@cache
def schemas(op: str) -> tuple[Any, ...]:
    """What ONNX says of an op in the opset of the kernels and in its newest; empty for ops of our own."""
    import onnx  # a plan of torch's ops needs none of it

    domain, _, name = op.rpartition(".")
    found = []
    for version in (KERNEL_OPSET, NEWEST):
        try:
            found.append(onnx.defs.get_schema(name, version, domain))
        except onnx.defs.SchemaError:
            continue
    return tuple(found)


def onnx_argument_problems(instruction: Instruction) -> Iterator[str]:
    """Arguments of an ONNX op that may not be, as text."""
    known = schemas(instruction.op)
    if not known:
        return
    where = f"instruction {instruction.name!r} ({instruction.op})"
    least, most = min(s.min_input for s in known), max(s.max_input for s in known)
    if not least <= len(instruction.inputs) <= most:
        yield f"{where} has {len(instruction.inputs)} inputs; {_range(least, most)}"
    least, most = min(s.min_output for s in known), max(s.max_output for s in known)
    if not least <= len(instruction.outputs) <= most:
        yield f"{where} has {len(instruction.outputs)} outputs; {_range(least, most)}"
    kinds: dict[str, set[str]] = {}
    for schema in known:
        for name, attribute in schema.attributes.items():
            kinds.setdefault(name, set()).add(attribute.type.name)
    for name, value in _arguments(instruction):
        if name in kinds and not any(_fits(value, kind) for kind in kinds[name]):
            allowed = " or ".join(sorted(kind.lower() for kind in kinds[name]))
            yield f"{where} takes no {value!r} for {name}, which is {allowed}"
    given = {name for name, _ in _arguments(instruction)}
    needed = [{n for n, a in schema.attributes.items() if a.required} for schema in known]
    for name in sorted(set.intersection(*needed) - given):
        yield f"{where} lacks {name}"


def _range(least: int, most: int) -> str:
    if most >= NEWEST:
        return f"at least {least}"
    return f"{least} to {most}" if least < most else f"{least}"


def _arguments(instruction: Instruction) -> Iterator[tuple[str, object]]:
    """Each with what it is: a plain value, "a tensor" or "a graph" as themselves."""
    yield from instruction.attrs.items()
    yield from ((name, _TENSOR) for name in instruction.tensors)
    yield from ((name, _GRAPH) for name in instruction.graphs)


class _Held:
    """Something that an attribute holds beside plain values."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


_TENSOR, _GRAPH = _Held("a tensor"), _Held("a graph")


def _fits(value: object, kind: str) -> bool:
    """Whether a value can stand for an attribute of a type.

    Tensors also hold numbers that JSON lacks, and lists that are long.
    """
    if value is _GRAPH:
        return kind == "GRAPH"
    if value is _TENSOR:
        return kind in {"TENSOR", "FLOAT", "FLOATS", "INTS"}
    if isinstance(value, tuple):
        single = kind.removesuffix("S")
        return kind in {"INTS", "FLOATS", "STRINGS"} and all(_fits(item, single) for item in value)
    if isinstance(value, str):
        return kind == "STRING"
    if isinstance(value, int):
        return kind == "FLOAT" or (kind == "INT" and -(2**63) <= value < 2**63)
    return isinstance(value, float) and kind == "FLOAT"
