"""Mappings whose blocks take the cores there are."""

from msgspec.structs import replace

from ffebm.hardware.description import Core, Hardware
from ffebm.mapping.search.goal import Goal
from ffebm.mapping.search.over_cores import LONGER, OverCores
from tests.machines import round_numbers, seconds, with_tiles
from tests.mapping.search.graphs import search, search_of
from tests.models import Builder


def cored(cores: int) -> Hardware:
    """Arrays of 4 x 4 that take 10 s a read, four in a core, which starts a product every 20 s."""
    machine = with_tiles(round_numbers(count=4 * cores), core=Core(tiles=4, issue=seconds(20.0)))
    (unit,) = machine.digital
    return replace(machine, digital=(replace(unit, ops=("Softmax",)),))


def copies(cores: int) -> list[tuple[int, ...]]:
    """The copies of two layers in each mapping: 64 windows and 16, of one array each."""
    b = Builder()
    y = b.conv(b.input("x", 1, 4, 8, 8), 4, 4, kernel=1)
    y = b.node("Conv", y, b.weight(4, 4, 1, 1), strides=[2, 2])
    one = search_of(b.model(y), cored(cores), Goal("throughput"))
    start = one.filling.densest()
    found = OverCores(one.hardware, one.choosing).mappings(start, lambda picked: True)
    return [tuple(option.replicas for option in one.filling.options(picked)) for picked in found]


def test_layers_share_out_the_cores() -> None:
    """On four cores 22 windows on each of three, 440 s, beside 16 on one; on eight 11 on six, 8 on two."""
    assert copies(2)[0] == (1, 1)
    assert copies(4)[0] == (3, 1)
    assert copies(8)[0] == (6, 2)


def test_too_few_cores_have_no_mapping() -> None:
    assert copies(1) == []


def test_more_time_takes_fewer_copies() -> None:
    found = copies(8)
    assert len(found) == len(LONGER)
    assert [sum(each) for each in found] == sorted((sum(each) for each in found), reverse=True)


def test_a_mapping_that_does_not_pack_is_left_out() -> None:
    b = Builder()
    one = search_of(b.model(b.conv(b.input("x", 1, 4, 8, 8), 4, 4, kernel=1)), cored(4), Goal("throughput"))
    over = OverCores(one.hardware, one.choosing)
    few = [picked for picked in over.mappings(one.filling.densest(), lambda picked: sum(picked) < 2)]
    assert few
    assert all(sum(picked) < 2 for picked in few)
    assert list(over.mappings(one.filling.densest(), lambda picked: False)) == []


def test_machines_without_cores_have_none() -> None:
    one = search(1, Goal("latency"))
    over = OverCores(one.hardware, one.choosing)
    assert list(over.mappings(one.filling.densest(), lambda picked: True)) == []
