"""Reads the text form of a graph; `graph/text.py` writes it and says what it looks like."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeVar

import ml_dtypes  # noqa: F401 -- numpy then knows bfloat16 by name
import msgspec
import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.graph.energy_block import (
    DEFAULT_PHYSICS,
    Activation,
    EnergyBlock,
    Interaction,
    Layer,
    Linear,
    Pool,
    Rearrangement,
    Relaxed,
)
from ffebm.graph.graph import Attr, Graph, Node, Part, Place, Stage
from ffebm.graph.tensor import Array, Dim, TensorType
from ffebm.graph.text import digest

_Parsed = TypeVar("_Parsed")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_NAME = re.compile(rf"{_STRING}|[A-Za-z_/%][A-Za-z0-9_./%\-]*")
_FLOAT = r"(?:inf|nan|[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)"
_NUMBER = re.compile(rf"[+-]?{_FLOAT}(?:[+-]{_FLOAT}j)?(?![A-Za-z0-9_.])")
_SIZE = re.compile(rf"[0-9]+|{_STRING}|[A-Za-wyz_][A-Za-wyz_0-9]*")
_DTYPE = re.compile(r"[a-z][a-z0-9_]*(?=\[)")
_DIGEST = re.compile(r"#([0-9a-f]{16})")
_REST = re.compile(r"[^\n]*")
_LAYOUTS = {"Reshape", "Transpose"}
_POOLS = {"MaxPool", "AveragePool"}


def parse(text: str, arrays: Iterable[Array] = (), name: str = "text") -> Graph:
    """Read a graph from its text form.

    Args:
        text: As `str(graph)` writes it.
        arrays: Values of the constants that stand as a digest, in any order.
        name: What messages call the text.

    Raises:
        UsageError: With the line, if the text is no graph, or or if the values of a constant are missing.
    """
    reader = _Parser(text, {digest(array): array for array in arrays}, name)
    graph = reader.graph()
    reader.skip_lines()
    if not reader.is_at_end:
        reader.fail("one graph, and nothing after it")
    return graph


class _Parser:
    """Reads from left to right; what it expects next decides how it reads."""

    def __init__(self, text: str, arrays: Mapping[str, Array], name: str) -> None:
        self._text = text
        self._arrays = arrays
        self._name = name
        self._at = 0

    # --- characters ----------------------------------------------------------------------------------

    @property
    def is_at_end(self) -> bool:
        """Nothing is left."""
        return self._at >= len(self._text)

    def fail(self, allowed: str) -> NoReturn:
        """Refuse what stands here."""
        line = self._text.count("\n", 0, self._at) + 1
        match = _REST.match(self._text, self._at)
        found = match.group()[:40] if match else ""
        raise UsageError(
            f"{found!r} stands here" if found else "the line ends here",
            allowed=allowed,
            location=Location(self._name, f"line {line}"),
        )

    def skip_lines(self) -> None:
        """Go on behind spaces and line breaks."""
        while self._at < len(self._text) and self._text[self._at] in " \n":
            self._at += 1

    def has(self, literal: str) -> bool:
        """Take a literal if it stands here; a word ends where it ends."""
        self._skip()
        end = self._at + len(literal)
        goes_on = literal[-1:].isalpha() and self._text[end : end + 1].isalnum()
        if not self._text.startswith(literal, self._at) or goes_on:
            return False
        self._at = end
        return True

    def need(self, literal: str) -> None:
        """Take a literal that must stand here."""
        if not self.has(literal):
            self.fail(repr(literal))

    def take(self, pattern: re.Pattern[str], allowed: str) -> str:
        """Take what a pattern matches, which must stand here."""
        self._skip()
        match = pattern.match(self._text, self._at)
        if match is None:
            self.fail(allowed)
        self._at = match.end()
        return match.group()

    def _skip(self) -> None:
        while self._text.startswith(" ", self._at):
            self._at += 1

    # --- words ---------------------------------------------------------------------------------------

    def name(self) -> str:
        """A name, bare or as a JSON string."""
        return self._unquoted(self.take(_NAME, "a name"))

    def string(self) -> str:
        """A JSON string."""
        return self._unquoted(self.take(re.compile(_STRING), "a text in quotes"))

    def whole(self) -> int:
        """A whole number."""
        return int(self.take(re.compile(r"-?[0-9]+"), "a whole number"))

    def number(self) -> bool | int | float | complex | str:
        """A number, a truth value or a text."""
        if self._peek('"'):
            return self.string()
        for word, value in (("true", True), ("false", False)):
            if self.has(word):
                return value
        text = self.take(_NUMBER, "a number")
        if text.endswith("j"):
            return complex(text)
        return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else float(text)

    def _decimal(self) -> float:
        return float(self.take(re.compile(r"[+-]?([0-9.]+(e[+-]?[0-9]+)?|inf)"), "a number"))

    def listed(self, opens: str, closes: str, item: Callable[[], _Parsed]) -> list[_Parsed]:
        """Items between brackets, parted by commas."""
        self.need(opens)
        found: list[_Parsed] = []
        while not self.has(closes):
            if found:
                self.need(",")
            found.append(item())
        return found

    def _peek(self, literal: str) -> bool:
        self._skip()
        return self._text.startswith(literal, self._at)

    def _unquoted(self, text: str) -> str:
        if not text.startswith('"'):
            return text
        try:
            return str(json.loads(text))
        except json.JSONDecodeError:
            self.fail("a text in quotes as JSON has it")

    # --- types and arrays ----------------------------------------------------------------------------

    def tensor_type(self) -> TensorType:
        """An element type with its shape."""
        dtype = self.take(_DTYPE, "a type as float32[2x3]")
        self.need("[")
        if self.has("?"):
            self.need("]")
            return TensorType(dtype)
        sizes: list[Dim] = []
        while not self.has("]"):
            if sizes:
                self.take(re.compile("x"), "an x between sizes")
            size = self.take(_SIZE, "a size")
            sizes.append(int(size) if size.isdigit() else self._unquoted(size))
        return TensorType(dtype, tuple(sizes))

    def typed(self, types: dict[str, TensorType]) -> str:
        """A name, and its type if it has one."""
        name = self.name()
        if self.has(":"):
            types[name] = self.tensor_type()
        return name

    def array(self, held: TensorType, name: str) -> Array:
        """The elements of an array, or the value that goes with its digest."""
        shape = tuple(size for size in held.shape or () if isinstance(size, int))
        if self._peek("#"):
            wanted = self.take(_DIGEST, "a digest of 16 digits")[1:]
            given = self._arrays.get(wanted)
            if given is None or (str(given.dtype), given.shape) != (held.dtype, shape):
                raise UsageError(
                    f"no values of {held.dtype}{list(shape)} and digest {wanted} for constant {name!r}",
                    allowed="the model that the text was written for, or a text with all values",
                    location=Location(self._name),
                )
            return given
        items = self.listed("[", "]", self.number) if self._peek("[") else [self.number()]
        try:
            return np.array(items, np.dtype(held.dtype) if held.dtype != "object" else object).reshape(shape)
        except (TypeError, ValueError, OverflowError):
            self.fail(f"{held.dtype} of shape {list(shape)}")

    # --- the graph -----------------------------------------------------------------------------------

    def graph(self) -> Graph:
        """A graph down to its end, or to the brace that closes a subgraph."""
        self.skip_lines()
        self.need("graph")
        graph = Graph(self.name())
        graph.inputs = self.listed("(", ")", self.name)
        self.need("->")
        graph.outputs = self.listed("(", ")", self.name)
        self.need("at")
        stage = self.take(_NAME, "a stage")
        if stage not in Stage.__members__:
            self.fail(f"a stage, one of {', '.join(Stage.__members__)}")
        graph.stage = Stage[stage]
        graph.scattered = self.has("scattered")
        graph.source = self.string() if self.has("from") else ""
        self.has("{")

        self.skip_lines()
        while not self.is_at_end and not self._peek("}"):
            self._statement(graph)
            self.skip_lines()
        return graph

    def _statement(self, graph: Graph) -> None:
        start = self._at
        for word, read in (
            ("note", self._note), ("input", self._input), ("weight", self._constant),
            ("constant", self._constant), ("part", self._part),
        ):  # fmt: skip
            # a value may bear such a name: then a mark of its own follows
            if self.has(word):
                if self._peek(":") or self._peek("=") or self._peek(","):
                    break
                read(graph, word)
                return
        self._at = start
        if re.compile(r"block[0-9]+ \(").match(self._text, start):
            self._block(graph)
        else:
            graph.nodes.append(self._node(graph))

    def _note(self, graph: Graph, _: str) -> None:
        graph.notes.append(self.string())

    def _input(self, graph: Graph, _: str) -> None:
        self.typed(graph.types)

    def _constant(self, graph: Graph, mark: str) -> None:
        name = self.typed(graph.types)
        self.need("=")
        graph.constants[name] = self.array(graph.types[name], name)
        if mark == "weight":
            graph.trainable.add(name)

    def _part(self, graph: Graph, _: str) -> None:
        weight = self.name()
        self.need("group")
        group = self.whole()
        self.need("inputs")
        inputs = self._range()
        self.need("outputs")
        outputs = self._range()
        bundle, turn, replica = (self._field(key) for key in ("bundle", "turn", "replica"))
        turned = self.has("transposed")
        part = Part(weight, group, inputs, outputs, bundle, turn, replica, turned)
        graph.parts[weight] = (*graph.parts.get(weight, ()), part)
        if self.has("on"):
            tile, row, col = (self._field(key) for key in ("tile", "row", "col"))
            graph.places[part] = Place(tile, row, col)

    def _range(self) -> tuple[int, int]:
        first = self.whole()
        self.need(":")
        return first, self.whole()

    def _field(self, key: str) -> int:
        self.need(key)
        return self.whole()

    def _node(self, graph: Graph) -> Node:
        outputs = [self.typed(graph.types)]
        while self.has(","):
            outputs.append(self.typed(graph.types))
        self.need("=")
        node = Node(self.name(), outputs[0], self.listed("(", ")", self.name), outputs)
        while not (self.is_at_end or self._peek("\n") or self._peek("#")):
            self._node_field(node, graph.source)
        if self.has("#"):
            self._decision(node)
        return node

    def _node_field(self, node: Node, source: str) -> None:
        key = self.name()
        if key == "named" and self._peek('"'):
            node.name = self.string()
        elif key == "from" and self._peek('"'):
            where = self.string()
            node.location = Location(self.string() if self.has("of") else source, where)
        else:
            self.need("=")
            node.attrs[key] = self._attr()

    def _decision(self, node: Node) -> None:
        node.unit = self.name()
        node.group = self.name() if self.has("in") else ""
        node.block = self.whole() if self.has("block") else None
        self.need(":")
        rest = self.take(_REST, "a reason")
        node.reason = self._unquoted(rest)

    def _attr(self) -> Attr:
        if re.compile(r"graph [A-Za-z_/%\"]").match(self._text, self._at):
            graph = self.graph()
            self.need("}")
            return graph
        if self._peek("["):
            return tuple(self.listed("[", "]", self.number))  # type: ignore[return-value] # of one kind
        if _DTYPE.match(self._text, self._at):
            held = self.tensor_type()
            return self.array(held, "")
        return self.number()  # type: ignore[return-value] # no attribute is complex

    # --- energy blocks -------------------------------------------------------------------------------

    def _block(self, graph: Graph) -> None:
        number = int(self.take(re.compile(r"block[0-9]+"), "a block").removeprefix("block"))
        inputs = self.listed("(", ")", self.name)
        self.need("->")
        outputs = self.listed("(", ")", self.name)
        group = self.name() if self.has("in") else ""
        physics = self.name() if self.has("physics") else DEFAULT_PHYSICS
        feedback = self._decimal() if self.has("feedback") else 1.0
        relaxed = self._relaxed() if self.has("relaxed") else None
        layers = []
        while re.compile(r"\n +\S[^\n]*\}\(").match(self._text, self._at):
            self.skip_lines()
            layers.append(self._layer())
        ends = tuple(inputs), tuple(layers), tuple(outputs)
        graph.blocks.append(EnergyBlock(number, *ends, group, physics, relaxed, feedback))

    def _relaxed(self) -> Relaxed:
        needs = self._decimal(), self._decimal()
        return Relaxed(*needs, self._decimal(), self._decimal()) if self.has("nudged") else Relaxed(*needs)

    def _layer(self) -> Layer:
        value = self.name()
        self.need(":")
        shape = self._shape()
        self.need("=")
        activation = self._struct(Activation, self.name())
        interactions: list[Interaction] = []
        biases: list[str] = []
        self.need("(")
        while not self.has(")"):
            if interactions or biases:
                self.need("+")
            term = self._term()
            if isinstance(term, str):
                biases.append(term)
            else:
                interactions.append(term)
        return Layer(value, shape, activation, tuple(interactions), tuple(biases))

    def _term(self) -> Interaction | str:
        """An interaction from the outside in, or the name of a bias."""
        name = self.name()
        if not self._peek("{"):
            return name
        after: list[Rearrangement] = []
        while name in _LAYOUTS:
            after.append(self._struct(Rearrangement, name))
            self.need("(")
            name = self.name()
        pool = self._struct(Pool, name) if name in _POOLS else None
        if pool is not None:
            self.need("(")
            name = self.name()
        read, linear_shape = self._linear(name)
        for _ in range(len(after) + (pool is not None)):
            self.need(")")
        return msgspec.structs.replace(
            read, linear_shape=linear_shape, pool=pool, after=tuple(reversed(after))
        )

    def _linear(self, op: str) -> tuple[Interaction, tuple[int, ...]]:
        """The linear map with what it reads, and its shape."""
        fields = self._named_fields()
        self.need("(")
        before: list[Rearrangement] = []
        source = self.name()
        while source in _LAYOUTS and self._peek("{"):
            before.append(self._struct(Rearrangement, source))
            self.need("(")
            source = self.name()
        self.need(":")
        shape = self._shape()
        for _ in before:
            self.need(")")
        linear = None
        if op != "Identity":
            self.need(",")
            weight = self.name()
            bias = self.name() if self.has(",") else None
            linear = self._made(Linear, {"op": op, "weight": weight, "bias": bias, **fields})
        self.need(")")
        self.need(":")
        found = Interaction(source, shape, (), tuple(reversed(before)), linear)
        return found, self._shape()

    def _shape(self) -> tuple[int, ...]:
        if self.has("scalar"):
            return ()
        text = self.take(re.compile(r"[0-9]+(?:x[0-9]+)*"), "sizes as 3x8x8")
        return tuple(map(int, text.split("x")))

    def _struct(self, kind: type[_Struct], op: str) -> _Struct:
        return self._made(kind, {"op": op, **self._named_fields()})

    def _named_fields(self) -> dict[str, object]:
        return dict(self.listed("{", "}", self._named_field))

    def _named_field(self) -> tuple[str, object]:
        key = self.name()
        self.need("=")
        return key, self._attr()

    def _made(self, kind: type[_Struct], fields: Mapping[str, object]) -> _Struct:
        """A part of a block, its fields checked."""
        known = {field.name for field in msgspec.structs.fields(kind)}
        try:
            if not fields.keys() <= known:
                raise msgspec.ValidationError(f"unknown {min(fields.keys() - known)!r}")
            return msgspec.convert(fields, kind)
        except msgspec.ValidationError as error:
            self.fail(f"{kind.__name__}: {error}")
