"""Deep resistive blocks on single cells: what lies there, what it costs and what is refused, by hand."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from msgspec.structs import replace

import ffebm
from ffebm.errors import UsageError
from ffebm.graph.energy_block import Linear
from ffebm.hardware.description import Crossbar, load_hardware
from ffebm.plan.checks.tiles import tile_problems
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Piece
from tests.exporters.spice.models import dense_plan
from tests.exporters.spice.test_passive import convolution, network
from tests.machines import with_tiles
from tests.models import Builder

MACHINE = load_hardware("resistive-single")
TILE = MACHINE.analog[0].tile.crossbar()


def small() -> Plan:
    """Matrices larger than arrays of 8 x 4, and of unlike weights."""
    machine = with_tiles(MACHINE, tile=replace(TILE, rows=8, cols=4))
    return network((11, 6, 3), 2.0, hardware=machine)


def linears(plan: Plan) -> Iterator[Linear]:
    for block in plan.blocks:
        for _, interaction in block.interactions():
            assert interaction.linear is not None
            yield interaction.linear


def top(plan: Plan) -> float:
    """What g_max stands for: twice the largest weight, or the bound of a usual start of a narrow layer."""
    least = 0.0
    for linear in linears(plan):
        shape = plan.weights[linear.weight].shape
        fan_in = math.prod(shape[1:]) if linear.op == "Conv" else shape[1 if linear.transposed else 0]
        least = max(least, 1 / math.sqrt(fan_in))
    largest = max(float(plan.weights[linear.weight].max()) for linear in linears(plan))
    assert TILE.update is not None
    return max(largest, least) * TILE.update.range.value


def matrix_of(plan: Plan, piece: Piece) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The weights of a piece, [n_in, n_out]."""
    linear = next(found for found in linears(plan) if found.weight == piece.weight)
    weight = plan.weights[piece.weight].astype(np.float64)
    matrix = weight.reshape(len(weight), -1)
    if linear.op == "Conv" or linear.transposed:
        matrix = matrix.T
    return matrix[slice(*piece.inputs), slice(*piece.outputs)]


@pytest.mark.parametrize("plan", [small(), convolution("resistive-single")])
def test_a_weight_is_one_conductance_at_the_scale_of_its_block(plan: Plan) -> None:
    """Within half a level, and at g_min where it is below that."""
    low, high, limit = TILE.cell.g_min.value, TILE.cell.g_max.value, top(plan)
    step = (high - low) / (TILE.cell.levels - 1)
    assert len(plan.tiles) > 1
    for _, piece in plan.pieces():
        cells, others = (np.asarray(side, np.float64) for side in plan.conductances(piece))
        assert cells.shape == (piece.n_in, piece.n_out)
        assert others.size == 0
        wanted = np.maximum(matrix_of(plan, piece) / limit * high, low)
        assert np.abs(cells - wanted).max() <= step * (0.5 + 1e-3)
        assert piece.scale == pytest.approx(limit * (high - low) / high)


def test_a_phase_and_an_update_are_billed_by_single_cells() -> None:
    plan, group = small(), MACHINE.analog[0]
    relaxation, law = group.relaxation, TILE.update
    assert relaxation is not None
    assert law is not None
    cells = sum(plan.weights[linear.weight].size for linear in linears(plan))
    (free,) = (step for step in plan.inference.steps if step.kind == "free")
    (needs,) = (block.relaxed for block in plan.blocks)
    assert needs is not None
    watts = relaxation.conductance.value * relaxation.voltage.value**2
    assert relaxation.neuron is not None
    units = sum(math.prod(layer.shape) for block in plan.blocks for layer in block.layers)
    supply = units * relaxation.neuron.value
    own = needs.siemens * relaxation.voltage.value**2
    seconds = needs.time_constants * relaxation.time_constant.value
    assert free.cost.array == pytest.approx((supply + own) * seconds, rel=1e-9, abs=0)
    pairs = network((11, 6, 3), 2.0)
    (other,) = (step for step in pairs.inference.steps if step.kind == "free")
    described = relaxation.time_constant.value * relaxation.time_constants.value
    assert other.cost.array == pytest.approx((supply + 2 * cells * watts) * described, rel=1e-9, abs=0)
    assert not [note for note in plan.notes if "cells a weight" in note]
    assert [note for note in pairs.notes if "have 2 cells a weight, and blocks take 1" in note]


def test_blocks_of_differences_are_refused() -> None:
    b = Builder(0)
    model = b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))
    with pytest.raises(UsageError) as raised:
        ffebm.compile(model, hardware=MACHINE)
    assert str(raised.value) == (
        "blocks of physics 'hopfield' on single cells: 'tiles' of machine 'resistive-single'; "
        "arrays with 2 cells a weight: their difference has a sign\n"
        "  hint: --physics deep-resistive, whose weights are conductances, or a machine with pairs of cells, "
        "as resistive and reference are"
    )


def test_on_a_machine_of_both_kinds_blocks_of_differences_lie_on_pairs() -> None:
    pairs, single = load_hardware("resistive").analog[0], MACHINE.analog[0]
    machine = replace(
        load_hardware("resistive"), analog=(replace(single, name="single"), replace(pairs, name="pairs"))
    )
    b = Builder(0)
    model = b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))
    plan = ffebm.compile(model, hardware=machine)
    assert [block.group for block in plan.blocks] == ["pairs"]
    assert not [note for note in plan.notes if "not simulated" in note]
    assert {block.group for block in network((5, 4, 3), 1.0, hardware=machine).blocks} <= {"single", "pairs"}


def test_negative_weights_stay_digital_and_say_why() -> None:
    b = Builder(0)
    model = b.model(b.node("MatMul", b.input("x", "N", 2), b.constant(np.array([[1.0], [-2.0]], np.float32))))
    plan = ffebm.compile(model, hardware=MACHINE, physics="deep-resistive")
    assert [node.reason for node in plan.nodes] == [
        "1 of its 2 weights are negative, down to -2, and a weight is one conductance; double its inputs, "
        "[x, -x], and clamp it at 0"
    ]


def test_a_plan_with_another_scale_is_none() -> None:
    """A scale of its own for a piece, as pieces of pairs have it, is a contradiction."""
    plan = small()
    assert not list(tile_problems(plan))
    first, *others = plan.tiles
    piece = replace(first.pieces[0], scale=0.5 * first.pieces[0].scale)
    plan.tiles = (replace(first, pieces=(piece, *first.pieces[1:])), *others)
    assert list(tile_problems(plan)) == [f"scale of piece {piece.id} is not what {piece.weight!r} says"]


def test_pairs_are_what_they_were() -> None:
    """A plan of pairs has a range for each piece."""
    plan = dense_plan([4, 3, 2], ["Clip", ""])
    tile = plan.hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    assert tile.mapping == "differential"
    assert len({piece.scale for _, piece in plan.pieces()}) == 2
