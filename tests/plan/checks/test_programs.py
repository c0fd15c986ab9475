"""Programs hold known ops only, in subgraphs too."""

from typing import Any

import numpy as np

from ffebm.plan.checks.programs import program_problems
from ffebm.plan.program import Instruction, Program, Segment


def segment(*instructions: Instruction, number: int = 0) -> Segment:
    return Segment(id=number, program=program(*instructions))


def program(*instructions: Instruction) -> Program:
    return Program(inputs=(), outputs=(), instructions=instructions)


def node(op: str, name: str = "node", **fields: Any) -> Instruction:
    return Instruction(op=op, name=name, inputs=("x",), outputs=("y",), **fields)


def test_programs_that_may_run() -> None:
    held = {"value": np.zeros(1, np.float32)}
    made = node("ConstantOfShape", "made", tensors={"value": "value"})
    assert list(program_problems((segment(node("Relu"), made), segment(node("Relu"), number=1)), held)) == []


def test_segments_stand_in_order() -> None:
    assert list(program_problems((segment(node("Relu"), number=4),), {})) == [
        "segment 4 stands at position 0"
    ]


def test_an_op_that_nobody_knows_in_a_subgraph_of_a_subgraph() -> None:
    inner = program(node("aten.from_file.default"))
    middle = node("If", "middle", graphs={"then_branch": inner, "else_branch": inner})
    outer = program(middle)
    loop = Instruction(op="Loop", name="loop", inputs=("n", "c"), outputs=("y",), graphs={"body": outer})
    found = list(program_problems((segment(loop),), {}))
    assert len(found) == 2
    assert found[0] == found[1]
    assert found[0].startswith("instruction 'node': ")
    assert "from_file" in found[0]


def test_a_held_tensor_needs_values() -> None:
    made = node("ConstantOfShape", "made", tensors={"value": "no"})
    assert list(program_problems((segment(made),), {})) == [
        "instruction 'made' holds 'no', which has no values"
    ]
