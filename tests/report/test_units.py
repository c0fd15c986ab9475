"""Units in few words: nothing is lost in ranges and groups."""

from hypothesis import given
from hypothesis import strategies as st

from ffebm.report.units import ranges, unit_order, unit_ranges, working_together
from tests.report.conftest import units_in

NUMBERED = st.builds("{}{}".format, st.sampled_from(["tile", "core", "digital"]), st.integers(0, 40))
ROUTERS = st.builds("network{}".format, st.integers(0, 40))
UNITS = st.sets(NUMBERED | st.just("network")) | st.sets(NUMBERED | ROUTERS)


@given(st.sets(st.integers(0, 40)))
def test_ranges_hold_the_numbers(numbers: set[int]) -> None:
    runs = list(filter(None, ranges(numbers).split(", ")))
    found: list[int] = []
    for run in runs:
        first, _, last = run.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)
    assert len(runs) == sum(number - 1 not in numbers for number in numbers)


def test_kinds_of_units_stand_in_order() -> None:
    assert sorted(["tile10", "tile2", "core1", "network", "digital1", "digital0"], key=unit_order) == [
        "digital0",
        "digital1",
        "network",
        "core1",
        "tile2",
        "tile10",
    ]


def test_runs_are_of_one_kind() -> None:
    units = ["tile2", "core0", "core1", "tile3", "digital0", "network", "tile1", "tile7"]
    assert unit_ranges(units) == "digital0, network, core0-core1, tile1-tile3, tile7"


def test_ports_of_a_mesh_keep_their_numbers() -> None:
    assert unit_ranges(["network7", "network0", "network1", "tile4"]) == "network0-network1, network7, tile4"


@given(UNITS)
def test_ranges_hold_the_units(units: set[str]) -> None:
    text = unit_ranges(units)
    assert units_in(text) == sorted(units, key=unit_order)
    numbered = units - {"network"}
    behind = {unit.rstrip("0123456789") + str(unit_order(unit)[1] + 1) for unit in numbered}
    assert len(list(filter(None, text.split(", ")))) == len(units - behind)


@given(st.lists(UNITS.filter(bool)))
def test_groups_are_of_the_same_steps_and_as_large_as_can_be(steps: list[set[str]]) -> None:
    groups = working_together(map(sorted, steps))
    units = [unit for group in groups for unit in group]
    assert sorted(units) == sorted(set().union(*steps))
    done = [{n for n, step in enumerate(steps) if unit in step} for group in groups for unit in group[:1]]
    for group, own in zip(groups, done, strict=True):
        assert all({n for n, step in enumerate(steps) if unit in step} == own for unit in group)
        assert list(group) == sorted(group, key=unit_order)
    assert all(own not in done[:n] for n, own in enumerate(done))
    assert [group[0] for group in groups] == sorted((group[0] for group in groups), key=unit_order)
