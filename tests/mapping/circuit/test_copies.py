"""Arrays of blocks that are wired as circuits: where they lie, what they cost, what is refused; by hand."""

from itertools import pairwise

import pytest
import torch
from msgspec.structs import replace

import ffebm
from ffebm.compiler.driver import compile_model
from ffebm.graph.windows import windows_of
from ffebm.hardware.description import Accumulate, Hardware, load_hardware
from ffebm.plan.checks.tiles import tile_problems
from ffebm.plan.plan import Plan
from ffebm.runtime.tiles.replicas import ReplicatedTile, TwoWayTile
from tests.exporters.spice.models import conv_plan, dense_plan
from tests.exporters.spice.test_passive import convolution
from tests.machines import ratio, with_tiles
from tests.models import Builder
from tests.runtime.tiles.bench import with_cell


def small(count: int, name: str = "resistive") -> Hardware:
    """A machine with so many tiles of 16 x 16."""
    machine = load_hardware(name)
    tile = replace(machine.analog[0].tile.crossbar(), rows=16, cols=16)
    return with_tiles(machine, count=count, tile=tile)


def convolutions(count: int) -> Plan:
    """Two convolutions and a dense layer in a block.

    4 windows of 9 x 2 from the clamped input; 2 windows of 8 x 3 and 6 x 3, both there and back: ten arrays.
    On tiles of 16 lines, two of 8 word lines fill one, those of 9 take one each, and others lie behind these.
    """
    b = Builder(0)
    x = b.input("x", "N", 1, 4, 3)
    for c_in, c_out, kernel, steps, pads in ((1, 2, 3, 2, [1] * 4), (2, 3, 2, 1, [0, 0, 1, 0])):
        weight = b.weight(c_out, c_in, kernel, kernel, gain=0.5)
        x = b.clip(b.node("Conv", x, weight, b.constant([0.1] * c_out), pads=pads, strides=[steps] * 2))
    y = b.node("MatMul", b.node("Flatten", x), b.weight(6, 3, gain=0.4))
    return compile_model(b.model(y), hardware=small(count), block_size=3)


def check(plan: Plan) -> None:
    """No two arrays share a line, and each window of each weight has one."""
    for tile in plan.tiles:
        for spans in (
            [(p.row, p.row + p.n_in) for p in tile.pieces],
            [(p.col, p.col + p.n_out) for p in tile.pieces],
        ):
            assert all(left[1] <= right[0] for left, right in pairwise(sorted(spans)))
    copies: dict[tuple[str, bool], set[int]] = {}
    for _, piece in plan.pieces():
        copies.setdefault((piece.weight, piece.transposed), set()).add(piece.replica)
    wanted = {(weight, False): count for weight, count in windows_of(plan.blocks).items()}
    for block in plan.blocks:
        inside = {layer.value for layer in block.layers}
        for _, interaction in block.interactions():
            if (
                interaction.linear is not None
                and interaction.source in inside
                and block.physics == "hopfield"
            ):
                weight = interaction.linear.weight
                wanted[weight, True] = wanted[weight, False]
    assert {key: len(found) for key, found in copies.items()} == wanted
    assert all(found == set(range(len(found))) for found in copies.values())


def test_each_window_has_an_array_of_its_own() -> None:
    plan = convolutions(64)
    check(plan)
    assert sorted(windows_of(plan.blocks).values()) == [1, 2, 4]
    assert len(plan.tiles) == 10  # an array each, where there are so many tiles


@pytest.mark.parametrize("count", [6, 5])
def test_where_tiles_are_few_arrays_lie_in_diagonals(count: int) -> None:
    plan = convolutions(count)
    check(plan)
    assert len(plan.tiles) == 5
    assert not list(tile_problems(plan))


def test_a_block_with_more_windows_than_there_is_room_for_is_digital() -> None:
    plan = convolutions(4)
    assert not plan.blocks
    assert {node.reason for node in plan.nodes if node.op == "Conv"} == {"no tile left: needs 5, 4 free"}


def test_passive_arrays_have_windows_too() -> None:
    plan = convolution("resistive-single")
    check(plan)
    assert sorted(windows_of(plan.blocks).values()) == [1, 4]
    assert not [note for note in plan.notes if "wired" in note]


def test_every_copy_is_written_and_pulsed() -> None:
    """An update costs as many cells as there are; of a plan of one window, its own."""
    law = load_hardware("resistive").analog[0].tile.crossbar().update
    assert law is not None
    machine = with_tiles(
        load_hardware("resistive"),
        tile=replace(
            load_hardware("resistive").analog[0].tile.crossbar(), update=replace(law, remedy=Accumulate())
        ),
    )
    b = Builder(0)
    x = b.input("x", "N", 1, 6, 6)
    y = b.node("Conv", x, b.weight(2, 1, 3, 3), strides=[3, 3])
    plan = compile_model(b.model(y), hardware=machine)
    updates = [step.cost.array for step in plan.training.steps if step.kind == "update"]
    assert max(updates) == pytest.approx(4 * 9 * 2 * 2 * law.energy.value)


def test_transposes_lie_turned_beside_what_they_are_of() -> None:
    plan = dense_plan([40, 30, 20, 10], ["Clip", "Clip", ""])
    check(plan)
    there = {piece.weight: piece for _, piece in plan.pieces() if not piece.transposed}
    back = {piece.weight: piece for _, piece in plan.pieces() if piece.transposed}
    assert len(there) == 3
    assert len(back) == 2
    for weight, piece in back.items():
        assert (piece.n_in, piece.n_out) == (there[weight].n_out, there[weight].n_in)
        for ours, theirs in zip(plan.conductances(piece), plan.conductances(there[weight]), strict=True):
            assert (ours == theirs.T).all()


def test_pieces_fit_as_they_are_and_turned() -> None:
    """Arrays of 16 x 8 take cuts of 8 x 8, where a layer drives another; of a clamped input 16 x 8."""
    machine = load_hardware("resistive")
    tile = replace(machine.analog[0].tile.crossbar(), rows=16, cols=8)
    b = Builder(0)
    h = b.clip(b.node("MatMul", b.input("x", "N", 16), b.weight(16, 12)))
    model = b.model(b.node("MatMul", h, b.weight(12, 8)))
    plan = compile_model(model, hardware=with_tiles(machine, tile=tile), block_size=2)
    check(plan)
    sizes = sorted((piece.n_in, piece.n_out, piece.transposed) for _, piece in plan.pieces())
    assert sizes == [(6, 8, False), (6, 8, False), (8, 6, True), (8, 6, True), (16, 6, False), (16, 6, False)]


def test_the_two_ways_meet_cells_of_their_own() -> None:
    machine = load_hardware("resistive")
    tile = with_cell(machine.analog[0].tile.crossbar(), programming_noise=ratio(0.2), read_noise=ratio(0.0))
    b = Builder(0)
    h = b.clip(b.node("MatMul", b.input("x", "N", 5), b.weight(5, 4)))
    weight = b.weight(4, 3)
    model = b.model(b.node("MatMul", h, weight))
    plan = compile_model(model, hardware=with_tiles(machine, tile=tile), block_size=2)
    net = ffebm.Executor(plan)
    net(torch.rand(2, 5))
    held = net.machine._arrays[weight].tile
    assert isinstance(held, TwoWayTile)
    there, back = held.forward.read()[0], held.back.read()[0]
    assert not torch.allclose(there, back.T, atol=1e-3)
    torch.testing.assert_close(net.weights()[weight].detach(), ((there + back.T) / 2).T)
    before = held.read()
    state = held.state()
    for _ in range(10):  # a transfer takes so many
        held.update(torch.full((1, 3, 4), 10.0))
    assert float((held.forward.read()[0] - there).min()) > 0
    assert float((held.back.read()[0] - back).min()) > 0
    held.restore(state)
    torch.testing.assert_close(held.read(), before)


def test_a_window_meets_its_own_cells() -> None:
    """One layer from a clamped input, programmed with errors: every window by the copy that it has."""
    machine = load_hardware("resistive")
    tile = with_cell(machine.analog[0].tile.crossbar(), programming_noise=ratio(0.2), read_noise=ratio(0.0))
    machine = with_tiles(
        machine, tile=replace(tile, dac=replace(tile.dac, bits=20), adc=replace(tile.adc, bits=20))
    )
    b = Builder(0)
    x = b.input("x", "N", 1, 6, 6)
    weight = b.weight(2, 1, 3, 3)
    plan = compile_model(b.model(b.node("Conv", x, weight, strides=[3, 3])), hardware=machine)
    net, image = ffebm.Executor(plan), torch.rand(2, 1, 6, 6)
    y = net(image).detach()
    held = net.machine._arrays[weight].tile
    assert isinstance(held, ReplicatedTile)
    copies = held.each()[:, 0]
    assert not torch.equal(copies[0], copies[1])
    for number in range(4):
        row, col = divmod(number, 2)
        window = image[:, 0, 3 * row : 3 * row + 3, 3 * col : 3 * col + 3].reshape(2, 9)
        torch.testing.assert_close(y[:, :, row, col], window @ copies[number].T, rtol=1e-4, atol=1e-4)


def test_a_plan_that_joins_lines_or_lacks_a_window_is_none() -> None:
    plan = convolutions(6)
    crowded = next(tile for tile in plan.tiles if len(tile.pieces) > 1)
    first, second, *others = crowded.pieces
    moved = replace(second, row=first.row, col=first.col + first.n_out)
    plan.tiles = tuple(
        replace(tile, pieces=(first, moved, *others)) if tile is crowded else tile for tile in plan.tiles
    )
    assert "settle at once, and share a word line of tile" in next(iter(tile_problems(plan)))
    plan = conv_plan()
    turned = next(piece.weight for _, piece in plan.pieces() if piece.transposed)
    whole = plan.tiles
    plan.tiles = tuple(
        replace(tile, pieces=tuple(p for p in tile.pieces if p.weight != turned or not p.transposed))
        for tile in whole
    )
    found = f"{turned!r} joins layers of a circuit that settles by itself, and lies one way"
    assert found in list(tile_problems(plan))
    plan.tiles = whole
    lacking = next(weight for weight, count in windows_of(plan.blocks).items() if count == 2)
    plan.tiles = tuple(
        replace(tile, pieces=tuple(p for p in tile.pieces if p.weight != lacking or not p.replica))
        for tile in plan.tiles
    )
    assert (
        f"{lacking!r} has 1 replicas in a circuit that settles by itself, and takes 2 vectors at once"
        in list(tile_problems(plan))
    )
