"""What a block that settles by itself needs, from its own weights: how long a phase, and how much power.

The circuit is simulated with a few seeded inputs and nudges, lumped (`dynamics`); the slowest sample counts.
A free phase that is read out lasts until its state is accurate. What the contrast of two nudged states needs
is accuracy of their difference, a small part of either: those phases, and the free one before them, last
until what is left in each layer is as small beside the answer of that layer. The weights are those that it is
compiled with; training changes them, and data may be slower than what is drawn.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ffebm.graph.energy_block import EnergyBlock, Interaction, Layer, Relaxed
from ffebm.graph.tensor import Array, Floats
from ffebm.hardware.description import Amplifier, AnalogGroup, Crossbar, Relaxation
from ffebm.mapping.circuit.connections import lags
from ffebm.mapping.circuit.dynamics import Course, Dynamics
from ffebm.mapping.circuit.equations import (
    BETA,
    Equations,
    IdentityLink,
    Lines,
    bias_drives,
    clamped_inputs,
    links_of,
    nudges,
    obstacles,
    output_shapes,
    seeded_currents,
    seeded_inputs,
)
from ffebm.mapping.circuit.wiring import wiring
from ffebm.plan.conductance import range_scale, to_levels, to_matrix, weight_range

SAMPLES = 4
"""Inputs that are drawn."""

STEPS = 8
"""Steps in a time constant."""

SHARE = 0.8
"""Of the accuracy, that the relaxation may take; finite gains, and ranges of cut matrices, take the rest."""

MOST = 1000
"""Time constants after which a block counts as one that does not come to rest."""

MOST_CONNECTIONS = 2_000_000
"""Of the windows of a block, all together: more take too long in a compilation."""

STILL, STILLER = 1e-3, 1e-7
"""Change in a time constant, as a share of the accuracy, at which a circuit has come to rest: for its states,
and for the answers of deep layers, which are down to 1e-4 of them."""

SILENT = 1e-4
"""Answer of a layer, by norm, as a share of the largest nudge, below which none is waited for: units at the
ends of their range."""


def relaxed(block: EnergyBlock, weights: Mapping[str, Array], group: AnalogGroup) -> Relaxed | None:
    """What a block needs on a group of tiles; None if that is not known, as `unknown` tells."""
    relaxation = group.relaxation
    if relaxation is None or relaxation.accuracy is None or unknown(block, weights, group):
        return None
    equations = equations_of(block, weights, group.tile.crossbar())
    dynamics = Dynamics(equations, relaxation, relaxation.amplifier, STEPS)
    inputs = seeded_inputs(equations.inputs, SAMPLES)
    currents = seeded_currents(output_shapes(block), SAMPLES)
    still = (STILL if relaxation.response is None else STILLER) * relaxation.accuracy.value
    samples = dynamics.relax(inputs, nudges(currents, BETA), still, MOST)
    if not all(course.settled for courses in samples for course in courses):
        return None
    found = [_Times.of(courses, dynamics.layers, relaxation) for courses in samples]
    power = sum(courses[0].siemens for courses in samples) / len(samples)
    slowest = [max(times) for times in zip(*(f.in_order for f in found), strict=True)]
    counts = [float(f"{seconds / relaxation.time_constant.value:.6g}") for seconds in slowest]
    answers = counts[1:] if relaxation.response is not None else [None, None]
    return Relaxed(counts[0], float(f"{power:.6g}"), *answers)


@dataclass(frozen=True)
class _Times:
    """How long the phases of a sample must last, s.

    Attributes:
        free: Until each of them is as accurate as a state that is read out.
        before_nudge: Until a contrast can follow.
        nudged: Until a contrast can be made.
    """

    free: float
    before_nudge: float
    nudged: float

    @property
    def in_order(self) -> tuple[float, float, float]:
        return self.free, self.before_nudge, self.nudged

    @classmethod
    def of(cls, courses: Sequence[Course], layers: Sequence[slice], relaxation: Relaxation) -> "_Times":
        """Those of a free phase and of both nudged ones, as they went."""
        assert relaxation.accuracy is not None
        free, plus, minus = courses
        seconds = max(course.time_to(SHARE * relaxation.accuracy.value) for course in courses)
        if relaxation.response is None:
            return cls(seconds, seconds, seconds)
        share = SHARE * relaxation.response.value
        half = (plus.states[-1] - minus.states[-1]) / 2
        answers = [(units, float(np.linalg.norm(half[units]))) for units in layers]
        bounds = [(units, share * size) for units, size in answers if size > SILENT * BETA]
        alone = -math.log(share) * relaxation.time_constant.value  # of a neuron that nothing answers
        before = max(seconds, free.time_within(bounds))
        return cls(seconds, before, max(alone, *(course.time_within(bounds) for course in (plus, minus))))


def unknown(block: EnergyBlock, weights: Mapping[str, Array], group: AnalogGroup) -> str:
    """Why a block is not simulated; empty if it is."""
    for layer, found in obstacles(block):
        return f"{layer!r}: {found}"
    tile = group.tile.crossbar()
    if tile.mapping != "differential" or tile.scale != "piece":
        return "it lies on arrays with offset columns or scales of single columns"
    if not all(np.isfinite(weights[name]).all() for name in block.weights()):
        return "a weight is not finite"
    count = sum(_connections(interaction, weights) for _, interaction in block.interactions())
    return f"it has {count:,} connections" if count > MOST_CONNECTIONS else ""


def _connections(interaction: Interaction, weights: Mapping[str, Array]) -> int:
    """Cells of one direction, all windows together, in pairs."""
    linear = interaction.linear
    if linear is None:
        return 0
    shape = weights[linear.weight].shape
    if linear.op == "MatMul":
        return math.prod(shape) * math.prod(interaction.linear_shape[:-1])
    if linear.op == "Conv":
        return math.prod(shape) * math.prod(interaction.linear_shape[1:])
    return math.prod(shape) * math.prod(interaction.source_shape) // shape[0]


def ground_lags(
    block: EnergyBlock, weights: Mapping[str, Array], tile: Crossbar, amplifier: Amplifier | None
) -> dict[tuple[int, bool], Floats]:
    """Time constants of the virtual grounds of a block's lines, s.

    Args:
        block: The block.
        weights: Of it, by source name.
        tile: What it lies on.
        amplifier: At its virtual grounds; None is ideal.

    Returns:
        By position in `block.interactions()`, and whether the source is driven: for each unit that is driven.
    """
    inside = {layer.value for layer in block.layers}
    gains: dict[tuple[int, bool], Floats] = {}
    for number, (layer, interaction) in enumerate(block.interactions()):
        if interaction.linear is None:
            continue
        weight, free = weights[interaction.linear.weight], interaction.source in inside
        for lines in _lines(layer, interaction, weight, tile, free=free):
            back = lines.target != layer.value
            units = math.prod(interaction.source_shape if back else layer.shape)
            met = lines.sensed >= 0
            on_lines = np.broadcast_to(lines.noise_gain, met.shape)[met]
            gain = gains.setdefault((number, back), np.zeros(units))
            gain += np.bincount(lines.sensed[met], on_lines, units)
    return {line: lags(gain, amplifier) for line, gain in gains.items()}


def equations_of(block: EnergyBlock, weights: Mapping[str, Array], tile: Crossbar) -> Equations:
    """A block's circuit before it is placed: each weight on one array, with one range."""
    inside = {layer.value for layer in block.layers}
    lines: list[Lines] = []
    links: list[IdentityLink] = []
    for layer, interaction in block.interactions():
        free = interaction.source in inside
        if interaction.linear is None:
            links += links_of(layer, interaction, free=free)
        else:
            lines += _lines(layer, interaction, weights[interaction.linear.weight], tile, free=free)
    constants = {layer.value: bias_drives(layer, weights) for layer in block.layers}
    return Equations(block.layers, clamped_inputs(block), tuple(lines), tuple(links), constants)


def _lines(
    layer: Layer, interaction: Interaction, weight: Array, tile: Crossbar, *, free: bool
) -> Iterator[Lines]:
    linear = interaction.linear
    assert linear is not None
    wires = wiring(interaction, () if linear.op == "MatMul" else tuple(weight.shape[2:]))
    for group, matrix in enumerate(to_matrix(linear, weight).astype(np.float64)):
        limit = weight_range(matrix, tile, matrix.shape[-1])
        scale = float(range_scale(limit, tile).max())
        matrix = to_levels(matrix, limit, tile) / tile.top_level * scale
        ends = (interaction.source, layer.value, wires.sources[group], wires.targets[group])
        yield _directed(matrix.T, scale, tile, ends)
        if free:
            yield _directed(matrix, scale, tile, (ends[1], ends[0], ends[3], ends[2]))


def _directed(matrix: Floats, scale: float, tile: Crossbar, ends: tuple[str, str, Array, Array]) -> Lines:
    """One direction of a matrix, [driven, sensed], whose largest weight takes `scale`."""
    low, span = tile.cell.g_min.value, tile.cell.g_max.value - tile.cell.g_min.value
    share = np.clip(matrix / (scale or 1.0), -1.0, 1.0)
    plus, minus = low + span * share.clip(0, None), low + span * (-share).clip(0, None)
    source, target, drivers, sensed = ends
    return Lines(
        source=source,
        target=target,
        weight=share * scale,
        noise_gain=scale / span * np.maximum(plus.sum(0), minus.sum(0)),
        siemens=(plus + minus).sum(1),
        drivers=drivers.astype(np.int64),
        sensed=sensed.astype(np.int64),
    )
