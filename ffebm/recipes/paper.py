"""The experiments of Nest & Ernoult 2024 (arXiv 2409.03306), from the paper and its published settings.

Where this departs from the published settings files, and why:

- six layers at block size 3: convolutions 1 to 4 are pooled, as at block sizes 6 and 2; the file pools all
  five, so that its last map is 1x1 instead of 2x2;
- twelve layers at block size 3: pooled behind convolutions 4, 7 and 10 as in the file (3, 5 and 9 elsewhere);
- fifteen layers: 256 channels in block 5, where the file has 258;
- six layers at block size 1 is no experiment of the paper: every layer is a block of its own, so that the
  network is an ordinary feedforward one;
- the readout has as many outputs as the data has classes (the file of the static gradients has 1000);
- a tolerance is met by each sample on its own, over its worst layer, and in nudged phases too; the published
  code tests the mean over layers of the whole batch, in free phases only;
- running statistics of batch normalisation move once a step, not once a sweep.
"""

from typing import Literal

from ffebm.plan.schema import Settle
from ffebm.recipes.network import PaperLayer, PaperNetwork
from ffebm.recipes.recipe import Recipe
from ffebm.training.settings import Training

Norms = Literal["first", "all"]

SMALL = (128, 256, 256, 512, 512)
LARGE = (128,) * 4 + (256,) * 4 + (512,) * 4
SCALED = (64,) * 2 + (128,) * 4 + (256,) * 4 + (512,) * 5
STATIC = (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6 + (1024,)
FROZEN = ("*.norm.*",)
"""Weight 1 and bias 0 of batch normalisation are not trained."""


def _blocks(
    sizes: tuple[int, ...],
    convolutions: tuple[int, ...],
    pooled: tuple[int, ...],
    dense: int = 0,
    norms: Norms = "all",
    clamp: bool = False,
) -> tuple[tuple[PaperLayer, ...], ...]:
    """Layers by block.

    Args:
        sizes: Layers of each block.
        convolutions: Channels of the convolutions.
        pooled: Numbers of the convolutions, from 1, that are pooled.
        dense: Units of a dense layer at the end; 0 if there is none.
        norms: Blocks that begin with batch normalisation.
        clamp: Last layers of all blocks but the last one are clipped.
    """
    units = (*convolutions, dense) if dense else convolutions
    blocks, start = [], 0
    for k, size in enumerate(sizes):
        is_last = k + 1 == len(sizes)
        blocks.append(
            tuple(
                PaperLayer(
                    units[i],
                    has_pool=i + 1 in pooled,
                    is_dense=i >= len(convolutions),
                    has_norm=i == start and (norms == "all" or k == 0),
                    is_clipped=i + 1 < start + size or (clamp and not is_last),
                )
                for i in range(start, start + size)
            )
        )
        start += size
    return tuple(blocks)


def _training(epochs: int, lr: float, min_lr: float, batch: int = 128, data: str = "cifar-10") -> Training:
    return Training(
        data=data,
        epochs=epochs,
        batch=batch,
        optimizer="Adam",
        lr=lr,
        min_lr=min_lr,
        weight_decay=3e-4,
        schedule="cosine",
        gradient="ep",
        beta=0.2,
        cost=True,
        freeze=FROZEN,
        flip=True,
        crop=4,
    )


def _small(size: int, tol: bool = False) -> Recipe:
    sizes = (size,) * (6 // size)
    return Recipe(
        f"splitting, 6 layers at block size {size}",
        PaperNetwork(
            _blocks(sizes, SMALL, (1, 2, 3, 4), dense=256, norms="first", clamp=True),
            variance=8.351e-5,
            slope=0.65 if tol else 1.0,
        ),
        Settle(free_sweeps=1580 if tol else 60, nudged_sweeps=20, tol=1e-6 if tol else None),
        _training(100, 3e-4, 1e-6) if tol else _training(200, 1e-4, 1e-6),
        boundary="tile" if size == 1 else "digital",
    )


def _large(size: int, tol: bool = False) -> Recipe:
    sizes = (size,) * (12 // size)
    pooled = (4, 7, 10) if size == 3 else (3, 5, 9)
    return Recipe(
        f"splitting, 12 layers at block size {size}",
        PaperNetwork(_blocks(sizes, LARGE, pooled), variance=5.9e-5, slope=0.55 if tol else 1.0),
        Settle(free_sweeps=1580 if tol else 20, nudged_sweeps=5, tol=1e-4 if tol else None),
        _training(100 if tol else 200, 5e-5, 1e-6),
    )


SPLITTING_SMALL: dict[int, str] = {size: f"splitting-small-{size}" for size in (6, 3, 2, 1)}
"""The six-layer experiments by block size."""
SPLITTING_LARGE: dict[int, str] = {size: f"splitting-large-{size}" for size in (4, 3, 2)}
"""The twelve-layer experiments by block size."""

RECIPES: dict[str, Recipe] = {
    "static-gradients": Recipe(
        "static gradient analysis, 15 layers in 6 blocks",
        PaperNetwork(
            _blocks((2, 2, 3, 3, 2, 3), STATIC, (3, 5, 8, 11), dense=4096), variance=4.9e-5, slope=0.5
        ),
        Settle(free_sweeps=15, nudged_sweeps=20),
        Training(data="cifar-10", batch=2, beta=0.02, cost=True, freeze=FROZEN),
        trains=False,
    ),
    "splitting-small-6": _small(6),
    "splitting-small-3": _small(3),
    "splitting-small-2": _small(2),
    "splitting-small-1": _small(1),
    "splitting-small-6-tol": _small(6, tol=True),
    "splitting-small-3-tol": _small(3, tol=True),
    "splitting-small-2-tol": _small(2, tol=True),
    "splitting-large-4": _large(4),
    "splitting-large-3": _large(3),
    "splitting-large-2": _large(2),
    "splitting-large-4-tol": _large(4, tol=True),
    "splitting-large-3-tol": _large(3, tol=True),
    "splitting-large-2-tol": _large(2, tol=True),
    "scaling-small": Recipe(
        "scaling, 12 layers in 6 blocks",
        PaperNetwork(_blocks((2,) * 6, LARGE, (1, 5, 9)), variance=4.9e-5, slope=0.5),
        Settle(free_sweeps=15, nudged_sweeps=5),
        _training(200, 5e-5, 5e-7, batch=256, data="cifar-100"),
    ),
    "scaling-large": Recipe(
        "scaling, 15 layers in 8 blocks",
        PaperNetwork(_blocks((2,) * 7 + (1,), SCALED, (3, 7, 11)), variance=1e-5, slope=0.5),
        Settle(free_sweeps=15, nudged_sweeps=5),
        _training(100, 2e-5, 1e-7, batch=256, data="cifar-100"),
    ),
}
