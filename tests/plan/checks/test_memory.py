"""A plan whose buffers contradict its schedules, its machine or each other is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ffebm import load_plan
from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Capacity, load_hardware
from tests.models import Builder
from tests.plan.folders import AGAIN, model, refused, set_at

BUFFERS = ("memory", "inference", "buffers")
USE = ("memory", "inference", "uses", 0)


def onto_the_first(document: Any) -> None:
    """The second buffer begins where the first does, which is still read."""
    first, second = document["memory"]["inference"]["buffers"][:2]
    second["offset"] = first["offset"]


def named(name: str, at: str = "") -> Callable[[Any], None]:
    """The first buffer holds something else."""

    def change(document: Any) -> None:
        document["memory"]["inference"]["buffers"][0] |= {"name": name, "at": at}

    return change


CONTRADICTIONS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no such memory": (
        set_at(*BUFFERS, 0, "memory", to="sran"),
        "'x' lies in 'sran', which is no memory of the machine",
    ),
    "no such memory in use": (set_at(*USE, "memory", to="no"), "'no' is no memory of the machine"),
    "no such block": (
        named("x", "block9"),
        "'x' lies beside the tiles of 'block9', which is no block",
    ),
    "no scratchpad": (named("x", "block0"), "its buffers are not what steps read and write, as for 'x'"),
    "no such value": (named("no"), "its buffers are not what steps read and write, as for 'x'"),
    "one missing": (
        set_at(*BUFFERS, to=lambda buffers: buffers[1:]),
        "its buffers are not what steps read and write, as for 'x'",
    ),
    "in another order": (
        set_at(*BUFFERS, to=lambda buffers: [buffers[1], buffers[0], *buffers[2:]]),
        "its buffers are not what steps read and write, as for 'v0'",
    ),
    "one twice": (
        set_at(*BUFFERS, to=lambda buffers: [*buffers[:2], *buffers[1:]]),
        "its buffers are not what steps read and write, as for 'v0'",
    ),
    "another's memory": (
        set_at(*BUFFERS, 0, "unit", to="digital7"),
        "the buffer of 'x' lies in sram of digital7, which it cannot reach",
    ),
    "too short a life": (  # step 34 is the first block's run for its last row
        set_at(*BUFFERS, 0, "last", to=-1),
        "the buffer of 'x' lives from step -1 to -1; it is written from step -1 on and needed up to 34",
    ),
    "too small": (set_at(*BUFFERS, 0, "size", to=255), "the buffer of 'x' has 255 bytes, not 256"),
    "over the end": (
        set_at(*BUFFERS, 0, "offset", to=4194300),
        "the buffer of 'x' ends at byte 4194556 of sram, which has 4194304",
    ),
    "overlap": (onto_the_first, "the buffers of 'x' and 'v0' overlap in sram"),
    "peak": (
        set_at(*USE, "peak", to=lambda peak: peak - 1),
        "sram is said to be filled up to 2303 of 4194304, bound 2304",
    ),
    "bound": (
        set_at(*USE, "bound", to=lambda bound: bound - 1),
        "sram is said to be filled up to 2304 of 4194304, bound 2303",
    ),
    "twice in use": (
        set_at("memory", "inference", "uses", to=lambda uses: uses * 2),
        "the memories in use are not those with buffers",
    ),
    "unsized": (
        set_at("memory", "inference", "unsized", to=["x"]),
        "the values without a known size are others",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction(folder: Path, case: str) -> None:
    change, message = CONTRADICTIONS[case]
    assert refused(folder, change) == f"memory of inference: {message}{AGAIN}"


def test_what_nobody_reads_lies_somewhere_too(tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4)))
    b.input("unread", "N", 3)
    compile_model(b.model(y), hardware="reference").save(tmp_path / "plan")
    onto = set_at(*BUFFERS, 1, "offset", to=0)
    found = refused(tmp_path / "plan", onto)
    assert found == f"memory of inference: the buffers of 'x' and 'unread' overlap in sram{AGAIN}"


def test_a_spill_takes_what_its_bits_take(tmp_path: Path) -> None:
    machine = load_hardware("reference")
    sram, dram = machine.memory
    small = replace(sram, capacity=Capacity(value=8 * 1024, source="chosen for a test", unit="bit"))
    plan = compile_model(model(), hardware=replace(machine, memory=(small, dram)), block_size=2)
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    spill = plan.memory.inference.spills[0]
    assert spill.joules == pytest.approx(8 * spill.traffic * 20.3e-12)
    wrong = set_at("memory", "inference", "spills", 0, "traffic", to=lambda count: 2 * count)
    assert refused(tmp_path / "plan", wrong) == (
        f"memory of inference: the spill of {spill.name!r} takes {spill.joules:g} J; "
        f"its bits take {2 * spill.joules:g} J{AGAIN}"
    )


@pytest.mark.parametrize(
    ("kind", "said"),
    [("digital", "which is unknown or has run already"), ("digital_backward", "which is no digital node")],
)
def test_a_step_of_training_that_runs_no_node(folder: Path, kind: str, said: str) -> None:
    def change(document: Any) -> None:
        step = next(s for s in document["training"]["steps"] if s["kind"] == kind)
        step["name"] = "no"

    assert f"runs 'no', {said}" in refused(folder, change)
