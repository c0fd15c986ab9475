"""A tile: cells that hold -1, 0 or 1 times one scale, and are read with noise."""

import torch
from torch import Tensor

from ffebm.runtime.tiles.choice import OwnTile
from ffebm.runtime.tiles.ideal import IdealTile


def ternary(weight: Tensor) -> Tensor:
    """-s, 0 or s, whichever is nearest, with s the largest magnitude; [..., n_out, n_in]."""
    scale = weight.abs().amax((-2, -1), keepdim=True)
    return (weight / scale).nan_to_num().round() * scale


class TernaryTile(IdealTile):
    """Exact but for what it holds and for its read noise; what is not said here, `IdealTile` answers.

    Args:
        generator: Source of read noise.
        noise: Its standard deviation, in units of an output.
    """

    def __init__(self, generator: torch.Generator, noise: float = 0.0) -> None:
        super().__init__()
        self._generator = generator
        self._noise = noise

    def program(self, weight: Tensor) -> None:
        """[..., n_out, n_in]."""
        super().program(ternary(weight))

    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return self._noisy(super().mvm(x))

    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in]."""
        return self._noisy(super().mvm_t(y))

    def update(self, step: Tensor) -> None:
        """Program the sum anew, [..., n_out, n_in]."""
        self.program(self.read() + step)

    def _noisy(self, products: Tensor) -> Tensor:
        if not self._noise:
            return products
        drawn = torch.randn(products.shape, generator=self._generator, dtype=products.dtype)
        return products + self._noise * drawn


TERNARY = OwnTile(lambda generator, name: TernaryTile(generator), meaning="ternary cells, one scale a piece")
