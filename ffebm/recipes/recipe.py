"""A recipe: a network, how its blocks settle, and how it is trained."""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import msgspec
from onnx import ModelProto

from ffebm.compiler.options import checked_feedback
from ffebm.errors import UsageError
from ffebm.graph.energy_block import DEFAULT_PHYSICS
from ffebm.plan.schema import Settle
from ffebm.recipes.narrow import narrow_settle, narrow_training
from ffebm.recipes.network import COLOURS, SIDE, PaperNetwork
from ffebm.training.settings import Training


@dataclass(frozen=True)
class Images:
    """What a recipe needs to know of labelled images.

    Attributes:
        classes: Number of classes.
        mean: Subtracted from each channel of images in 0..1.
        std: Each channel is divided by it.
        samples: Training images.
        is_small: Images are padded to 32x32, one channel is repeated to three.
        shape: Of a sample as the network takes it.
    """

    classes: int
    samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    is_small: bool = False
    shape: tuple[int, ...] = (COLOURS, SIDE, SIDE)


_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.6069, 0.5982, 0.603)

IMAGES: dict[str, Images] = {
    "cifar-10": Images(10, 50_000, _CIFAR_MEAN, _CIFAR_STD),
    "cifar-100": Images(100, 50_000, _CIFAR_MEAN, _CIFAR_STD),
    "imagenet32": Images(1000, 1_281_167, (0.485, 0.456, 0.406), (0.3435, 0.336, 0.3375)),
    "fashion-mnist": Images(10, 60_000, (0.286,), (1.059,), is_small=True),
}
"""Data that the recipes train on.

CIFAR: mean and 3 times the standard deviation of CIFAR-10's channels, (.2023, .1994, .2010), for CIFAR-100
too; ImageNet32: mean and 1.5 times (.229, .224, .225). Source: published code of Nest & Ernoult 2024
(arXiv 2409.03306).
Fashion-MNIST is not in the paper: mean and 3 times the standard deviation (.353) of its training images.
"""


class Experiment(Protocol):
    """A recipe, whatever its network is made of."""

    @property
    def title(self) -> str:
        """What it is, in a line."""
        ...

    @property
    def training(self) -> Training:
        """How it is trained on its own data."""
        ...

    @property
    def trains(self) -> bool:
        """It is trained; otherwise its gradients alone are looked at."""
        ...

    @property
    def block_size(self) -> tuple[int, ...]:
        """Free layers of each block, for the compiler."""
        ...

    @property
    def digital(self) -> tuple[str, ...]:
        """Nodes that stay digital beside its blocks, by name."""
        ...

    @property
    def boundary(self) -> Literal["tile", "digital"]:
        """Where the first linear map of each block runs."""
        ...

    @property
    def physics(self) -> str:
        """What the energy of its blocks is, by name."""
        ...

    def with_feedback(self, feedback: float) -> "Experiment":
        """The same experiment whose layers feel those above weaker; refused if there is nothing to choose."""
        ...

    def images(self, data: str) -> Images:
        """What it needs to know of some data."""
        ...

    def model(self, width: float, data: str, seed: int) -> ModelProto:
        """The network as ONNX with initial weights."""
        ...

    def settling(self, width: float) -> Settle:
        """How its blocks settle."""
        ...

    def settings(self, data: str, seed: int, width: float = 1.0) -> Training:
        """How it is trained on some data."""
        ...


@dataclass(frozen=True)
class Recipe:
    """One experiment of Nest & Ernoult.

    Attributes:
        title: What it is, in a line.
        network: The network at its full width.
        settle: How its blocks settle.
        training: How it is trained; `data` is the paper's.
        boundary: Where the first linear map of each block runs; "digital" in the paper.
        trains: It is trained; otherwise its gradients alone are looked at.
        physics: What the energy of its blocks is, by name.
    """

    title: str
    network: PaperNetwork
    settle: Settle
    training: Training
    boundary: Literal["tile", "digital"] = "digital"
    trains: bool = True
    physics: str = DEFAULT_PHYSICS

    @property
    def block_size(self) -> tuple[int, ...]:
        """Free layers of each block, for the compiler; a last block of one layer has no weights inside."""
        return tuple(len(block) for block in self.network.blocks)

    @property
    def digital(self) -> tuple[str, ...]:
        """What multiplies drives of blocks."""
        return self.network.digital

    def with_feedback(self, feedback: float) -> "Recipe":
        """The same experiment whose layers feel those above with a part of the strength.

        Args:
            feedback: Of the published one; 1 changes nothing.

        Raises:
            UsageError: If it is out of range, or no block has layers that feel each other.
        """
        checked_feedback(feedback)
        if feedback == self.network.feedback:
            return self
        if all(len(block) == 1 for block in self.network.blocks):
            raise UsageError(
                f"feedback {feedback} of blocks with one layer each, which feel no other",
                allowed="recipes with larger blocks",
            )
        return replace(self, network=replace(self.network, feedback=feedback))

    def images(self, data: str) -> Images:
        """What it needs to know of some data.

        Raises:
            UsageError: If no recipe of this kind trains on it.
        """
        return _images(data)

    def model(self, width: float, data: str, seed: int) -> ModelProto:
        """The network as ONNX with initial weights.

        Args:
            width: Factor of the channels.
            data: A name of `IMAGES`; it tells the classes.
            seed: Of the weights.

        Raises:
            UsageError: If the width or the data is out of range.
        """
        check_width(width)
        return self.network.narrowed(width).model(_images(data).classes, seed)

    def settling(self, width: float) -> Settle:
        """How its blocks settle: as published, or at less than the paper's width in fewer sweeps.

        Raises:
            UsageError: If the width is out of range.
        """
        return narrow_settle(self.settle, max(self.block_size)) if self.is_narrow(width) else self.settle

    def is_narrow(self, width: float) -> bool:
        """Settings follow the width, so that it trains in a few epochs.

        Raises:
            UsageError: If the width is out of range.
        """
        check_width(width)
        return self.trains and width < 1

    def settings(self, data: str, seed: int, width: float = 1.0) -> Training:
        """How the recipe is trained on some data: as published, or at less than the paper's width as fits it.

        Args:
            data: A name of `IMAGES`.
            seed: Of training.
            width: Factor of the channels.

        Raises:
            UsageError: If no recipe knows the data, or the width is out of range.
        """
        images = _images(data)
        changes: dict[str, object] = {
            "data": data,
            "mean": images.mean,
            "std": images.std,
            "pad": images.is_small,
            "seed": seed,
        }
        training = msgspec.structs.replace(self.training, **changes)
        if not self.is_narrow(width):
            return training
        return narrow_training(training, width, max(self.block_size), images.is_small)


def check_width(width: float) -> None:
    """A width is a factor that is allowed.

    Raises:
        UsageError: If it is not.
    """
    if not 0 < width <= 4:
        raise UsageError(f"width {width}", allowed="a factor above 0 and at most 4")


def _images(data: str) -> Images:
    if data not in IMAGES:
        raise UsageError(f"this recipe does not train on {data!r}", allowed=", ".join(IMAGES))
    return IMAGES[data]
