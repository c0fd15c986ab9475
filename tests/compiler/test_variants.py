"""A model compiled again and again: each plan and each price is that of a compilation of its own."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ffebm
from examples.digits_model import digits_model
from ffebm.compiler.driver import run_passes
from ffebm.compiler.options import options_from
from ffebm.compiler.variants import SHARED, PricedVariant, Variant, Variants, copied
from ffebm.errors import UsageError
from ffebm.graph.graph import Graph
from ffebm.hardware.groups import DataType
from ffebm.hardware.silicon import powered
from ffebm.plan.mapping import Objective
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Settle
from ffebm.plan.summary import figures_of
from ffebm.plan.twin import Total
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.schedules import TaskLists
from tests.models import Builder

USUAL: dict[str, Any] = {
    "block_size": 1,
    "boundary": "tile",
    "fold_batch_norm": False,
    "dims": {},
    "digital": (),
    "trainable": (),
    "physics": "hopfield",
    "feedback": 1.0,
    "activations": (),
    "objective": "analog",
    "tiles": None,
    "max_latency": None,
    "max_energy": None,
    "max_area": None,
    "slowdown": None,
    "replicas": None,
    "effort": 100,
}
MACHINES = {name: ffebm.load_hardware(name) for name in ("reference", "ideal", "heterogeneous", "resistive")}
VARIANTS = Variants(digits_model())


def variant_of(machine: str, batch: int, sweeps: int, **options: Any) -> Variant:
    found = msgspec.structs.replace(options_from({**USUAL, **options}), batch=batch)  # type: ignore[typeddict-item]
    return Variant(found, Settle(free_sweeps=sweeps), MACHINES[machine])


def compiled(asked: Variant) -> Plan:
    options = msgspec.structs.asdict(asked.options)
    return ffebm.compile(digits_model(), hardware=asked.hardware, settle=asked.settle, **options)


def same_figures(price: PricedVariant, plan: Plan) -> None:
    assert price.training is not None
    assert price.inference.steps == plan.inference.steps
    assert price.training.steps == plan.training.steps
    for ours, theirs in ((price.inference, plan.inference), (price.training, plan.training)):
        assert (ours.makespan_s, ours.cost, ours.interval_s) == (
            theirs.makespan_s,
            theirs.cost,
            theirs.interval_s,
        )
    assert price.tiles == len(plan.tiles)
    assert price.samples == plan.samples
    assert price.blocks == len(plan.blocks)
    assert price.mapping == plan.mapping
    units = plan.training.units | plan.inference.units
    assert price.area == sum(part.area * part.used for part in powered(plan.hardware, units))
    twin = plan.twin["fp32"]
    assert price.twin == {figure: getattr(twin, figure) for figure in figures_of(plan)}
    macs = sum(node.macs for node in plan.nodes)
    assert price.on_tiles == sum(node.macs for node in plan.nodes if node.unit == "tile") / macs


@settings(max_examples=12, deadline=None)
@given(
    machine=st.sampled_from(sorted(MACHINES)),
    batch=st.sampled_from([1, 3]),
    sweeps=st.sampled_from([5, 60]),
    block_size=st.integers(1, 3),
    boundary=st.sampled_from(["tile", "digital"]),
    objective=st.sampled_from(["analog", "latency", "energy"]),
    replicas=st.sampled_from([None, 1]),
    digital=st.sampled_from([(), ("*",), ("conv2.weight",)]),
)
# without tiles and without its matrix unit: less than its twin, in which the first unit runs each op
@example(
    machine="heterogeneous",
    batch=1,
    sweeps=5,
    block_size=2,
    boundary="digital",
    objective="energy",
    replicas=None,
    digital=(),
)
def test_a_price_is_that_of_a_plan(machine: str, batch: int, sweeps: int, **options: Any) -> None:
    asked = variant_of(machine, batch, sweeps, **options)
    same_figures(VARIANTS.price(asked), compiled(asked))


@pytest.mark.parametrize(
    ("machine", "free"), [("reference", True), ("ideal", True), ("heterogeneous", False)]
)
def test_training_steps_can_be_left_out(machine: str, free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All else stays: what a training step alone powers counts, and only for that is it scheduled."""
    asked = variant_of(machine, 1, 60)
    whole = VARIANTS.price(asked)
    steps: list[int] = []
    listed = TaskLists.training

    def counted(lists: TaskLists, dtype: DataType, bands: int, most: int) -> list[Task]:
        steps.append(bands)
        return listed(lists, dtype, bands, most)

    monkeypatch.setattr(TaskLists, "training", counted)
    price = Variants(digits_model()).price(replace(asked, training=False))
    assert whole.twin is not None
    twin: dict[Total, float] = {
        "inference_s": whole.twin["inference_s"],
        "inference_j": whole.twin["inference_j"],
    }
    assert price == replace(whole, training=None, twin=twin)
    assert (not steps) == free


def test_what_a_training_step_alone_powers_counts_where_it_is_left_out() -> None:
    """One layer on a tile needs no digital unit; its loss and its update do."""
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", 1, 8), b.weight(8, 4)))
    asked = variant_of("reference", 1, 60)
    whole = Variants(model).price(asked)
    assert whole.training is not None
    assert whole.training.units - whole.inference.units
    assert Variants(model).price(replace(asked, training=False)).area == whole.area


@pytest.mark.parametrize(("machine", "effort"), [("reference", 600), ("heterogeneous", 20)])
def test_a_price_does_not_depend_on_what_was_priced_before(machine: str, effort: int) -> None:
    """Objectives of one machine share options, choices and schedules; all is as if they did not."""
    objectives: list[Objective] = ["analog", "latency", "edp"]
    asked = [variant_of(machine, 1, 60, objective=one, effort=effort) for one in objectives]
    alone = [Variants(digits_model()).price(one) for one in asked]
    for numbers in ((0, 1, 2), (2, 1, 0)):
        own = Variants(digits_model())
        for number in numbers:
            assert own.price(asked[number]) == alone[number]


def test_what_is_shared_is_kept_of_few_machines() -> None:
    own = Variants(digits_model())
    for tiles in range(4, 4 + 2 * SHARED):
        own.price(variant_of("reference", 1, 60, tiles=tiles))
        assert len(own._shared) <= SHARED


def test_what_cannot_move_as_a_circuit_has_no_price() -> None:
    usual = variant_of("reference", 1, 60)
    asked = Variant(usual.options, Settle(settling="circuit"), usual.hardware)
    with pytest.raises(UsageError) as priced:
        VARIANTS.price(asked)
    with pytest.raises(UsageError) as planned:
        VARIANTS.plan(asked)
    assert str(priced.value) == str(planned.value)


def test_a_plan_is_that_of_the_compiler() -> None:
    for block_size in (1, 2, 1):  # the third is made from what the first one left
        asked = variant_of("reference", 1, 60, block_size=block_size)
        assert VARIANTS.plan(asked) == compiled(asked)


def test_passes_run_once_for_their_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(graph: Graph, hardware: Any, passes: Any, progress: Any) -> None:
        seen.append(passes[-1].name)
        run_passes(graph, hardware, passes, progress)

    monkeypatch.setattr("ffebm.compiler.variants.run_passes", counted)
    own = Variants(digits_model())
    for block_size, objective in ((1, "analog"), (1, "latency"), (2, "analog"), (2, "latency")):
        own.price(variant_of("ideal", 1, 60, block_size=block_size, objective=objective))
    assert seen.count("energy-blocks") == 2
    assert seen.count("placement") == 4


def test_a_copy_is_the_same_graph() -> None:
    graph = VARIANTS._imported.graph
    assert copied(graph) == graph
