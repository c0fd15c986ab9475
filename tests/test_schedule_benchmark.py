"""What `benchmarks/schedule.py` bounds, and the table that it makes of its record."""

import importlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import ffebm
from ffebm.graph.graph import Graph
from ffebm.mapping.options import Run, choosing_of
from ffebm.plan.schedule import Cost
from ffebm.scheduling.list_schedule import Task

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("schedule")


def placed(model: Any, **options: Any) -> tuple[Any, Graph]:
    """A plan, and the graph that it was made of."""
    graphs: list[Graph] = []
    plan = ffebm.compile(
        model, progress=lambda name, graph: graphs.append(graph) if name == "placement" else None, **options
    )
    return plan, graphs[-1]


def two_convolutions() -> Any:
    """Two convolutions of 1x1 over 16 rows and columns, [1, 4, 16, 16] to [1, 4, 16, 16]."""
    shape = [1, 4, 16, 16]
    weights = [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), name) for name in ("v", "w")]
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w"], ["y"], "second"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "two", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_layer_on_copies_that_fill_all_tiles_bounds_every_mapping(made: Any) -> None:
    """Kernels of 4 x 4 fill next to nothing of a tile, so both layers may have a copy on each of 64."""
    plan, graph = placed(two_convolutions(), hardware="reference")
    (group,) = plan.hardware.analog
    reads = 16 * 16 / 64 * group.tile.read_seconds
    bound = made.mapping_bound(graph, plan.hardware, plan.settle)
    assert bound == pytest.approx(reads, rel=1e-9)
    assert bound <= plan.inference.makespan_s


def test_units_in_cores_share_what_bounds_every_mapping(made: Any) -> None:
    """Without tiles, one step after the other on all 144 units; a single one would take 144 times as long."""
    plan, graph = placed(two_convolutions(), hardware="pimcomp", digital=["*"])
    bound = made.mapping_bound(graph, plan.hardware, plan.settle)
    assert bound == pytest.approx(plan.inference.makespan_s, rel=1e-9)


def test_deep_blocks_in_a_chain_take_at_least_their_sum(made: Any) -> None:
    """An exact tile has no replicas, and each block of several layers waits for all that it reads."""
    chosen = made.RECIPES["splitting-small-3"]
    settle = chosen.settling(0.0625)
    plan, graph = placed(
        chosen.model(0.0625, "cifar-10", 0),
        hardware="ideal",
        block_size=chosen.block_size,
        boundary=chosen.boundary,
        settle=settle,
    )
    run = Run(plan.batch, settle.free_sweeps)
    free = sum(some.options[1].prices[0].interval for some in choosing_of(graph, plan.hardware, run))
    assert len(graph.blocks) == 2
    assert all(len(block.layers) > 1 for block in graph.blocks)
    assert free <= made.mapping_bound(graph, plan.hardware, settle) <= plan.inference.makespan_s


def test_the_table_counts_rows_of_older_code(made: Any, tmp_path: Path) -> None:
    row = made.Row(
        network="squeezenet",
        machine="reference",
        latency=3e-3,
        near=3e-3,
        bound=2e-3,
        batch=0.9876,
        mappings=1.5e-3,
        steps=1234,
        interval=1e-3,
        unit="network",
        training=5e-3,
        training_near=4e-3,
        training_bound=4e-3,
        training_batch=1.01,
        training_interval=2e-3,
        training_unit="digital0",
        tiles=64,
        memory=1.0234,
        cpu=1.6,
        code="0123abcd",
    )
    record = made.Record(tmp_path / "schedule.json")
    record.keep(row)
    record.keep(msgspec.structs.replace(row, machine="isaac", code="other"))
    rows = made.Record(tmp_path / "schedule.json").ordered()
    lines = list(made.table_lines([row.text() for row in rows], "0123abcd"))
    assert lines[2] == (
        "| squeezenet | reference | 3 ms | 1.500 | 0.988 | 1.5 ms, 2.00 | 1,234 | 1 ms (network) "
        "| 5 ms | 1.000 | 1.010 | 2 ms (digital0) | 64 | 1.023 | 2 | 0123abcd |"
    )
    assert lines[-1] == "Code when this was written: `0123abcd`; 1 of 2 rows are of older code."

    page = tmp_path / "page.md"
    standing = lines[3].replace("isaac", "hermes")
    beside = ["before", "<!-- begin schedule -->", "<!-- end schedule -->", "after", ""]
    page.write_text("\n".join([*beside[:2], *lines[:2], lines[2].replace("64", "32"), standing, *beside[2:]]))
    made.report(rows, "0123abcd", page)
    counted = lines[-1].replace("1 of 2", "2 of 3")
    table = [*lines[:4], standing, "", counted]
    assert page.read_text() == "\n".join([*beside[:2], *table, *beside[2:]])


@pytest.mark.parametrize(
    ("units", "wanted"),
    [
        (["a", "b"], 3.0),  # side by side
        (["ab", "bc", "ca"], 9.0),  # each two meet: one after the other
        (["ab", "bc", "cd", "de", "ea"], 7.5),  # a ring of five: two work at a time
        (["ab", "bc", "cd", "de", "ef", "fa"], 6.0),  # a ring of six: three do
        (["ab", "cd", "abcd"], 6.0),
    ],
)
def test_layers_take_turns_on_what_they_share(
    units: list[str], wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    turns = importlib.import_module("turns").turns
    tasks = [Task("free", f"layer{n}", tuple(some), 1.5, (), Cost()) for n, some in enumerate(units * 2)]
    assert turns(tasks) == pytest.approx(wanted)
