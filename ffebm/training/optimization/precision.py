"""Mixed precision: digital ops under torch's autocast, tiles in 32 bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from ffebm.errors import UsageError

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What digital ops compute in where torch's autocast says that they may; None leaves all as it is."""


class Precision:
    """How a step computes, and how its gradients are scaled.

    Args:
        name: One of `PRECISIONS`; gradients of "fp16" are scaled so that small ones do not vanish.
        device: Where it computes.

    Raises:
        UsageError: If there is none of that name.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in PRECISIONS:
            raise UsageError(f"precision {name!r}", allowed=", ".join(PRECISIONS))
        self._dtype = PRECISIONS[name]
        self._device = device.type
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def computing(self) -> torch.autocast:
        """The context in which a network runs."""
        return torch.autocast(self._device, self._dtype, enabled=self._dtype is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, before: Callable[[], None]) -> None:
        """One step of the optimiser, left out where a scaled gradient is not finite.

        Args:
            optimizer: The optimiser.
            before: Called when gradients have their own scale.

        Raises:
            UsageError: If the rate is too large for torch's numbers.
        """
        self._scaler.unscale_(optimizer)
        before()
        try:
            self._scaler.step(optimizer)
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise UsageError(f"the optimiser's step overflows: {error}", hint="try a smaller --lr") from None
        self._scaler.update()

    def state(self) -> dict[str, int | float]:
        """The scale of gradients and what it follows; empty where there is none."""
        return dict(self._scaler.state_dict())

    def restore(self, state: dict[str, int | float]) -> None:
        """Take up what `state` returned."""
        if state:
            self._scaler.load_state_dict(state)
