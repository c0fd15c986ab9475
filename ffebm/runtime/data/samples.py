"""Labelled samples in memory."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ffebm.errors import UsageError
from ffebm.ir import Array

TEST_SHARE = 0.2
"""Share of samples held out where the data has no test set of its own."""


@dataclass(frozen=True)
class Data:
    """Labelled samples.

    Attributes:
        name: As the user named it.
        x_train: [samples, …], float32; images of one byte a pixel stay bytes, see `floats`.
        y_train: [samples], class numbers.
        x_test: As x_train.
        y_test: As y_train.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    def shaped(self, sample: tuple[int | str, ...], pad: bool = False) -> "Data":
        """The same samples in a model's shape.

        Args:
            sample: The shape.
            pad: Images smaller than that get a border of zeros, and one channel is repeated.

        Raises:
            UsageError: If a sample has another number of elements.
        """
        sizes = tuple(d for d in sample if isinstance(d, int))
        found = tuple(self.x_train.shape[1:])
        padded = pad and len(sizes) == len(found) == 3 and _can_pad(found, sizes)
        if len(sizes) != len(sample) or (math.prod(sizes) != math.prod(found) and not padded):
            raise UsageError(
                f"a sample of {self.name} is {list(found)}",
                allowed=f"the model takes {list(sample)}",
                hint="pad or resize the data, or compile a model for it",
            )
        if padded:
            return replace(self, x_train=_padded(self.x_train, sizes), x_test=_padded(self.x_test, sizes))
        return replace(self, x_train=self.x_train.reshape(-1, *sizes), x_test=self.x_test.reshape(-1, *sizes))


def floats(x: Tensor) -> Tensor:
    """Samples as numbers; the bytes of images become 0 to 1."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def held_out(name: str, x: Array, y: Array) -> Data:
    """Hold out a fixed share of samples, drawn once and for all."""
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [round(len(x) * TEST_SHARE)])
    return tensors(name, (x[train], y[train]), (x[test], y[test]))


def tensors(name: str, train: tuple[Array, Array], test: tuple[Array, Array]) -> Data:
    """Samples and class numbers of both sets, from arrays; bytes stay bytes."""

    def samples(array: Array) -> Tensor:
        kind = np.uint8 if array.dtype == np.uint8 and array.ndim == 4 else np.float32
        return torch.from_numpy(np.require(array, kind, ["C", "W"]))

    def classes(array: Array) -> Tensor:
        return torch.from_numpy(np.require(array, np.int64, ["C", "W"]))

    return Data(name, samples(train[0]), classes(train[1]), samples(test[0]), classes(test[1]))


def _can_pad(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a border makes one shape of the other, and at most one channel several."""
    return found[0] in {1, wanted[0]} and all(a <= b for a, b in zip(found[1:], wanted[1:], strict=True))


def _padded(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Images in the middle of a border of zeros; the repeated channel takes no memory."""
    rows, columns = sizes[1] - x.shape[2], sizes[2] - x.shape[3]
    border = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(x, border).expand(-1, sizes[0], -1, -1)
