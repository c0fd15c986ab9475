import pytest
from msgspec.structs import replace

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.errors import HardwareError, UsageError
from tests.machines import crossbars
from tests.models import Builder


def three_layers(count: int) -> Plan:
    """Three blocks of 1, 2 and 2 tiles of 8 x 8; the convolution uses its weights 16 times an image."""
    b = Builder()
    x = b.input("x", "N", 1, 4, 4)
    y = b.node("Relu", b.node("Conv", x, b.weight(8, 1, 2, 2), name="conv", pads=[0, 0, 1, 1]))
    y = b.node("ReduceMean", y, b.shape(2, 3), keepdims=0)
    y = b.node("Softmax", b.node("MatMul", y, b.weight(8, 16), name="wide"))
    y = b.node("Softmax", b.node("MatMul", y, b.weight(16, 8), name="tall"))
    return compile_plan(b.model(y), hardware=crossbars(count, 8, 8))


def linear_reasons(plan: Plan) -> dict[str, str]:
    return {n.name: n.reason for n in plan.nodes if n.op in {"Conv", "MatMul"}}


def on_tile(block: int) -> str:
    return f"linear map with a stationary weight, into layer 1 of 1 in block{block}"


def test_all_blocks_that_fit_are_on_tiles() -> None:
    plan = three_layers(5)
    assert linear_reasons(plan) == {"conv": on_tile(0), "wide": on_tile(1), "tall": on_tile(2)}
    assert [tile.id for tile in plan.tiles] == [0, 1, 2, 3, 4]
    assert plan.notes == ()


def test_blocks_that_save_least_work_a_tile_stay_digital() -> None:
    plan = three_layers(4)
    assert linear_reasons(plan) == {
        "conv": on_tile(0),
        "wide": on_tile(1),
        "tall": "no tile left: needs 2, 1 free",
    }
    assert plan.notes == ("1 energy block stays digital because the tiles ran out",)
    assert [block.name for block in plan.blocks] == ["block0", "block1"]
    only = three_layers(1)
    assert linear_reasons(only) == {
        "conv": on_tile(0),
        "wide": "no tile left: needs 2, 0 free",
        "tall": "no tile left: needs 2, 0 free",
    }


def test_the_first_block_may_be_the_one_that_is_left_out() -> None:
    """Numbers and reasons of the other blocks follow."""
    b = Builder()
    x = b.input("x", "N", 8, 2, 2)
    y = b.node("GlobalAveragePool", b.node("Abs", x))
    y = b.node("MatMul", b.node("Flatten", y), b.weight(8, 8), name="once")
    z = b.node("Relu", b.node("Conv", x, b.weight(8, 8, 1, 1), name="often"))
    plan = compile_plan(b.model(b.node("Softmax", y), z), hardware=crossbars(1, 8, 8))
    reasons = {n.name: n.reason for n in plan.nodes}
    assert reasons["once"] == "no tile left: needs 1, 0 free"
    assert reasons["often"] == on_tile(0)
    assert {n.block for n in plan.nodes if n.name in {"often", "once"}} == {0, None}


def test_deeper_blocks_are_announced() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4)))
    y = b.node("MatMul", y, b.weight(4, 4))
    assert compile_plan(b.model(y), hardware="ideal", block_size=2).notes == (
        "1 block holds more than one layer: it computes an equilibrium, another function "
        "than the source model's, to be trained as such",
    )


def test_an_op_that_no_digital_unit_runs() -> None:
    b = Builder()
    y = b.node("Softmax", b.input("x", "N", 4), name="act")
    machine = replace(crossbars(1, 8, 8, ops=("Relu", "Add")), name="small")
    with pytest.raises(HardwareError) as caught:
        compile_plan(b.model(y), hardware=machine)
    assert str(caught.value) == (
        "model:act: no unit runs Softmax; digital units run Relu, Add\n"
        "  hint: add 'Softmax' to ops of a [[digital]] in small"
    )


def test_no_tiles_are_no_free_tiles() -> None:
    """A limit of 0 tiles is one, beside a machine that has some."""
    b = Builder()
    y = b.node("Relu", b.node("Gemm", b.input("x", 1, 8), b.weight(8, 8), transB=1))
    plan = compile_plan(b.model(y), hardware=crossbars(4, 8, 8), tiles=0)
    assert {n.reason for n in plan.nodes} == {"no tile left: needs 1, 0 free"}


def test_a_block_that_is_digital_for_a_limit_says_so() -> None:
    """Tiles are left: it is the limit, not they, that keeps the blocks digital."""
    b = Builder()
    y = b.node("Relu", b.node("Gemm", b.input("x", 1, 64), b.weight(64, 64), transB=1))
    digital = compile_plan(b.model(y), hardware="reference", tiles=0).inference.makespan_s
    plan = compile_plan(b.model(y), hardware="reference", max_latency=digital)
    assert plan.notes == ("1 energy block stays digital to keep the limits",)
    (reason,) = {n.reason for n in plan.nodes}
    assert reason.startswith("digital: ")


@pytest.mark.parametrize("hardware", ["reference", "heterogeneous"])
def test_limits_are_kept_where_nothing_is_left_to_choose(hardware: str) -> None:
    b = Builder()
    model = b.model(b.node("Softmax", b.node("Relu", b.input("x", 8, 8))))
    usual = compile_plan(model, hardware=hardware)
    seconds, joules = usual.inference.makespan_s, usual.inference.cost.energy
    with pytest.raises(UsageError, match="no mapping keeps max_latency 1e-12 s; the least that was found is"):
        compile_plan(model, hardware=hardware, max_latency=1e-12)
    with pytest.raises(UsageError, match="no mapping keeps max_energy 1e-18 J; the least that was found is"):
        compile_plan(model, hardware=hardware, max_energy=1e-18)
    kept = compile_plan(model, hardware=hardware, max_latency=seconds, max_energy=joules)
    assert (kept.inference, kept.mapping) == (usual.inference, None)


def test_limits_that_do_not_bind_are_not_blamed() -> None:
    """The tile's leakage over the whole inference outweighs what it saves."""
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 1, 8, 8), 1, 2))
    plan = compile_plan(b.model(y), objective="energy", max_latency=1.0)
    reasons = {node.reason for node in plan.nodes}
    assert len(plan.tiles) == 0
    assert [reason.partition("on 1 tile")[2] for reason in reasons] == [
        ", no gain for the whole within the limits"
    ]
