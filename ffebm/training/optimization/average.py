"""An average of weights over the steps of a run."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ffebm.runtime.executor import Executor


class Average:
    """An exponential moving average of a network's weights.

    The first step sets it to the weights; each later one moves it by 1 - decay of the way to them, as
    `torch.optim.swa_utils.AveragedModel` does with `get_ema_multi_avg_fn`.
    Running statistics are the network's.

    Args:
        decay: What is left of the average in a step, from 0 to 1.
        net: The network.
    """

    def __init__(self, decay: float, net: Executor) -> None:
        self.decay = decay
        self.tensors: dict[str, Tensor] = {}
        self._net = net

    @torch.no_grad()
    def update(self) -> None:
        """A step has been made."""
        for name, weight in self._net.weights().items():
            if name in self.tensors:
                self.tensors[name].lerp_(weight.detach(), 1 - self.decay)
            else:
                self.tensors[name] = weight.detach().clone()

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Take up an average that was saved."""
        self.tensors = {name: tensor.to(device).clone() for name, tensor in tensors.items()}

    def network(self, seed: int) -> Executor:
        """The same machine with the average on its tiles; the network that trains stays as it is.

        Args:
            seed: Of what is random in a run.
        """
        twin = self._net.unprogrammed()
        twin.reseed(seed)
        held = {**twin.weights(), **twin.running_statistics()}
        with torch.no_grad():
            for name, tensor in {**self._net.running_statistics(), **self.tensors}.items():
                held[name].copy_(tensor)
        device = next(iter(self.tensors.values())).device
        return twin.to(device)
