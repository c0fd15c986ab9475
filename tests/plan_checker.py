"""A checker of plans that shares no code with what places and bills: from the plan alone, cell by cell."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from ffebm import Plan
from ffebm.graph.energy_block import EnergyBlock, Interaction
from ffebm.graph.tensor import Array
from ffebm.plan.conductance import to_matrix
from ffebm.plan.schedule import Cost
from ffebm.plan.schema import Piece
from ffebm.scheduling.rows.drive import IDLE

Key = tuple[str, int, int]


@dataclass(frozen=True)
class Held:
    """The pieces that lie together, of one weight, replica and bundle."""

    tile: int
    pieces: tuple[Piece, ...]

    @property
    def turns(self) -> dict[int, list[Piece]]:
        """The pieces that each read takes."""
        found: dict[int, list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            found[piece.turn].append(piece)
        return found

    def lines(self) -> tuple[set[int], set[int]]:
        """Word lines and bit lines between its corners."""
        rows = {line for p in self.pieces for line in range(p.row, p.row + p.n_in)}
        cols = {line for p in self.pieces for line in range(p.col, p.col + p.n_out)}
        return set(range(min(rows), 1 + max(rows))), set(range(min(cols), 1 + max(cols)))


def bundles(plan: Plan) -> dict[Key, Held]:
    """What lies together."""
    pieces: dict[Key, list[Piece]] = defaultdict(list)
    tiles: dict[Key, set[int]] = defaultdict(set)
    for tile, piece in plan.pieces():
        key = piece.weight, piece.replica, piece.bundle
        pieces[key].append(piece)
        tiles[key].add(tile.id)
    assert all(len(found) == 1 for found in tiles.values())
    return {key: Held(min(tiles[key]), tuple(held)) for key, held in pieces.items()}


def check(plan: Plan) -> None:
    """Everything that this file knows of a plan.

    Args:
        plan: Of a machine with clocked crossbars.
    """
    every_element_lies_somewhere(plan)
    no_cell_is_taken_twice(plan)
    lines_are_shared_as_stated(plan)
    reads_are_billed(plan)


def every_element_lies_somewhere(plan: Plan) -> None:
    """Each copy of each weight, element by element."""
    linears = {i.linear.weight: i.linear for b in plan.blocks for _, i in b.interactions() if i.linear}
    counts: dict[tuple[str, int], np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = {}
    for _, piece in plan.pieces():
        shape = to_matrix(linears[piece.weight], plan.weights[piece.weight]).shape
        count = counts.setdefault((piece.weight, piece.replica), np.zeros(shape, np.int64))
        count[piece.group, slice(*piece.outputs), slice(*piece.inputs)] += 1
    for weight in linears:  # copies are numbered from 0 on
        copies = sorted(copy for name, copy in counts if name == weight)
        assert copies == list(range(max(1, len(copies))))
    assert all((count == 1).all() for count in counts.values())


def no_cell_is_taken_twice(plan: Plan) -> None:
    """Every piece is on its tile and alone there."""
    for tile in plan.tiles:
        taken = np.zeros((tile.rows, tile.cols), np.int64)
        for piece in tile.pieces:
            assert 0 <= piece.row <= tile.rows - piece.n_in
            assert 0 <= piece.col <= tile.cols - piece.n_out
            taken[piece.row : piece.row + piece.n_in, piece.col : piece.col + piece.n_out] += 1
        assert taken.max() == 1


def lines_are_shared_as_stated(plan: Plan) -> None:
    """What one read takes has lines of its own; where these cross, no other cell is programmed."""
    programmed: dict[int, dict[Key, Array]] = defaultdict(dict)
    sizes = {tile.id: (tile.rows, tile.cols) for tile in plan.tiles}
    held = bundles(plan)
    for key, bundle in held.items():
        cells = programmed[bundle.tile].setdefault(key, np.zeros(sizes[bundle.tile], bool))
        for p in bundle.pieces:
            cells[p.row : p.row + p.n_in, p.col : p.col + p.n_out] = True
    for bundle in held.values():
        everything = np.any(list(programmed[bundle.tile].values()), axis=0)
        for pieces in bundle.turns.values():
            rows = [line for p in pieces for line in range(p.row, p.row + p.n_in)]
            cols = [line for p in pieces for line in range(p.col, p.col + p.n_out)]
            assert len(rows) == len(set(rows))
            assert len(cols) == len(set(cols))
            driven = everything[np.ix_(rows, cols)]
            assert driven.sum() == sum(p.n_in * p.n_out for p in pieces)


def reads_are_billed(plan: Plan) -> None:
    """Time and conversions of every free phase, from the places of what it reads."""
    for block in plan.blocks:
        steps = [step for step in plan.inference.steps if step.kind == "free" and step.block == block.id]
        bands = [step for step in steps if step.sample == 0]  # of the runs in flight, which are alike
        seconds, dacs, adcs = free_phase(plan, block)
        taken = sum(step.end_s - step.start_s for step in bands)
        # rows with reads of their own leave some replicas idle
        assert seconds * (1 - 1e-9) <= taken <= seconds * (1 + 1e-9 + (IDLE if len(bands) > 1 else 0.0))
        cost = sum((step.cost for step in bands), Cost())
        assert (cost.dac_count, cost.adc_count) == (dacs, adcs)


def free_phase(plan: Plan, block: EnergyBlock) -> tuple[float, int, int]:
    """Seconds and conversions of the free phase of a block of one layer: each product once."""
    assert len(block.layers) == 1
    tile = plan.hardware.analog_group(block.group).tile.crossbar()
    busy: Counter[int] = Counter()
    dacs = adcs = 0
    held = bundles(plan)
    for _, interaction in block.interactions():
        if interaction.linear is None:
            continue
        copies = 1 + max(replica for weight, replica, _ in held if weight == interaction.linear.weight)
        count = vectors(interaction)
        for (weight, replica, _), bundle in held.items():
            if weight != interaction.linear.weight:
                continue
            own = len(range(replica, count, copies)) * plan.batch
            busy[bundle.tile] += own * len(bundle.turns)
            drivers = 1 if tile.drivers == "shared" else tile.slices
            dacs += own * sum(p.n_in for p in bundle.pieces) * tile.dac.slices * drivers
            adcs += own * sum(p.n_out for p in bundle.pieces) * tile.dac.slices * tile.slices
    return max(busy.values()) * tile.read_seconds, dacs, adcs


def vectors(interaction: Interaction) -> int:
    """Of one sample: output pixels of a convolution, input pixels of a transposed one, rows of a matrix."""
    assert interaction.linear is not None
    if interaction.linear.op == "Conv":
        return math.prod(interaction.linear_shape[1:])
    if interaction.linear.op == "ConvTranspose":
        return math.prod(interaction.source_shape[1:])
    return math.prod(interaction.linear_shape[:-1])
