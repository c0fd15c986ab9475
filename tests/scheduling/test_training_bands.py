"""Bands of a training step by what is to be small, on a machine whose near memory holds little."""

from collections.abc import Callable
from functools import cache

import pytest
from msgspec.structs import replace

from ffebm import compile, load_hardware  # noqa: A004 - as users write it
from ffebm.errors import UsageError
from ffebm.graph.graph import Graph
from ffebm.hardware.description import Capacity, Hardware
from ffebm.mapping.search.goal import Measured
from ffebm.plan.mapping import Objective
from ffebm.plan.schema import Settle
from ffebm.scheduling.bands import FEW_TRAINING_STEPS, MOST_STEPS, MOST_TRAINING_STEPS
from ffebm.scheduling.in_flight import joining
from ffebm.scheduling.list_schedule import ordered
from ffebm.scheduling.memory.flow_of import flow_of
from ffebm.scheduling.memory.planned import Priced, priced
from ffebm.scheduling.schedules import training_tasks
from ffebm.scheduling.training_bands import (
    FINER,
    FINEST,
    NUMBERS,
    BandChoice,
    BandedStep,
    cuts_to_try,
    tried_cuts,
)
from ffebm.scheduling.twin import Wanted, priced_schedules, schedules_of, twins_of
from tests.machines import joules
from tests.models import Builder
from tests.scheduling.graphs import placed

OBJECTIVES: tuple[Objective, ...] = ("analog", "latency", "throughput", "energy", "edp")
MANY = FEW_TRAINING_STEPS + 1
"""Steps by which finer bands are not tried."""
SMALL = 20 << 10
"""Bytes that hold five of the values of `chain`."""


def with_near(room: int) -> Hardware:
    """`reference` with so many bytes beside its digital unit, and dear ones behind them."""
    machine = load_hardware("reference")
    held = Capacity(value=8 * room, source="chosen for a test", unit="bit")
    near, far = machine.memory
    dear = replace(far, bit_energy=joules(1e-9))
    return replace(machine, memory=(replace(near, capacity=held), dear))


@cache
def chain() -> Graph:
    """Four convolutions of sixteen rows, each 4 KiB, with a sum over the middle two."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 2, 16, 16), 2, 4))
    z = b.node("Relu", b.conv(b.node("Relu", b.conv(y, 4, 4)), 4, 4))
    return placed(b.model(b.node("Relu", b.conv(b.node("Add", y, z), 4, 4))))


@cache
def cut(room: int, bands: int, steps: int = MOST_TRAINING_STEPS) -> BandedStep[Priced]:
    """A step of the chain with so many bands a layer."""
    hardware, graph = with_near(room), chain()
    tasks = training_tasks(graph, hardware, Settle(), most_bands=bands, most_steps=steps)
    found = priced(flow_of(graph), hardware, tasks, ordered)
    return BandedStep(bands, tasks, found, hardware, joining(graph))


def tried(
    objective: Objective, room: int, left: int = 0, finer_steps: int = MANY, *, joined: bool = True
) -> BandChoice[Priced]:
    """Cuts of the chain, as if samples were joined unless said otherwise."""
    cuts = cuts_to_try(objective, joined=joined, left=left, finer_steps=finer_steps)
    return tried_cuts(objective, lambda bands, steps: cut(room, bands, steps), cuts)


def figure(objective: Objective) -> Callable[[Measured], float]:
    figures: dict[Objective, Callable[[Measured], float]] = {
        "throughput": lambda found: found.interval,
        "energy": lambda found: found.joules,
        "edp": lambda found: found.joules * found.seconds,
    }
    return figures.get(objective, lambda found: found.seconds)


@pytest.mark.parametrize("room", [1 << 12, SMALL, 1 << 22])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_cut_is_taken_that_is_worse_than_layer_by_layer(objective: Objective, room: int) -> None:
    found = figure(objective)
    taken = found(tried(objective, room).best.measured)
    assert taken <= found(cut(room, 1).measured) * (1 + 1e-9)


@pytest.mark.parametrize("objective", ["throughput", "energy", "edp"])
def test_of_all_cuts_the_best_is_taken(objective: Objective) -> None:
    found, choice = figure(objective), tried(objective, SMALL)
    assert [one.bands for one in choice.cuts] == list(NUMBERS)
    assert found(choice.best.measured) == pytest.approx(
        min(found(cut(SMALL, bands).measured) for bands in NUMBERS)
    )


def test_objectives_want_different_cuts_where_the_near_memory_is_small() -> None:
    bands = {objective: tried(objective, SMALL).best.bands for objective in OBJECTIVES}
    assert bands["throughput"] < bands["analog"] == bands["latency"] == NUMBERS[0]


def test_where_all_is_near_no_other_cut_is_tried_for_time() -> None:
    choice = tried("latency", 1 << 22)
    assert [one.bands for one in choice.cuts] == [NUMBERS[0]]
    assert list(choice.notes()) == []
    assert not choice.best.slowed


def test_finer_bands_are_tried_where_latency_is_asked_for_and_steps_are_left() -> None:
    choice = tried("latency", 1 << 22, MOST_STEPS)
    assert [one.bands for one in choice.cuts] == [FINER]
    assert choice.best.measured.seconds < cut(1 << 22, NUMBERS[0]).measured.seconds
    assert tried("latency", 1 << 22, MOST_TRAINING_STEPS).best.bands == NUMBERS[0]
    assert tried("analog", 1 << 22, MOST_STEPS).best.bands == NUMBERS[0]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_finer_bands_are_tried_first_where_they_make_few_steps(objective: Objective) -> None:
    choice = tried(objective, SMALL, finer_steps=FEW_TRAINING_STEPS)
    assert [one.bands for one in choice.cuts][:2] == [FINER, NUMBERS[0]]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_finest_bands_are_tried_first_where_nothing_joins_samples(objective: Objective) -> None:
    """Layers of sixteen rows have no more than sixteen bands: half as many is what comes next."""
    choice = tried(objective, SMALL, finer_steps=0, joined=False)
    assert [one.bands for one in choice.cuts][:2] == [FINEST, NUMBERS[0]]
    assert choice.cuts[0].used == 16
    found = figure(objective)
    assert found(choice.best.measured) <= found(tried(objective, SMALL).best.measured) * (1 + 1e-9)


def test_runs_in_flight_have_so_many_steps_together() -> None:
    cuts = [
        cuts_to_try("analog", joined=joined, left=0, finer_steps=MANY, runs=runs)
        for joined, runs in ((False, 1), (False, 2), (False, 3), (True, 1))
    ]
    usual = [(bands, MOST_TRAINING_STEPS) for bands in NUMBERS]
    assert cuts == [[(FINEST, MOST_STEPS), *usual], [(FINEST, MOST_STEPS // 2), *usual], usual, usual]


def test_what_fits_in_no_memory_is_left_out() -> None:
    def only_whole(bands: int, steps: int) -> BandedStep[Priced]:
        if bands > 1:
            raise UsageError("no room")
        return cut(SMALL, bands, steps)

    cuts = cuts_to_try("latency", joined=False, left=0, finer_steps=MANY)
    assert [one.bands for one in tried_cuts("latency", only_whole, cuts).cuts] == [1]

    def none(bands: int, steps: int) -> BandedStep[Priced]:
        raise UsageError(f"no room for {bands}")

    with pytest.raises(UsageError, match="no room for 1"):
        tried_cuts("latency", none, cuts)


def test_a_plan_says_what_was_chosen_and_holds_it() -> None:
    hardware = with_near(SMALL)
    found = schedules_of(chain(), hardware, Settle(), objective="energy")
    quick = priced_schedules(chain(), hardware, Settle(), Wanted(objective="energy"))
    cuts = tried("energy", SMALL, finer_steps=0, joined=False).best
    best = cuts.measured
    assert quick[1] is not None
    assert found.training.makespan_s == quick[1].makespan_s == best.seconds
    assert found.training.cost.energy == pytest.approx(best.joules)
    assert found.training.interval_s == best.interval
    (note,) = found.notes
    assert note.startswith(f"training step cut for energy: up to {cuts.bands} bands a layer ")
    assert note.count("a further sample") == len((FINEST, *NUMBERS))


def test_the_twin_is_cut_by_the_same_rule() -> None:
    """Two digital units stream; without tiles the twin is the plan itself."""
    machine = with_near(1 << 12)
    (engine,) = machine.digital
    two = replace(machine, digital=(replace(engine, count=2),))
    for objective in ("throughput", "energy"):
        b = Builder()
        y = b.node("Relu", b.conv(b.input("x", 1, 2, 16, 16), 2, 4))
        model = b.model(b.node("Relu", b.conv(y, 4, 4)))
        plan = compile(model, hardware=two, digital=["*"], objective=objective)
        assert plan.twin["fp32"].training_s == plan.training.makespan_s
        assert plan.twin["fp32"].training_j == plan.training.cost.energy
    assert twins_of(chain(), two, Settle(), schedules_of(chain(), two, Settle()))
