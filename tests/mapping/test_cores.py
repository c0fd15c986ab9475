"""Tiles in cores: products of a core start one after the other, partial sums of a core stay in it."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm import Plan, load_hardware
from ffebm import compile as compile_plan
from ffebm.errors import HardwareError
from ffebm.hardware.description import Core, Hardware
from ffebm.mapping.block_cost import BlockCost
from ffebm.mapping.cores import Occupant, _until_read, spread
from ffebm.plan.schedule import Cost, Step
from ffebm.plan.schema import Options
from tests.machines import round_numbers, seconds, with_tiles
from tests.models import Builder
from tests.scheduling.graphs import placed


def cored(tiles: int, issue: float, count: int = 16) -> Hardware:
    """4 x 4 arrays, 10 s a read, so many of them a core."""
    return with_tiles(round_numbers(count=count), core=Core(tiles=tiles, issue=seconds(issue)))


def dense(hardware: Hardware | str, n_in: int, n_out: int, batch: int = 5) -> Plan:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", batch, n_in), b.weight(n_in, n_out)))
    return compile_plan(b.model(y), hardware=hardware)


def free(plan: Plan) -> Step:
    """The free phase of the only block, done at once."""
    (step,) = [s for s in plan.inference.steps if s.kind == "free"]
    return step


def bands(plan: Plan) -> tuple[float, Cost]:
    """What the free phase of the only block takes in all bands: seconds of its tiles, and its cost."""
    steps = [s for s in plan.inference.steps if s.kind == "free"]
    assert len({s.name for s in steps}) == 1
    return sum(s.end_s - s.start_s for s in steps), sum((s.cost for s in steps), Cost())


@pytest.mark.parametrize(
    ("tiles", "issue", "expected"),
    [
        (4, 1.0, 51.0),  # the tiles are slower: 5 reads of 10 s, of one range 1 s later than of the other
        (4, 20.0, 9 * 20 + 10),  # 5 vectors to each of two ranges of inputs, 20 s apart, and the last read
        (2, 20.0, 4 * 20 + 10),  # a range a core
        (1, 20.0, 4 * 20 + 10),  # a tile a core: each starts its own
    ],
)
def test_products_of_a_core_start_one_after_the_other(tiles: int, issue: float, expected: float) -> None:
    step = free(dense(cored(tiles, issue, count=4), 8, 8))
    assert step.end_s - step.start_s == pytest.approx(expected)


def test_a_product_starts_all_tiles_that_read_it() -> None:
    """Four arrays side by side take the same four inputs: one product a vector."""
    step = free(dense(cored(4, 20.0), 4, 16))
    assert step.end_s - step.start_s == pytest.approx(4 * 20 + 10)


def test_partial_sums_of_a_core_stay_in_it() -> None:
    alone = free(dense(round_numbers(count=16), 16, 4))
    halves, whole = (free(dense(cored(tiles, 1.0), 16, 4)) for tiles in (2, 4))
    assert alone.cost.adders == halves.cost.adders == whole.cost.adders > 0
    assert alone.cost.network == pytest.approx(3 * halves.cost.network)  # 3 of 4 sums leave their tile
    assert halves.cost.network > whole.cost.network == 0


def test_a_block_takes_its_cores() -> None:
    plan = dense(cored(4, 1.0), 8, 16)
    assert free(plan).units[:2] == ("core0", "core1")
    assert plan.hardware.core_of_tile(3) == 0
    assert plan.hardware.core_of_tile(4) == 1
    assert load_hardware("reference").core_of_tile(4) is None


@pytest.mark.parametrize(
    ("core", "found"),
    [
        (
            Core(tiles=17, issue=seconds(1.0)),
            "analog.tiles.core.tiles: 17 tiles a core of 16 tiles; no more than there are",
        ),
    ],
)
def test_cores_that_cannot_be(core: Core, found: str) -> None:
    with pytest.raises(HardwareError) as caught:
        load_hardware(with_tiles(round_numbers(count=16), core=core))
    assert str(caught.value) == f"round:{found}"
    resistive = load_hardware("resistive")
    with pytest.raises(HardwareError) as caught:
        load_hardware(with_tiles(resistive, core=replace(core, tiles=4)))
    assert "a core that starts products of tiles which settle by themselves" in str(caught.value)


def test_pimcomp_starts_a_product_of_a_core_every_200_ns() -> None:
    plan = dense("pimcomp", 256, 256, batch=8)
    step = free(plan)
    assert len(plan.tiles) == 4
    assert step.units[:2] == ("core0", "tile0")
    # two ranges of inputs in four arrays: 8 reads of each, those of the second begin behind a first one
    assert step.end_s - step.start_s == pytest.approx(0.2e-6 + 8 * 0.8e-6)


CORE = Core(tiles=4, issue=seconds(1.0))


def cores_of(arrays: list[Occupant], count: int, read: float = 0.0, **reads: int) -> dict[str, list[int]]:
    """For each weight the products that each of its cores starts; no tile is taken twice."""
    numbers = spread(CORE, count, arrays, reads, read)
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < count for number in numbers)
    held: dict[str, dict[int, set[tuple[int, object]]]] = {}
    for what, number in zip(arrays, numbers, strict=True):
        held.setdefault(what.weight, {}).setdefault(number // 4, set()).add((what.replica, what.inputs))
    return {weight: sorted(map(len, found.values())) for weight, found in held.items()}


def test_copies_take_cores_that_would_be_idle() -> None:
    arrays = [Occupant("a", n) for n in range(4)] + [Occupant("b", n) for n in range(4)]
    assert cores_of(arrays, 8, a=100, b=10) == {"a": [4], "b": [4]}
    assert cores_of(arrays, 12, a=100, b=10) == {"a": [2, 2], "b": [4]}
    assert cores_of(arrays, 20, a=100, b=10) == {"a": [1, 1, 1, 1], "b": [4]}
    assert cores_of(arrays, 400, a=100, b=10) == {"a": [1, 1, 1, 1], "b": [1, 1, 1, 1]}


def test_what_is_read_slowly_takes_no_more_cores() -> None:
    """Two products, 1 s apart, start within one read of 2 s."""
    assert cores_of([Occupant("a", n) for n in range(4)], 400, read=2.0) == {"a": [2, 2]}


def test_ranges_of_inputs_take_cores_of_their_own() -> None:
    """A copy of three ranges, one array each, and one of two ranges, three arrays each."""
    narrow = [Occupant("a", 0, n) for n in range(3)]
    assert cores_of(narrow, 4) == {"a": [3]}
    assert cores_of(narrow, 8) == {"a": [1, 2]}
    assert cores_of(narrow, 12) == {"a": [1, 1, 1]}
    wide = [Occupant("a", 0, n) for _ in range(3) for n in range(2)]  # in the order of their outputs
    assert cores_of(wide, 8) == {"a": [1, 1]}
    assert spread(CORE, 8, wide, {}) == [0, 4, 1, 5, 2, 6]


def test_a_range_that_is_wider_than_a_core_takes_several() -> None:
    """Two ranges of six arrays: on three cores both start in one of them, on four in none."""
    wide = [Occupant("a", 0, n) for _ in range(6) for n in range(2)]
    assert cores_of(wide, 12) == {"a": [1, 1, 2]}
    assert cores_of(wide, 400) == {"a": [1, 1, 1, 1]}


def test_a_copy_stays_in_one_core_if_it_fits() -> None:
    """Copies of three arrays with the same inputs; a copy of six takes two cores."""
    threes = [Occupant("a", n) for n in range(2) for _ in range(3)]
    assert cores_of(threes, 40, a=10) == {"a": [1, 1]}
    sixes = [Occupant("a", n) for n in range(2) for _ in range(6)]
    numbers = spread(CORE, 40, sixes, {"a": 10})
    assert [{number // 4 for number in numbers[n : n + 6]} for n in (0, 6)] == [{0, 1}, {2, 3}]


def test_weights_share_cores_that_have_least_to_do() -> None:
    """Three weights on two cores: the one that is read most has one for itself."""
    arrays = [Occupant("a"), Occupant("b"), Occupant("c")]
    assert spread(CORE, 8, arrays, {"a": 3, "b": 9, "c": 3}) == [0, 4, 1]
    assert spread(CORE, 12, arrays, {}) == [0, 4, 8]


def test_arrays_stay_in_order_where_they_fit_in_no_core() -> None:
    """The only core is too small for both weights, though the tiles are not."""
    arrays = [Occupant("a", 0, 0), Occupant("b"), Occupant("a", 0, 1), Occupant("a", 0, 0), Occupant("b")]
    assert spread(CORE, 5, arrays, {}) == [0, 3, 2, 1, 4]


def test_spread_copies_take_less_time() -> None:
    """Four copies on four cores: each core starts the products of its own."""
    (tight, cost), (wide, same) = (bands(copied(cores)) for cores in (1, 4))
    assert tight == pytest.approx(2 * 4 * 20)  # two rows, each a vector a copy; then the port is ready again
    assert wide == pytest.approx(2 * 20)
    assert cost == same


def copied(cores: int) -> Plan:
    """Eight vectors, shared out over four copies of one array."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 1, 2, 4), 1, 4, kernel=1))
    machine = with_tiles(round_numbers(count=4 * cores), core=Core(tiles=4, issue=seconds(20.0)))
    return compile_plan(b.model(y), hardware=machine, replicas=4)


def test_a_core_may_go_on_a_round_before_its_last_product_is_read() -> None:
    """Five rounds of two products, 5 s apart, take 10 s each, and the last read ends 5 s later."""
    step = free(dense(cored(4, 5.0, count=4), 8, 8))
    assert (step.seconds, step.lag) == (55.0, 5.0)


def test_where_rounds_are_reads_the_last_products_of_one_end_behind_it() -> None:
    """Two ranges of inputs 1 s apart, five rounds of a read of 10 s: the second range is read 1 s later."""
    step = free(dense(cored(4, 1.0, count=4), 8, 8))
    assert (step.seconds, step.lag) == (51.0, 1.0)


@pytest.mark.parametrize(
    ("starts", "issue", "expected"),
    [
        ([5, 5, 5], 1.0, 2 + 5 * 10),  # the third begins 2 s behind the first
        ([5, 2, 1], 1.0, 5 * 10),  # those with fewer are done before
        ([2, 5, 5], 1.0, 1 + 5 * 10),
        ([5, 5, 5], 4.0, 14 * 4 + 10),  # a round of 12 s is longer than a read
        ([1, 1, 1], 4.0, 2 * 4 + 10),
        ([0, 0], 4.0, 0.0),
    ],
)
def test_when_the_last_product_is_read(starts: list[int], issue: float, expected: float) -> None:
    assert _until_read(starts, issue, 10.0) == expected


def test_no_order_of_products_reads_the_last_one_sooner() -> None:
    """All orders of a few products, each started when port and array are free.

    One ends as soon as said, if products start at parts of a read or whole ones.
    """
    for starts, issue in itertools.product(
        [(2, 1), (2, 2), (3, 1), (2, 1, 1), (2, 2, 1)], (1.0, 2.5, 3.0, 5.0, 6.0, 10.0, 20.0)
    ):
        products = [number for number, count in enumerate(starts) for _ in range(count)]
        ends = []
        for order in set(itertools.permutations(products)):
            port, array = 0.0, [0.0] * len(starts)
            for number in order:
                begin = max(port, array[number])
                port, array[number] = begin + issue, begin + 10.0
            ends.append(max(array))
        least = _until_read(starts, issue, 10.0)
        assert min(ends) >= least
        assert min(ends) == least or issue in {3.0, 6.0}


@pytest.mark.parametrize(
    ("tiles", "issue"),
    [
        (1, 1.0),  # a product a round, which is a read
        (4, 20.0),  # a round takes 40 s, which is longer than until the last product of all is read
        (2, 20.0),  # the port starts the next product after a read has ended
    ],
)
def test_other_cores_are_free_when_all_is_read(tiles: int, issue: float) -> None:
    assert free(dense(cored(tiles, issue, count=4), 8, 8)).freed_s is None


def cut_at_random(rng: random.Random, rows: int) -> list[tuple[int, int]]:
    """Some rows, cut at random and in any order."""
    ends = sorted({rows, *(rng.randint(1, rows) for _ in range(4))})
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    rng.shuffle(spans)
    return spans


@given(
    st.integers(0, 10**6),
    st.sampled_from([4, 8, 12]),
    st.sampled_from([1, 2, 3, 4, 6]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1.0, 2.5, 4.0, 10.0, 12.0]),
)
@settings(max_examples=60, deadline=None)
def test_no_array_has_two_products_at_once_in_whatever_order_reads_follow(
    seed: int, n_in: int, copies: int, tiles: int, issue: float
) -> None:
    """Each begins when the rounds of the one before are over, and starts its products in rounds.

    A product is a vector for a range of inputs of a copy; vector v goes to copy v modulo their number.
    """
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, 12, n_in), b.weight(n_in, 8)))
    machine = cored(tiles, issue, count=64)
    graph = placed(b.model(y), machine, Options(replicas=copies))
    (block,) = graph.blocks
    cost = BlockCost(graph, machine, block, 1)
    (parts,) = graph.parts.values()
    found = 1 + max(part.replica for part in parts)
    begin, read_until, ready = 0.0, dict[int, float](), dict[int, float]()
    for first, behind in cut_at_random(random.Random(seed), 12):
        band, last = cost.band([(first, behind)], (behind - first) / 12), begin
        for core in {graph.places[part].tile // tiles for part in parts}:
            here = [part for part in parts if graph.places[part].tile // tiles == core]
            products = sorted({(part.replica, part.inputs) for part in here})
            pitch = max(len(products) * issue, 10.0)
            starts = sorted(
                (begin + number * pitch + slot * issue, replica, inputs)
                for slot, (replica, inputs) in enumerate(products)
                for number in range(sum(v % found == replica for v in range(first, behind)))
            )
            for start, replica, inputs in starts:
                assert start >= ready.get(core, 0.0) - 1e-9
                ready[core], last = start + issue, max(last, start + issue)
                for part in here:
                    if (part.replica, part.inputs) == (replica, inputs):
                        tile = graph.places[part].tile
                        assert start >= read_until.get(tile, 0.0) - 1e-9
                        read_until[tile] = start + 10.0
        begin += band.rounds
        assert last <= begin + 1e-9
