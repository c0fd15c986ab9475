"""What a digital program may hold: known ops with arguments of their types. Nothing of it has run yet."""

from collections.abc import Iterator, Mapping

from ffebm.graph.ops import OPS
from ffebm.graph.tensor import Array
from ffebm.plan.checks.onnx_arguments import onnx_argument_problems
from ffebm.plan.program import Instruction, Program, Segment
from ffebm.plan.torch_ops import argument_problems, op_problem


def program_problems(segments: tuple[Segment, ...], weights: Mapping[str, Array]) -> Iterator[str]:
    """Everything in the programs that may not run, as text.

    Args:
        segments: The programs.
        weights: The plan's constants by name.
    """
    for position, segment in enumerate(segments):
        if segment.id != position:
            yield f"segment {segment.id} stands at position {position}"
        for instruction in _instructions(segment.program):
            yield from _instruction_problems(instruction, weights)


def _instructions(program: Program) -> Iterator[Instruction]:
    """All instructions, those of subgraphs too."""
    for instruction in program.instructions:
        yield instruction
        for inner in instruction.graphs.values():
            yield from _instructions(inner)


def _instruction_problems(instruction: Instruction, weights: Mapping[str, Array]) -> Iterator[str]:
    for name in instruction.tensors.values():
        if name not in weights:
            yield f"instruction {instruction.name!r} holds {name!r}, which has no values"
            return
    if instruction.op in OPS:
        yield from onnx_argument_problems(instruction)
        return
    problem = op_problem(instruction.op)
    if problem:
        yield f"instruction {instruction.name!r}: {problem}"
        return
    single = [name for name in instruction.tensors.values() if weights[name].size == 1]
    yield from argument_problems(instruction, single)
