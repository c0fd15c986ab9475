"""Computes a node of constants with the kernels that would run it."""

from collections.abc import Mapping

import torch

from ffebm.graph.tensor import Array
from ffebm.plan.program import Instruction
from ffebm.runtime.digital_program import Binding, run_instruction
from ffebm.runtime.kernels.dtypes import array_of, tensor_of


def evaluate_constants(instruction: Instruction, constants: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of one instruction, by name.

    Args:
        instruction: It draws no random numbers and holds no subgraphs.
        constants: What it reads, and the tensors of its attributes.
    """
    binding = Binding(lambda name: tensor_of(constants[name]), False, torch.Generator())
    with torch.no_grad():
        outputs, _ = run_instruction(instruction, binding)
    return {name: array_of(tensor) for name, tensor in outputs.items()}
