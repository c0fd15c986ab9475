import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Plan, Settle
from ffebm import compile as compile_plan
from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Accumulate, Crossbar, Transfer, Update, Verify
from ffebm.hardware.devices.update import PulsedBy
from ffebm.plan.schedule import Cost, Schedule, Step
from tests.machines import continuous, joules, ratio, round_numbers, seconds, with_tiles
from tests.models import Builder, random_models

SETTLE = Settle(free_sweeps=7, nudged_sweeps=3)


def one_block() -> Plan:
    """Five samples: a product with 3 x 2 weights and Relu on a tile, then Softmax."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)), out="s")
    return compile_plan(b.model(b.node("Softmax", y, name="soft")), hardware=round_numbers(), settle=SETTLE)


def listed(schedule: Schedule) -> list[tuple[str, str, float, float]]:
    return [(s.kind, s.name, s.start_s, s.end_s) for s in schedule.steps]


INFERENCE = [
    ("transfer", "x", 0.0, 9.5),  # 2 s + 15 values of 8 bits at 16 bits a second
    ("free", "block0", 9.5, 59.5),  # 5 reads of 1 + 6 + 3 s; no layer feels another, so no sweep
    ("transfer", "s", 59.5, 66.5),  # 2 s + 10 values
    ("digital", "soft", 66.5, 81.5),  # 6 operations for each of 10 values, 4 a second
]
TRAINING = [
    *INFERENCE,
    ("loss", "loss", 81.5, 101.5),  # 8 operations for each of 10 values
    ("digital_backward", "soft", 101.5, 116.5),  # as much as forward: it holds no weights
    ("transfer", "s", 116.5, 123.5),  # the error current
    ("nudged", "block0 +beta", 123.5, 123.5),  # one layer answers at once
    ("nudged", "block0 -beta", 123.5, 123.5),
    ("transfer", "block0", 123.5, 135.5),  # 2 s + both nudged states, 20 values
    ("contrast", "block0", 135.5, 150.5),  # 5 outer products of 3 x 2, 2 multiply-accumulates a second
    ("update", "block0", 150.5, 153.5),  # 2 operations for each of 6 weights
    ("transfer", "block0", 153.5, 158.5),  # 2 s + 6 weights
    ("update", "block0", 158.5, 173.5),  # 3 rows of 5 s
]


def test_the_times_of_one_block() -> None:
    plan = one_block()
    assert plan.batch == 5
    assert listed(plan.inference) == INFERENCE
    assert listed(plan.training) == TRAINING
    assert plan.inference.critical_path_s == plan.inference.makespan_s == 81.5
    assert (plan.inference.busiest_unit, plan.inference.busiest_s) == ("tile0", 50.0)


def test_the_costs_of_one_block() -> None:
    plan = one_block()
    assert [step.cost for step in plan.inference.steps] == [
        Cost(network=120 * 0.25 * 2, memory=120 * 0.5),
        Cost(
            array=5 * 2 * 6 * 1.0,  # both cells of 6 weights, 5 reads
            dac=15 * 10.0,
            adc=10 * 1000.0,
            digital=5 * 2 * (1 + 1) * 3.0,  # for each unit one Relu and the sum of its one drive
            dac_count=15,
            adc_count=10,
        ),
        Cost(network=80 * 0.25 * 2, memory=80 * 0.5),
        Cost(digital=60 * 3.0, memory=20 * 8 * 0.5),
    ]
    assert [step.cost for step in plan.training.steps[4:]] == [
        Cost(digital=80 * 3.0, memory=20 * 8 * 0.5),
        Cost(digital=60 * 3.0, memory=20 * 8 * 0.5),
        Cost(network=80 * 0.25 * 2, memory=80 * 0.5),
        Cost(digital=5 * 2 * 2 * 3.0),
        Cost(digital=5 * 2 * 2 * 3.0),
        Cost(network=160 * 0.25 * 2, memory=160 * 0.5),
        Cost(digital=30 * 2.0, memory=(20 + 6) * 8 * 0.5),  # states are read, the gradient is written
        Cost(digital=12 * 3.0, memory=3 * 6 * 8 * 0.5),  # weights and gradient are read, weights written
        Cost(network=48 * 0.25 * 2, memory=48 * 0.5),
        Cost(array=12 * 100.0),
    ]
    steps = 120 + 60 + 150 + 10000 + 60 + 80 + 180 + 80
    assert plan.inference.cost.energy - plan.inference.leakage == pytest.approx(steps)


def changed(**tile: Any) -> Plan:
    """The same block on other crossbars."""
    machine = round_numbers()
    assert isinstance(machine.analog[0].tile, Crossbar)
    machine = with_tiles(machine, tile=replace(machine.analog[0].tile, **tile))
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)), out="s")
    return compile_plan(b.model(y), hardware=machine, settle=SETTLE)


def test_slices_are_read_side_by_side_and_input_slices_in_turn() -> None:
    machine = round_numbers().analog[0].tile
    assert isinstance(machine, Crossbar)
    plan = changed(slices=3, dac=replace(machine.dac, slice_bits=3))  # 7 bits of a magnitude: 3 reads
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    assert free.end_s - free.start_s == pytest.approx(3 * 50)
    assert (free.cost.dac_count, free.cost.adc_count) == (3 * 15, 9 * 10)  # slices share their word lines
    assert free.cost.adders == 10 * (9 - 1) * 20.0  # 9 codes make one value
    assert free.cost.array == 3 * 5 * (3 * 2 * 6)
    assert plan.training.steps[-1].cost.array == 3 * 2 * 6 * 100.0


def test_arrays_with_drivers_of_their_own_convert_each_input_once_each() -> None:
    plan = changed(slices=3, drivers="own", adder=None)
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    assert (free.cost.dac_count, free.cost.adc_count) == (3 * 15, 3 * 10)
    assert free.cost.adders == 10 * (3 - 1) * 3.0  # no adders: operations of the digital unit


def test_partial_sums_of_a_cut_matrix_cross_and_add_up() -> None:
    """11 x 6 weights on 4 x 4 arrays: 3 cuts of the inputs, 2 of the outputs; 2 samples."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 2, 4), b.weight(4, 11)))
    y = b.node("Relu", b.node("MatMul", y, b.weight(11, 6)))
    plan = compile_plan(b.model(y), hardware=round_numbers(count=16), settle=SETTLE)
    _, free = [s for s in plan.inference.steps if s.kind == "free"]
    sums = 2 * (3 - 1) * 6
    assert free.cost.adders == sums * 20.0
    assert free.cost.network == sums * 8 * 0.25 * 2  # 8 bits over 2 hops
    (back,) = [s for s in plan.training.steps if s.name == "block1 -beta"]
    transposed = 2 * (2 - 1) * 11
    assert back.cost.adders == transposed * 20.0
    assert back.cost.network == transposed * 8 * 0.25 * 2


def test_a_buffer_beside_a_tile_takes_inputs_and_results_in_and_out() -> None:
    machine = round_numbers()
    (memory,) = machine.memory
    far = replace(memory, name="far", owner="tiles", level=2)
    near = replace(memory, name="near", owner="tiles", bit_energy=joules(0.125))
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)), out="s")
    plan = compile_plan(b.model(y), hardware=replace(machine, memory=(memory, far, near)), settle=SETTLE)
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    lines = 5 * (3 + 2) * 2 * 8 * 0.125  # values of 8 bits, in and out
    assert free.cost.buffer == lines + 5 * (3 + 2) * 8 * 0.5  # and once where values lie
    assert one_block().inference.cost.buffer == 0


def test_an_offset_column_has_a_cell_for_each_row() -> None:
    plan = changed(mapping="offset")
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    assert free.cost.array == 5 * (6 + 3)
    assert plan.training.steps[-1].cost.array == (6 + 3) * 100.0


def test_cells_are_written_as_often_as_they_miss() -> None:
    machine = round_numbers().analog[0].tile
    assert isinstance(machine, Crossbar)
    verify = Verify(writes=4, tolerance=ratio(0.01))
    cell = replace(machine.cell, programming_noise=ratio(0.01), verify=verify)
    last = changed(cell=cell).training.steps[-1]
    assert last.end_s - last.start_s == pytest.approx(4 * 15)
    within = math.erf(1 / math.sqrt(2))
    mean = 1 + (1 - within) + (1 - within) ** 2 + (1 - within) ** 3
    assert last.cost.array == pytest.approx(12 * 100.0 * mean)
    exact = replace(cell, programming_noise=ratio(0.0))
    assert changed(cell=exact).training.steps[-1].cost.array == pytest.approx(12 * 100.0)


def learning(remedy: Accumulate | Transfer | None, pulsed_by: PulsedBy) -> Update:
    return Update(
        bounds="soft",
        pulse=ratio(0.01),
        pulses=9,
        asymmetry=ratio(0.1),
        noise=ratio(0.1),
        range=ratio(2.0),
        time=seconds(7.0),
        energy=joules(11.0),
        remedy=remedy,
        pulsed_by=pulsed_by,
    )


def learned(
    batch: int,
    remedy: Accumulate | Transfer | None,
    pulsed_by: PulsedBy = "differences",
    *,
    bias: bool = False,
) -> list[Step]:
    """Steps behind the nudged phases of a block of 3 x 2 weights whose cells learn in place."""
    tile = round_numbers().analog[0].tile
    assert isinstance(tile, Crossbar)
    b = Builder()
    y = b.node("MatMul", b.input("x", batch, 3), b.weight(3, 2))
    y = b.node("Relu", b.node("Add", y, b.weight(2)) if bias else y)
    machine = with_tiles(round_numbers(), tile=replace(tile, update=learning(remedy, pulsed_by)))
    steps = compile_plan(b.model(y), hardware=machine, settle=SETTLE).training.steps
    (minus,) = [s.id for s in steps if s.name == "block0 -beta"]
    return list(steps[minus + 1 :])


@pytest.mark.parametrize(("pulsed_by", "times"), [("differences", 1), ("states", 2)])
def test_outer_products_are_pulsed_one_by_one_without_a_digital_gradient(
    pulsed_by: PulsedBy, times: int
) -> None:
    for batch in (2, 5):  # more than the part has lines, too
        (last,) = learned(batch, None, pulsed_by)
        assert last.kind == "update"
        # for each sample, or each phase of it, all lines at once
        assert last.end_s - last.start_s == pytest.approx(times * batch * 7.0)
        assert last.cost == Cost(array=times * batch * 12 * 11.0)


def test_between_free_layers_there_are_two_outer_products_a_vector() -> None:
    machine = round_numbers()
    for pulsed_by, clamped in (("differences", 1), ("states", 2)):
        update = learning(None, pulsed_by)  # type: ignore[arg-type] # of PulsedBy
        kind = replace(machine.analog[0].tile.crossbar(), update=update)
        b = Builder()
        y = b.node("Relu", b.node("MatMul", b.input("x", 1, 3), b.weight(3, 2)))
        model = b.model(b.node("MatMul", y, b.weight(2, 4)))
        plan = compile_plan(model, hardware=with_tiles(machine, tile=kind), settle=SETTLE, block_size=2)
        (update_step,) = [s for s in plan.training.steps if s.kind == "update"]
        assert update_step.cost == Cost(array=(clamped * 12 + 2 * 16) * 11.0)


@pytest.mark.parametrize("remedy", [None, Accumulate()])
def test_a_matrix_of_steps_is_pulsed_line_by_line(remedy: Accumulate | None) -> None:
    steps = learned(2, remedy, "matrix")
    assert [s.kind for s in steps] == ["transfer", "contrast", "update", "transfer", "update"]
    assert steps[-1].end_s - steps[-1].start_s == pytest.approx(3 * 7.0)
    assert steps[-1].cost == Cost(array=12 * 11.0)


def test_a_weight_of_two_blocks_takes_the_outer_products_of_both() -> None:
    tile = round_numbers().analog[0].tile
    assert isinstance(tile, Crossbar)
    machine = with_tiles(round_numbers(), tile=replace(tile, update=learning(None, "differences")))
    b = Builder()
    w = b.weight(3, 3)
    y = b.node("Relu", b.node("MatMul", b.input("x", 2, 3), w))
    steps = compile_plan(
        b.model(b.node("Relu", b.node("MatMul", y, w))), hardware=machine, settle=SETTLE
    ).training.steps
    (update,) = [s for s in steps if s.kind == "update"]
    assert update.cost == Cost(array=2 * 2 * 18 * 11.0)
    nudged = [s for s in steps if s.kind == "nudged"]
    assert update.start_s >= max(s.end_s for s in nudged)


def test_a_weight_that_a_digital_node_reads_too_has_a_gradient() -> None:
    tile = round_numbers().analog[0].tile
    assert isinstance(tile, Crossbar)
    machine = with_tiles(round_numbers(), tile=replace(tile, update=learning(None, "differences")))
    b = Builder()
    w = b.weight(3, 3)
    y = b.node("Mul", b.node("Relu", b.node("MatMul", b.input("x", 3, 3), w)), w)
    steps = compile_plan(b.model(y), hardware=machine, settle=SETTLE).training.steps
    assert [s.kind for s in steps if s.kind in {"contrast", "update"}] == ["contrast", "update", "update"]


def test_biases_beside_cells_that_learn_in_place_need_sums_of_states() -> None:
    steps = learned(2, None, bias=True)
    assert sorted(s.kind for s in steps) == ["contrast", "transfer", "update", "update"]
    (contrast,) = [s for s in steps if s.kind == "contrast"]
    assert contrast.cost == Cost(digital=8 * 2.0, memory=(8 + 2) * 8 * 0.5)
    digital = [s for s in steps if s.kind == "update" and s.cost.digital]
    assert [s.cost for s in digital] == [Cost(digital=2 * 2 * 3.0, memory=3 * 2 * 8 * 0.5)]


def test_a_transfer_is_shared_out_over_the_updates_between() -> None:
    (last,) = learned(2, Transfer(every=5, rate=ratio(0.5)))
    # 3 lines are read and pulsed one by one in the slow array, every fifth time
    assert last.end_s - last.start_s == pytest.approx(2 * 7.0 + (3 * 7.0 + 3 * 10) / 5)
    assert last.cost.array == pytest.approx(12 * 11.0 * (2 + 1 / 5) + 3 * 12 / 5)
    assert last.cost.dac == pytest.approx(3 * 3 * 10.0 / 5)
    assert last.cost.adc == pytest.approx(3 * 2 * 1000.0 / 5)
    (buffered,) = learned(2, Transfer(every=5, rate=ratio(0.5), buffered=True))
    added = replace(buffered.cost, adders=last.cost.adders)
    assert added == last.cost
    # an addition a weight in a transfer
    assert buffered.cost.adders - last.cost.adders == pytest.approx(3 * 2 * 20.0 / 5)


def two_layers() -> Plan:
    """One sample: 3 x 2 weights, Relu, 2 x 4 weights; both layers in one block, on two tiles."""
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, 3), b.weight(3, 2)))
    y = b.node("MatMul", y, b.weight(2, 4))
    return compile_plan(b.model(y), hardware=round_numbers(), settle=SETTLE, block_size=2)


def test_a_sweep_is_one_product_and_one_transposed_product() -> None:
    plan = two_layers()
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    assert free.units == ("tile0", "tile1")
    assert free.end_s - free.start_s == pytest.approx(10 + 7 * (10 + 10))
    assert free.cost.dac_count == 3 + 7 * (2 + 4)
    assert free.cost.adc_count == 2 + 7 * (4 + 2)
    assert free.cost.array == 2 * 6 + 7 * 2 * (2 * 8)
    assert free.cost.digital == 7 * 3.0 * (2 * (1 + 1) + 4 * (0 + 1))
    assert free.cost.network == 7 * 2 * (2 * 8) * 0.25 * 2  # the state of 2 units there, its reaction back
    nudged = [s for s in plan.training.steps if s.kind == "nudged"]
    assert [s.name for s in nudged] == ["block0 +beta", "block0 -beta"]
    for step in nudged:
        assert step.end_s - step.start_s == pytest.approx(3 * 20)
        assert step.cost.dac_count == step.cost.adc_count == 3 * 6
    (contrast,) = [s for s in plan.training.steps if s.kind == "contrast"]
    assert contrast.cost.digital == 2.0 * (6 + 2 * 8)


def test_a_circuit_that_settles_by_itself_converts_once_a_phase() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 5, 3), b.weight(3, 2)))
    y = b.node("MatMul", y, b.weight(2, 4))
    plan = compile_plan(b.model(y), hardware=continuous(round_numbers()), settle=SETTLE, block_size=2)
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    cells = 2 * (3 * 2 + 2 * (2 * 4))  # the transpose of what joins the layers has cells of its own
    watts = 3.0 * 5.0**2  # of a cell
    assert free.end_s - free.start_s == pytest.approx(5 * (1 + 20 + 3))
    assert free.cost.array == 5 * cells * watts * 20
    assert (free.cost.dac_count, free.cost.adc_count) == (5 * 3, 5 * 4)
    assert free.cost.digital == 0
    nudged = [s for s in plan.training.steps if s.kind == "nudged"]
    assert len(nudged) == 2
    for step in nudged:
        assert step.end_s - step.start_s == pytest.approx(5 * (1 + 20 + 3))
        assert (step.cost.dac_count, step.cost.adc_count) == (5 * 4, 5 * (2 + 4))
    assert "settling    continuous: converters once a phase of 20 s\n" in plan.summary()


def test_a_block_is_nudged_to_one_side_after_the_other() -> None:
    """The second phase waits for the first one, the contrast for both."""
    plan = two_layers()
    plus, minus = (s for s in plan.training.steps if s.kind == "nudged")
    (contrast,) = (s for s in plan.training.steps if s.kind == "contrast")
    (states,) = (plan.training.steps[before] for before in contrast.after)
    assert minus.after == (plus.id,)
    assert minus.start_s == plus.end_s > plus.start_s
    assert states.after == (minus.id,)


def test_the_error_current_reaches_an_earlier_block_by_a_transposed_read() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, 3), b.weight(3, 2)))
    y = b.node("Relu", b.node("MatMul", y, b.weight(2, 4)))
    plan = compile_plan(b.model(y), hardware=round_numbers(), settle=SETTLE)
    nudged = {s.name: s for s in plan.training.steps if s.kind == "nudged"}
    back = nudged["block1 -beta"]
    assert (back.cost.dac_count, back.cost.adc_count) == (4, 2)
    assert back.end_s - back.start_s == pytest.approx(10)
    assert nudged["block1 +beta"].cost.dac_count == 0
    assert nudged["block0 -beta"].cost.dac_count == 0  # nothing learns before the first block


def test_every_output_of_a_block_gets_its_error_current() -> None:
    b = Builder()
    s = b.node("Relu", b.node("MatMul", b.input("x", 1, 3), b.weight(3, 2)), out="s")
    t = b.node("Relu", b.node("MatMul", s, b.weight(2, 4)), out="t")
    plan = compile_plan(b.model(s, t), hardware=round_numbers(), settle=SETTLE, block_size=2)
    steps = plan.training.steps
    (first,) = [step for step in steps if step.name == "block0 +beta"]
    assert {(steps[i].kind, steps[i].name) for i in first.after} == {
        ("transfer", "s"),
        ("transfer", "t"),
        ("free", "block0"),
    }


def test_a_transposed_convolution_reads_once_for_each_pixel() -> None:
    b = Builder()
    y = b.node("ConvTranspose", b.input("x", 1, 3, 2, 2), b.weight(3, 1, 2, 2))
    plan = compile_plan(b.model(y), hardware=round_numbers())
    cost = sum((s.cost for s in plan.inference.steps if s.kind == "free"), Cost())
    assert (cost.dac_count, cost.adc_count) == (4 * 3, 4 * 4)


@pytest.mark.parametrize(("count", "tiles", "reads"), [(4, 4, 1), (3, 2, 2), (1, 1, 4)])
def test_kernels_on_lines_of_their_own_are_read_at_once(count: int, tiles: int, reads: int) -> None:
    """A depthwise convolution with four 2 x 2 kernels on 4 x 4 tiles: one a tile, or some side by side."""
    b = Builder()
    y = b.node("Conv", b.input("x", 1, 4, 2, 2), b.weight(4, 1, 2, 2), group=4)
    plan = compile_plan(b.model(y), hardware=round_numbers(count))
    (free,) = [s for s in plan.inference.steps if s.kind == "free"]
    assert len(plan.tiles) == tiles
    assert free.end_s - free.start_s == pytest.approx(reads * 10)


def shared(*, digital: bool) -> Plan:
    """Two layers of 4 units with one weight, another between them; the last may be digital."""
    b = Builder()
    w = b.weight(4, 4, name="w")
    y = b.node("Relu", b.node("MatMul", b.input("x", 2, 4), w, name="first"))
    y = b.node("Relu", b.node("MatMul", y, b.weight(4, 4, name="own"), name="middle"))
    y = b.node("MatMul", y, w, name="last")
    options: dict[str, Any] = {"digital": ["last"]} if digital else {}
    return compile_plan(b.model(y), hardware=round_numbers(), settle=SETTLE, **options)


@pytest.mark.parametrize("digital", [False, True])
def test_a_shared_weight_has_one_update_after_its_last_read(digital: bool) -> None:
    plan = shared(digital=digital)
    steps = plan.training.steps
    assert [block.weights() for block in plan.blocks] == [("w",), ("own",), ("w",)][: 2 if digital else 3]
    writes = {s.units: s for s in steps if s.kind == "update" and s.cost.array}
    masters = [s for s in steps if s.kind == "update" and not s.cost.array]
    assert len(writes) == len(masters) == 2
    assert [s.cost.digital for s in masters] == [2 * 16 * 3.0] * 2  # 2 operations for each of 16 weights
    (last,) = (s for units, s in writes.items() if units == next(s for s in steps if s.block == 0).units)
    kinds = {"free", "nudged", "contrast", "digital", "digital_backward"}
    readers = [s for s in steps if s.kind in kinds and (s.block in (0, 2) or s.name == "last")]
    assert len(readers) == (6 if digital else 8)
    assert max(s.end_s for s in readers) <= last.start_s
    assert last.cost.array == 2 * 16 * 100.0
    check(plan, plan.training)


def order_of(steps: tuple[Step, ...]) -> dict[tuple[str, str], int]:
    return {(s.kind, s.name): s.id for s in steps}


def check(plan: Plan, schedule: Schedule) -> None:
    free: dict[str, float] = {}
    for step in schedule.steps:
        assert all(schedule.steps[before].end_s <= step.start_s for before in step.after)
        assert all(before < step.id for before in step.after)
        assert all(free.get(unit, 0.0) <= step.start_s for unit in step.units)
        assert step.units
        free.update(dict.fromkeys(step.units, step.end_s))
    assert schedule.ratio >= 1 - 1e-9


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(model=random_models(), block_size=st.integers(1, 3), count=st.integers(1, 3))
def test_schedules_of_random_models(model: ModelProto, block_size: int, count: int) -> None:
    machine = round_numbers(count=4 * count, rows=40, cols=20)
    plan = compile_model(model, hardware=machine, block_size=block_size, settle=SETTLE)
    check(plan, plan.inference)
    check(plan, plan.training)
    inference = [(s.kind, s.name) for s in plan.inference.runs]
    expected = [("free", block.name) for block in plan.blocks]
    expected += [("digital", n.name) for n in plan.nodes if n.unit == "digital"]
    assert sorted(inference) == sorted(expected)
    training = order_of(plan.training.steps)
    for block in plan.blocks:
        chain = [("free", block.name), ("loss", "loss"), ("nudged", f"{block.name} +beta")]
        chain += [("nudged", f"{block.name} -beta"), ("contrast", block.name), ("update", block.name)]
        positions = [training[step] for step in chain if step in training]
        assert positions == sorted(positions)
        assert ("free", block.name) in training
    for earlier, later in pairwise(plan.blocks):
        if set(later.inputs) & set(earlier.outputs) and ("nudged", f"{later.name} -beta") in training:
            back = training["nudged", f"{later.name} -beta"]
            assert back < training["nudged", f"{earlier.name} +beta"]
