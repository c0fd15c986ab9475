"""Tiles of blocks that are wired as circuits, counted by hand."""

from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Hardware, load_hardware
from tests.exporters.spice.models import conv_plan, dense_plan
from tests.machines import with_tiles
from tests.models import Builder


def small(count: int) -> Hardware:
    """`resistive` with so many tiles of 16 x 16."""
    machine = load_hardware("resistive")
    tile = replace(machine.analog[0].tile.crossbar(), rows=16, cols=16)
    return with_tiles(machine, count=count, tile=tile)


def notes(count: int) -> list[str]:
    """About copies, of two convolutions and a dense layer.

    Lines: 4 windows of 9 x 2 from the clamped input; 2 windows of 8 x 3, and 6 x 3, both there and back.
    Together 36 + 2 (8 + 3) + (6 + 3) = 67 word lines and 8 + 22 + 9 bit-line pairs.
    """
    b = Builder(0)
    x = b.input("x", "N", 1, 4, 3)
    for c_in, c_out, kernel, steps, pads in ((1, 2, 3, 2, [1] * 4), (2, 3, 2, 1, [0, 0, 1, 0])):
        weight = b.weight(c_out, c_in, kernel, kernel, gain=0.5)
        x = b.clip(b.node("Conv", x, weight, b.constant([0.1] * c_out), pads=pads, strides=[steps] * 2))
    y = b.node("MatMul", b.node("Flatten", x), b.weight(6, 3, gain=0.4))
    plan = compile_model(b.model(y), hardware=small(count), block_size=3)
    assert len(plan.tiles) == 3
    return [note for note in plan.notes if "wired" in note]


def test_copies_that_are_not_placed_are_told() -> None:
    assert notes(5) == [
        "wired as circuits the blocks on 'tiles' take 5 tiles by their lines: copies of transposes, and "
        "arrays of its own for each window; 3 placed and counted"
    ]
    assert "take 5 tiles by their lines, more than the 4 that there are" in notes(4)[0]


def test_nothing_is_told_where_nothing_is_missing() -> None:
    for plan in (dense_plan([4, 3], ["Clip"]), conv_plan()):
        assert not [note for note in plan.notes if "wired" in note]
