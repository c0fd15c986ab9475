from msgspec.structs import replace

from ffebm.hardware.groups import units_among
from ffebm.hardware.silicon import powered
from tests.machines import round_numbers


def test_units_are_told_by_kind_and_number() -> None:
    names = {"tile2", "tile3", "tile7", "tile03", "tile", "tilex", "tile" + "9" * 5000, "digital3", "tile3\n"}
    assert units_among(names, "tile", range(3, 7)) == {"tile3"}


def test_a_machine_may_count_any_number_of_tiles() -> None:
    """Work goes with the units that are in use, not with those that there are."""
    machine = round_numbers()
    (tiles,) = machine.analog
    machine = replace(machine, analog=(replace(tiles, count=10**15),))
    (found, *_) = powered(machine, {"tile3", f"tile{10**15 - 1}", f"tile{10**15}", "digital0"})
    assert (found.count, found.used) == (10**15, 2)
