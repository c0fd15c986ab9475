from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.compiler.driver import compile_model
from ffebm.graph.tensor import TensorType
from ffebm.plan.checks.contradictions import plan_problems
from tests.models import Builder
from tests.plan.folders import AGAIN, refused, set_at
from tests.scheduling.graphs import activated_first, few_steps


def swap_steps(document: Any) -> None:
    """Run the last digital node first."""
    steps = document["inference"]["steps"]
    runs = [s for s in steps if s["kind"] in {"digital", "free"}]
    first, last = runs[0], runs[-1]
    first["kind"], last["kind"] = last["kind"], first["kind"]
    first["name"], last["name"] = last["name"], first["name"]


CONTRADICTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "tile": (
        set_at("tiles", 0, "id", to=64),
        "tile 64 is not one of the machine's 64 tiles, each once",
    ),
    "tile twice": (
        set_at("tiles", 1, "id", to=0),
        "tile 0 is not one of the machine's 64 tiles, each once",
    ),
    "row": (set_at("tiles", 0, "pieces", 0, "row", to=250), "reaches over the edge of tile 0"),
    "negative row": (set_at("tiles", 0, "pieces", 0, "row", to=-1), "has no valid place"),
    "weight": (set_at("tiles", 0, "pieces", 0, "weight", to="no"), "holds 'no', which no block uses"),
    "piece twice": (
        set_at("tiles", 0, "pieces", to=lambda pieces: pieces * 2),
        "overlap on tile 0",
    ),
    "part missing": (
        set_at("tiles", 0, "pieces", 0, "outputs", to=lambda span: [span[0], span[1] - 1]),
        "27 of the 36 elements of 'c0' lie on tiles",
    ),
    "block number": (set_at("blocks", 0, "id", to=7), "block7 stands at position 0"),
    "trainable": (set_at("trainable", 0, to="no"), "weight 'no' has no values"),
    "order": (swap_steps, "before it is made"),
    "step twice": (
        lambda d: set_at("inference", "steps", to=lambda s: [*s, {**s[-1], "id": len(s)}])(d),
        "runs 'soft', which is unknown or has run already",
    ),
    "unknown step": (
        lambda d: [s.update(name="no") for s in d["inference"]["steps"] if s["kind"] == "free"][:0],
        "runs 'no', which is unknown or has run already",
    ),
    "output": (set_at("outputs", 0, "name", to="no"), "output 'no' is never made"),
    "unit": (set_at("inference", "steps", 0, "units", to=["tile63"]), "runs on unknown unit 'tile63'"),
    "time": (set_at("inference", "steps", -1, "start_s", to=0.0), "is free"),
    "after": (set_at("inference", "steps", 0, "after", to=[999]), "waits for an unknown step"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction(folder: Path, case: str) -> None:
    change, expected = CONTRADICTIONS[case]
    found = refused(folder, change)
    assert expected in found
    assert found.endswith(AGAIN)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("nodes", 0, "reason"), "", " has no reason"),
        (("nodes", 0, "unit"), "digital", "does not run where it says: digital, block 0"),
        (("nodes", 0, "block"), 77, "does not run where it says: tile, block 77"),
        (("batch",), 0, "a batch of 0"),
        (("tiles", 0, "pieces", 0, "scale"), -1.0, "scale of piece 0 is not what 'c0' says"),
        (("inference", "steps", 0, "start_s"), -1.0, "step 0 (x) runs from -1.0 s to "),
    ],
)
def test_contradictions_with_right_digests(
    folder: Path, path: tuple[str | int, ...], value: object, expected: str
) -> None:
    assert expected in refused(folder, set_at(*path, to=value))


# --- steps of several nodes, and of a training step ---------------------------------------------------


Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def shared() -> Plan:
    with few_steps(40):
        plan = compile_plan(activated_first(), hardware="reference", replicas=1)
    assert any(step.fused for step in plan.inference.steps)
    return plan


def in_each(kind: str, change: Callable[[dict[str, Any]], Any], which: str = "inference") -> Change:
    """A change of every step of a kind that does several nodes, or of the first one that does not."""

    def applied(document: dict[str, Any]) -> None:
        steps = [step for step in document[which]["steps"] if step["kind"] == kind]
        for step in [step for step in steps if step.get("fused")] or steps[:1]:
            step.update(change(step))

    return applied


SHARED: dict[str, tuple[Change, str]] = {
    "node twice": (
        in_each("digital", lambda step: {"fused": step["fused"] * 2}),
        "runs 'batchnormalization_v3', which is unknown or has run already",
    ),
    "itself": (
        in_each("digital", lambda step: {"fused": [*step["fused"], step["name"]]}),
        "runs 'relu_risen', which is unknown or has run already",
    ),
    "unknown node": (
        in_each("digital", lambda _: {"fused": ["no"]}),
        "runs 'no', which is unknown or has run already",
    ),
    "node left out": (
        in_each("digital", lambda _: {"fused": []}),
        "(relu_risen) reads 'v3' before it is made",
    ),
    "node behind its reader": (
        in_each("digital", lambda step: {"fused": [step["name"]], "name": step["fused"][0]}),
        "(relu_risen) reads 'v3' before it is made",
    ),
    "of a block": (
        in_each("free", lambda _: {"fused": ["relu_risen"]}),
        "is no digital one, and does further nodes: relu_risen",
    ),
    "training: itself": (
        in_each("digital", lambda step: {"fused": [step["name"]]}, "training"),
        "training: step ",
    ),
    "training: another": (
        in_each("digital", lambda _: {"name": "relu_risen"}, "training"),
        "training: ",
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_a_contradiction_of_steps_of_several_nodes(shared: Plan, tmp_path: Path, case: str) -> None:
    shared.save(tmp_path / "plan")
    change, expected = SHARED[case]
    found = refused(tmp_path / "plan", change)
    assert expected in found
    assert found.endswith(AGAIN)


def test_a_step_that_no_segment_holds(folder: Path) -> None:
    found = refused(folder, set_at("program", "instructions", to=[]), "digital/segment0001.json")
    assert found.endswith("runs 'soft', which is unknown or has run already" + AGAIN)


def test_hardware_that_no_description_may_hold(folder: Path) -> None:
    found = refused(folder, set_at("hardware", "network", "bit_rate", "value", to=5e-324))
    assert found.endswith(
        "plan:network.bit_rate: its hardware: a value of 4.94066e-324 1/s; 0, or 1e-30 to 1e+30"
    )


def test_a_program_that_reads_before_it_makes(tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Exp", b.node("Neg", b.input("x", "N", 3), name="first", out="h"), name="second")
    compile_model(b.model(y)).save(tmp_path / "p")
    change = set_at("program", "instructions", to=lambda held: held[::-1])
    found = refused(tmp_path / "p", change, "digital/segment0000.json")
    assert found == f"instruction 'second' reads 'h' before it is made{AGAIN}"


def test_phases_without_end(folder: Path) -> None:
    found = refused(folder, set_at("settle", "free_sweeps", to=2**63))
    assert (
        found
        == "cannot be read: Expected `int` <= 1000000 - at `$.settle.free_sweeps`\n  hint: compile again"
    )


def first_problem(plan: Plan, **changes: Any) -> str:
    return next(plan_problems(replace(plan, **changes)), "")


def test_a_plan_of_the_compiler_has_none(plan: Plan) -> None:
    assert list(plan_problems(plan)) == []


def test_ports_and_weights_that_contradict_each_other(plan: Plan) -> None:
    (port,) = plan.inputs
    other = replace(port, name="z")
    assert first_problem(plan, inputs=(port, other, other)) == "two inputs are named 'z'"
    assert first_problem(plan, batch=0) == "a batch of 0"
    twice = "weight 'c6' is named twice among what trains and running statistics"
    assert first_problem(plan, trainable=(*plan.trainable, "c6")) == twice
    assert first_problem(plan, buffers=(*plan.buffers, "c6")) == twice
    assert first_problem(plan, buffers=("none",)) == "weight 'none' has no values"
    whole = {**plan.weights, "c11": plan.weights["c11"].astype(np.int64)}
    assert first_problem(plan, weights=whole) == "weight 'c11' trains and is of type int64"


def test_types_that_contradict_the_arrays(plan: Plan) -> None:
    def typed(name: str, kind: TensorType) -> str:
        return first_problem(plan, types={**plan.types, name: kind})

    assert typed("c11", TensorType("unknown", None)) == ""
    assert typed("c11", TensorType("float32", ("K",))) == ""
    assert typed("c11", TensorType("float64", (5,))) == "weight 'c11' is float32[5], its type says float64[5]"
    assert typed("c11", TensorType("float32", (6,))) == "weight 'c11' is float32[5], its type says float32[6]"
    assert typed("x", TensorType("float32", ("M", 1, 8, 8))) == (
        "'x' is float32[Nx1x8x8], its type says float32[Mx1x8x8]"
    )
    assert typed("new", TensorType("float32", (0, 3))) == ""
    assert typed("new", TensorType("float32", (-1, 3))) == (
        "'new' is float32[-1x3]; sizes of at least 0 are allowed"
    )
    assert typed("new", TensorType("float32", (2**16, "N", 2**15))) == ""
    assert typed("new", TensorType("float32", (2**16, "N", 2**15 + 1))) == (
        "'new' is float32[65536xNx32769]; at most 2,147,483,648 elements of one value are allowed"
    )


@pytest.mark.parametrize(
    ("position", "change", "expected"),
    [
        (0, {"macs": -1}, "node 'conv_v0' counts less than nothing"),
        (0, {"weights": -1}, "node 'conv_v0' counts less than nothing"),
        (0, {"shape": ("N", -1)}, "node 'conv_v0' counts less than nothing"),
        (0, {"macs": 0, "weights": 0, "shape": ("N", 0)}, ""),
        (0, {"shape": None}, ""),
        (0, {"reason": ""}, "node 'conv_v0' has no reason"),
        (0, {"block": None}, "node 'conv_v0' does not run where it says: tile, block None"),
        (0, {"block": 3}, "node 'conv_v0' does not run where it says: tile, block 3"),
        (0, {"block": -1}, "node 'conv_v0' does not run where it says: tile, block -1"),
        (0, {"unit": "digital"}, "node 'conv_v0' does not run where it says: digital, block 0"),
        (0, {"segment": 0}, "node 'conv_v0' runs on tiles, and in segment 0"),
        (0, {"group": "none"}, "node 'conv_v0' does not run on group 'none'"),
        (8, {"unit": "tile"}, "node 'soft' does not run where it says: tile, block None"),
        (8, {"name": "other"}, "node 'other' does not run where it says: digital, block None"),
        (8, {"op": "Exp"}, "node 'soft' is not what segment 1 runs"),
        (8, {"segment": 0}, "node 'soft' is not what segment 1 runs"),
        (8, {"inputs": ("x",)}, "node 'soft' is not what segment 1 runs"),
        (8, {"outputs": ("q",)}, "node 'soft' is not what segment 1 runs"),
        (8, {"group": "none"}, "node 'soft' does not run on group 'none'"),
        (3, {"name": "conv_v0"}, "two nodes are named 'conv_v0'"),
    ],
)
def test_nodes_that_are_not_what_runs(
    plan: Plan, position: int, change: dict[str, Any], expected: str
) -> None:
    nodes = list(plan.nodes)
    nodes[position] = replace(nodes[position], **change)
    assert first_problem(plan, nodes=tuple(nodes)) == expected


def test_what_runs_and_is_no_node(plan: Plan) -> None:
    assert first_problem(plan, nodes=plan.nodes[:-1]) == "instruction 'soft' is no node of the plan"
    unknown = (replace(plan.blocks[0], group="none"), *plan.blocks[1:])
    assert first_problem(plan, blocks=unknown) == "block0 lies on group 'none', the tiles are tiles"


def test_programs_take_and_leave_what_is_read(plan: Plan) -> None:
    first, second = plan.segments
    wrong = "the inputs or outputs of segment 0 are not what it reads and others read of it"
    for names in ({"inputs": ()}, {"inputs": ("x", "x")}, {"outputs": ()}, {"outputs": ("p",)}):
        changed = replace(first, program=replace(first.program, **names))
        assert first_problem(plan, segments=(changed, second)) == wrong
    assert first_problem(plan, segments=(replace(first, id=1), second)) == "segment 1 stands at position 0"
