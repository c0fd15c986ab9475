"""The text form of a graph: all that passes decide, written so that it can be read back.

    graph mlp (x) -> (h) at PLACED from "mlp.onnx"
      input x: float32[Nx3]
      weight w: float32[3x2] = #5d41402abc4b2a76
      constant c: float32[] = 0.5
      h: float32[Nx2] = MatMul(x, w) named "/fc/MatMul" from "/fc/MatMul"  # tile in tiles block 0: linear
      block0 (x) -> (h) in tiles
        h: 2 = Identity{}(MatMul{}(x: 3, w): 2)
      part w group 0 inputs 0:3 outputs 0:2 on tile 0 row 0 col 0

A name stands bare where it is a word, and as a JSON string elsewhere. A constant of at most `SHOWN` elements
stands in full; a larger one as the start of its digest, and `graph/parse.py` then asks for its values.
Attributes stand in full.

Here stand the texts of names, types, numbers and energy blocks; `Graph` and its nodes put them together.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from ffebm.errors import Location
from ffebm.graph.energy_block import DEFAULT_PHYSICS, EnergyBlock, Interaction, Rearrangement, Relaxed
from ffebm.graph.tensor import Array, PlainAttr, TensorType, holds_floats

SHOWN = 16
"""Most elements of an array that stands in full."""
WORD = re.compile(r"[A-Za-z_/%][A-Za-z0-9_./%\-]*\Z")
"""A name that stands bare."""
_DIM_WORD = re.compile(r"[A-Za-wyz_][A-Za-wyz_0-9]*\Z")
"""The name of a size that stands bare: an x parts sizes."""


def name_text(name: str) -> str:
    """A name as it stands in the text form."""
    return name if WORD.match(name) else json.dumps(name)


def type_text(held: TensorType | None) -> str:
    """A type behind the name of its value; empty if it is unknown."""
    if held is None:
        return ""
    sizes = None if held.shape is None else "x".join(_dim_text(size) for size in held.shape)
    return f": {held.dtype}[{'?' if sizes is None else sizes}]"


def array_text(array: Array, shown: int = SHOWN) -> str:
    """The elements of a small array, or the start of the digest of a large one."""
    if array.size > shown:
        return f"#{digest(array)}"
    flat = array.reshape(-1)
    if holds_floats(array):  # the shortest digits that name the number in its own type
        plain = flat.astype(np.float32) if array.dtype.name == "bfloat16" else flat
        items = [str(item) for item in plain]
    else:
        items = [_number_text(item) for item in flat.tolist()]
    return items[0] if array.shape == () else f"[{', '.join(items)}]"


def digest(array: Array) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of an array's bytes."""
    return hashlib.sha256(bytes_of(array)).hexdigest()[:16]


def bytes_of(array: Array) -> memoryview:
    """The bytes of an array, in the order of its elements, without a copy where they lie like that."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _dim_text(size: int | str) -> str:
    return str(size) if isinstance(size, int) or _DIM_WORD.match(size) else json.dumps(size)


def names_text(names: Iterable[str]) -> str:
    """Names in parentheses."""
    return f"({', '.join(name_text(name) for name in names)})"


def _number_text(value: object) -> str:
    """A number so that reading it gives the same bits; a text as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, complex):
        return f"{value.real!r}{'-' if str(value.imag).startswith('-') else '+'}{abs(value.imag)!r}j"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def location_text(location: Location | None, source: str) -> str:
    """Where a node came from; the source stands only where it is not the graph's own."""
    if location is None:
        return ""
    other = "" if location.source == source else f" of {json.dumps(location.source)}"
    return f" from {json.dumps(location.node)}{other}"


def attr_text(value: PlainAttr) -> str:
    """An attribute that is no graph."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{'x'.join(map(str, value.shape))}] {array_text(value, value.size)}"
    if isinstance(value, tuple):
        return f"[{', '.join(_number_text(item) for item in value)}]"
    return _number_text(value)


def block_lines(block: EnergyBlock) -> Iterator[str]:
    """An energy block as it stands in the text of its graph: its head, and one line a layer."""
    group = f" in {name_text(block.group)}" if block.group else ""
    physics = "" if block.physics == DEFAULT_PHYSICS else f" physics {name_text(block.physics)}"
    relaxed = "" if block.relaxed is None else f" relaxed {_relaxed_text(block.relaxed)}"
    feedback = "" if block.feedback == 1 else f" feedback {block.feedback!r}"
    head = f"block{block.id} {names_text(block.inputs)} -> {names_text(block.outputs)}"
    yield f"{head}{group}{physics}{feedback}{relaxed}"
    for layer in block.layers:
        terms = [_interaction_text(interaction) for interaction in layer.interactions]
        drive = " + ".join([*terms, *map(name_text, layer.biases)])
        sigma = f"{layer.activation.op}{_fields(layer.activation)}"
        yield f"  {name_text(layer.value)}: {_shape_text(layer.shape)} = {sigma}({drive})"


def _relaxed_text(needs: Relaxed) -> str:
    text = f"{needs.time_constants!r} {needs.siemens!r}"
    if needs.before_nudge is None or needs.nudged is None:
        return text
    return f"{text} nudged {needs.before_nudge!r} {needs.nudged!r}"


def _interaction_text(interaction: Interaction) -> str:
    """From the inside out: the source, layout, the linear map, the pooling, layout."""
    text = f"{name_text(interaction.source)}: {_shape_text(interaction.source_shape)}"
    for layout in interaction.before:
        text = _rearrangement_text(layout, text)

    linear = interaction.linear
    if linear is None:
        text = f"Identity{{}}({text})"
    else:
        bias = "" if linear.bias is None else f", {name_text(linear.bias)}"
        text = f"{linear.op}{_fields(linear, 'weight', 'bias')}({text}, {name_text(linear.weight)}{bias})"
    text += f": {_shape_text(interaction.linear_shape)}"

    if interaction.pool is not None:
        text = f"{interaction.pool.op}{_fields(interaction.pool)}({text})"
    for layout in interaction.after:
        text = _rearrangement_text(layout, text)
    return text


def _rearrangement_text(layout: Rearrangement, inner: str) -> str:
    return f"{layout.op}{_fields(layout)}({inner})"


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _fields(part: msgspec.Struct, *left_out: str) -> str:
    """The fields of a part that are not at their defaults, besides its op."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(part)}
    shown = {
        name: getattr(part, name)
        for name in part.__struct_fields__
        if name not in {"op", *left_out} and getattr(part, name) != defaults[name]
    }
    return f"{{{', '.join(f'{name}={attr_text(value)}' for name, value in shown.items())}}}"
