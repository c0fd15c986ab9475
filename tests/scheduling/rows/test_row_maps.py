"""Row maps against the kernels: rows that are not said to be needed may be anything.

For every op with a map, every axis of its output and several bands: what lies outside the rows that the map
names is replaced, and the band must stay as it is. Where windows are exact, the first and the last row that
they name must count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.backends.digital import instruction_of
from ffebm.graph.graph import Graph, Node
from ffebm.graph.tensor import Array, TensorType
from ffebm.runtime.constant_evaluator import evaluate_constants
from ffebm.scheduling.rows.row_maps import ROW_MAPS, row_windows
from ffebm.scheduling.rows.row_window import RowWindow


@dataclass
class Case:
    """A node with its inputs: shapes of values, arrays of constants.

    Attributes:
        op: Its op.
        values: Shapes of what it computes with, or arrays of another type than float.
        constants: What follows, known at compile time; None: left out.
        attrs: Its attributes.
        outputs: How many it has.
        streams: Axes of the output that are no barrier; None: not said.
    """

    op: str
    values: Sequence[tuple[int, ...] | Array]
    constants: Sequence[Array | None] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    streams: set[int] | None = None

    def __str__(self) -> str:
        return f"{self.op} {self.attrs}"


class Bench:
    """A case that runs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        random = np.random.default_rng(0)
        arrays = [
            value if isinstance(value, np.ndarray) else random.uniform(0.1, 0.9, value).astype(np.float32)
            for value in case.values
        ]
        self.arrays = {f"x{n}": array for n, array in enumerate(arrays)}
        held = {f"c{n}": np.asarray(c) for n, c in enumerate(case.constants) if c is not None}
        names = [*self.arrays, *(f"c{n}" if c is not None else "" for n, c in enumerate(case.constants))]
        made = [f"y{n}" for n in range(case.outputs)]
        self.node = Node(case.op, "node", names, made, dict(case.attrs))
        self.graph = Graph("one", inputs=list(self.arrays), outputs=made, nodes=[self.node], constants=held)
        self.made = self.run(self.arrays)
        self.graph.types = {
            name: TensorType(str(array.dtype), array.shape)
            for name, array in {**self.arrays, **held, **self.made}.items()
        }

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """The outputs by name."""
        tensors: dict[str, Array] = {}
        instruction = instruction_of(self.node, tensors)
        return evaluate_constants(instruction, {**arrays, **self.graph.constants, **tensors})

    def check(self, axis: int, *, exact: bool) -> bool:
        """Every band of an axis needs no other rows than its windows name; False: the axis is a barrier."""
        windows = row_windows(self.graph, self.node, axis)
        if windows is None:
            return False
        count = self.made["y0"].shape[axis]
        for band in [(a, b) for a in range(count) for b in range(a + 1, count + 1)]:
            for name, window in zip(self.node.inputs, windows, strict=True):
                if window is not None and name in self.arrays:
                    self._hold(axis, band, (name, window), exact=exact)
        return True

    def _hold(self, axis: int, band: tuple[int, int], read: tuple[str, RowWindow], *, exact: bool) -> None:
        name, window = read
        array = self.arrays[name]
        assert array.shape[window.axis] == window.size
        first, behind = window.needed(band)
        assert 0 <= first <= behind <= window.size
        outside = [row for row in range(window.size) if not first <= row < behind]
        assert not self._changes(axis, band, name, window.axis, outside)
        for row in {first, behind - 1} if exact and first < behind else ():
            assert self._changes(axis, band, name, window.axis, [row])

    def _changes(self, axis: int, band: tuple[int, int], name: str, own: int, rows: list[int]) -> bool:
        """Whether a band of any output changes if some rows of an input do."""
        changed = np.moveaxis(self.arrays[name].copy(), own, 0)
        changed[rows] = np.logical_not(changed[rows]) if changed.dtype == bool else changed[rows] + 2
        made = self.run({**self.arrays, name: np.moveaxis(changed, 0, own)})
        cut = (slice(None),) * axis + (slice(*band),)
        return any(not np.array_equal(made[y][cut], self.made[y][cut], equal_nan=True) for y in self.made)


# --- windows ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_windows_that_slide(data: st.DataObject) -> None:
    op = data.draw(st.sampled_from(["Conv", "ConvTranspose", "AveragePool", "MaxPool", "LpPool"]))
    kernel, dilation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    stride = data.draw(st.integers(1, 3))
    reach = (kernel - 1) * dilation
    begin, end = data.draw(st.integers(0, reach // 2)), data.draw(st.integers(0, reach // 2))
    size = data.draw(st.integers(reach + 1, 7))
    attrs: dict[str, Any] = {"kernel_shape": (kernel, 1), "strides": (stride, 1), "dilations": (dilation, 1)}
    attrs["pads"] = (begin, 0, end, 0)
    if "Pool" in op and data.draw(st.booleans()):
        attrs["ceil_mode"] = 1
    weights = [np.ones((2, 2, kernel, 1), np.float32)] if "Conv" in op else []
    bench = Bench(Case(op, [(1, 2, size, 2)], weights, attrs))
    assert bench.check(2, exact=False)
    assert bench.check(3, exact=True)
    assert bench.check(1, exact=False) is False
    if op in {"Conv", "AveragePool"} and dilation == 1 and not attrs.get("ceil_mode"):
        assert bench.check(2, exact=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_resizing(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 6))
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    wheres = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
    attrs: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": data.draw(st.sampled_from(wheres)),
        "nearest_mode": data.draw(
            st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
        ),
        "exclude_outside": data.draw(st.integers(0, 1)) if mode == "cubic" else 0,
    }
    target = data.draw(st.integers(1, 9))
    scale = data.draw(st.sampled_from([0.5, 0.7, 1.3, 2.0, 3.0]))
    if data.draw(st.booleans()) and int(size * scale):
        constants = [None, np.array([1, 1, scale, 1], np.float32)]
    else:
        constants = [None, None, np.array([1, 1, target, 2])]
    bench = Bench(Case("Resize", [(1, 1, size, 2)], constants, attrs))
    assert bench.check(2, exact=False)
    assert bench.check(3, exact=False)


# --- one by one ---------------------------------------------------------------------------------------

LONG = np.int64
ONE = np.ones(3, np.float32)

UNARY = [
    "Abs",
    "Acos",
    "Asin",
    "Asinh",
    "Atan",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "IsInf",
    "IsNaN",
    "Dropout",
]
BINARY = [
    "Add",
    "Div",
    "Mul",
    "Pow",
    "Sub",
    "Mod",
    "Max",
    "Min",
    "Mean",
    "Sum",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
]
BITS = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
FLAGS = BITS % 3 == 0
CASES = [
    *(Case(op, [(2, 3, 4)], streams={0, 1, 2}) for op in UNARY),
    *(
        Case(op, [(2, 3, 4), (3, 1)], attrs={"fmod": 1} if op == "Mod" else {}, streams={0, 1, 2})
        for op in BINARY
    ),
    *(Case(op, [FLAGS, FLAGS[:1]], streams={0, 1, 2}) for op in ("And", "Or", "Xor")),
    *(Case(op, [BITS, BITS[0]], streams={0, 1, 2}) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    Case("BitwiseNot", [BITS], streams={0, 1, 2}),
    Case(
        "BitShift",
        [BITS.astype(np.uint32), BITS.astype(np.uint32) % 3],
        attrs={"direction": "LEFT"},
        streams={0, 1, 2},
    ),
    Case("Not", [FLAGS], streams={0, 1, 2}),
    Case("Acosh", [BITS.astype(np.float32) + 1.5], streams={0, 1, 2}),
    Case("Atanh", [(2, 3)], streams={0, 1}),
    Case("Clip", [(2, 3, 4)], [np.array(0.2, np.float32), np.array(0.6, np.float32)], streams={0, 1, 2}),
    Case("PRelu", [(2, 3, 4), (3, 1)], streams={0, 1, 2}),
    Case("Cast", [(2, 3, 4)], attrs={"to": 11}, streams={0, 1, 2}),
    Case("Expand", [(3, 1)], [np.array([2, 3, 4])], streams={0, 1, 2}),
    Case("Where", [FLAGS, (2, 3, 4), (3, 4)], streams={0, 1, 2}),
    Case("BatchNormalization", [(2, 3, 4, 2)], [ONE, ONE, ONE, ONE], streams={0, 2, 3}),
    Case("BatchNormalization", [(2, 3, 4, 2)], [ONE] * 4, {"training_mode": 1}, streams=set()),
    Case("LayerNormalization", [(2, 3, 4)], [np.ones(4, np.float32)], {"axis": -1}, streams={0, 1}),
    Case("LayerNormalization", [(2, 3, 4)], [np.ones((3, 4), np.float32)], {"axis": 1}, streams={0}),
    Case("RMSNormalization", [(2, 3, 4)], [np.ones(4, np.float32)], streams={0, 1}),
    *(
        Case(op, [(2, 3, 4)], attrs={"axis": 1}, streams={0, 2})
        for op in ("Softmax", "LogSoftmax", "Hardmax", "LpNormalization")
    ),
    Case("LRN", [(1, 5, 4, 2)], attrs={"size": 3}, streams={0, 2, 3}),
    Case("Flatten", [(2, 3, 4)], attrs={"axis": 2}, streams={0, 1}),
    Case("Flatten", [(2, 3, 4)], streams={0, 1}),
    Case("Reshape", [(2, 6, 4)], [np.array([2, 3, 8])], streams={0, 1}),
    Case("Reshape", [(2, 3, 8)], [np.array([2, 6, 4])], streams={0, 1}),
    Case("Reshape", [(2, 4, 6)], [np.array([2, 24])], streams={0, 1}),
    Case("Reshape", [(4, 3)], [np.array([3, 4])], streams={0}),
    Case("Squeeze", [(2, 1, 4)], [np.array([1])], streams={0, 1}),
    Case("Unsqueeze", [(2, 4)], [np.array([1])], streams={0, 1, 2}),
    Case("Transpose", [(2, 3, 4)], attrs={"perm": (2, 0, 1)}, streams={0, 1, 2}),
    Case("Transpose", [(2, 3, 4)], streams={0, 1, 2}),
    *(
        Case(op, [(2, 3, 4)], [np.array([1])], {"keepdims": kept}, streams={0, 2} if kept else {0, 1})
        for op in sorted(ROW_MAPS)
        if op.startswith("Reduce")
        for kept in (0, 1)
    ),
    *(Case(op, [(2, 3, 4)], attrs={"axis": 1}, streams={0, 2}) for op in ("ArgMax", "ArgMin")),
    Case("Concat", [(2, 3, 4), (2, 2, 4)], attrs={"axis": 1}, streams={0, 1, 2}),
    Case("Split", [(2, 4, 3)], attrs={"axis": 1, "num_outputs": 2}, outputs=2, streams={0, 2}),
    Case("Split", [(2, 4, 3)], [np.array([1, 3])], {"axis": 1}, outputs=2, streams={0, 2}),
    Case("DepthToSpace", [(1, 8, 3, 2)], attrs={"blocksize": 2}, streams={2, 3}),
    Case("SpaceToDepth", [(1, 2, 6, 4)], attrs={"blocksize": 2}, streams={2, 3}),
    Case("Gather", [(3, 4, 5)], [np.array([[2, 0], [1, 1]])], {"axis": 1}, streams={0, 1, 2, 3}),
    Case("Gather", [(3, 8, 5), np.array([[2, 0], [1, 1]])], attrs={"axis": 1}, streams={0, 1, 2, 3}),
    Case("MatMul", [(2, 3, 4), (4, 5)], streams={0, 1, 2}),
    Case("MatMul", [(2, 1, 3, 4), (3, 4, 5)], streams={0, 1, 2, 3}),
    Case("Gemm", [(3, 4), (4, 5), (5,)], streams={0, 1}),
    Case("Gemm", [(4, 3), (5, 4), (3, 1)], attrs={"transA": 1, "transB": 1}, streams={0, 1}),
    Case("Pad", [(1, 2, 4)], [np.array([0, 1, 2, 0, 0, 1])], streams={0, 1, 2}),
    Case("Pad", [(1, 2, 4)], [np.array([0, -1, 0, -2]), None, np.array([1, 2])], streams={0, 1, 2}),
    Case("Pad", [(1, 2, 4)], [np.array([0, 0, 2, 0, 0, 1])], {"mode": "edge"}, streams={0, 1, 2}),
    Case("Pad", [(1, 2, 4)], [np.array([0, 0, 2, 0, 0, 1])], {"mode": "reflect"}, streams={0, 1}),
    Case("Slice", [(2, 7, 3)], [np.array([1]), np.array([6]), np.array([1])], streams={0, 1, 2}),
    Case("Slice", [(2, 7)], [np.array([0, 1]), np.array([2, 99]), None, np.array([1, 2])], streams={0, 1}),
    Case("Slice", [(7,)], [np.array([-1]), np.array([-99]), None, np.array([-1])], streams=set()),
    Case("QuantizeLinear", [(2, 3)], [np.array(0.1, np.float32), np.array(3, np.uint8)], streams={0, 1}),
    Case(
        "DequantizeLinear",
        [BITS.astype(np.uint8)],
        [np.array(0.1, np.float32), np.array(3, np.uint8)],
        streams={0, 1, 2},
    ),
    Case(
        "ConvInteger", [np.arange(10, dtype=np.uint8).reshape(1, 1, 5, 2)], [np.ones((1, 1, 3, 1), np.uint8)]
    ),
    Case(
        "QLinearConv",
        [np.arange(10, dtype=np.uint8).reshape(1, 1, 5, 2)],
        [
            np.array(0.1, np.float32),
            np.array(0, np.uint8),
            np.ones((1, 1, 3, 1), np.uint8),
            np.array(0.1, np.float32),
            np.array(0, np.uint8),
            np.array(0.1, np.float32),
            np.array(0, np.uint8),
        ],
        {"pads": (1, 0, 1, 0), "strides": (2, 1)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bands_need_no_more_than_their_rows(case: Case) -> None:
    bench = Bench(case)
    streams = {axis for axis in range(bench.made["y0"].ndim) if bench.check(axis, exact=False)}
    assert case.streams is None or streams == case.streams


@pytest.mark.parametrize(
    "op", ["Concat", "Pad", "Slice", "Transpose", "Reshape", "DepthToSpace", "SpaceToDepth"]
)
def test_moves_name_just_the_rows_that_they_move(op: str) -> None:
    for case in CASES:
        if case.op == op and case.attrs.get("mode") != "reflect":
            bench = Bench(case)
            for axis in range(bench.made["y0"].ndim):
                bench.check(axis, exact=True)


def test_every_op_with_a_map_is_tried() -> None:
    tried = {case.op for case in CASES} | {
        "Conv",
        "ConvTranspose",
        "AveragePool",
        "MaxPool",
        "LpPool",
        "Resize",
    }
    assert tried == ROW_MAPS.keys()


def test_an_op_that_is_not_known_is_a_barrier() -> None:
    graph = Graph("one", types={name: TensorType("float32", (2, 3)) for name in "xy"})
    assert row_windows(graph, Node("CumSum", "n", ["x"], ["y"]), 1) is None
    assert row_windows(graph, Node("own.Op", "n", ["x"], ["y"]), 1) is None


def test_sizes_known_at_run_time_are_a_barrier() -> None:
    graph = Graph("one", types={name: TensorType("float32", (2, 3)) for name in "xysz"})
    assert row_windows(graph, Node("Slice", "n", ["x", "s", "z"], ["y"]), 1) is None
    assert row_windows(graph, Node("Resize", "n", ["x", "", "s"], ["y"]), 1) is None
    assert row_windows(graph, Node("Pad", "n", ["x", "s"], ["y"]), 1) is None
