"""What a block that settles by itself needs, from its own weights: how long a phase, and how much power.

The circuit is simulated with a few seeded inputs and nudges, lumped (`dynamics`; `passive` for deep resistive
blocks, whose inputs are of either sign); the slowest sample counts.
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
from ffebm.mapping.circuit.passive import MOST_STEPS, PHYSICS, Constants, PassiveCircuit, PassiveDynamics
from ffebm.mapping.circuit.passive import STEPS as PASSIVE_STEPS
from ffebm.mapping.circuit.wiring import wiring
from ffebm.plan.conductance import (
    common_limit,
    from_matrix,
    linears_of,
    range_scale,
    to_levels,
    to_matrix,
    weight_range,
)

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
    inputs = seeded_inputs(clamped_inputs(block), SAMPLES)
    pushes = nudges(seeded_currents(output_shapes(block), SAMPLES), BETA)
    still = (STILL if relaxation.response is None else STILLER) * relaxation.accuracy.value
    tile = group.tile.crossbar()
    if block.physics == PHYSICS:
        passive = PassiveDynamics(passive_before_placement(block, weights, tile, relaxation))
        layers, neuron = passive.layers, 0.0
        samples = passive.relax({name: 2 * x - 1 for name, x in inputs.items()}, pushes, still)
    else:
        dynamics = Dynamics(equations_of(block, weights, tile), relaxation, relaxation.amplifier, STEPS)
        layers, neuron = dynamics.layers, float(relaxation.time_constant.value)
        samples = dynamics.relax(inputs, pushes, still, MOST)
    if not all(course.settled for courses in samples for course in courses):
        return None
    found = [_Times.of(courses, layers, relaxation, neuron) for courses in samples]
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
    def of(
        cls, courses: Sequence[Course], layers: Sequence[slice], relaxation: Relaxation, neuron: float
    ) -> "_Times":
        """Those of a free phase and of both nudged ones, as they went.

        Args:
            courses: Of the three.
            layers: The units of each.
            relaxation: The machine's constants.
            neuron: Time constant of a neuron that nothing answers, s; 0 where each answers.
        """
        assert relaxation.accuracy is not None
        free, plus, minus = courses
        seconds = max(course.time_to(SHARE * relaxation.accuracy.value) for course in courses)
        if relaxation.response is None:
            return cls(seconds, seconds, seconds)
        share = SHARE * relaxation.response.value
        half = (plus.states[-1] - minus.states[-1]) / 2
        answers = [(units, float(np.linalg.norm(half[units]))) for units in layers]
        bounds = [(units, share * size) for units, size in answers if size > SILENT * BETA]
        alone = -math.log(share) * neuron
        before = max(seconds, free.time_within(bounds))
        return cls(seconds, before, max(alone, *(course.time_within(bounds) for course in (plus, minus))))


def unknown(block: EnergyBlock, weights: Mapping[str, Array], group: AnalogGroup) -> str:
    """Why a block is not simulated; empty if it is."""
    if block.physics == PHYSICS:
        return _unknown_passive(block, weights, group.tile.crossbar())
    for layer, found in obstacles(block):
        return f"{layer!r}: {found}"
    tile = group.tile.crossbar()
    if tile.mapping != "differential" or tile.scale != "piece":
        return "it lies on arrays with offset columns or scales of single columns"
    if not all(np.isfinite(weights[name]).all() for name in block.weights()):
        return "a weight is not finite"
    count = sum(_connections(interaction, weights) for _, interaction in block.interactions())
    return f"it has {count:,} connections" if count > MOST_CONNECTIONS else ""


def _unknown_passive(block: EnergyBlock, weights: Mapping[str, Array], tile: Crossbar) -> str:
    """The same of a deep resistive block."""
    if not tile.is_single:
        return "its weights lie on pairs of cells, of which one would do"
    if tile.cell.g_min.value == 0:
        return "its cells go down to 0 S, where nodes float"
    if not all(np.isfinite(weights[name]).all() for name in block.weights()):
        return "a weight is not finite"
    inside = {layer.value for layer in block.layers}
    count = 0
    for layer, interaction in block.interactions():
        if interaction.linear is None:
            return f"a digital unit drives {layer.value!r}"
        pairs = math.prod(layer.shape) * math.prod(interaction.source_shape)
        count += pairs if interaction.source in inside else _connections(interaction, weights)
    return f"it has {count:,} connections" if count > MOST_CONNECTIONS else ""


def unsettled(block: EnergyBlock) -> str:
    """Why a block that is simulated has no time."""
    if block.physics == PHYSICS:
        return f"it moves after {MOST_STEPS:,} steps, {PASSIVE_STEPS} a time constant of its fastest node"
    return f"it moves after {MOST} time constants"


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


def passive_before_placement(
    block: EnergyBlock, weights: Mapping[str, Array], tile: Crossbar, relaxation: Relaxation
) -> PassiveCircuit:
    """A deep resistive block's circuit before it is placed: its own weights alone decide on its range.

    Args:
        block: The block.
        weights: Of it, by source name.
        tile: What it lies on: single cells.
        relaxation: The machine's constants.
    """
    linears = linears_of([block])
    limit = common_limit(tuple(linears), linears, weights.__getitem__, tile)
    least, scale = tile.least_level, float(range_scale(limit, tile))
    held: dict[str, Floats] = {}
    for name, linear in linears.items():
        weight = weights[name].astype(np.float64)
        levels = to_levels(to_matrix(linear, weight), limit, tile) + least
        held[name] = from_matrix(linear, levels * (scale / (tile.cell.levels - 1)), weight.shape)
    span = tile.cell.g_max.value - tile.cell.g_min.value
    return PassiveCircuit.of(block, held, weights, span / scale, Constants.of(relaxation))


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
