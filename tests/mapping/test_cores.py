"""Tiles in cores: products of a core start one after the other, partial sums of a core stay in it."""

import pytest
from msgspec.structs import replace

from ffebm import Plan, load_hardware
from ffebm import compile as compile_plan
from ffebm.errors import HardwareError
from ffebm.hardware.description import Core, Hardware
from ffebm.mapping.cores import spread
from ffebm.plan.schedule import Cost, Step
from tests.machines import round_numbers, seconds, with_tiles
from tests.models import Builder


def cored(tiles: int, issue: float) -> Hardware:
    """4 x 4 arrays, 10 s a read, so many of them a core."""
    return with_tiles(round_numbers(count=16), core=Core(tiles=tiles, issue=seconds(issue)))


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
        (4, 1.0, 50.0),  # the tiles are slower: 5 reads of 10 s
        (4, 20.0, 9 * 20 + 10),  # 5 vectors to each of two ranges of inputs, 20 s apart, and the last read
        (2, 20.0, 9 * 20 + 10),  # both ranges of the same outputs share a core
        (1, 20.0, 4 * 20 + 10),  # a tile a core: each starts its own
    ],
)
def test_products_of_a_core_start_one_after_the_other(tiles: int, issue: float, expected: float) -> None:
    step = free(dense(cored(tiles, issue), 8, 8))
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
    assert step.end_s - step.start_s == pytest.approx(max(8 * 0.8e-6, (2 * 8 - 1) * 0.2e-6 + 0.8e-6))


CORE = Core(tiles=4, issue=seconds(1.0))


def cores_of(copies: list[tuple[str, int]], count: int, **products: int) -> dict[str, list[int]]:
    """For each weight the copies on each of its cores; no tile is taken twice."""
    numbers = spread(CORE, count, copies, products)
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < count for number in numbers)
    held: dict[str, dict[int, set[int]]] = {}
    for (weight, replica), number in zip(copies, numbers, strict=True):
        held.setdefault(weight, {}).setdefault(number // 4, set()).add(replica)
    return {weight: sorted(map(len, found.values())) for weight, found in held.items()}


def test_copies_take_cores_that_would_be_idle() -> None:
    copies = [("a", n) for n in range(4)] + [("b", n) for n in range(4)]
    assert cores_of(copies, 8, a=100, b=10) == {"a": [4], "b": [4]}
    assert cores_of(copies, 12, a=100, b=10) == {"a": [2, 2], "b": [4]}
    assert cores_of(copies, 20, a=100, b=10) == {"a": [1, 1, 1, 1], "b": [4]}
    assert cores_of(copies, 400, a=100, b=10) == {"a": [1, 1, 1, 1], "b": [1, 1, 1, 1]}


def test_a_copy_stays_in_one_core_if_it_fits() -> None:
    """Copies of three arrays; a copy of six takes two cores."""
    threes = [("a", n) for n in range(2) for _ in range(3)]
    assert cores_of(threes, 40, a=10) == {"a": [1, 1]}
    sixes = [("a", n) for n in range(2) for _ in range(6)]
    numbers = spread(CORE, 40, sixes, {"a": 10})
    assert [{number // 4 for number in numbers[n : n + 6]} for n in (0, 6)] == [{0, 1}, {2, 3}]


def test_arrays_stay_in_order_where_cores_are_too_few() -> None:
    copies = [("a", 0), ("b", 0), ("c", 0)]
    assert spread(CORE, 8, copies, {}) == [0, 1, 2]
    assert spread(CORE, 12, copies, {}) == [0, 4, 8]


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
