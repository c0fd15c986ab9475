"""Labelled samples in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ffebm.errors import UsageError
from ffebm.graph.tensor import Array

TEST_SHARE = 0.2
"""Share of samples held out where the data has no test set of its own."""


@dataclass(frozen=True)
class Data:
    """Labelled samples.

    Attributes:
        name: As the user named it.
        x_train: [samples, …], numbers; images of one byte a pixel stay bytes, see `floats`. Of a model that
            takes several inputs, its first.
        y_train: [samples, …], class numbers (whole) or numbers to be met (float32).
        x_test: As x_train.
        y_test: As y_train.
        more_train: What the further inputs of a model take, in its order, each as x_train.
        more_test: As more_train.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    more_train: tuple[Tensor, ...] = ()
    more_test: tuple[Tensor, ...] = ()

    @property
    def train(self) -> tuple[Tensor, ...]:
        """Training samples, a tensor for each input of the model."""
        return (self.x_train, *self.more_train)

    @property
    def test(self) -> tuple[Tensor, ...]:
        """Test samples, a tensor for each input of the model."""
        return (self.x_test, *self.more_test)

    def of(self, train: Sequence[Tensor], test: Sequence[Tensor]) -> "Data":
        """The same labels with other samples, a tensor for each input of the model."""
        return replace(
            self, x_train=train[0], x_test=test[0], more_train=tuple(train[1:]), more_test=tuple(test[1:])
        )

    def alone(self, position: int, name: str) -> "Data":
        """The same labels with the samples of one input alone, under a name for messages."""
        return replace(self.of([self.train[position]], [self.test[position]]), name=name)

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
        if len(sizes) < len(sample) == len(found) and _agree(sample, found):
            return self  # an open size, as of tokens, takes what comes
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


def as_input(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Samples as an input of a type: whole numbers as they are, bytes of images as 0 to 1."""
    return floats(x).to(dtype) if dtype.is_floating_point else x.to(dtype)


def held_out(name: str, x: Array, y: Array, *more: Array) -> Data:
    """Hold out a fixed share of samples, drawn once and for all.

    Args:
        name: What the user calls the data.
        x: Samples.
        y: Labels.
        more: What further inputs take.
    """
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [round(len(x) * TEST_SHARE)])
    return tensors(name, *((x[part], y[part], *(other[part] for other in more)) for part in (train, test)))


def split_off(data: Data, share: float, seed: int) -> tuple[Data, tuple[tuple[Tensor, ...], Tensor] | None]:
    """Hold out a share of the training samples to validate on.

    Args:
        data: The samples.
        share: How much of the training samples; 0 holds out none.
        seed: Of the draw.

    Returns:
        What is left to train on, and samples (a tensor for each input) and labels to validate on.

    Raises:
        UsageError: If nothing would be left on one side.
    """
    if not share:
        return data, None
    total = len(data.x_train)
    count = round(total * share)
    if not 0 < count < total:
        raise UsageError(
            f"a share of {share:g} of {total} training samples is {count}", allowed=f"1 to {total - 1}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    held, left = order[:count], order[count:]
    rest = replace(data, y_train=data.y_train[left]).of([x[left] for x in data.train], data.test)
    return rest, (tuple(x[held] for x in data.train), data.y_train[held])


def tensors(name: str, train: Sequence[Array], test: Sequence[Array]) -> Data:
    """Data from arrays; bytes of images stay bytes.

    Args:
        name: What the user calls it.
        train: Samples, labels, and what further inputs take.
        test: As train.
    """

    def samples(array: Array) -> Tensor:
        is_image = array.dtype == np.uint8 and array.ndim == 4
        return torch.from_numpy(np.require(array, np.uint8 if is_image else _wide(array), ["C", "W"]))

    def labels(array: Array) -> Tensor:
        kind = np.float32 if array.dtype.kind == "f" else np.int64
        return torch.from_numpy(np.require(array, kind, ["C", "W"]))

    more = (tuple(samples(array) for array in part[2:]) for part in (train, test))
    return Data(name, samples(train[0]), labels(train[1]), samples(test[0]), labels(test[1]), *more)


def _wide(array: Array) -> type[np.float32] | type[np.int64] | type[np.int16]:
    """A type of torch that holds an array's numbers."""
    if array.dtype.kind == "f":
        return np.float32
    return np.int16 if array.dtype in {np.uint8, np.int8, np.bool} else np.int64


def _agree(sizes: tuple[int | str, ...], found: tuple[int, ...]) -> bool:
    return all(not isinstance(a, int) or a == b for a, b in zip(sizes, found, strict=True))


def _can_pad(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a border makes one shape of the other, and at most one channel several."""
    return found[0] in {1, wanted[0]} and all(a <= b for a, b in zip(found[1:], wanted[1:], strict=True))


def _padded(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Images in the middle of a border of zeros; the repeated channel takes no memory."""
    rows, columns = sizes[1] - x.shape[2], sizes[2] - x.shape[3]
    border = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(x, border).expand(-1, sizes[0], -1, -1)
