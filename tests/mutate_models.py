"""Damages ONNX models in ways that a seed repeats: attributes, shapes, types, names, edges, bytes.

python -m tests.mutate_models 1000 [seed]     checks so many mutants and prints what is wrong
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import ffebm
from ffebm.compiler.isolated import isolated
from ffebm.compiler.onnx.structure import op_name
from ffebm.errors import FfebmError, InternalError, ModelError
from ffebm.graph.ops import OPS, Kind, kind_of
from ffebm.graph.tensor import Array
from ffebm.runtime.kernels.dtypes import tensor_of, wide
from tests.conformance import cases
from tests.models import as_tuple
from tests.mutants import Finding, check_apart, lot, main
from tests.sixteen_bits import HALF_UNITS, near, roundings, wide_array, widened

RTOL, ATOL = 1e-3, 1e-4
"""Tolerances of results of 32 bits or more; `sixteen_bits` bounds shorter ones."""
ROUNDS = frozenset({Kind.QUANTISED, Kind.STEP, Kind.CAST})
"""Kinds of ops that make whole numbers of others, where a tie may go either way."""
OP_NAMES = sorted(OPS)
ODD_NUMBERS = (0, 1, -1, 2, 3, 7, 255, -128, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
ODD_NAMES = ("", "x", "block0", "a.b", "a/b", "%2E", "\u202eabc", "é" * 40, "n" * 3000, "\x1b[31m", "w:x")


# --- mutations ---------------------------------------------------------------------------------------

Change = Callable[[ModelProto, random.Random], None]


def _nodes(model: ModelProto) -> list[NodeProto]:
    found: list[NodeProto] = []
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph.node:
            found.append(node)
            graphs.extend(attr.g for attr in node.attribute if attr.type == AttributeProto.GRAPH)
    return found


def _some_node(model: ModelProto, rng: random.Random) -> NodeProto:
    return rng.choice(_nodes(model))


def _values(model: ModelProto) -> list[str]:
    made = [value for node in _nodes(model) for value in node.output]
    return [*made, *(port.name for port in (*model.graph.input, *model.graph.initializer)), ""]


def change_attribute(model: ModelProto, rng: random.Random) -> None:
    """Another value in an attribute, another type, one dropped, doubled or unknown."""
    node = _some_node(model, rng)
    if not node.attribute or rng.random() < 0.1:
        name = rng.choice(("axis", "to", "odd", "keepdims"))
        node.attribute.append(helper.make_attribute(name, rng.choice(ODD_NUMBERS)))
        return
    attr = rng.choice(node.attribute)
    choice = rng.random()
    if choice < 0.1:
        node.attribute.remove(attr)
    elif choice < 0.15:
        attr.type = rng.choice([0, *AttributeProto.AttributeType.values()])
    elif choice < 0.2:
        node.attribute.append(attr)
    else:
        _change_value(attr, rng)


def _change_value(attr: AttributeProto, rng: random.Random) -> None:
    if attr.type == AttributeProto.INT:
        attr.i = rng.choice((*ODD_NUMBERS, attr.i + 1, attr.i - 1))
    elif attr.type == AttributeProto.FLOAT:
        attr.f = rng.choice(ODD_FLOATS)
    elif attr.type == AttributeProto.INTS and attr.ints:
        attr.ints[rng.randrange(len(attr.ints))] = rng.choice(ODD_NUMBERS)
    elif attr.type == AttributeProto.INTS:
        attr.ints.append(rng.choice(ODD_NUMBERS))
    elif attr.type == AttributeProto.STRING:
        attr.s = rng.choice((b"", b"\xff", b"SAME_UPPER", b"ij,jk->ik", b"odd", attr.s[:-1]))
    elif attr.type == AttributeProto.TENSOR:
        _damage_tensor(attr.t, rng)


def _damage_tensor(tensor: TensorProto, rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.3:
        tensor.data_type = rng.choice([0, 99, *TensorProto.DataType.values()])
    elif choice < 0.6 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(ODD_NUMBERS)
    elif choice < 0.7:
        tensor.dims.append(rng.choice((0, 1, 1, 2, -1)))
    elif choice < 0.8 and tensor.dims:
        tensor.dims.pop()
    elif tensor.raw_data:
        data = bytearray(tensor.raw_data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        tensor.raw_data = bytes(data)
    else:
        tensor.raw_data = b"\0" * rng.choice((1, 4, 8))


def change_tensor(model: ModelProto, rng: random.Random) -> None:
    """Another type, shape or number in a constant."""
    if model.graph.initializer:
        _damage_tensor(rng.choice(model.graph.initializer), rng)


def change_port(model: ModelProto, rng: random.Random) -> None:
    """Another shape or type of an input, an output or a value in between."""
    ports: Sequence[ValueInfoProto] = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if not ports:
        return
    port = rng.choice(ports)
    tensor = port.type.tensor_type
    choice = rng.random()
    if choice < 0.2:
        tensor.elem_type = rng.choice([0, 99, *TensorProto.DataType.values()])
    elif choice < 0.3:
        tensor.ClearField("shape")
    elif choice < 0.35:
        port.type.Clear()
    elif choice < 0.4:
        port.type.map_type.key_type = TensorProto.INT64
    elif choice < 0.5:
        tensor.shape.dim.add().dim_value = rng.choice((0, 1, 2, 5))
    elif tensor.shape.dim:
        dim = rng.choice(tensor.shape.dim)
        if rng.random() < 0.5:
            dim.dim_value = rng.choice(ODD_NUMBERS)
        else:
            dim.dim_param = rng.choice(("N", "T", *ODD_NAMES))


def change_name(model: ModelProto, rng: random.Random) -> None:
    """Another name, everywhere or in one place."""
    name = rng.choice(ODD_NAMES)
    node = _some_node(model, rng)
    choice = rng.random()
    if choice < 0.3:
        node.name = name
    elif choice < 0.4:
        node.op_type = OP_NAMES[lot(rng.getrandbits(32), OP_NAMES)]
    elif choice < 0.45:
        node.domain = rng.choice(("ai.onnx", "com.microsoft", "odd", name))
    elif choice < 0.7:
        _rename(model, rng.choice(_values(model)), name)
    elif node.input:
        node.input[rng.randrange(len(node.input))] = name


def _rename(model: ModelProto, old: str, new: str) -> None:
    for node in _nodes(model):
        node.input[:] = [new if value == old else value for value in node.input]
        node.output[:] = [new if value == old else value for value in node.output]
    for port in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        port.name = new if port.name == old else port.name


def change_edges(model: ModelProto, rng: random.Random) -> None:
    """A node reads another value, drops or swaps inputs, is doubled, dropped or moved."""
    node = _some_node(model, rng)
    choice = rng.random()
    if choice < 0.4 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_values(model))
    elif choice < 0.5:
        node.input.append(rng.choice(_values(model)))
    elif choice < 0.6 and node.input:
        node.input.pop()
    elif choice < 0.7:
        node.input[:] = list(node.input)[::-1]
    elif choice < 0.8 and len(model.graph.node) > 1:
        model.graph.node.remove(rng.choice(model.graph.node))
    elif choice < 0.9:
        model.graph.node.add().CopyFrom(node)
    elif node.output:
        node.output[rng.randrange(len(node.output))] = rng.choice((*_values(model), "new"))


def change_versions(model: ModelProto, rng: random.Random) -> None:
    """Another opset or format version."""
    if rng.random() < 0.2:
        model.ir_version = rng.choice((0, 3, 4, 8, 13, 10**6))
    elif model.opset_import:
        rng.choice(model.opset_import).version = rng.choice(
            (0, 1, 6, 7, 9, 11, 13, 17, 19, 21, 23, 26, 99, -1)
        )


CHANGES: tuple[Change, ...] = (
    change_attribute, change_attribute, change_tensor, change_port, change_port, change_name, change_edges,
    change_edges, change_versions,
)  # fmt: skip


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """A file with bytes changed, cut off or doubled."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    choice = rng.random()
    if choice < 0.2:
        return bytes(changed[: rng.randrange(len(changed))])
    return bytes(changed) + (data[: rng.randrange(64)] if choice < 0.3 else b"")


def mutant(models: Sequence[tuple[str, ModelProto]], seed: int) -> tuple[str, bytes]:
    """The damaged file of a seed, and the name of the model that it was."""
    rng = random.Random(seed)
    name, model = models[lot(seed, [name for name, _ in models])]
    copy = ModelProto()
    copy.CopyFrom(model)
    if rng.random() < 0.5:
        _make_constant(copy, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            rng.choice(CHANGES)(copy, rng)
        except (TypeError, ValueError):  # a number that the field does not hold
            continue
    data = copy.SerializeToString()
    return name, damaged_bytes(data, rng) if rng.random() < 0.15 else data


def _make_constant(model: ModelProto, rng: random.Random) -> None:
    """Some input becomes a constant of small numbers."""
    for port in list(model.graph.input):
        if rng.random() < 0.5 and (array := _array_for(port, rng.randrange(100))) is not None:
            model.graph.initializer.append(numpy_helper.from_array(array, port.name))
            model.graph.input.remove(port)


def _array_for(port: ValueInfoProto, seed: int) -> Array | None:
    """Something to feed; None if it would be large, or is no tensor of numbers."""
    tensor = port.type.tensor_type
    sizes = [d.dim_value if d.HasField("dim_value") else 2 for d in tensor.shape.dim]
    if any(size < 0 for size in sizes) or np.prod(sizes, dtype=np.float64) > 10**6:
        return None
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except KeyError:
        return None
    rng = np.random.default_rng(seed)
    if dtype.kind not in "fiub":
        return None
    numbers = rng.standard_normal(sizes) if dtype.kind == "f" else rng.integers(0, 3, sizes)
    return np.asarray(numbers).astype(dtype)


# --- checks ------------------------------------------------------------------------------------------


def examine(data: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of a file: a kind of `Finding`, and a text."""
    path = folder / "mutant.onnx"
    path.write_bytes(data)
    try:
        plan = ffebm.compile(path, hardware="ideal")
    except InternalError as error:
        return "traceback", f"compile: {error}"
    except FfebmError as error:
        return "refused", str(error)
    feeds = _feeds(path)
    if feeds is None:
        return "alone", "no inputs can be made"
    trusted = _trusted(data, feeds)
    try:
        with torch.no_grad():
            results = ffebm.Executor(plan)(**{name: tensor_of(array) for name, array in feeds.items()})
    except InternalError as error:
        return "traceback", f"run: {error}"
    except FfebmError as error:
        return ("fails at run" if trusted is not None else "refused"), str(error)
    if trusted is None:
        return "alone", ""
    if any(OPS[node.op].random for node in plan.nodes if node.op in OPS):
        return "same", "random"
    like = _Like(data, feeds, as_tuple(results))
    if like(trusted):
        return "same", ""
    reference = _reference(data, feeds)
    if reference is not None and like(reference):
        return "sided", "onnx's reference evaluator agrees with ffebm, not with onnxruntime"
    return "other result", str([str(node.op) for node in plan.nodes])


def _feeds(path: Path) -> dict[str, Array] | None:
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for number, port in enumerate(port for port in model.graph.input if port.name not in constants):
        array = _array_for(port, number)
        if array is None or isinstance(port.name, bytes):
            return None
        feeds[port.name] = array
    return feeds


def _trusted(data: bytes, feeds: dict[str, Array]) -> list[Array] | None:
    """Onnxruntime's outputs; None if it does not run the model, or crashes at it."""
    try:
        answer = isolated(lambda model: _run_elsewhere(model, feeds), data, (Exception,))
    except ModelError:
        return None
    with np.load(BytesIO(answer)) as held:
        return [held[name] for name in held]


def _run_elsewhere(data: bytes, feeds: dict[str, Array]) -> bytes:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    results = [np.asarray(result) for result in session.run(None, feeds)]
    if not all(result.dtype.kind in "fiub" for result in results):
        raise TypeError("no tensors of numbers")
    file = BytesIO()
    np.savez(file, *results)
    return file.getvalue()


def _reference(data: bytes, feeds: dict[str, Array]) -> list[Array] | None:
    try:
        return list(ReferenceEvaluator(onnx.load_from_string(data)).run(None, dict(feeds)))
    except Exception:  # noqa: BLE001 - it does not run the model
        return None


@dataclass
class _Like:
    """Compares results with another implementation's."""

    data: bytes
    feeds: dict[str, Array]
    results: Sequence[torch.Tensor]

    def __call__(self, expected: Sequence[Array]) -> bool:
        return all(
            self._same(index, y.detach(), np.asarray(want))
            for index, (y, want) in enumerate(zip(self.results, expected, strict=True))
        )

    def _same(self, index: int, y: torch.Tensor, want: Array) -> bool:
        if tuple(y.shape) != want.shape:
            return False
        if want.dtype.kind not in "fiubV":
            return True
        found, known = wide(y).double(), wide(tensor_of(want)).double()
        if want.dtype.kind in "iub":
            ties = any(kind_of(op_name(node)) in ROUNDS for node in _nodes(self.model))
            return bool(((found - known).abs() <= 1).all()) if ties else torch.equal(y, tensor_of(want))
        if want.dtype.name in HALF_UNITS:
            exact = self.wide[index] if self.wide is not None else None
            return near(found.numpy(), want, exact, roundings(self.model))
        return torch.allclose(found, known, RTOL, ATOL, equal_nan=True)

    @cached_property
    def model(self) -> ModelProto:
        return onnx.load_from_string(self.data)

    @cached_property
    def wide(self) -> list[Array] | None:
        """What onnxruntime makes of the model in 32 bits."""
        try:
            return _trusted(widened(self.data), {name: wide_array(a) for name, a in self.feeds.items()})
        except (TypeError, ValueError):  # a constant whose data do not fit its type
            return None


def check(models: Sequence[tuple[str, ModelProto]], seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Examine mutants of models with limits of time and memory."""
    return check_apart(partial(mutant, models), lambda data: examine(data, folder), seeds)


def seed_models() -> list[tuple[str, ModelProto]]:
    """Small models to damage: onnx's node cases, and the cases beside the tests."""
    folder = Path(__file__).parent / "cases"
    small = [(file.stem, onnx.load(file)) for file in sorted(folder.glob("*.onnx"))]
    often = [(f"{name} {number}", model) for name, model in small for number in range(20)]
    nodes = [
        (case.name, case.model)
        for case in cases()
        if case.kind in {"node", "simple", "pytorch-operator"} and case.model.ByteSize() < 20_000
    ]
    return [*nodes, *often]


if __name__ == "__main__":
    MODELS = seed_models()
    main(lambda seeds, folder: check(MODELS, seeds, folder))
