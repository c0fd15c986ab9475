"""QONNX exporter: each digital segment as an ONNX model, with a Quant node where a value goes to DACs.

Source of the format: the Quant operator of fastmachinelearning/qonnx, domain `qonnx.custom_op.general`.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, defs, helper, numpy_helper

from ffebm.errors import UsageError
from ffebm.exporters.export import Export, source_line, used_group
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Crossbar
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.plan import Plan
from ffebm.plan.program import Instruction, Program, Segment

INDEX = "segments.json"
DOMAIN = "qonnx.custom_op.general"
OPSET = 20
"""Of the ops in a plan; the front ends convert to it."""
IR_VERSION = 9
SMALLEST = 1e-30
"""A vector of zeros has this magnitude, so that its scale is not zero."""


def export_qonnx(plan: Plan, peaks: Mapping[str, float] | None = None) -> Export:
    """The digital part of a plan as QONNX models, one a segment.

    Args:
        plan: The plan.
        peaks: Largest magnitude that each value at the edge of a tile reaches; its DAC gets a constant scale
            from it. Without, the scale is computed from each vector, as the DACs of the plan do.

    Raises:
        UsageError: If nothing is digital, or no segment can be written in ONNX.
    """
    needs_weights(plan)
    if not plan.segments:
        raise UsageError(
            "nothing in this plan is digital", hint="--to crosssim or aihwkit export what is on tiles"
        )
    problems = {segment.id: next(_problems(segment.program), None) for segment in plan.segments}
    kept = [segment for segment in plan.segments if problems[segment.id] is None]
    if not kept:
        raise UsageError(
            f"no digital segment is ONNX alone: {problems[plan.segments[0].id]}",
            allowed="ops of ONNX's own domain",
            hint="export the torch model to ONNX, and compile that",
        )
    edges = dac_edges(plan)
    limit = used_group(plan).tile.input_limit
    if limit is not None:  # DACs with a fixed range: what the samples reach does not matter
        peaks = dict.fromkeys(edges, limit)
    scales = {name: _scale(plan, peak) for name, peak in (peaks or {}).items() if name in edges}
    notes = tuple(_notes(plan, problems, edges, peaks is not None))
    files = {_file(segment): _model(plan, segment, edges, scales, notes) for segment in kept}
    index = {
        "source": source_line(plan),
        "notes": notes,
        "segments": [_entry(plan, segment, edges) for segment in kept],
    }
    files[INDEX] = msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"
    return Export(marker=INDEX, files=files, notes=notes)


def dac_edges(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Values that digital segments hand to DACs, and the axes over which a DAC scales them.

    A matrix is driven by the last axis, which has one scale here even where its lines lie on several tiles.
    The windows of a convolution have a scale each, which no Quant node has: here the whole sample has one.
    """
    if not used_group(plan).tile.has_cells:
        return {}
    made = {value for segment in plan.segments for value in segment.program.outputs}
    edges: dict[str, tuple[int, ...]] = {}
    for block in plan.blocks:
        for _, interaction in block.interactions():
            if interaction.source not in made or interaction.linear is None:
                continue
            rank = 1 + len(interaction.source_shape)
            rows = interaction.linear.op == "MatMul" and not interaction.before
            axes = (rank - 1,) if rows else tuple(range(1, rank))
            edges[interaction.source] = max(axes, edges.get(interaction.source, ()), key=len)
    return edges


def _scale(plan: Plan, peak: float) -> float:
    tile = used_group(plan).tile.crossbar()  # edges are those of crossbars
    return max(peak, SMALLEST) / _top(tile)


def _top(tile: Crossbar) -> int:
    """The largest code of a DAC."""
    return int(2 ** (tile.dac.bits - 1) - 1)


# --- what can be written -----------------------------------------------------------------------------


def _problems(program: Program) -> Iterator[str]:
    """What of a program is not ONNX."""
    for instruction in program.instructions:
        try:
            schema = defs.get_schema(instruction.op, OPSET)
        except defs.SchemaError:
            yield f"{instruction.name!r} is {instruction.op}"
            continue
        odd = {*instruction.attrs, *instruction.tensors, *instruction.graphs} - set(schema.attributes)
        if odd:
            yield f"{instruction.name!r} ({instruction.op}) has {min(odd)!r}"
        for inner in instruction.graphs.values():
            yield from _problems(inner)


def _notes(
    plan: Plan, problems: Mapping[int, str | None], edges: Mapping[str, tuple[int, ...]], measured: bool
) -> Iterator[str]:
    for number, problem in problems.items():
        if problem is not None:
            yield f"segment {number} is left out: {problem}, which is no ONNX"
    yield f"what runs on tiles, biases, activations and pooling with it, is not here; {INDEX} names the edges"
    yield (
        "digital arithmetic of the plan is floating point: Quant nodes stand before DACs only, the "
        "precision of all else is to be chosen"
    )
    if edges and not measured:
        yield (
            "the scale of each Quant node is computed from its vector, as DACs do; hls4ml and FINN want a "
            "constant one, which --data measures"
        )
    if any(len(axes) > 1 for axes in edges.values()):
        yield "a DAC before a convolution scales each window; the Quant node scales the whole sample"
    if any(_is_split(plan, name) for name in edges):
        yield "each tile scales its own lines; the Quant node scales all lines of a vector together"
    if any(isinstance(d, str) for t in plan.types.values() for d in t.shape or ()):
        yield f"open sizes are fixed to the plan's batch of {plan.batch}: hls4ml and FINN want fixed ones"


def _is_split(plan: Plan, source: str) -> bool:
    """A value drives a matrix whose inputs lie on several tiles."""
    weights = {
        i.linear.weight for b in plan.blocks for _, i in b.interactions() if i.source == source and i.linear
    }
    return any(piece.inputs[0] > 0 for _, piece in plan.pieces() if piece.weight in weights)


def _file(segment: Segment) -> str:
    return f"segment{segment.id:04}.onnx"


def _entry(plan: Plan, segment: Segment, edges: Mapping[str, object]) -> dict[str, Any]:
    """Where a segment's inputs come from and its outputs go to."""
    makers = {value: f"segment{s.id:04}" for s in plan.segments for value in s.program.outputs}
    makers |= {value: block.name for block in plan.blocks for value in block.outputs}
    readers: dict[str, list[str]] = {}
    for other in plan.segments:
        for value in other.program.inputs:
            readers.setdefault(value, []).append(f"segment{other.id:04}")
    for block in plan.blocks:
        for value in block.inputs:
            readers.setdefault(value, []).append(block.name)
    for port in plan.outputs:
        readers.setdefault(port.name, []).append("output")
    return {
        "file": _file(segment),
        "inputs": {name: makers.get(name, "input") for name in segment.program.inputs},
        "outputs": {name: readers.get(name, []) for name in segment.program.outputs},
        "quantised": {name: _quantised(name) for name in segment.program.outputs if name in edges},
    }


# --- the models --------------------------------------------------------------------------------------


def _quantised(name: str) -> str:
    """What the DACs get of a value."""
    return f"{name}.dac"


def _model(
    plan: Plan,
    segment: Segment,
    edges: Mapping[str, tuple[int, ...]],
    scales: Mapping[str, float],
    notes: tuple[str, ...],
) -> bytes:
    program = segment.program
    nodes = [_node(plan, instruction) for instruction in program.instructions]
    constants = {name: plan.weights[name] for name in _read(program) if name in plan.weights}
    outputs = [_port(plan, name) for name in program.outputs]
    for name in program.outputs:
        if name in edges:
            added, needed = _quant(plan, name, edges[name], scales.get(name))
            nodes.extend(added)
            constants |= needed
            outputs.append(_port(plan, name, _quantised(name)))
    graph = helper.make_graph(
        nodes,
        f"segment{segment.id:04}",
        [_port(plan, name) for name in program.inputs],
        outputs,
        [numpy_helper.from_array(np.asarray(array, order="C"), name) for name, array in constants.items()],
    )
    model: ModelProto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="ffebm",
        doc_string="\n".join([source_line(plan), *notes]),
    )
    model = _typed(plan, model)
    if all(port.type.tensor_type.HasField("shape") for port in [*model.graph.input, *model.graph.output]):
        onnx.checker.check_model(model)  # which wants a shape of inputs, and of outputs that a loop makes
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _typed(plan: Plan, model: ModelProto) -> ModelProto:
    """The model with the types of all values, which tools that run it node by node look up."""
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True)
    found = {value.name: value for value in [*typed.graph.value_info, *typed.graph.output]}
    for node in typed.graph.node:
        for name in node.output:
            known = found.get(name)
            if (
                name
                and (known is None or not known.type.tensor_type.HasField("shape"))
                and name in plan.types
            ):
                place = known if known is not None else typed.graph.value_info.add()
                place.CopyFrom(_port(plan, name))
    return typed


def _read(program: Program) -> dict[str, None]:
    """Every name that a program and its inner programs read, in order."""
    names: dict[str, None] = {}
    for instruction in program.instructions:
        names |= dict.fromkeys(name for name in instruction.inputs if name)
        for inner in instruction.graphs.values():
            names |= _read(inner) | dict.fromkeys(inner.outputs)
    return names


def _port(plan: Plan, name: str, called: str = "") -> ValueInfoProto:
    """A value with its type; open sizes are the batch."""
    known = plan.types.get(name)
    dtype = np.dtype(known.dtype) if known else np.dtype(np.float32)
    shape = None
    if known and known.shape is not None:
        opened = {size for port in plan.inputs for size in port.type.shape or () if isinstance(size, str)}
        shape = [_size(size, dict.fromkeys(opened, plan.batch)) for size in known.shape]
    return helper.make_tensor_value_info(called or name, helper.np_dtype_to_tensor_dtype(dtype), shape)


def _size(size: int | str, opened: Mapping[str, int]) -> int | None:
    """A size: a number, one that is open in an input, or arithmetic on those. None if it is not known."""
    if isinstance(size, int) or size in opened:
        return size if isinstance(size, int) else opened[size]
    try:
        return _evaluated(ast.parse(size, mode="eval").body, opened)
    except SyntaxError:  # a name that a model gives may be any text
        return None


def _evaluated(term: ast.expr, opened: Mapping[str, int]) -> int | None:
    if isinstance(term, ast.Name):
        return opened.get(term.id)
    if isinstance(term, ast.Constant) and isinstance(term.value, int):
        return term.value
    if isinstance(term, ast.BinOp) and type(term.op) in _ARITHMETIC:
        left, right = (_evaluated(side, opened) for side in (term.left, term.right))
        if left is not None and right:
            return _ARITHMETIC[type(term.op)](left, right)
    return None


_ARITHMETIC: dict[type[ast.operator], Callable[..., int]] = {
    ast.Add: operator.add,
    ast.FloorDiv: operator.floordiv,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}


def _quant(
    plan: Plan, name: str, axes: tuple[int, ...], scale: float | None
) -> tuple[list[NodeProto], dict[str, Array]]:
    """A value as the codes of its DACs times their scale."""
    tile = used_group(plan).tile.crossbar()  # edges are those of crossbars
    new = {part: f"{_quantised(name)}.{part}" for part in ("scale", "zero", "bits")}
    constants: dict[str, Array] = {
        new["zero"]: np.zeros(1, np.float32),
        new["bits"]: np.array([tile.dac.bits], np.float32),
    }
    nodes: list[NodeProto] = []
    if scale is None:
        nodes, needed = _vector_scale(name, new["scale"], axes, _top(tile))
        constants |= needed
    else:
        constants[new["scale"]] = np.array([scale], np.float32)
    quant = helper.make_node(
        "Quant",
        [name, new["scale"], new["zero"], new["bits"]],
        [_quantised(name)],
        _quantised(name),
        domain=DOMAIN,
        signed=1,
        narrow=1,
        rounding_mode="ROUND",
    )
    return [*nodes, quant], constants


def _vector_scale(
    name: str, scale: str, axes: tuple[int, ...], top: int
) -> tuple[list[NodeProto], dict[str, Array]]:
    """The largest magnitude of each vector over the largest code."""
    constants: dict[str, Array] = {
        f"{scale}.axes": np.array(axes, np.int64),
        f"{scale}.smallest": np.array([SMALLEST], np.float32),
        f"{scale}.top": np.array([top], np.float32),
    }
    steps = (
        ("Abs", [name], "magnitude"),
        ("ReduceMax", [f"{scale}.magnitude", f"{scale}.axes"], "peak"),
        ("Max", [f"{scale}.peak", f"{scale}.smallest"], "positive"),
    )
    nodes = [helper.make_node(op, inputs, [f"{scale}.{out}"], f"{scale}.{out}") for op, inputs, out in steps]
    nodes.append(helper.make_node("Div", [f"{scale}.positive", f"{scale}.top"], [scale], scale))
    return nodes, constants


def _node(plan: Plan, instruction: Instruction) -> NodeProto:
    node = helper.make_node(instruction.op, instruction.inputs, instruction.outputs, instruction.name)
    schema = defs.get_schema(instruction.op, OPSET)
    values: dict[str, Any] = {**instruction.attrs}
    for key, name in instruction.tensors.items():
        array = plan.weights[name]
        plain = schema.attributes[key].type != defs.OpSchema.AttrType.TENSOR
        values[key] = array.tolist() if plain else numpy_helper.from_array(np.asarray(array), name)
    for key, inner in instruction.graphs.items():
        values[key] = _graph(plan, inner, f"{instruction.name}.{key}")
        if instruction.op == "Loop":  # runtimes want the number of the pass typed
            number = helper.make_tensor_value_info(inner.inputs[0], onnx.TensorProto.INT64, [])
            values[key].input[0].CopyFrom(number)
    for key, value in sorted(values.items()):
        kind = schema.attributes[key].type
        number = onnx.AttributeProto.AttributeType.Value(str(kind).rpartition(".")[2])
        node.attribute.append(helper.make_attribute(key, _as(value, kind), attr_type=number))
    return node


def _as(value: Any, kind: defs.OpSchema.AttrType) -> Any:
    """A number in the type that the op's schema asks for."""
    types = defs.OpSchema.AttrType
    if kind in (types.FLOATS, types.INTS):
        return [float(v) if kind == types.FLOATS else int(v) for v in value]
    if kind in (types.FLOAT, types.INT):
        return float(value) if kind == types.FLOAT else int(value)
    return value


def _graph(plan: Plan, program: Program, name: str) -> GraphProto:
    return helper.make_graph(
        [_node(plan, instruction) for instruction in program.instructions],
        name,
        [ValueInfoProto(name=value) for value in program.inputs],  # typed by what the op hands in
        [ValueInfoProto(name=value) for value in program.outputs],
    )
