"""Digital units in the cores of the tiles: where nodes run, how work is shared out, and what crosses."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from ffebm import Plan, load_hardware, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import HardwareError
from ffebm.hardware.description import Core, Hardware
from ffebm.hardware.routes import Route, Routes
from ffebm.plan.schedule import Step
from tests.machines import rate, round_numbers, seconds, with_tiles
from tests.models import Builder
from tests.scheduling.checker import problems


def in_cores(cores: int = 8, tiles: int = 2) -> Hardware:
    """Arrays of 4 x 4 in cores on a mesh; a unit in each, 16 operations and 32 products a second."""
    machine = with_tiles(round_numbers(count=cores * tiles), core=Core(tiles=tiles, issue=seconds(1.0)))
    (unit,), (memory,) = machine.digital, machine.memory
    fp32 = replace(unit.fp32, op_rate=rate(16.0), mac_rate=rate(32.0))
    return replace(
        machine,
        digital=(replace(unit, name="vector", count=cores, place="core", fp32=fp32),),
        memory=(replace(memory, owner="chip"),),
        network=replace(machine.network, topology="mesh"),
    )


def central() -> Hardware:
    """The same machine with one unit apart from the cores."""
    machine = in_cores()
    return replace(machine, digital=(replace(machine.digital[0], count=1, place="apart"),))


def softened(hardware: Hardware, digital: tuple[str, ...] = ()) -> Plan:
    """8 to 8 on cores 0 and 1, a Softmax, and 8 to 4 on core 2."""
    b = Builder()
    y = b.node("MatMul", b.input("x", 3, 8), b.weight(8, 8), out="wide")
    y = b.node("Softmax", y, out="soft", axis=1)
    y = b.node("MatMul", y, b.weight(8, 4), out="narrow")
    return compile_plan(b.model(y), hardware=hardware, digital=digital)


def forward(plan: Plan) -> dict[tuple[str, str], Step]:
    """Steps of an inference by what they do: a kind and a name."""
    return {(step.kind, step.name): step for step in plan.inference.steps}


def took(step: Step) -> float:
    return step.end_s - step.start_s


def test_a_node_is_shared_out_over_the_cores_that_hold_what_it_reads() -> None:
    """A Softmax of 24 elements at 16 operations a second, over two units or on one."""
    shared, alone = forward(softened(in_cores())), forward(softened(central()))
    assert shared["free", "block0"].units[:2] == ("core0", "core1")
    soft, whole = shared["digital", "softmax_soft"], alone["digital", "softmax_soft"]
    assert (soft.units, whole.units) == (("digital0", "digital1"), ("digital0",))
    assert took(whole) == pytest.approx(9.0)
    assert took(soft) == pytest.approx(4.5)
    assert soft.cost == whole.cost


def test_values_cross_in_lanes_from_core_to_core() -> None:
    """8 bits a value, 16 bit/s, 2 s a hop, 0.25 J a bit and hop."""
    steps = forward(softened(in_cores()))
    wide, soft, narrow = (steps["transfer", name] for name in ("wide", "soft", "narrow"))
    assert wide.units == ("network0", "network1")  # within each core, half of 24 values
    assert took(wide) == pytest.approx(2 + 12 * 8 / 16)
    assert wide.cost.network == pytest.approx(24 * 8 * 0.25)
    assert soft.units == ("network0", "network2")  # core 2 has one port: two hops on a grid of three by three
    assert took(soft) == pytest.approx(2 * 2 + 24 * 8 / 16)
    assert soft.cost.network == pytest.approx(24 * 8 * 0.25 * 2)
    assert narrow.units == ("network2",)  # to the units of all cores, its own among them


def test_lanes_join_what_both_ends_have_in_common_first() -> None:
    """Cores of two tiles on a grid of three by three."""
    routes = Routes(in_cores())
    assert routes.way((0, 2), (2, 4)) == Route(("network0", "network1", "network2"), 1.5, 2.0, 2)
    assert routes.way((0, 2, 4), (14,)) == Route(("network0", "network7"), 3.0, 3.0, 1)
    assert routes.way((6,), "vector") == Route(("network3",), 1.0, 1.0, 1)
    assert routes.way(None, (2,)) == Route(("network0", "network1"), 1.0, 1.0, 1)


def test_units_in_cores_have_no_router_of_their_own() -> None:
    """With a unit apart beside eight cores its router is the ninth."""
    machine = in_cores()
    apart = replace(machine.digital[0], name="engine", count=1, place="apart", ops=("MatMul",))
    both = replace(machine, digital=(machine.digital[0], apart))
    assert Routes(both).way((0,), "engine").units == ("network0", "network8")


def test_products_are_shared_out_over_all_units() -> None:
    """24 elements of 8 products each, at 8 x 32 a second, which are then activated, at 8 x 16."""
    plan = softened(in_cores(), digital=("*",))
    first = plan.inference.steps[0]
    assert first.units == tuple(f"digital{core}" for core in range(8))
    assert took(first) == pytest.approx(24 * 8 / (8 * 32) + 24 / (8 * 16))
    assert {step.units for step in plan.inference.steps} == {first.units}  # what follows is there
    assert plan.twin["fp32"].inference_s == plan.inference.makespan_s


def joined(hardware: Hardware) -> Plan:
    """A product of two layers of which the second is made later, and one with more elements beside it."""
    b = Builder()
    x = b.input("x", 3, 4)
    one = b.node("Softmax", b.node("MatMul", x, b.weight(4, 4)), out="one", axis=1)
    two = b.node("MatMul", one, b.weight(4, 4), out="two")
    total = b.node("Softmax", b.node("Mul", one, two, out="product"), out="last", axis=1)
    both = b.node("Concat", total, b.node("MatMul", x, b.weight(4, 8), out="large"), out="both", axis=1)
    return compile_plan(b.model(both), hardware=hardware)


def test_a_node_works_where_it_reads_most() -> None:
    plan = joined(in_cores())
    made = {value: node for node in plan.nodes for value in node.outputs}
    steps = forward(plan)

    def cores(value: str) -> set[str]:
        block = next(block for block in plan.blocks if value in block.outputs)
        units = steps["free", block.name].units
        return {unit.removeprefix("core") for unit in units if unit.startswith("core")}

    def units(value: str) -> set[str]:
        step = next(s for s in plan.inference.steps if s.kind == "digital" and made[value].name in s.nodes)
        return {unit.removeprefix("digital") for unit in step.units}

    assert units("product") == units("last") == cores("two")  # of equals the last made
    assert units("both") == cores("large")


@pytest.mark.parametrize("cores", [1, 2])
def test_blocks_in_the_same_core_share_its_unit(cores: int) -> None:
    """A block more than there are cores: the first and the last share one, whose unit has what they make."""
    b = Builder()
    x = b.input("x", 3, 4)
    products = [b.node("MatMul", x, b.weight(4, 4)) for _ in range(cores + 1)]
    soft = [b.node("Softmax", y, out=f"soft{n}", axis=1) for n, y in enumerate(products)]
    model = b.model(b.node("Mul", soft[0], soft[-1], out="y"), *soft[1:-1])
    plan = compile_plan(model, hardware=in_cores(cores, 4), replicas=1)
    steps = forward(plan)
    for name in ("softmax_soft0", f"softmax_soft{cores}", "mul_y"):
        assert steps["digital", name].units == ("digital0",)
    assert not {("transfer", name) for name in soft} & steps.keys()
    for schedule in (plan.inference, plan.training):
        assert list(problems(plan, schedule)) == []


MACHINES = {"mesh": in_cores(), "bus": replace(in_cores(), network=central().network)}


@pytest.mark.parametrize("machine", MACHINES)
def test_plans_with_units_in_cores_run(machine: str, tmp_path: Path) -> None:
    """Schedules hold, plans load, and what a plan computes does not hang on where."""
    for make in (softened, joined):
        plan = make(MACHINES[machine])
        for schedule in (plan.inference, plan.training):
            assert list(problems(plan, schedule)) == []
            assert schedule.lower_bound_s <= schedule.makespan_s * (1 + 1e-9)
        path = tmp_path / make.__name__
        plan.save(path)
        assert load_plan(path) == plan


def refusal(machine: Hardware) -> str:
    with pytest.raises(HardwareError) as caught:
        load_hardware(machine)
    return str(caught.value)


def test_units_in_cores_that_cannot_be() -> None:
    machine = in_cores()
    few = replace(machine, digital=(replace(machine.digital[0], count=7),))
    assert refusal(few) == "round:digital.vector.count: 7 units in 8 cores; one unit for each core"
    assert refusal(with_tiles(machine, core=None)) == (
        "round:digital.vector.place: a unit in each core, where tiles stand for themselves; 'apart', or "
        "tiles in cores\n  hint: docs/hardware.md shows [analog.core]"
    )
    own = replace(machine, memory=(replace(machine.memory[0], owner="vector"),))
    assert refusal(own) == (
        "round:memory.sram.owner: a memory of each unit of 'vector', over which values are spread; 'chip'\n"
        "  hint: the memories of all cores together"
    )
