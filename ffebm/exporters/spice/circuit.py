"""An energy block as the circuit that is built: arrays between driven lines and virtual grounds, and neurons.

Each layer's unit has a neuron: a capacitor and a conductance at its input, which sums currents, and a buffer
that drives the lines with sigma of the voltage there. A linear map between two free layers takes two arrays,
G and a copy of its transpose, since a line that is driven cannot be a virtual ground at the same time; a map
from a clamped input takes one. Every window of a convolution has arrays of its own; their currents meet in
the virtual grounds of the unit that they drive.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ffebm.errors import UsageError
from ffebm.graph.energy_block import EnergyBlock, Interaction, Layer
from ffebm.graph.tensor import Floats
from ffebm.graph.windows import positions
from ffebm.hardware.description import Relaxation
from ffebm.limits import CIRCUIT_CELLS
from ffebm.mapping.circuit.equations import (
    Equations,
    IdentityLink,
    Lines,
    bias_drives,
    clamped_inputs,
    links_of,
    obstacles,
)
from ffebm.mapping.circuit.wiring import Units, wiring
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Piece, TilePlan
from ffebm.visible import visible


@dataclass(frozen=True)
class PlacedArray:
    """A part of a weight in one direction, with its windows; the first one's piece names it.

    Attributes:
        tile: Number of its tile.
        piece: Number of the piece.
        transposed: It is the copy that drives the source from the layer above.
        corner: First word line and bit-line pair of the piece on its tile.
        windows: Tile and piece that each window lies on, whose cells have the same targets.
        source: Value whose units drive its lines.
        target: Value whose units its currents go to.
        plus: Cells that count up, [driven lines, sensed lines], siemens.
        minus: Cells that count down, as many.
        drivers: Flat index of the unit on each driven line, [windows, driven lines]; or `NOWHERE`.
        sensed: Flat index of the unit behind each sensed line, [windows, sensed lines]; or `NOWHERE`.
        ohms: Of the feedback: drive in volts for each ampere.
    """

    tile: int
    piece: int
    transposed: bool
    corner: tuple[int, int]
    windows: tuple[tuple[int, int], ...]
    source: str
    target: str
    plus: Floats
    minus: Floats
    drivers: Units
    sensed: Units
    ohms: float

    @property
    def name(self) -> str:
        """Of its subcircuit."""
        return f"tile{self.tile}_piece{self.piece}{'_t' if self.transposed else ''}"

    @property
    def cells(self) -> int:
        """Cells, those of all windows together."""
        return len(self.drivers) * (self.plus.size + self.minus.size)

    def lines(self) -> Lines:
        """The array as equations."""
        heavier = np.maximum(self.plus.sum(0), self.minus.sum(0))
        return Lines(
            source=self.source,
            target=self.target,
            weight=(self.plus - self.minus) * self.ohms,
            noise_gain=self.ohms * heavier,
            siemens=self.plus.sum(1) + self.minus.sum(1),
            drivers=self.drivers,
            sensed=self.sensed,
        )


@dataclass(frozen=True)
class BlockCircuit:
    """The circuit of a block.

    Attributes:
        block: The block.
        inputs: Shape of each clamped input by value name.
        arrays: Its arrays.
        links: Its identities.
        constants: What biases drive each unit of a layer with, by value name, [units].
        relaxation: The machine's constants.
    """

    block: EnergyBlock
    inputs: dict[str, tuple[int, ...]]
    arrays: tuple[PlacedArray, ...]
    links: tuple[IdentityLink, ...]
    constants: dict[str, Floats]
    relaxation: Relaxation

    @property
    def cells(self) -> int:
        """Cells of all arrays."""
        return sum(array.cells for array in self.arrays)

    def equations(self) -> Equations:
        """How it moves."""
        lines = tuple(array.lines() for array in self.arrays)
        return Equations(self.block.layers, self.inputs, lines, self.links, self.constants)


def block_circuit(plan: Plan, block: EnergyBlock) -> BlockCircuit:
    """The circuit of a block as a plan has placed it.

    Raises:
        UsageError: If it cannot be wired, with the layer that stands against it.
        ModelError: If it has more cells than a simulator of circuits takes.
    """
    group = plan.hardware.analog_group(block.group)
    if group.relaxation is None:
        raise UsageError(
            f"{block.name} settles by clocked reads on {group.name!r} of machine {plan.hardware.name!r}",
            allowed="blocks that settle by themselves, as one circuit",
            hint="compile for a machine with continuous settling: --hardware resistive",
        )
    _check(plan, block)
    inside = {layer.value for layer in block.layers}
    pieces: dict[str, list[tuple[TilePlan, Piece]]] = {}
    for tile, piece in plan.pieces():
        pieces.setdefault(piece.weight, []).append((tile, piece))
    arrays: list[PlacedArray] = []
    links: list[IdentityLink] = []
    wired: dict[str, int] = {}  # copies of each weight that have a window
    for layer, interaction in block.interactions():
        free = interaction.source in inside
        if interaction.linear is None:
            links += links_of(layer, interaction, free=free)
        else:
            weight = interaction.linear.weight
            first = wired.get(weight, 0)
            wired[weight] = first + positions(interaction, interaction.linear)
            copies = [(at, p) for at, p in pieces[weight] if first <= p.replica < wired[weight]]
            arrays += _arrays(plan, layer, interaction, copies, free=free)
    inputs = clamped_inputs(block)
    constants = {layer.value: bias_drives(layer, plan.weights) for layer in block.layers}
    circuit = BlockCircuit(block, inputs, tuple(arrays), tuple(links), constants, group.relaxation)
    CIRCUIT_CELLS.check(circuit.cells, f"{block.name} is a circuit of {circuit.cells:,} cells")
    return circuit


def _check(plan: Plan, block: EnergyBlock) -> None:
    """Refuse what this circuit does not have."""
    for layer, found in _refused(plan, block):
        raise UsageError(
            f"{block.name} has {visible(layer)!r}: {found}",
            allowed="Hopfield layers joined by arrays of differential pairs, without pooling",
            hint="--block N writes another block alone",
        )


def _refused(plan: Plan, block: EnergyBlock) -> Iterator[tuple[str, str]]:
    tile = plan.hardware.analog_group(block.group).tile.crossbar()
    if tile.mapping != "differential":
        yield block.layers[0].value, f"its cells are in {tile.mapping!r} arrays"
    if tile.scale == "column":
        yield block.layers[0].value, "each column of its arrays has a digital scale of its own"
    yield from obstacles(block)


def _arrays(
    plan: Plan, layer: Layer, interaction: Interaction, placed: list[tuple[TilePlan, Piece]], *, free: bool
) -> Iterator[PlacedArray]:
    linear = interaction.linear
    assert linear is not None
    shape = plan.weights[linear.weight].shape
    lines = wiring(interaction, () if linear.op == "MatMul" else tuple(shape[2:]))
    cell = plan.tile_of(linear.weight).crossbar().cell
    span = cell.g_max.value - cell.g_min.value
    parts: dict[tuple[object, ...], list[tuple[TilePlan, Piece]]] = {}
    for at, piece in sorted(placed, key=lambda pair: pair[1].replica):
        key = piece.group, piece.inputs, piece.outputs, piece.transposed
        parts.setdefault(key, []).append((at, piece))
    for copies in parts.values():
        at, piece = copies[0]
        if piece.transposed and not free:
            continue  # of a weight that joins free layers elsewhere
        plus, minus = (np.asarray(side, np.float64) for side in plan.conductances(piece))
        ends = (interaction.source, lines.sources[piece.group][:, slice(*piece.inputs)])
        others = (layer.value, lines.targets[piece.group][:, slice(*piece.outputs)])
        (source, drivers), (target, sensed) = (others, ends) if piece.transposed else (ends, others)
        yield PlacedArray(
            tile=at.id,
            piece=piece.id,
            transposed=piece.transposed,
            corner=(piece.row, piece.col),
            windows=tuple((tile.id, copy.id) for tile, copy in copies),
            source=source,
            target=target,
            plus=plus,
            minus=minus,
            drivers=drivers,
            sensed=sensed,
            ohms=piece.scale / span,
        )
