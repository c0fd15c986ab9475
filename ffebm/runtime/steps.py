"""The steps of a plan's inference as things that run, and the digital ones behind the last block."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ffebm.graph.energy_block import EnergyBlock
from ffebm.plan.plan import Plan
from ffebm.plan.program import Instruction, values_read
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_run import Tail
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.digital_program import UPDATE, Binding, run_instruction
from ffebm.runtime.kernels.call import Together
from ffebm.runtime.trace import BACKWARD, Trace, marked, marked_again


class StepContext(Protocol):
    """What a step sees of the network that it belongs to.

    Attributes:
        plan: What runs.
        training: Whether the network is in training mode.
        settle: How energy blocks settle.
        gradient: How gradients of energy blocks are estimated.
        generator: Of the model's own random ops.
        device: Where everything is computed.
        calibrating: Whether running statistics are to stay as they are.
        trace: Where steps are noted; None notes nothing.
        updates: What the model keeps for its next run, by name.
        together: Adds up over the processes that share a batch; None if this one has all of it.
    """

    plan: Plan
    training: bool
    settle: Settle
    gradient: Gradient
    generator: torch.Generator
    device: torch.device
    calibrating: bool
    trace: Trace | None
    updates: dict[str, Tensor]
    together: Together | None

    @property
    def blocks(self) -> dict[int, BlockRuntime]:
        """The energy blocks by their ids."""

    def weights(self) -> Mapping[str, Tensor]:
        """The trainable weights by name."""

    def lookup(self, values: Mapping[str, Tensor], name: str) -> Tensor:
        """A value of this run, or a weight."""

    def outputs_of(self, values: Mapping[str, Tensor]) -> Any:
        """The model's outputs among the values of a run."""

    def note_equilibrium(self, block: int, equilibrium: Equilibrium) -> None:
        """Keep how a block settled."""


@dataclass(frozen=True)
class DigitalStep:
    """A node on a digital unit."""

    instruction: Instruction
    last_reads: tuple[str, ...]

    def run(self, net: StepContext, values: dict[str, Tensor]) -> None:
        """Add the outputs to the values, and keep new running statistics."""
        statistics = self.compute(net, values)
        if net.calibrating:
            return
        if self.instruction.op == UPDATE:
            net.updates.update(statistics)
            statistics = {}
        with torch.no_grad():
            for name, value in statistics.items():
                if name in net.plan.buffers:
                    net.lookup({}, name).copy_(value)

    def compute(
        self, net: StepContext, values: dict[str, Tensor], noted: list[bool] | None = None
    ) -> dict[str, Tensor]:
        """Add the outputs to the values; returns new running statistics.

        Args:
            net: The network.
            values: Of this run.
            noted: Of a step that runs again, whether its backward run was noted.
        """
        together = None if net.calibrating else net.together  # all processes calibrate on the same samples
        binding = Binding(partial(net.lookup, values), net.training, net.generator, together)
        outputs, statistics = run_instruction(self.instruction, binding)
        if noted is None:
            values.update(marked(net.trace, "digital", self.instruction.name, outputs))
        elif net.trace is not None:
            values.update(marked_again(net.trace, "digital", self.instruction.name, outputs, noted))
        else:
            values.update(outputs)
        return statistics


@dataclass(frozen=True)
class BlockStep:
    """The free phase of an energy block."""

    block: EnergyBlock
    last_reads: tuple[str, ...]

    def run(self, net: StepContext, values: dict[str, Tensor]) -> None:
        """Settle, and add the outputs to the values."""
        inputs, weights = self._read(net, values)
        with torch.autocast(net.device.type, enabled=False):
            outputs, equilibrium = net.blocks[self.block.id].run(inputs, weights, net.settle, net.gradient)
        net.note_equilibrium(self.block.id, equilibrium)
        values.update(marked(net.trace, "free", self.block.name, outputs))

    def run_with_cost(
        self,
        net: StepContext,
        values: Mapping[str, Tensor],
        behind: "Sequence[RunnableStep]",
        loss_fn: Callable[[Any], Tensor],
    ) -> Tensor:
        """Run what is left from the last block on, so that the loss itself can nudge the block.

        Args:
            net: The network.
            values: Of this run.
            behind: The digital steps behind the block.
            loss_fn: The loss of the model's outputs.
        """
        inputs, weights = self._read(net, values)
        tail = TailRun(net, self.block, behind, values, loss_fn).tail()
        with torch.autocast(net.device.type, enabled=False):
            loss, equilibrium = net.blocks[self.block.id].run_with_cost(
                inputs, weights, tail, net.settle, net.gradient
            )
        net.note_equilibrium(self.block.id, equilibrium)
        return loss

    def _read(
        self, net: StepContext, values: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs and weights by name."""
        weights = {name: net.lookup({}, name) for name in self.block.weights()}
        inputs = {name: _unreduced(net.lookup(values, name), weights) for name in self.block.inputs}
        return inputs, weights


RunnableStep = DigitalStep | BlockStep
"""What runs forward as one."""


class TailRun:
    """The digital steps behind the last block and the loss, as a function that can be run again.

    Only its first run, the one at the free state, changes running statistics; all runs see the same random
    numbers, so that the two nudged states are compared under the same dropout.
    """

    def __init__(
        self,
        net: StepContext,
        block: EnergyBlock,
        steps: Sequence[RunnableStep],
        values: Mapping[str, Tensor],
        loss_fn: Callable[[Any], Tensor],
    ) -> None:
        self.net = net
        self.block = block
        self.steps = [step for step in steps if isinstance(step, DigitalStep)]
        self.noted: list[list[bool]] = [[] for _ in self.steps]
        self.values = values
        self.loss_fn = loss_fn
        self.random = net.generator.get_state()
        self.first = True

    def tail(self) -> Tail:
        """What the engine needs to know of it."""
        read = {name for step in self.steps for name in values_read(step.instruction)}
        read |= {port.name for port in self.net.plan.outputs}
        inputs = {n: v for n, v in self.values.items() if n in read and v.is_floating_point()}
        weights = {name: weight for name, weight in self.net.weights().items() if name in read}
        return Tail(self.cost, inputs, weights, partial(self._note, BACKWARD["free"]))

    def _note(self, kind: str) -> None:
        if self.net.trace is not None:
            self.net.trace.steps.append((kind, self.block.name))

    def cost(
        self, outputs: Mapping[str, Tensor], inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss at some state of the block."""
        net = self.net
        values = {**self.values, **inputs, **weights, **outputs}
        resumes = net.generator.get_state()
        if self.first:
            self._note("free")
        else:
            net.generator.set_state(self.random)
        for step, noted in zip(self.steps, self.noted, strict=True):
            if self.first:
                step.run(net, values)
            else:
                step.compute(net, values, noted)
        if not self.first:
            net.generator.set_state(resumes)
        self.first = False
        return self.loss_fn(net.outputs_of(values))


def inference_steps(plan: Plan) -> tuple[RunnableStep, ...]:
    """The plan's inference as things to run, each with the values that nothing reads after it."""
    instructions = {i.name: i for segment in plan.segments for i in segment.program.instructions}
    blocks: dict[int | None, EnergyBlock] = {block.id: block for block in plan.blocks}
    kept = {port.name for port in plan.outputs} | plan.weights.keys()
    runners: list[RunnableStep] = []
    for step in reversed(plan.inference.runs):
        runner = instructions[step.name] if step.kind == "digital" else blocks[step.block]
        reads = values_read(runner) if isinstance(runner, Instruction) else set(runner.inputs)
        touched = reads | {value for value in runner.outputs if value}
        last = tuple(sorted(touched - kept))
        kept |= touched
        runners.append(
            DigitalStep(runner, last) if isinstance(runner, Instruction) else BlockStep(runner, last)
        )
    return tuple(runners[::-1])


def _unreduced(value: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """An input of a block in the type of its weights, which autocast leaves as they are."""
    dtype = next((weight.dtype for weight in weights.values()), value.dtype)
    narrow = torch.is_autocast_enabled(value.device.type) and value.is_floating_point()
    return value.to(dtype) if narrow else value
