"""What a node is inside an energy block: a linear map, a pooling, a layout change, a bias or a scale.

Each function returns the part, or raises `Unfit` with the reason why the node is digital.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ffebm.graph.energy_block import Linear, Pool, Rearrangement
from ffebm.graph.graph import Graph, Node
from ffebm.graph.ops import Kind, kind_of
from ffebm.graph.tensor import holds_floats
from ffebm.graph.work import stationary
from ffebm.visible import visible


class Unfit(Exception):  # noqa: N818 - a reason, not an error
    """Why a node is digital."""


OPEN = "a tile needs every size but the batch, and one is open"
"""How the reason of a linear map of open size begins."""


def unfit(graph: Graph, node: Node) -> Unfit:
    """Why a node of no analog kind is digital, and where its weight stays if it has a stationary one."""
    kind = kind_of(node.op)
    if kind is None:
        return Unfit("an op of torch that has no form on a tile")
    held = stationary(node.op, node.inputs, graph.constants)
    return Unfit(
        f"{kind.value}; its weight is stationary and stays in digital memory" if held else kind.value
    )


def linear_of(graph: Graph, node: Node, makers: Mapping[str, Node]) -> tuple[Linear, tuple[int, ...]]:
    """A linear map with a stationary weight, and its output's shape without the batch.

    Args:
        graph: The graph.
        node: The node.
        makers: The node that makes each value.

    Raises:
        Unfit: If the weight is not stationary, or the map is of another form.
    """
    if node.op in {"Conv", "ConvTranspose"}:
        return _convolution(graph, node, makers), _known(graph, node)
    if node.op == "Gemm":
        return _gemm(graph, node, makers), _known(graph, node)
    if node.op == "MatMul":
        return _matmul(graph, node, makers), _known(graph, node)
    raise Unfit(f"{node.op} is not an energy block's linear map yet")


def _weight(graph: Graph, node: Node, makers: Mapping[str, Node]) -> str:
    name = node.inputs[1]
    array = graph.constants.get(name)
    if array is None:
        raise Unfit(_missing_weight(graph, makers, name))
    if not holds_floats(array):
        raise Unfit(f"its weight is {array.dtype}; tiles hold floating-point weights")
    return name


def _missing_weight(graph: Graph, makers: Mapping[str, Node], name: str) -> str:
    """Why a value is no stationary weight: it is computed, if only by layout changes."""
    while name in makers and kind_of(makers[name].op) is Kind.LAYOUT:
        name = makers[name].inputs[0]
    if name in graph.constants:
        return "its weight passes a layout change first; a tile holds weights as the model stores them"
    return "no stationary weight: both operands are computed at run time"


def _known(graph: Graph, node: Node) -> tuple[int, ...]:
    shape = graph.shape(node.outputs[0])
    source = graph.shape(node.inputs[0])
    for value, sizes in ((node.inputs[0], source), (node.outputs[0], shape)):
        if sizes is None or not all(isinstance(d, int) for d in sizes[1:]):
            listed = "" if sizes is None else f": {list(sizes)}"
            raise Unfit(f"{OPEN} in {visible(value)!r}{listed}; --dim NAME=SIZE gives it")
    assert shape is not None  # the loop above has raised otherwise
    if len(shape) < 2:
        raise Unfit("its output has no batch axis")
    return tuple(int(d) for d in shape[1:])


def _convolution(graph: Graph, node: Node, makers: Mapping[str, Node]) -> Linear:
    weight = _weight(graph, node, makers)
    bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is not None and bias not in graph.constants:
        raise Unfit("its bias is computed at run time")
    pads = node.attrs.get("pads")
    if "auto_pad" in node.attrs or "output_shape" in node.attrs or not isinstance(pads, tuple):
        raise Unfit("its padding follows from output_shape or auto_pad")
    axes = graph.constants[weight].ndim - 2
    groups = node.attrs.get("group", 1)
    return Linear(
        op="Conv" if node.op == "Conv" else "ConvTranspose",
        weight=weight,
        bias=bias,
        strides=_ints(node, "strides", axes),
        pads=tuple(int(p) for p in pads),
        dilations=_ints(node, "dilations", axes),
        groups=groups if isinstance(groups, int) else 1,
        output_padding=_ints(node, "output_padding", axes, 0) if node.op == "ConvTranspose" else (),
    )


def _ints(node: Node, name: str, axes: int, default: int = 1) -> tuple[int, ...]:
    value = node.attrs.get(name)
    return tuple(int(v) for v in value) if isinstance(value, tuple) else (default,) * axes


def _gemm(graph: Graph, node: Node, makers: Mapping[str, Node]) -> Linear:
    if node.attrs.get("transA") or any(node.attrs.get(k, 1.0) != 1.0 for k in ("alpha", "beta")):
        raise Unfit("a Gemm with transA, or with alpha or beta other than 1")
    weight = _weight(graph, node, makers)
    transposed = bool(node.attrs.get("transB"))
    bias = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is not None:
        array = graph.constants.get(bias)
        outputs = graph.constants[weight].shape[0 if transposed else 1]
        if array is None or array.shape not in {(outputs,), (1, outputs)}:
            raise Unfit("its bias is computed at run time, or is not one number an output")
    return Linear(op="MatMul", weight=weight, bias=bias, transposed=transposed)


def _matmul(graph: Graph, node: Node, makers: Mapping[str, Node]) -> Linear:
    if node.inputs[0] in graph.constants and node.inputs[1] not in graph.constants:
        raise Unfit("its stationary weight stands on the left, so it mixes the batch axis")
    weight = _weight(graph, node, makers)
    if graph.constants[weight].ndim != 2:
        raise Unfit("its stationary weight is not one matrix")
    source = graph.shape(node.inputs[0])
    if source is not None and len(source) < 2:
        raise Unfit("its input has no batch axis")
    return Linear(op="MatMul", weight=weight, transposed=bool(node.attrs.get("transB")))


def pool_of(graph: Graph, node: Node) -> Pool:
    """A pooling behind a linear map.

    Raises:
        Unfit: If it returns indices, or its window is not known in full.
    """
    if node.op not in {"MaxPool", "AveragePool"}:
        raise Unfit(f"{node.op} over sizes that are not known")
    if len([o for o in node.outputs if o]) > 1:
        raise Unfit("a pooling that also returns positions")
    pads, kernel = node.attrs.get("pads"), node.attrs.get("kernel_shape")
    if not isinstance(pads, tuple) or not isinstance(kernel, tuple) or "auto_pad" in node.attrs:
        raise Unfit("its padding follows from auto_pad")
    axes = len(kernel)
    dilations = _ints(node, "dilations", axes)
    if node.op == "AveragePool" and any(d != 1 for d in dilations):
        raise Unfit("an average over a dilated window")
    return Pool(
        op="MaxPool" if node.op == "MaxPool" else "AveragePool",
        kernel=tuple(int(k) for k in kernel),
        strides=_ints(node, "strides", axes),
        pads=tuple(int(p) for p in pads),
        dilations=dilations,
        ceil_mode=bool(node.attrs.get("ceil_mode", 0)),
        count_include_pad=bool(node.attrs.get("count_include_pad", 0)),
    )


def rearrangement_of(graph: Graph, node: Node) -> tuple[Rearrangement, ...]:
    """A change of shape or axis order that leaves the batch first.

    Raises:
        Unfit: If it moves the batch, or sizes are unknown.
    """
    if node.op == "Identity":
        return ()
    before, after = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
    if not before or not after:
        raise Unfit("a layout change that moves the batch")
    if node.op == "Transpose":
        order = node.attrs.get("perm", tuple(range(len(before)))[::-1])
        if not isinstance(order, tuple) or order[0] != 0:
            raise Unfit("a layout change that moves the batch")
        return (Rearrangement("Transpose", tuple(int(axis) for axis in order)),)
    sizes = [d for d in after[1:] if isinstance(d, int)]
    if len(sizes) != len(after) - 1 or not all(isinstance(d, int) for d in before[1:]):
        raise Unfit("a layout change of unknown size")
    if math.prod(sizes) != math.prod(int(d) for d in before[1:]):
        raise Unfit("a layout change that moves the batch")
    return (Rearrangement("Reshape", tuple(sizes)),)


def bias_shape_fits(graph: Graph, value: str, sample: tuple[int, ...]) -> bool:
    """Whether a constant is added to every sample alike, of a sum of [batch, *sample]."""
    array = graph.constants[value]
    batch, *sizes = (1,) * (len(sample) + 1 - array.ndim) + array.shape
    fits = bool(np.isfinite(array).all())  # an infinite number masks, and no layer can settle at it
    fits = fits and batch == 1 and len(sizes) == len(sample)
    return fits and all(s in {1, d} for s, d in zip(sizes, sample, strict=True))


def scale_of(graph: Graph, node: Node) -> tuple[float, str]:
    """The positive constant of a product or quotient, and the value that it scales.

    Raises:
        Unfit: If the other operand is no positive number.
    """
    for position in (1,) if node.op == "Div" else (0, 1):
        array = graph.constants.get(node.inputs[position])
        if array is None or array.size > 1:
            continue
        if node.inputs[position] in graph.trainable:
            raise Unfit("product with a number that trains")
        if array.size == 1 and holds_floats(array) and np.isfinite(array).all() and array.ravel()[0] > 0:
            factor = float(array.ravel()[0])
            return 1 / factor if node.op == "Div" else factor, node.inputs[1 - position]
        raise Unfit("product with a constant that is not one positive number")
    if any(value in graph.constants for value in node.inputs):
        raise Unfit("product with a weight for each unit: a diagonal map, which no tile holds")
    raise Unfit("product of two activations: no stationary weight")


# --- branches ------------------------------------------------------------------------------------------


_BEHIND_A_MAP = frozenset({Kind.SUM, Kind.SCALE, Kind.LAYOUT})
_BEFORE_A_MAP = frozenset({Kind.LAYOUT})


def branches(value: str, readers: Mapping[str, Sequence[Node]], makers: Mapping[str, Node]) -> list[str]:
    """Values whose linear maps end in a sum with those of a value, in order.

    Args:
        value: A state.
        readers: The nodes that read each value.
        makers: The node that makes each value.
    """
    mapped = [
        node.outputs[0]
        for v in _ahead([value], readers, _BEFORE_A_MAP)
        for node in readers.get(v, ())
        if kind_of(node.op) is Kind.LINEAR and node.inputs[0] == v
    ]
    sums = _ahead(mapped, readers, _BEHIND_A_MAP)
    maps = [makers[v] for v in _behind(sums, makers, _BEHIND_A_MAP) if _is(makers.get(v), Kind.LINEAR)]
    sources = _behind((node.inputs[0] for node in maps), makers, _BEFORE_A_MAP)
    return [source for source in sources if source != value]


def _ahead(
    values: Iterable[str], readers: Mapping[str, Sequence[Node]], through: frozenset[Kind]
) -> list[str]:
    """Values, and what nodes of some kinds make of them."""
    found = list(dict.fromkeys(values))
    for value in found:
        made = [node.outputs[0] for node in readers.get(value, ()) if _is(node, *through)]
        found += [v for v in dict.fromkeys(made) if v not in found]
    return found


def _behind(values: Iterable[str], makers: Mapping[str, Node], through: frozenset[Kind]) -> list[str]:
    """Values, and what nodes of some kinds make them of."""
    found = list(dict.fromkeys(values))
    for value in found:
        node = makers.get(value)
        if node is not None and _is(node, *through):
            found += [v for v in dict.fromkeys(node.inputs) if v and v not in found]
    return found


def _is(node: Node | None, *kinds: Kind) -> bool:
    """Whether a node is of one of some kinds."""
    return node is not None and kind_of(node.op) in kinds
