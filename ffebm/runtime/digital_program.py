"""Runs digital programs: one instruction after the other, each by its kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ffebm.errors import Location, ModelError
from ffebm.plan.program import Instruction, Program
from ffebm.runtime.kernels import Call, kernel_of
from ffebm.runtime.kernels.call import Together

UPDATE = "UpdateBuffer"
RUNNING_STATISTICS = {"BatchNormalization": (3, 4), UPDATE: (0,)}
"""Input positions of running statistics, which such a kernel returns anew behind its result in training."""
UNUSABLE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What kernels raise when their inputs or attributes do not fit, which no compiler can always know before."""


@dataclass(frozen=True)
class Binding:
    """What instructions run with.

    Attributes:
        lookup: A value by its name.
        training: The network trains.
        generator: Source of randomness.
        together: Adds up over the processes that share the batch; None if this one has all of it.
    """

    lookup: Callable[[str], Tensor]
    training: bool
    generator: torch.Generator
    together: Together | None = None


def run_instruction(
    instruction: Instruction, binding: Binding
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run one instruction.

    Returns:
        Its outputs by value name; and new running statistics by the names of the old ones.
    """
    call = Call(
        op=instruction.op,
        attrs=instruction.attrs,
        n_outputs=len(instruction.outputs),
        training=binding.training,
        tensors={key: binding.lookup(name) for key, name in instruction.tensors.items()},
        graphs={key: partial(_run_graph, program, binding) for key, program in instruction.graphs.items()},
        generator=binding.generator,
        together=binding.together,
    )
    inputs = [binding.lookup(name) if name else None for name in instruction.inputs]
    try:
        result = kernel_of(instruction.op)(call, *inputs)
    except torch.OutOfMemoryError:
        raise
    except UNUSABLE as error:
        raise ModelError(
            f"{instruction.op} cannot be computed: {_brief(error)}",
            hint="check the shapes and types of what it reads",
            location=Location(instruction.name),
        ) from error
    results = result if isinstance(result, tuple) else (result,)
    outputs = {name: value for name, value in zip(instruction.outputs, results, strict=False) if name}
    positions = RUNNING_STATISTICS.get(instruction.op, ())
    fresh = zip((instruction.inputs[p] for p in positions), results[1:], strict=False)
    return outputs, dict(fresh) if binding.training or instruction.op == UPDATE else {}


def _brief(error: Exception) -> str:
    """What torch says, without the trace of its own source that may follow."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _run_graph(program: Program, binding: Binding, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Run a subgraph; what it does not make itself it takes from outside."""
    values: dict[str, Tensor] = dict(zip(program.inputs, inputs, strict=True))

    def lookup(name: str) -> Tensor:
        return values[name] if name in values else binding.lookup(name)

    inner = Binding(lookup, binding.training, binding.generator, binding.together)
    for instruction in program.instructions:
        values.update(run_instruction(instruction, inner)[0])
    return tuple(lookup(name) for name in program.outputs)
