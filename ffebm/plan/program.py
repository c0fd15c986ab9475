"""What a digital unit runs: instructions in order, as plain data."""

import msgspec

Number = int | float | str | bool


class Instruction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One digital operation.

    Attributes:
        op: ONNX op name, or a torch op.
        name: The node's name.
        inputs: Value names; empty where an optional input is left out.
        outputs: Value names; empty where an optional output is left out.
        attrs: Plain attributes.
        tensors: Attributes that are tensors, by their name in `weights.safetensors`.
        graphs: Attributes that are subgraphs.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Number | tuple[Number, ...]] = {}
    tensors: dict[str, str] = {}
    graphs: dict[str, "Program"] = {}


class Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Instructions in order, from inputs to outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    instructions: tuple[Instruction, ...]


class Segment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Digital nodes that run together, between energy blocks."""

    id: int
    program: Program


def values_read(instruction: Instruction) -> set[str]:
    """Every value that an instruction reads, those of its subgraphs included."""
    read = {name for name in instruction.inputs if name}
    for program in instruction.graphs.values():
        made = {*program.inputs, *(o for i in program.instructions for o in i.outputs)}
        inner = {name for i in program.instructions for name in values_read(i)} | set(program.outputs)
        read |= inner - made
    return read
