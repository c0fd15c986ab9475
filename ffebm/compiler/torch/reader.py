"""Reads the graph that torch.export recorded: ops keep torch's names, arguments are named, none is in place.

An argument stands in a node's attributes under its name in torch's schema; `%n` is the node's n-th input. An
op that writes in place becomes the op that makes a new value, and what shares its memory is read anew.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from ffebm.compiler.torch.regions import REGIONS
from ffebm.compiler.torch.views import Aliases, Named, NotInvertibleError
from ffebm.errors import Location, ModelError
from ffebm.graph.graph import Attr, Graph, Node
from ffebm.graph.tensor import Array, Dim, TensorType

CHECKS = frozenset(
    {
        "_assert_async",
        "_assert_scalar",
        "_assert_tensor_metadata",
        "sym_constrain_range",
        "sym_constrain_range_for_size",
    }
)
"""Ops that only check what export assumed."""
NUMBERS: dict[str, str] = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "floordiv": "Div", "mod": "Mod", "neg": "Neg", "pow": "Pow",
    "sym_max": "Max", "sym_min": "Min", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "sym_not": "Not", "and_": "And", "or_": "Or",
}  # fmt: skip
"""Arithmetic on sizes, by the name of Python's function, and the ONNX op that does it on tensors."""


Leaf = str | bool | int | float | None
"""What a model returns: a value's name, or a number that is always the same."""


@dataclass
class Reading:
    """What was read.

    Attributes:
        graph: The graph, with ops by torch's names.
        results: What the model returns, leaf by leaf.
        updates: Buffers that the model writes, and the value that each takes.
    """

    graph: Graph
    results: tuple[Leaf, ...] = ()
    updates: dict[str, str] = field(default_factory=dict)


class Copies:
    """Arrays of tensors, each copied once: both modes of a module hold the same weights."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[Tensor, Array]] = {}

    def of(self, tensor: Tensor, copy: Callable[[Tensor], Array]) -> Array:
        """The array of a tensor as it is now."""
        # the version counts what is written into a tensor; one made for inference alone has none
        key = id(tensor), 0 if tensor.is_inference() else tensor._version
        if key not in self._made:
            self._made[key] = tensor, copy(tensor)
        return self._made[key][1]


def read_program(program: ExportedProgram, name: str, copies: Copies | None = None) -> Reading:
    """Read an exported program.

    Args:
        program: The program.
        name: Of the model.
        copies: What was copied before.

    Raises:
        ModelError: If it holds something that cannot run node by node; all of it is listed.
        NotInvertibleError: If it writes in place through a view that cannot be inverted.
    """
    reader = _ProgramReader(program, name, copies or Copies())
    reader.read()
    return reader.reading


class _ProgramReader:
    """Reads the nodes of a program in order."""

    def __init__(self, program: ExportedProgram, name: str, copies: Copies) -> None:
        self.program = program
        self.copies = copies
        self.graph = Graph(name=name, source=name)
        self.reading = Reading(self.graph)
        self.aliases = Aliases(self)
        self.parts: dict[fx.Node, list[str]] = {}
        self.numbers: dict[fx.Node, object] = {}
        self.prefix = ""
        self.unknown: dict[str, list[str]] = {}
        self.symbols: dict[Any, Any] = {}

    # --- inputs and outputs --------------------------------------------------------------------------

    def read(self) -> None:
        """Read the whole program."""
        signature = self.program.graph_signature
        nodes = list(self.program.graph.nodes)
        placeholders = {node.name: node for node in nodes if node.op == "placeholder"}
        inputs = [(spec, placeholders[spec.arg.name]) for spec in signature.input_specs]
        owners: dict[int, str] = {}
        for spec, node in inputs:
            if spec.kind is not InputKind.USER_INPUT and spec.target is not None:
                self._hold(node, spec.target, owners)
        for spec, node in inputs:
            if spec.kind is InputKind.USER_INPUT:
                self._take(node)
        self.walk([node for node in nodes if node.op != "placeholder"])
        if self.unknown:
            listed = "; ".join(f"{op} ({', '.join(names)})" for op, names in sorted(self.unknown.items()))
            raise ModelError(
                f"ops that cannot run node by node: {listed}",
                hint="write them with plain tensor ops, or take them out of the model",
                location=Location(self.graph.source),
            )
        self._returns(nodes[-1])

    def _hold(self, node: fx.Node, target: str, owners: dict[int, str]) -> None:
        """A parameter, buffer or constant; tied ones have one owner, the first."""
        held = self.program.state_dict.get(target)
        tensor = self.program.constants.get(target) if held is None else held
        if not isinstance(tensor, Tensor):
            return
        owner = owners.setdefault(id(tensor), target)
        self.aliases.make(node, owner)
        if owner != target:
            self.graph.notes.append(f"{target} is {owner}: they are tied, one weight under both names")
            return
        self.graph.constants[owner] = self.copies.of(tensor, partial(self._array, name=owner))
        self.graph.types[owner] = self.type_of(tensor)
        if isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad:
            self.graph.trainable.add(owner)

    def _array(self, tensor: Tensor, name: str) -> Array:
        if tensor.dtype == torch.bfloat16:
            bits = tensor.detach().cpu().contiguous().view(torch.int16).numpy()
            halves: Array = bits.copy().view(ml_dtypes.bfloat16)
            return halves
        try:
            return tensor.detach().cpu().contiguous().numpy().copy()
        except TypeError:
            raise ModelError(
                f"{name!r} is {tensor.dtype}",
                allowed="bfloat16, and element types that numpy has",
                hint="convert the model first, for instance model.float()",
                location=Location(self.graph.source, name),
            ) from None

    def _take(self, node: fx.Node) -> None:
        """An input of the model; one that is no tensor was fixed when the model was exported."""
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            self.numbers[node] = value
            return
        if not self.symbols:
            sizes: tuple[Any, ...] = tuple(value.shape)
            symbols = [d.node.expr for d in sizes if isinstance(d, torch.SymInt)]
            self.symbols = {s: type(s)("batch", integer=True) for s in symbols[:1] if s.is_Symbol}
        name = self.fresh(node.name)
        self.graph.inputs.append(name)
        self.graph.types[name] = self.type_of(value)
        self.aliases.make(node, name)

    def _returns(self, node: fx.Node) -> None:
        specs = self.program.graph_signature.output_specs
        results: list[Leaf] = []
        for value, spec in zip(node.args[0], specs, strict=True):  # type: ignore[arg-type]
            if spec.kind is OutputKind.USER_OUTPUT:
                results.append(self._result(value))
            elif spec.kind is OutputKind.BUFFER_MUTATION and spec.target is not None:
                self.reading.updates[spec.target] = self.value(value)
        for target, written in self.aliases.written():
            if target in self.graph.constants:
                self.reading.updates[target] = written
        self.reading.results = tuple(results)
        self.graph.outputs = list(dict.fromkeys(value for value in results if isinstance(value, str)))

    def _result(self, value: object) -> Leaf:
        value = self.numbers.get(value, value) if isinstance(value, fx.Node) else value
        if isinstance(value, fx.Node):
            return self.value(value)
        return value if isinstance(value, bool | int | float) else None

    # --- nodes ---------------------------------------------------------------------------------------

    def walk(self, nodes: Iterable[fx.Node]) -> None:
        """Read nodes in order."""
        for node in nodes:
            if node.op == "get_attr":
                self._attribute(node)
            elif node.op == "call_function":
                self._call(node)

    def _attribute(self, node: fx.Node) -> None:
        held: Any = node.graph.owning_module
        for part in str(node.target).split("."):
            held = getattr(held, part)
        if isinstance(held, Tensor):
            self.aliases.make(node, self.constant(node.name, self._array(held, node.name)))
        else:
            self.numbers[node] = held

    def _call(self, node: fx.Node) -> None:
        target: Any = node.target
        name = getattr(target, "__name__", str(target))
        if target is operator.getitem:
            self.aliases.make(node, self.part(node))
            self.aliases.share(node)
        elif isinstance(target, torch._ops.HigherOrderOperator):
            self._region_op(node, str(target))
        elif not isinstance(target, torch._ops.OpOverload):
            self._number(node, name)
        elif target._schema.name.split("::")[1] not in CHECKS:
            if target._schema.is_mutable:
                self.aliases.write(node)
            else:
                self.emit(node, node.target, self.arguments(node))
                self.aliases.share(node)

    def part(self, node: fx.Node) -> str:
        """The output of a call that an item takes."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(index, int)
        return self.parts[source][index]

    def _number(self, node: fx.Node, name: str) -> None:
        """Arithmetic on sizes, as ONNX ops on tensors without axes."""
        op = NUMBERS.get(name)
        if op is None:
            self.unknown.setdefault(name, []).append(node.name)
            self.aliases.make(node, node.name)
            return
        inputs = []
        for position, arg in enumerate(node.args):
            known = isinstance(arg, fx.Node)
            inputs.append(
                self.value(arg) if known else self.constant(f"{node.name}.{position}", np.asarray(arg))
            )
        self.aliases.make(node, self.append(node, op, inputs, {})[0])

    def _region_op(self, node: fx.Node, name: str) -> None:
        read = REGIONS.get(name)
        results = read(self, node) if read is not None else None
        if results is None:
            self.unknown.setdefault(name, []).append(node.name)
            results = [node.name] * len(node.meta.get("val", ()))
        self.parts[node] = results

    # --- writing -------------------------------------------------------------------------------------

    def value(self, node: object) -> str:
        """Name of a node's value as it is now."""
        assert isinstance(node, fx.Node)
        return self.aliases.read(node)

    def arguments(self, node: fx.Node) -> dict[str, object]:
        """Arguments of a call by their names in the schema, those at their default left out."""
        target: Any = node.target
        given = {a.name: value for a, value in zip(target._schema.arguments, node.args, strict=False)}
        given.update(node.kwargs)
        defaults = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
        return {k: v for k, v in given.items() if isinstance(v, fx.Node) or not _same(v, k, defaults)}

    def emit(
        self, node: fx.Node, target: Any, arguments: dict[str, object], made: Tensor | None = None
    ) -> str:
        """Add a call; its arguments may hold nodes of torch's graph or names of values.

        Args:
            node: Where it stands in torch's graph.
            target: The op.
            arguments: By their names in the op's schema.
            made: What it makes, without data; what the node holds if left out.

        Returns:
            Name of its first output.
        """
        inputs: list[str] = []
        attrs = {key: _encoded(self, value, inputs) for key, value in arguments.items()}
        schema = target._schema
        op = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        outputs = self.append(node, op, inputs, attrs, made)
        if isinstance(node.meta.get("val"), tuple | list):
            self.parts[node] = outputs
        self.aliases.make(node, outputs[0])
        return outputs[0]

    def append(
        self, node: fx.Node, op: str, inputs: list[str], attrs: dict[str, Attr], made: Tensor | None = None
    ) -> list[str]:
        """Add a node; its outputs are typed as export saw them, or as `made`."""
        name = self.fresh(node.name)
        made = node.meta.get("val") if made is None else made
        many = isinstance(made, tuple | list)
        outputs = [f"{name}.{i}" for i in range(len(made))] if many else [name]  # type: ignore[arg-type]
        for output, value in zip(outputs, made if many else (made,), strict=True):  # type: ignore[arg-type]
            self.graph.types[output] = self.type_of(value)
        self.graph.nodes.append(Node(op, name, inputs, outputs, attrs, self.location(node)))
        return outputs

    def constant(self, name: str, array: Array) -> str:
        """Add a constant of the compiler's own."""
        name = self.fresh(name)
        self.graph.constants[name] = array
        self.graph.types[name] = TensorType(str(array.dtype), tuple(array.shape))
        return name

    def fresh(self, name: str) -> str:
        """A name that no value has."""
        name = self.prefix + name
        while name in self.graph.types:
            name += "_"
        return name

    def type_of(self, value: object) -> TensorType:
        """Type of what export saw: a tensor, or a size."""
        if isinstance(value, Tensor):
            return TensorType(
                str(value.dtype).removeprefix("torch."), tuple(self.dim(d) for d in value.shape)
            )
        kinds = {torch.SymBool: "bool", bool: "bool", torch.SymFloat: "float64", float: "float64"}
        return TensorType(kinds.get(type(value), "int64"), ())

    def dim(self, size: int | torch.SymInt) -> Dim:
        """A size, or the expression that gives it."""
        if isinstance(size, int):
            return size
        expression = size.node.expr.xreplace(self.symbols)
        return int(expression) if expression.is_number else str(expression)

    def location(self, node: fx.Node) -> Location:
        """Module path, and the line of the source that made a node."""
        stack: dict[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
        path = [entry[0] for entry in stack.values() if not entry[0].startswith("_empty")]
        lines = (node.meta.get("stack_trace") or "").splitlines()
        frames = [line.strip().split(", ") for line in lines if line.lstrip().startswith("File ")]
        own = [frame for frame in frames if f"{Path(torch.__file__).parent}/" not in frame[0]] or frames
        where = f"{Path(own[-1][0][6:-1]).name}:{own[-1][1].removeprefix('line ')}" if own else ""
        module = path[-1] if path else ""
        return Location(self.graph.source, f"{module} ({where})" if module and where else module or where)


def _same(value: object, name: str, defaults: dict[str, object]) -> bool:
    """Whether an argument is at its default; runs on any device, so that one is not kept."""
    if name == "pin_memory":
        return True
    return name in defaults and type(value) is type(defaults[name]) and value == defaults[name]


def _encoded(reader: _ProgramReader, value: object, inputs: list[str]) -> Attr:
    """An argument as an attribute; tensors and sizes join the inputs."""
    if isinstance(value, list | tuple):
        items = [_encoded(reader, item, inputs) for item in value]
        if any(isinstance(item, str) for item in items):
            return tuple(item if isinstance(item, str) else str(item) for item in items)
        return tuple(items)  # type: ignore[return-value] # numbers only
    if isinstance(value, fx.Node):
        if value in reader.numbers:
            return _encoded(reader, reader.numbers[value], inputs)
        inputs.append(reader.value(value))
        return f"%{len(inputs) - 1}"
    if isinstance(value, Named):
        inputs.append(value.name)
        return f"%{len(inputs) - 1}"
    encode = next((code for kind, code in _ENCODERS if isinstance(value, kind)), None)
    if encode is None:
        raise ModelError(
            f"an argument is {value!r}",
            allowed="tensors, numbers, texts and lists of them",
            location=Location(reader.graph.source),
        )
    return encode(value)


_ENCODERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Attr]], ...] = (
    ((bool, int, float, str), lambda value: value),
    (type(None), lambda _: "%none"),
    ((torch.dtype, torch.layout, torch.memory_format), lambda value: str(value).removeprefix("torch.")),
    (torch.device, lambda _: "device"),
)
"""How a plain argument is written."""

__all__ = ["Copies", "NotInvertibleError", "Reading", "read_program"]
