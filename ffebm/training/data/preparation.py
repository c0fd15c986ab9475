"""From samples in memory to what the model sees: device, augmentation, scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.training.data.augment import augmented
from ffebm.training.data.samples import Data, as_input, floats
from ffebm.training.settings import Training


@dataclass(frozen=True)
class Preparation:
    """What is done to each batch.

    Attributes:
        mean: Subtracted, [channels, 1, …] or a scalar.
        std: Divided by, as mean.
        flip: Training images are mirrored at random.
        crop: Pixels by which training images are shifted at most.
        dither: Standard deviation of the noise that is added before the scale is changed.
        seed: Of the noise in a test.
        dtype: Of the model's input; whole numbers stay what they are.
    """

    mean: Tensor
    std: Tensor
    flip: bool
    crop: int
    dither: float = 0.0
    seed: int = 0
    dtype: torch.dtype = torch.float32

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A batch as the model sees it.

        Args:
            x: Samples, [batch, …].
            generator: Of augmentation and dither; None in a test, where nothing is augmented and the samples
                of every batch get the same dither, in their order.
        """
        if generator is not None:
            x = augmented(x, self.flip, self.crop, generator)
        if not self.dtype.is_floating_point:
            return as_input(x, self.dtype)
        values = floats(x)
        if self.dither:
            source = torch.Generator().manual_seed(self.seed) if generator is None else generator
            noise = torch.randn(values.shape, generator=source, dtype=torch.float32)
            values = values + self.dither * noise.to(values.device)
        return ((values - self.mean.to(x.device)) / self.std.to(x.device)).to(self.dtype)


@dataclass(frozen=True)
class Preparations:
    """What is done to each batch of a model's inputs.

    Attributes:
        each: One for each input.
    """

    each: tuple[Preparation, ...]

    def __call__(
        self, inputs: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """A batch as the model sees it.

        Args:
            inputs: Samples of each input, [batch, …].
            generator: Of the augmentation; None in a test, where there is none.
        """
        pairs = zip(self.each, inputs, strict=True)
        return tuple(prepare(x, generator) for prepare, x in pairs)


def preparations(training: Training, data: Data, dtypes: Sequence[torch.dtype]) -> Preparations:
    """What the settings ask for, of each input.

    Args:
        training: The settings.
        data: Samples in the model's shapes.
        dtypes: Of the model's inputs.

    Raises:
        UsageError: If the samples cannot be treated so; several inputs are taken as they are.
    """
    if len(dtypes) == 1:
        return Preparations((preparation(training, data, dtypes[0]),))
    for name in ("mean", "std", "flip", "crop", "dither", "pad"):
        if getattr(training, name):
            raise UsageError(
                f"--{name} with a model of {len(dtypes)} inputs",
                allowed="a model of one input",
                hint="prepare the arrays instead",
            )
    plain = Training(data=training.data)
    parts = (data.alone(k, data.name) for k in range(len(dtypes)))
    return Preparations(tuple(preparation(plain, x, dtype) for x, dtype in zip(parts, dtypes, strict=True)))


def preparation(training: Training, data: Data, dtype: torch.dtype = torch.float32) -> Preparation:
    """What the settings ask for.

    Args:
        training: The settings.
        data: Samples in the model's shape.
        dtype: Of the model's input.

    Raises:
        UsageError: If the samples cannot be treated so.
    """
    sizes = tuple(data.x_train.shape[1:])
    if (training.flip or training.crop) and len(sizes) != 3:
        raise UsageError(
            f"a sample of {data.name} is {list(sizes)}, no image [channels, height, width]",
            hint="leave --flip and --crop out",
        )
    if (training.mean or training.std) and not dtype.is_floating_point:
        found = str(dtype).removeprefix("torch.")
        raise UsageError(f"the model takes {found}", hint="leave --mean and --std out")
    if training.dither and not dtype.is_floating_point:
        raise UsageError(f"the model takes {str(dtype).removeprefix('torch.')}", hint="leave --dither out")
    if not 0 <= training.dither < math.inf:
        raise UsageError(f"dither is {training.dither}", allowed="a finite number of at least 0")
    if training.crop < 0:
        raise UsageError(f"crop is {training.crop}", allowed="at least 0")
    if not all(0 < std < math.inf for std in training.std):
        raise UsageError(f"std is {list(training.std)}", allowed="finite numbers above 0")
    if not all(map(math.isfinite, training.mean)):
        raise UsageError(f"mean is {list(training.mean)}", allowed="finite numbers")
    mean, std = (
        _by_channel(name, values, sizes, fallback)
        for name, values, fallback in (("mean", training.mean, 0.0), ("std", training.std, 1.0))
    )
    augmentation = (training.flip, training.crop)
    return Preparation(mean, std, *augmentation, training.dither, training.seed, dtype)


def _by_channel(name: str, values: tuple[float, ...], sizes: tuple[int, ...], fallback: float) -> Tensor:
    if len(values) > 1 and (not sizes or len(values) != sizes[0]):
        raise UsageError(
            f"{len(values)} numbers in {name}", allowed=f"one, or one a channel of samples {list(sizes)}"
        )
    if len(values) < 2:
        return torch.tensor(values[0] if values else fallback, dtype=torch.float32)
    return torch.tensor(values, dtype=torch.float32).view(-1, *[1] * (len(sizes) - 1))
