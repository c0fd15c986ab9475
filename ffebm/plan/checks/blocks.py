"""Energy blocks of a plan: every interaction fits its layer, its weights and what it reads."""

import math
from collections.abc import Collection, Iterator, Mapping

from ffebm.errors import UsageError
from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import EnergyBlock, Interaction, Linear, Pool, Rearrangement
from ffebm.graph.energy_block import Layer as BlockLayer
from ffebm.graph.monotone import activation_problem
from ffebm.graph.tensor import Array, TensorType, holds_floats
from ffebm.graph.windows import n_windows
from ffebm.limits import VALUE_ELEMENTS

Shape = tuple[int, ...]
"""Shape of a value without the batch."""


class MisfitError(Exception):
    """Two facts of a block that contradict each other, as text."""


def block_problems(
    blocks: Collection[EnergyBlock], weights: Mapping[str, Array], types: Mapping[str, TensorType]
) -> Iterator[str]:
    """Contradictions of a plan's blocks, as text.

    Args:
        blocks: In order.
        weights: The plan's constants by source name.
        types: Of its values, by name.
    """
    for position, block in enumerate(blocks):
        try:
            if block.id != position:
                raise MisfitError(f"stands at position {position}")
            _check_names(block, weights)
            for value in block.inputs:
                _check_type(value, types)
            known: dict[str, Shape | None] = {value: _declared(value, types) for value in block.inputs}
            for layer in block.layers:
                _check_layer(layer, known, weights)
                _check_declared(layer.value, layer.shape, types)
                known[layer.value] = layer.shape
            _check_physics(block, weights)
            _check_relaxed(block)
        except MisfitError as error:
            yield f"{block.name} {error}"


def _check_names(block: EnergyBlock, weights: Mapping[str, Array]) -> None:
    """Every value is there once, every output is a layer, every weight has values of one type."""
    values = [*block.inputs, *(layer.value for layer in block.layers)]
    if not block.layers or not all(layer.interactions for layer in block.layers):
        raise MisfitError("has no layers, or a layer that nothing drives")
    if len(set(values)) < len(values):
        raise MisfitError("makes or takes a value twice")
    if set(block.outputs) - {layer.value for layer in block.layers} or len(set(block.outputs)) < len(
        block.outputs
    ):
        raise MisfitError("names an output that is no layer of it, or one twice")
    missing = [name for name in block.weights() if name not in weights]
    if missing:
        raise MisfitError(f"holds weight {missing[0]!r}, which has no values")
    kinds = {weights[name].dtype for name in block.weights()}
    if len(kinds) > 1 or not all(holds_floats(weights[name]) for name in block.weights()):
        raise MisfitError(
            f"has weights of the types {', '.join(sorted(map(str, kinds)))}; one of floats is allowed"
        )


def _check_relaxed(block: EnergyBlock) -> None:
    """A block that settles by itself takes a time, and no negative power."""
    needs = block.relaxed
    if needs is None:
        return
    if not (0 < needs.time_constants < math.inf and 0 <= needs.siemens < math.inf):
        raise MisfitError(f"settles in {needs.time_constants} time constants with {needs.siemens} S")
    answers = (needs.before_nudge, needs.nudged)
    known = [count for count in answers if count is not None]
    if len(known) == 1 or not all(0 < count < math.inf for count in known):
        raise MisfitError(f"settles in {answers[0]} time constants before a nudge and {answers[1]} under it")


def _check_physics(block: EnergyBlock, weights: Mapping[str, Array]) -> None:
    """Its physics is known here, lets each layer be driven as it is, and can hold each weight."""
    try:
        admission = admission_of(block.physics)
    except UsageError as error:
        raise MisfitError(f"cannot run: {error.found}; {error.allowed}") from None
    for layer, interaction in block.interactions():
        if interaction.linear is None and interaction.source in block.inputs:
            continue  # a drive that is computed elsewhere
        reason = admission.admits(interaction.linear, layer.activation, interaction.pool)
        if reason is None and interaction.linear is not None:
            reason = admission.holds(weights[interaction.linear.weight])
        if reason is not None:
            raise MisfitError(f"has layer {layer.value!r}: {reason}")


def _check_type(value: str, types: Mapping[str, TensorType]) -> None:
    known = types.get(value)
    if known is not None and "float" not in known.dtype and known.dtype != "unknown":
        raise MisfitError(f"reads {value!r}, which is of type {known.dtype}; floats are allowed")


def _declared(value: str, types: Mapping[str, TensorType]) -> Shape | None:
    """The sizes of a value behind its batch, if they are known."""
    known = types.get(value)
    behind = known.shape[1:] if known is not None and known.shape is not None else None
    sizes = tuple(size for size in behind or () if isinstance(size, int))
    return sizes if behind is not None and len(sizes) == len(behind) else None


def _check_declared(value: str, shape: Shape, types: Mapping[str, TensorType]) -> None:
    declared = _declared(value, types)
    if declared is not None and declared != shape:
        raise MisfitError(f"makes {value!r} of {list(shape)} a sample, whose type says {list(declared)}")


def _check_layer(layer: BlockLayer, known: Mapping[str, Shape | None], weights: Mapping[str, Array]) -> None:
    _check_size(layer.shape, layer.value)
    why = activation_problem(layer.activation)
    if why:
        raise MisfitError(f"has layer {layer.value!r}, whose activation {layer.activation.op!r} {why}")
    for interaction in layer.interactions:
        if interaction.source not in known:
            raise MisfitError(
                f"has layer {layer.value!r}, which reads {interaction.source!r}, no value before it"
            )
        source = known[interaction.source]
        if source is not None and source != interaction.source_shape:
            found, wanted = list(interaction.source_shape), list(source)
            raise MisfitError(f"reads {interaction.source!r} as {found} a sample, which is {wanted}")
        drive = _drive_shape(interaction, weights)
        if not _broadcasts(drive, layer.shape):
            raise MisfitError(f"drives {layer.value!r} of {list(layer.shape)} a sample by {list(drive)}")
    for bias in layer.biases:
        shape = weights[bias].shape
        if not _broadcasts(shape, (1, *layer.shape)):  # the same for every sample
            found, wanted = list(shape), list(layer.shape)
            raise MisfitError(f"adds bias {bias!r} of {found} to {layer.value!r} of {wanted} a sample")


def _check_size(shape: Shape, what: str) -> None:
    if any(size < 1 for size in shape):
        raise MisfitError(f"makes {what!r} of {list(shape)} a sample; sizes of at least 1 are allowed")
    if math.prod(shape) > VALUE_ELEMENTS.value:
        raise MisfitError(
            f"makes {what!r} of {math.prod(shape):,} elements a sample; {VALUE_ELEMENTS.allowed}"
        )


def _broadcasts(shape: Shape, full: Shape) -> bool:
    pairs = zip(shape[::-1], full[::-1], strict=False)
    return len(shape) <= len(full) and all(size in {1, wanted} for size, wanted in pairs)


def _drive_shape(interaction: Interaction, weights: Mapping[str, Array]) -> Shape:
    """The shape in which an interaction reaches its layer, followed through all of its parts."""
    _check_size(interaction.source_shape, interaction.source)
    shape = _laid_out(interaction.source_shape, interaction.before)
    if interaction.linear is not None:
        shape = _mapped(shape, interaction.linear, weights)
    if shape != interaction.linear_shape:
        found, wanted = list(interaction.linear_shape), list(shape)
        raise MisfitError(f"maps {interaction.source!r} to {wanted} a sample, not to {found}")
    _check_size(shape, f"what it maps {interaction.source} to")
    if interaction.pool is not None:
        shape = _pooled(shape, interaction.pool)
    return _laid_out(shape, interaction.after)


def _laid_out(shape: Shape, layouts: tuple[Rearrangement, ...]) -> Shape:
    for layout in layouts:
        if layout.op == "Transpose":
            if sorted(layout.sizes) != list(range(len(shape) + 1)) or layout.sizes[0] != 0:
                raise MisfitError(f"permutes the axes of {list(shape)} by {list(layout.sizes)}")
            shape = tuple(shape[axis - 1] for axis in layout.sizes[1:])
            continue
        free = [size for size in layout.sizes if size < 0]
        rest = math.prod(size for size in layout.sizes if size >= 0)
        whole = math.prod(shape)
        if free not in ([], [-1]) or rest < 1 or (whole % rest if free else whole != rest):
            raise MisfitError(f"reshapes {list(shape)} to {list(layout.sizes)} a sample")
        shape = tuple(whole // rest if size < 0 else size for size in layout.sizes)
    return shape


def _mapped(shape: Shape, linear: Linear, weights: Mapping[str, Array]) -> Shape:
    """The shape behind a linear map."""
    weight = weights[linear.weight].shape
    made = _multiplied(shape, linear, weight) if linear.op == "MatMul" else _convolved(shape, linear, weight)
    channels = made[-1 if linear.op == "MatMul" else 0]
    if linear.bias is not None and weights[linear.bias].size not in {1, channels}:
        found = list(weights[linear.bias].shape)
        raise MisfitError(f"adds bias {linear.bias!r} of {found} to {channels} outputs")
    return made


def _misfit(shape: Shape, linear: Linear, weight: Shape) -> MisfitError:
    return MisfitError(
        f"multiplies {list(shape)} a sample by {linear.weight!r} of {list(weight)} ({linear.op})"
    )


def _multiplied(shape: Shape, linear: Linear, weight: Shape) -> Shape:
    if len(weight) != 2 or not shape or shape[-1] != weight[1 if linear.transposed else 0]:
        raise _misfit(shape, linear, weight)
    return (*shape[:-1], weight[0 if linear.transposed else 1])


def _convolved(shape: Shape, linear: Linear, weight: Shape) -> Shape:
    rank, groups = len(weight) - 2, linear.groups
    if not 1 <= rank <= 3 or len(shape) != rank + 1 or groups < 1 or weight[0] % groups:
        raise _misfit(shape, linear, weight)
    strides, dilations, pads = _windows(linear.strides, linear.dilations, linear.pads, rank)
    extra = linear.output_padding or (0,) * rank
    transposed = linear.op == "ConvTranspose"
    if shape[0] != (weight[0] if transposed else weight[1] * groups):
        raise _misfit(shape, linear, weight)
    if len(extra) != rank or any(size < 0 for size in extra) or (any(extra) and not transposed):
        raise MisfitError(f"pads the output of {linear.weight!r} by {list(extra)}")
    ways = zip(shape[1:], weight[2:], strides, dilations, pads[:rank], pads[rank:], extra, strict=True)
    if transposed:
        sizes = [(n - 1) * s + d * (k - 1) + 1 - b - e + x for n, k, s, d, b, e, x in ways]
    else:
        sizes = [n_windows(n, k, s, d, b, e, ceil=False) for n, k, s, d, b, e, _ in ways]
    return ((weight[1] * groups) if transposed else weight[0], *sizes)


def _windows(strides: Shape, dilations: Shape, pads: Shape, rank: int) -> tuple[Shape, Shape, Shape]:
    """What windows step over, with the defaults of what is left out."""
    steps = (strides or (1,) * rank, dilations or (1,) * rank)
    if any(len(step) != rank or min(step) < 1 for step in steps) or len(pads) not in {0, 2 * rank}:
        raise MisfitError(f"has windows of {rank} axes with strides {list(strides)} and pads {list(pads)}")
    if any(pad < 0 for pad in pads):
        raise MisfitError(f"pads by {list(pads)}")
    return *steps, pads or (0,) * (2 * rank)


def _pooled(shape: Shape, pool: Pool) -> Shape:
    rank = len(pool.kernel)
    if not 1 <= rank <= min(3, len(shape)) or any(size < 1 for size in pool.kernel):
        raise MisfitError(f"pools {list(shape)} a sample by windows of {list(pool.kernel)}")
    strides, dilations, pads = _windows(pool.strides, pool.dilations, pool.pads, rank)
    behind = shape[len(shape) - rank :]
    ways = zip(behind, pool.kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    sizes = [n_windows(n, k, s, d, b, e, ceil=pool.ceil_mode) for n, k, s, d, b, e in ways]
    if any(pad >= (k - 1) * d + 1 for pad, k, d in zip(pads, pool.kernel * 2, dilations * 2, strict=True)):
        raise MisfitError(f"pools windows of {list(pool.kernel)} with pads {list(pads)}, which may be empty")
    pooled = (*shape[: len(shape) - rank], *sizes)
    if any(size < 1 for size in pooled):
        raise MisfitError(f"pools {list(shape)} a sample to {list(pooled)}")
    return pooled
