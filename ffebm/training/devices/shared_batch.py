"""Sums over the shares that the processes of a run have of a batch, as batch statistics need them."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.plan.program import Program
from ffebm.training.devices.ranks import Ranks
from ffebm.training.settings import Training

OPTION = "--sync-batch-statistics"


class SharedBatch:
    """Adds up values over all processes; differentiable.

    The gradient of a value is the sum over the losses of all processes. Each process multiplies its gradients
    by its share of the loss at the end, so those that come from others are weighed by their shares here.

    Args:
        ranks: The processes.

    Attributes:
        share: Of the loss that this process backpropagates next.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.share = 1.0

    def __call__(self, values: Tensor) -> Tensor:
        """The sum of the values of all processes, [...]; each calls it as often as the others, in one order.

        Raises:
            UsageError: If a process has ended.
        """
        total: Tensor = _Added.apply(values, self)  # type: ignore[no-untyped-call]
        return total


class _Added(torch.autograd.Function):
    """The sum over processes of the values; of the gradients, each by its share, in the unit of one's own."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, batch: SharedBatch) -> Tensor:
        ctx.batch, ctx.share = batch, batch.share
        total = values.clone()
        batch.ranks.add(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if ctx.share == 0.0:
            raise UsageError(
                "a process has no label that counts in its share of a batch, whose statistics are shared",
                allowed="a label that counts in every share",
                hint=f"a larger --batch, or no {OPTION}",
            )
        total = grad * ctx.share
        ctx.batch.ranks.add(total)
        return total / ctx.share, None


def check_synchronised(plan: Plan, training: Training, samples: int, ranks: Ranks) -> None:
    """Refuse batch statistics of several processes where there are none, or where processes cannot meet.

    Args:
        plan: What is trained.
        training: The settings of the run.
        samples: Training samples, a number.
        ranks: The processes.

    Raises:
        UsageError: If the plan has no batch normalisation; if the cost nudges, which each process evaluates
            as often as its own samples take to settle; or if a batch has no sample for some process.
    """
    if "BatchNormalization" not in (op for s in plan.segments for op in _ops(s.program)):
        raise UsageError(
            f"{OPTION} with a plan that has no batch normalisation", hint="leave it out: nothing is shared"
        )
    if ranks.size == 1:
        return
    if training.gradient == "ep" and training.cost:
        raise UsageError(
            f"{OPTION} with --cost: processes would evaluate what is behind the last block unequally often",
            allowed="a nudge by the error current",
            hint="leave --cost out",
        )
    least = samples % training.batch or training.batch
    least = min(least, training.batch, samples)
    if least < ranks.size:
        raise UsageError(
            f"{OPTION} with {ranks.size} processes and a batch of {least} of {samples} samples",
            allowed="a sample of every batch for each process",
            hint="another --batch, whose last one is as large",
        )


def _ops(program: Program) -> Iterator[str]:
    """The ops of a program and of its subgraphs."""
    for instruction in program.instructions:
        yield instruction.op
        for inner in instruction.graphs.values():
            yield from _ops(inner)
