import pytest

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.studies.sensitivity.units import units_of, work_of
from tests.models import Builder


def mixed(hardware: str = "reference", size: int = 1) -> Plan:
    """A convolution, a transposed one and two dense layers, one after the other."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", "N", 1, 6, 6), 1, 2))
    y = b.node("Relu", b.node("ConvTranspose", y, b.weight(2, 3, 2, 2), strides=[2, 2]))
    y = b.node("Relu", b.node("MatMul", b.node("Flatten", y), b.weight(3 * 144, 5)))
    return compile_plan(b.model(b.node("MatMul", y, b.weight(5, 4))), hardware=hardware, block_size=size)


@pytest.mark.parametrize("size", [1, 2])
def test_projections_do_the_work_of_their_nodes(size: int) -> None:
    plan = mixed(size=size)
    macs = [unit.macs for unit in units_of(plan, "projection")]
    assert macs == [36 * 2 * 9, 72 * 3 * 4, 432 * 5, 20]
    assert sum(macs) == work_of(plan)


def test_blocks_hold_the_weights_of_their_projections() -> None:
    plan = mixed(size=2)
    blocks, projections = units_of(plan, "block"), units_of(plan, "projection")
    assert [unit.name for unit in blocks] == ["block0", "block1"]
    assert [w for unit in blocks for w in unit.weights] == [w for unit in projections for w in unit.weights]
    assert [unit.macs for unit in blocks] == [projections[i].macs + projections[i + 1].macs for i in (0, 2)]


def test_blocks_that_share_a_weight_are_one() -> None:
    b = Builder()
    shared = b.weight(4, 4)
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), shared))
    y = b.node("Relu", b.node("MatMul", y, b.weight(4, 4, name="own")))
    plan = compile_plan(b.model(b.node("MatMul", y, shared)), hardware="reference")
    found = [(unit.name, unit.weights, unit.macs) for unit in units_of(plan, "block")]
    assert found == [("block0+block2", (shared,), 32), ("block1", ("own",), 16)]
    assert {unit.name: unit.macs for unit in units_of(plan, "projection")} == {shared: 32, "own": 16}


def test_a_machine_without_crossbars() -> None:
    with pytest.raises(UsageError) as caught:
        units_of(mixed("ideal"), "block")
    assert str(caught.value) == (
        "nothing of the plan lies on crossbars of ideal\n  hint: compile it for a machine that has crossbars"
    )
