"""Which arguments of an ONNX op a program may have, and what is said of others."""

from typing import Any

import pytest

from ffebm.plan.checks.onnx_arguments import onnx_argument_problems
from ffebm.plan.program import Instruction, Program

EMPTY = Program(inputs=(), outputs=(), instructions=())


def instruction(op: str, inputs: int, outputs: int = 1, **attrs: object) -> Instruction:
    names = tuple(f"i{n}" for n in range(inputs)), tuple(f"o{n}" for n in range(outputs))
    return node(op, *names, attrs=attrs)


def node(op: str, inputs: tuple[str, ...], outputs: tuple[str, ...], **fields: Any) -> Instruction:
    return Instruction(op=op, name="node", inputs=inputs, outputs=outputs, **fields)


FINE = (
    instruction("Add", 2),
    instruction("Concat", 7, axis=-1),
    instruction("Concat", 7, axis=2**63 - 1),
    instruction("Concat", 7, axis=-(2**63)),
    instruction("Clip", 1),
    instruction("Clip", 3),
    instruction("Conv", 3, pads=(1, 1, 1, 1), auto_pad="NOTSET"),
    instruction("Conv", 2, strides=()),
    instruction("LeakyRelu", 1, alpha=0.1),
    instruction("LeakyRelu", 1, alpha=1),  # JSON has one kind of number
    instruction("Split", 2, 5, axis=0),
    instruction("com.microsoft.QGemm", 9, alpha="anything"),  # of no schema of onnx's
    node("If", ("c",), ("y",), graphs={"then_branch": EMPTY, "else_branch": EMPTY}),
    node("LeakyRelu", ("x",), ("y",), tensors={"alpha": "held"}),  # a NaN, which JSON lacks
    node("ConstantOfShape", ("x",), ("y",), tensors={"value": "held"}),
)


@pytest.mark.parametrize("fine", FINE, ids=lambda i: i.op)
def test_arguments_that_may_be(fine: Instruction) -> None:
    assert list(onnx_argument_problems(fine)) == []


WRONG: tuple[tuple[Instruction, list[str]], ...] = (
    (instruction("Add", 3), ["has 3 inputs; 2"]),
    (instruction("Clip", 4), ["has 4 inputs; 1 to 3"]),
    (instruction("Conv", 4), ["has 4 inputs; 2 to 3"]),
    (instruction("Concat", 0, axis=0), ["has 0 inputs; at least 1"]),
    (instruction("Relu", 1, 2), ["has 2 outputs; 1"]),
    (instruction("LSTM", 3, 4, hidden_size=2), ["has 4 outputs; 0 to 3"]),
    (instruction("Concat", 2), ["lacks axis"]),
    (instruction("Concat", 2, axis="1"), ["takes no '1' for axis, which is int"]),
    (instruction("Concat", 2, axis=2**63), [f"takes no {2**63} for axis, which is int"]),
    (instruction("Concat", 2, axis=-(2**63) - 1), [f"takes no {-(2**63) - 1} for axis, which is int"]),
    (instruction("Concat", 2, axis=1.0), ["takes no 1.0 for axis, which is int"]),
    (instruction("Conv", 2, pads=(1, "1")), ["takes no (1, '1') for pads, which is ints"]),
    (instruction("Conv", 2, auto_pad=1), ["takes no 1 for auto_pad, which is string"]),
    (instruction("If", 1, then_branch=1, else_branch=2), [
        "takes no 1 for then_branch, which is graph",
        "takes no 2 for else_branch, which is graph",
    ]),
    (
        node("Concat", ("x",), ("y",), graphs={"axis": EMPTY}),
        ["takes no a graph for axis, which is int"],
    ),
    (
        node("Concat", ("x",), ("y",), tensors={"axis": "held"}),
        ["takes no a tensor for axis, which is int"],
    ),
    (node("If", ("c",), ("y",)), ["lacks else_branch", "lacks then_branch"]),
)  # fmt: skip


@pytest.mark.parametrize(("wrong", "messages"), WRONG, ids=lambda value: getattr(value, "op", None))
def test_arguments_that_may_not_be(wrong: Instruction, messages: list[str]) -> None:
    said = [f"instruction 'node' ({wrong.op}) {message}" for message in messages]
    assert list(onnx_argument_problems(wrong)) == said
