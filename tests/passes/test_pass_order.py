"""All passes together: the values stay, every node has a unit and a reason, blocks never wait in a circle."""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Literal

import networkx as nx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import Executor, Plan, Settle, load_plan
from ffebm.compiler.driver import compile_model, pass_order, run_passes
from ffebm.compiler.onnx.from_onnx import from_onnx
from ffebm.errors import InternalError, UsageError
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import load_hardware
from ffebm.passes.canonicalize import Canonicalize
from ffebm.passes.placement import Placement
from ffebm.plan.schedule import Step
from ffebm.plan.schema import Options
from tests.machines import crossbars
from tests.models import (
    Builder,
    as_tuple,
    oracle,
    random_dense_models,
    random_feeds,
    random_models,
    relative_error,
    tensors,
)

QUICK = settings(
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FEW_SWEEPS = Settle(free_sweeps=3, nudged_sweeps=3)
# three sweeps, or random weights in deep blocks, need not settle
pytestmark = pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")


def digits_like() -> ModelProto:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 1, 4), 4))
    y = b.clip(b.node("MaxPool", b.conv(y, 4, 4), kernel_shape=[2, 2], strides=[2, 2]))
    y = b.node("Gemm", b.node("Flatten", y), b.weight(64, 5), b.weight(5))
    return b.model(y)


def test_the_graph_after_every_pass(golden: Callable[[str], None]) -> None:
    graph = from_onnx(digits_like(), {}).graph
    texts = [("imported", str(graph))]
    order = pass_order(Options(block_size=2, replicas=1))
    run_passes(graph, load_hardware("reference"), order, lambda name, g: texts.append((name, str(g))))
    changed = [pair for index, pair in enumerate(texts) if index == 0 or pair[1] != texts[index - 1][1]]
    golden("".join(f"--- {name}\n{text}" for name, text in changed))


def test_the_order_of_the_passes() -> None:
    names = [step.name for step in pass_order(Options(fold_batch_norm=True))]
    assert names == [
        "fold-constants",
        "remove-dead",
        "roles",
        "check-sizes",
        "fold-batch-norm",
        "remove-dead",
        "canonicalize",
        "remove-dead",
        "energy-blocks",
        "tiling",
        "partition",
        "placement",
    ]


def test_a_pass_before_its_stage_is_a_fault_of_ours() -> None:
    graph = Graph("g")
    with pytest.raises(InternalError, match=r"^placement needs stage PARTITIONED, found IMPORTED$"):
        run_passes(graph, load_hardware("ideal"), (Placement(),), None)


class _Breaks:
    name = "breaks"
    requires = Stage.IMPORTED
    ensures = Stage.IMPORTED

    def run(self, graph: Graph, hardware: object) -> None:
        graph.outputs = ["nowhere"]


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    graph = from_onnx(digits_like(), {}).graph
    with pytest.raises(InternalError, match=r"^output nowhere is never made \(after breaks\)$"):
        run_passes(graph, load_hardware("ideal"), (Canonicalize(), _Breaks()), None)


@QUICK
@given(st.one_of(random_models(), random_dense_models()))
def test_at_block_size_1_the_plan_computes_what_the_model_computes(model: ModelProto) -> None:
    feeds = random_feeds(model)
    net = Executor(compile_model(model, hardware="ideal"))
    assert relative_error(as_tuple(net(**tensors(feeds))), oracle(model, feeds)) < 1e-4


@QUICK
@given(random_models(8))
def test_folding_batch_norm_keeps_the_values(model: ModelProto) -> None:
    feeds = random_feeds(model)
    plan = compile_model(model, hardware="ideal", fold_batch_norm=True)
    assert relative_error(as_tuple(Executor(plan)(**tensors(feeds))), oracle(model, feeds)) < 1e-4


def contracted(plan: Plan) -> nx.DiGraph:
    """The plan's nodes with every block as one."""
    graph = nx.DiGraph()
    place = {n.name: n.name if n.block is None else f"block{n.block}" for n in plan.nodes}
    maker = {value: place[n.name] for n in plan.nodes for value in n.outputs}
    for node in plan.nodes:
        here = place[node.name]
        for value in node.inputs:
            if maker.get(value, here) != here:
                graph.add_edge(maker[value], here)
    return graph


def check_units(plan: Plan) -> None:
    for node in plan.nodes:
        assert node.unit in {"tile", "digital"}
        assert node.reason
        assert (node.unit == "tile") == (node.block is not None) == (node.segment is None)
    for block in plan.blocks:
        assert any(i.linear is not None for _, i in block.interactions())
        assert block.outputs
        room = plan.options.block_size
        assert len(block.layers) <= (room if isinstance(room, int) else max(room))


@QUICK
@given(
    model=st.one_of(random_models(), random_dense_models()),
    block_size=st.sampled_from([2, 3, (2, 1), (1,), (1, 3)]),
    boundary=st.sampled_from(["tile", "digital"]),
    hardware=st.sampled_from(["ideal", "reference"]),
)
def test_deeper_blocks_compile_load_run_and_train(
    tmp_path_factory: pytest.TempPathFactory,
    model: ModelProto,
    block_size: int | tuple[int, ...],
    boundary: Literal["tile", "digital"],
    hardware: str,
) -> None:
    try:
        plan = compile_model(
            model, hardware=hardware, block_size=block_size, boundary=boundary, settle=FEW_SWEEPS
        )
    except UsageError as error:  # a list that is longer than the model
        if isinstance(block_size, tuple) and "block sizes for a chain" in str(error):
            return
        raise
    check_units(plan)
    assert nx.is_directed_acyclic_graph(contracted(plan))
    if isinstance(block_size, tuple):
        assert len(plan.blocks) <= len(block_size)
    folder = tmp_path_factory.getbasetemp() / "plan"
    plan.save(folder)
    assert load_plan(folder) == plan
    net = Executor(plan).train()
    outputs = as_tuple(net(**tensors(random_feeds(model))))
    loss = torch.stack([y.square().mean() for y in outputs]).sum()
    assert torch.isfinite(loss)
    if net.weights():
        loss.backward()  # type: ignore[no-untyped-call]
    for name, weight in net.weights().items():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name


def layer_by_layer(plan: Plan) -> Plan:
    """The same plan with a block for each layer, in order: no layer feels the ones above."""
    blocks: list[EnergyBlock] = []
    single_blocks: dict[int | None, list[EnergyBlock]] = {}
    for block in plan.blocks:
        for layer in block.layers:
            sources = tuple(dict.fromkeys(i.source for i in layer.interactions))
            blocks.append(EnergyBlock(len(blocks), sources, (layer,), (layer.value,), block.group))
            single_blocks.setdefault(block.id, []).append(blocks[-1])
    steps: list[Step] = []
    for step in plan.inference.steps:
        if step.kind == "free":
            steps += [replace(step, name=b.name, block=b.id) for b in single_blocks[step.block]]
        else:
            steps.append(step)
    single = copy(plan)
    single.blocks = tuple(blocks)
    single.inference = replace(plan.inference, steps=tuple(steps))
    return single


@QUICK
@given(
    model=st.one_of(random_models(), random_dense_models()),
    block_size=st.integers(2, 5),
    boundary=st.sampled_from(["tile", "digital"]),
)
def test_the_layers_of_deeper_blocks_are_the_models(
    model: ModelProto, block_size: int, boundary: Literal["tile", "digital"]
) -> None:
    feeds = random_feeds(model)
    plan = layer_by_layer(compile_model(model, hardware="ideal", block_size=block_size, boundary=boundary))
    assert relative_error(as_tuple(Executor(plan)(**tensors(feeds))), oracle(model, feeds)) < 1e-4


@QUICK
@given(random_models(8))
def test_blocks_without_a_tile_compute_what_the_model_computes(model: ModelProto) -> None:
    feeds = random_feeds(model)
    plan = compile_model(model, hardware=crossbars(1, 1, 1), block_size=3)
    assert {n.unit for n in plan.nodes} == {"digital"}
    assert relative_error(as_tuple(Executor(plan)(**tensors(feeds))), oracle(model, feeds)) < 1e-4


def test_a_plan_on_disk_is_the_plan_in_memory(tmp_path: Path) -> None:
    plan = compile_model(digits_like(), hardware="reference", block_size=2)
    plan.save(tmp_path / "plan")
    x = torch.ones(2, 1, 8, 8)
    assert torch.equal(Executor(plan)(x), Executor(load_plan(tmp_path / "plan"))(x))
