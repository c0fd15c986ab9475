"""Several processes that train one run: each takes its share of every batch, and all take the same steps.

The processes find each other by the environment that torchrun sets (RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT); torch.distributed adds up between them, by gloo, or by nccl on CUDA devices.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from ffebm.errors import UsageError

PATIENCE = timedelta(hours=6)
"""How long a process waits for the others: the first one alone measures what an epoch has reached."""
APART = 2**40
"""Between the seeds of two ranks: far more than a run has epochs, so that no two share a noise."""
_Sent = TypeVar("_Sent")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run.

    Attributes:
        rank: Its number; the first one, 0, writes and prints.
        size: How many there are.
        device: Where numbers that are added up have to lie.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """It writes the record and the checkpoints."""
        return self.rank == 0

    def share(self, picked: Tensor) -> Tensor:
        """The samples of a batch that this process takes."""
        return picked[self.rank :: self.size]

    def seed(self, seed: int) -> int:
        """A seed of its own for noise; the first one's is the run's."""
        return int((seed + self.rank * APART) % 2**63)

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """Numbers added up over all processes."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with self._meeting():
            distributed.all_reduce(found)
        return [float(number) for number in found.tolist()]

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Give every weight the sum of its gradients; one that is missing everywhere stays so."""
        if self.size == 1:
            return
        present = self.summed([float(weight.grad is not None) for weight in weights])
        wanted = [weight for weight, count in zip(weights, present, strict=True) if count]
        for weight in wanted:
            if weight.grad is None:  # no sample of the batch was left for this process
                weight.grad = torch.zeros_like(weight)
        self._sum([weight.grad for weight in wanted if weight.grad is not None])

    def add(self, tensor: Tensor) -> None:
        """Give a tensor the sum over all processes, in place."""
        if self.size > 1:
            self._sum([tensor])

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Give floating-point tensors their mean over all processes."""
        if self.size == 1:
            return
        held = [tensor for tensor in tensors if tensor.is_floating_point()]
        self._sum(held)
        for tensor in held:
            tensor.div_(self.size)

    def _sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up in place, all tensors of a type at once."""
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            alike = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in alike])
            with self._meeting():
                distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in alike])
            for tensor, part in zip(alike, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def from_first(self, value: _Sent | None) -> _Sent:
        """What the first process gives, in all of them.

        Args:
            value: What to give; of the others it is not looked at.
        """
        held: list[_Sent | None] = [value]
        if self.size > 1:
            with self._meeting():
                distributed.broadcast_object_list(held, src=0, device=torch.device(self.device))
        assert held[0] is not None
        return held[0]

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """All processes come together; one that has ended does not."""
        try:
            yield
        except RuntimeError as error:
            raise UsageError(
                f"a process of the run has ended; process {self.rank} of {self.size} cannot go on alone",
                hint="its own message says why; --resume goes on behind the last epoch",
            ) from error


ALONE = Ranks()
"""One process is the whole run."""


def is_one_of_several() -> bool:
    """Whether this process was started as one of several, by `ffebm train --devices` or by torchrun."""
    return os.environ.get("WORLD_SIZE", "1") not in {"", "1"} and "RANK" in os.environ


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """This process among those of its run, as the environment says, and the device that is its own.

    Args:
        device: As the user named it; "cuda" becomes a device for each process of this machine.

    Raises:
        UsageError: If the processes do not find each other.
    """
    if not is_one_of_several():
        yield ALONE, device
        return
    local = os.environ.get("LOCAL_RANK", "0")
    own = f"cuda:{local}" if device == "cuda" else device
    is_cuda = own.startswith("cuda")
    try:
        if is_cuda:
            torch.cuda.set_device(own)
        distributed.init_process_group("nccl" if is_cuda else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # torch's own kinds of errors are RuntimeErrors
        first = str(error).splitlines()[0]
        raise UsageError(
            f"the processes of the run do not find each other: {first}",
            hint="MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE say where; torchrun sets them",
        ) from None
    try:
        where = own if is_cuda else "cpu"
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), where), own
    finally:
        distributed.destroy_process_group()
