"""What rows of each input some rows of an op's output need: the one place that knows.

Rows are counted along one axis of the output. An op that has no entry, or an axis along which its outputs do
not follow from parts of its inputs, is a barrier: it waits for all of its inputs, and what it makes is there
at once.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from ffebm.graph.graph import Graph, Node
from ffebm.graph.ops import OPS, Kind
from ffebm.graph.work import sizes
from ffebm.scheduling.rows.row_window import RowWindow, same_rows, scattering, sliding

Windows = list[RowWindow | None]
"""Of each input of a node in its order; None: all of it."""
RowMap = Callable[[Graph, Node, int], Windows | None]
"""The windows of a node's inputs behind the rows of an axis of its outputs; None if it is a barrier."""

ROUNDING = Fraction(1, 1_000_000)
"""Rows by which positions in floating point may be off."""


def row_windows(graph: Graph, node: Node, axis: int) -> Windows | None:
    """What rows of its inputs some rows of a node's outputs need.

    Args:
        graph: With shapes.
        node: Of the graph.
        axis: Of every output of the node, which must have as many rows there.

    Returns:
        A window for each input, None where all of it is needed; None if the node is a barrier.
    """
    if rows_of(graph, node, axis) is None:
        return None
    own = ROW_MAPS.get(node.op)
    return None if own is None else own(graph, node, axis)


def rows_of(graph: Graph, node: Node, axis: int) -> int | None:
    """How many rows all outputs of a node have along an axis; None if they differ or one has no such axis."""
    shapes = [sizes(graph.shape(value)) for value in node.outputs if value]
    counts = {shape[axis] if shape is not None and axis < len(shape) else None for shape in shapes}
    return counts.pop() if len(counts) == 1 else None


# --- what maps read ----------------------------------------------------------------------------------


def _shape(graph: Graph, value: str) -> tuple[int, ...] | None:
    return sizes(graph.shape(value)) if value else None


def _numbers(graph: Graph, node: Node, position: int) -> list[float] | None:
    """A constant input as numbers; None if it is left out or computed at run time."""
    value = node.inputs[position] if position < len(node.inputs) else ""
    found = graph.constants.get(value)
    return None if found is None else [float(number) for number in found.ravel()]


def _left_out(node: Node, position: int) -> bool:
    return position >= len(node.inputs) or not node.inputs[position]


def _integers(node: Node, name: str) -> tuple[int, ...] | None:
    found = node.attrs.get(name)
    return tuple(int(number) for number in found) if isinstance(found, tuple) else None


def _integer(node: Node, name: str, default: int) -> int:
    found = node.attrs.get(name, default)
    return found if isinstance(found, int) else default


def _output(graph: Graph, node: Node) -> tuple[int, ...]:
    """The shape of a node's first output, which `rows_of` has found."""
    return _shape(graph, next(value for value in node.outputs if value)) or ()


def _only_first(node: Node, window: RowWindow) -> Windows:
    """The first input by a window; all of the others."""
    return [window, *(None for _ in node.inputs[1:])]


# --- maps --------------------------------------------------------------------------------------------


def _element_wise(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Each input is broadcast against the output, axes aligned at the end."""
    made = _output(graph, node)
    windows: Windows = []
    for value in node.inputs:
        shape = _shape(graph, value)
        own = axis - len(made) + len(shape) if shape is not None else -1
        same = shape is not None and own >= 0 and shape[own] == made[axis]
        windows.append(same_rows(own, made[axis]) if same else None)
    return windows


def _batch_norm(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Element-wise, if it takes statistics that it holds; those of the batch need all of it."""
    shape = _shape(graph, node.inputs[0])
    if _integer(node, "training_mode", 0) or shape is None or axis == 1:
        return None
    return _only_first(node, same_rows(axis, shape[axis]))


def _quantised(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Element-wise; scales and zero points are there before the first row."""
    return _only_first(node, same_rows(axis, _output(graph, node)[axis]))


def _across(default: int, *, behind: bool) -> RowMap:
    """Values meet along an axis, or along it and all axes behind it; rows of the others stay apart.

    Args:
        default: The axis where the node does not say it.
        behind: Axes behind it are included.
    """

    def windows(graph: Graph, node: Node, axis: int) -> Windows | None:
        shape = _shape(graph, node.inputs[0])
        if shape is None:
            return None
        met = _integer(node, "axis", default) % len(shape)
        if axis == met or (behind and axis > met):
            return None
        return _only_first(node, same_rows(axis, shape[axis]))

    return windows


def _window_facts(
    graph: Graph, node: Node, axis: int, weight: int | None
) -> tuple[int, int, int, int, int] | None:
    """Of a spatial axis: rows of the input, and kernel, stride, dilation and leading padding."""
    shape = _shape(graph, node.inputs[0])
    kernel = _integers(node, "kernel_shape")
    if kernel is None and weight is not None:
        known = _shape(graph, node.inputs[weight])
        kernel = None if known is None else known[2:]
    automatic = node.attrs.get("auto_pad", "NOTSET") not in {"NOTSET", "VALID"}
    if shape is None or kernel is None or axis < 2 or axis - 2 >= len(kernel) or automatic:
        return None
    ones, place = (1,) * len(kernel), axis - 2
    strides, dilations = (_integers(node, name) or ones for name in ("strides", "dilations"))
    pads = _integers(node, "pads") or (0,) * (2 * len(kernel))
    return shape[axis], kernel[place], strides[place], dilations[place], pads[place]


def _convolution(weight: int | None) -> RowMap:
    """A sliding window over spatial axes; the weight is the input at a position."""

    def windows(graph: Graph, node: Node, axis: int) -> Windows | None:
        facts = _window_facts(graph, node, axis, weight)
        return None if facts is None else _only_first(node, sliding(axis, *facts))

    return windows


def _transposed_convolution(graph: Graph, node: Node, axis: int) -> Windows | None:
    facts = _window_facts(graph, node, axis, 1)
    if facts is None or "output_shape" in node.attrs:
        return None
    return _only_first(node, scattering(axis, *facts))


def _resize(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Interpolation between rows around a position; those beyond the edge are the edge's."""
    shape = _shape(graph, node.inputs[0])
    where = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if shape is None or node.attrs.get("antialias") or where == "tf_crop_and_resize":
        return None
    n, n_out = shape[axis], _output(graph, node)[axis]
    scale = _resize_scale(graph, node, axis, len(shape))
    if scale is None:
        return None
    if n == n_out and scale == 1:
        return _only_first(node, same_rows(axis, n))
    if where == "align_corners":
        step, shift = (Fraction(n - 1) / (scale * n - 1) if n_out > 1 else Fraction(0)), Fraction(0)
    else:
        step, shift = 1 / scale, Fraction(0)
        if where != "asymmetric":
            shift = step / 2 - (Fraction(0) if where == "tf_half_pixel_for_nn" else Fraction(1, 2))
        if where == "half_pixel_symmetric":
            shift += Fraction(n, 2) * (1 - n_out / (scale * n))
        if where == "pytorch_half_pixel" and n_out == 1:
            shift = Fraction(0)
    before, behind = _RESIZE_REACH[str(node.attrs.get("mode", "nearest"))]
    low, high = shift - before - ROUNDING, shift + behind + ROUNDING
    per = math.lcm(step.denominator, low.denominator, high.denominator)
    units, first, last = (int(fact * per) for fact in (step, low, high))
    return _only_first(node, RowWindow(axis, n, units, first, last, per, clamped=True))


_RESIZE_REACH = {
    "nearest": (Fraction(1, 2), Fraction(1)),
    "linear": (Fraction(0), Fraction(1)),
    "cubic": (Fraction(1), Fraction(2)),
}
"""Rows before and behind a position that each mode may read."""


def _resize_scale(graph: Graph, node: Node, axis: int, rank: int) -> Fraction | None:
    """New rows by old ones, before rounding; None if it is known only at run time."""
    axes = [place % rank for place in _integers(node, "axes") or range(rank)]
    if axis not in axes:
        return Fraction(1)
    scales = _numbers(graph, node, 2)
    if scales:
        return Fraction(scales[axes.index(axis)])
    if not _left_out(node, 2) and scales is None:
        return None
    shape = _shape(graph, node.inputs[0])
    if shape is None or node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    return Fraction(_output(graph, node)[axis], shape[axis]) if shape[axis] else None


def _slice(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Every step-th row from a start."""
    shape = _shape(graph, node.inputs[0])
    starts, ends = _numbers(graph, node, 1), _numbers(graph, node, 2)
    axes, steps = _numbers(graph, node, 3), _numbers(graph, node, 4)
    known = (_left_out(node, 3) or axes is not None) and (_left_out(node, 4) or steps is not None)
    if shape is None or starts is None or ends is None or not known:
        return None
    chosen = [int(place) % len(shape) for place in axes or range(len(starts))]
    if axis not in chosen:
        return _only_first(node, same_rows(axis, shape[axis]))
    place = chosen.index(axis)
    step = int(steps[place]) if steps else 1
    start, _, _ = slice(int(starts[place]), int(ends[place]), step).indices(shape[axis])
    if step < 1:
        return None
    return _only_first(node, RowWindow(axis, shape[axis], step, start, start))


def _pad(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Rows of a constant around the input, or its first and last row again."""
    shape, amounts = _shape(graph, node.inputs[0]), _numbers(graph, node, 1)
    axes = _numbers(graph, node, 3)
    mode = node.attrs.get("mode", "constant")
    if shape is None or amounts is None or (axes is None and not _left_out(node, 3)):
        return None
    chosen = [int(place) % len(shape) for place in axes or range(len(shape))]
    begin = int(amounts[chosen.index(axis)]) if axis in chosen else 0
    end = int(amounts[len(chosen) + chosen.index(axis)]) if axis in chosen else 0
    if (begin or end) and mode not in {"constant", "edge"}:
        return None
    return _only_first(node, RowWindow(axis, shape[axis], 1, -begin, -begin, clamped=mode == "edge"))


def _concat(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Inputs side by side; along the joined axis one after the other."""
    shapes = [_shape(graph, value) for value in node.inputs]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    if axis != _integer(node, "axis", 1) % len(known[0]):
        return [same_rows(axis, shape[axis]) for shape in known]
    windows: Windows = []
    start = 0
    for shape in known:
        windows.append(RowWindow(axis, shape[axis], 1, -start, -start))
        start += shape[axis]
    return windows


def _split(graph: Graph, node: Node, axis: int) -> Windows | None:
    shape = _shape(graph, node.inputs[0])
    if shape is None or axis == _integer(node, "axis", 0) % len(shape):
        return None
    return _only_first(node, same_rows(axis, shape[axis]))


def _reshape(graph: Graph, node: Node, axis: int) -> Windows | None:
    """An axis of the input begins where that of the output does: as many elements are before both."""
    shape, made = _shape(graph, node.inputs[0]), _output(graph, node)
    if shape is None or math.prod(shape) != math.prod(made) or not math.prod(made):
        return None
    before = math.prod(made[:axis])
    row = math.prod(made[axis + 1 :])
    for own, size in enumerate(shape):
        if size > 1 and math.prod(shape[:own]) == before:
            held = math.prod(shape[own + 1 :])
            window = RowWindow(own, size, row, 0, row - 1, per=held)
            return _only_first(node, window)
    return None


def _transpose(graph: Graph, node: Node, axis: int) -> Windows | None:
    shape = _shape(graph, node.inputs[0])
    if shape is None:
        return None
    order = _integers(node, "perm") or tuple(reversed(range(len(shape))))
    own = order[axis] % len(shape)
    return _only_first(node, same_rows(own, shape[own]))


def _depth_to_space(graph: Graph, node: Node, axis: int) -> Windows | None:
    shape, block = _shape(graph, node.inputs[0]), _integer(node, "blocksize", 1)
    if shape is None or axis < 2:
        return None
    return _only_first(node, RowWindow(axis, shape[axis], 1, per=block))


def _space_to_depth(graph: Graph, node: Node, axis: int) -> Windows | None:
    shape, block = _shape(graph, node.inputs[0]), _integer(node, "blocksize", 1)
    if shape is None or axis < 2:
        return None
    window = RowWindow(axis, shape[axis], block, 0, block - 1)
    return _only_first(node, window)


def _matrix_product(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Rows of the left operand, columns of the right one, and matrices that are broadcast."""
    left, right, made = (_shape(graph, v) for v in (*node.inputs[:2], node.outputs[0]))
    if left is None or right is None or made is None or min(len(left), len(right)) < 2:
        return None
    windows: Windows = []
    for shape, column in ((left, False), (right, True)):
        own = axis - len(made) + len(shape)
        inner = axis == len(made) - (2 if column else 1)
        same = own >= 0 and not inner and shape[own] == made[axis]
        windows.append(same_rows(own, shape[own]) if same else None)
    return [*windows, *(None for _ in node.inputs[2:])]


def _gemm(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Rows of the first operand, or columns of the second; what is added is broadcast."""
    turned = _integer(node, ("transA", "transB")[axis], 0)
    own = axis ^ 1 if turned else axis
    shape, made = _shape(graph, node.inputs[axis]), _output(graph, node)
    if shape is None:
        return None
    windows: Windows = [None, None]
    windows[axis] = same_rows(own, shape[own])
    return [*windows, *_element_wise_of(graph, node.inputs[2:], made, axis)]


def _element_wise_of(graph: Graph, values: Sequence[str], made: Sequence[int], axis: int) -> Windows:
    windows: Windows = []
    for value in values:
        shape = _shape(graph, value) or ()
        own = axis - len(made) + len(shape)
        windows.append(same_rows(own, made[axis]) if own >= 0 and shape[own] == made[axis] else None)
    return windows


def _reduction(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Rows of an axis that is not reduced."""
    shape = _shape(graph, node.inputs[0])
    axes = _numbers(graph, node, 1) if len(node.inputs) > 1 and node.inputs[1] else []
    if shape is None or axes is None:
        return None
    said = node.attrs.get("axis")
    reduced = {int(place) % len(shape) for place in (*axes, *(_integers(node, "axes") or ()))}
    if node.op.startswith("Arg"):
        reduced = {(said if isinstance(said, int) else 0) % len(shape)}
    if not reduced:
        return None  # over everything, or nothing at all
    kept = _integer(node, "keepdims", 1)
    stay = [place for place in range(len(shape)) if kept or place not in reduced]
    own = stay[axis]
    return None if own in reduced else _only_first(node, same_rows(own, shape[own]))


def _gather(graph: Graph, node: Node, axis: int) -> Windows | None:
    """Rows of the data beside the gathered axis, or of the indices."""
    data, indices = (_shape(graph, value) for value in node.inputs[:2])
    if data is None or indices is None:
        return None
    gathered = _integer(node, "axis", 0) % len(data)
    if axis < gathered:
        return [same_rows(axis, data[axis]), None]
    if axis < gathered + len(indices):
        own = axis - gathered
        return [None, same_rows(own, indices[own])]
    own = axis - len(indices) + 1
    return [same_rows(own, data[own]), None]


# --- which op has which map --------------------------------------------------------------------------


def _all(ops: Iterable[str], rule: RowMap) -> dict[str, RowMap]:
    return dict.fromkeys(ops, rule)


_OF_ONE_KIND = {
    name
    for name, op in OPS.items()
    if op.kind
    in {
        Kind.ACTIVATION,
        Kind.FUNCTION,
        Kind.NOT_MONOTONE,
        Kind.STEP,
        Kind.SUM,
        Kind.SCALE,
        Kind.ARITHMETIC,
    }
    and "." not in name
}
_COMPARES = {"And", "Or", "Xor", "Not", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
_COMPARES |= {"IsInf", "IsNaN", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitShift"}

ROW_MAPS: dict[str, RowMap] = {
    **_all(sorted(_OF_ONE_KIND | _COMPARES), _element_wise),
    **_all(("Cast", "Expand", "Identity", "Where"), _element_wise),
    **_all(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    **_all(("LayerNormalization", "RMSNormalization"), _across(-1, behind=True)),
    **_all(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), _across(-1, behind=False)),
    **_all(("AveragePool", "LpPool", "MaxPool"), _convolution(None)),
    **_all(
        (op for op, facts in OPS.items() if facts.kind is Kind.REDUCTION and op[:6] == "Reduce"), _reduction
    ),
    **_all(("ArgMax", "ArgMin"), _reduction),
    **_all(("DequantizeLinear", "QuantizeLinear"), _quantised),
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "DepthToSpace": _depth_to_space,
    "Dropout": _element_wise,
    "Gather": _gather,
    "Gemm": _gemm,
    "LRN": _across(1, behind=False),
    "MatMul": _matrix_product,
    "Pad": _pad,
    "QLinearConv": _convolution(3),
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Transpose": _transpose,
}
"""By op; an op that is not listed is a barrier."""
