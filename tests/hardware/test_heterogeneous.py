"""A machine of several kinds of tiles and digital units: each block is run, billed and stored by its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import EP, Executor, Plan, load_hardware, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import PlanError, UsageError
from ffebm.exporters.catalogue import EXPORTERS
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware
from ffebm.runtime.machine import Machine
from tests.machines import products_apart
from tests.models import Builder


@dataclass(frozen=True)
class Alternate:
    """Puts every other block on the second group of tiles."""

    name: str = "alternate"
    requires: Stage = Stage.PARTITIONED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        groups = hardware.analog
        graph.blocks = [replace(b, group=groups[b.id % len(groups)].name) for b in graph.blocks]
        for node in graph.nodes:
            if node.block is not None:
                node.group = graph.blocks[node.block].group


def model() -> ModelProto:
    b = Builder(seed=3)
    y = b.input("x", 4, 40)
    for n_in, n_out in ((40, 50), (50, 30), (30, 20)):
        y = b.node("LayerNormalization", y, b.weight(n_in), b.weight(n_in))
        y = b.node("Relu", b.node("Gemm", y, b.weight(n_in, n_out), b.weight(n_out)))
    return b.model(b.node("Softmax", b.node("MatMul", y, b.node("Transpose", y))))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(model(), hardware=products_apart(), passes=[Alternate()])


def test_blocks_lie_on_tiles_of_their_group(plan: Plan, tmp_path: Path) -> None:
    assert [block.group for block in plan.blocks] == ["sram", "pcm", "sram"]
    sizes = {"sram": (128, 128, 8, 8), "pcm": (256, 256, 8, 8)}
    numbers = {name: plan.hardware.tile_numbers(name) for name in sizes}
    assert numbers == {"sram": range(8), "pcm": range(8, 84)}
    for tile in plan.tiles:
        assert tile.id in numbers[tile.group]
        assert (tile.rows, tile.cols, tile.dac_bits, tile.adc_bits) == sizes[tile.group]
    assert {tile.group for tile in plan.tiles} == {"sram", "pcm"}
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan


def test_digital_nodes_run_on_units_that_run_them(plan: Plan) -> None:
    groups = {node.op: node.group for node in plan.nodes if node.unit == "digital"}
    assert groups["MatMul"] == "matrix"
    assert {groups[op] for op in ("LayerNormalization", "Transpose", "Softmax")} == {"vector"}
    units = {step.name: step.units for step in plan.inference.steps if step.kind == "digital"}
    for node in plan.nodes:
        if node.unit == "digital":
            assert units[node.name] == ("digital0" if node.group == "matrix" else "digital1",)


class Attention(torch.nn.Module):
    """Of a sequence with itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x)


def test_fused_attention_runs_on_the_matrix_unit_where_a_product_takes_less_energy() -> None:
    x = torch.zeros(1, 2, 16, 8)
    plan = compile_plan(Attention(), (x,), hardware="heterogeneous")
    (node,) = (node for node in plan.nodes if "attention" in node.op)
    assert (node.group, node.macs) == ("matrix", 2 * 2 * 16 * 16 * 8)

    machine = load_hardware("heterogeneous")
    alone = compile_plan(Attention(), (x,), hardware=replace(machine, digital=machine.digital[1:]))
    saved = alone.inference.cost.digital - plan.inference.cost.digital
    assert saved >= node.macs * 6e-12  # of which each reads a register file there


def test_each_block_is_billed_and_run_by_its_own_tiles(plan: Plan) -> None:
    """As on a machine of its kind of tiles alone."""
    machine = load_hardware("heterogeneous")
    for number, group in enumerate(machine.analog):
        alone = compile_plan(model(), hardware=replace(machine, analog=(group,)))
        block = plan.blocks[number]
        ours, theirs = (
            next(s for s in p.inference.steps if s.kind == "free" and s.block == block.id)
            for p in (plan, alone)
        )
        assert ours.cost == theirs.cost
        assert ours.end_s - ours.start_s == pytest.approx(theirs.end_s - theirs.start_s)
        held = Machine(plan, torch.Generator(), "machine").meaning()
        assert held[block.weights()[0]] == group.tile.meaning


def test_it_computes_what_exact_tiles_do_but_for_noise(plan: Plan) -> None:
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    exact = Executor(plan, tiles=dict.fromkeys(plan.groups_of_weights()))(x)
    for seed in range(2):
        found = Executor(plan, seed=seed)(x)
        assert torch.isfinite(found).all()
        assert not torch.equal(found, exact)
        assert (found - exact).norm() / exact.norm() < 0.5


def test_it_trains(plan: Plan) -> None:
    net = Executor(plan, gradient=EP(beta=0.1)).train()
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    net(x).square().sum().backward()
    grads = {name: w.grad for name, w in net.weights().items()}
    assert all(g is not None and torch.isfinite(g).all() for g in grads.values())
    with torch.no_grad():
        for name, weight in net.weights().items():
            gradient = grads[name]
            assert gradient is not None
            weight.sub_(gradient, alpha=0.01)
    assert torch.isfinite(net(x)).all()


def test_what_reads_it_names_both(plan: Plan) -> None:
    summary = plan.summary()
    assert "            sram: 2 of 8, " in summary
    assert "            pcm: 1 of 76, " in summary
    assert "converters of sram in every sweep" in summary


@pytest.mark.parametrize("name", sorted(EXPORTERS.keys() - {"qonnx", "spice"}))
def test_tools_of_one_kind_of_tile_refuse_it(plan: Plan, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        EXPORTERS[name](plan)
    assert str(caught.value) == (
        "the plan lies on tiles of 2 kinds: sram, pcm; plans on one kind of tile, which is what the format "
        "describes\n  hint: compile for a machine without [[analog]] 'pcm'"
    )


WRONG: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "a tile of another group": (
        lambda p: replace(p, tiles=(replace(p.tiles[0], group="pcm"), *p.tiles[1:])),
        "tile 0 is of group 'pcm', that number is one of 'sram'",
    ),
    "a block of no group": (
        lambda p: replace(p, blocks=(replace(p.blocks[0], group="rram"), *p.blocks[1:])),
        "block0 lies on group 'rram', the tiles are pcm, sram",
    ),
    "a block elsewhere than its nodes": (
        lambda p: replace(p, blocks=(replace(p.blocks[0], group="pcm"), *p.blocks[1:])),
        "does not run on group 'sram'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_plans_that_contradict_their_groups(plan: Plan, tmp_path: Path, name: str) -> None:
    change, found = WRONG[name]
    change(plan).save(tmp_path / "plan")
    with pytest.raises(PlanError) as caught:
        load_plan(tmp_path / "plan")
    assert found in str(caught.value)


def test_conductances_are_those_of_the_group(plan: Plan) -> None:
    for tile, piece in plan.pieces():
        up, _ = plan.conductances(piece)
        cell = plan.hardware.analog_group(tile.group).tile.crossbar().cell
        assert float(np.max(up)) <= cell.g_max.value * (1 + 1e-6)
        assert up.ndim == (3 if tile.group == "sram" else 2)
