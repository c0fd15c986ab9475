"""The options of `ffebm compile` that `ffebm passes` has too, and what they say."""

from typing import Annotated, Literal

from typer import Option

from ffebm.errors import UsageError
from ffebm.plan.schema import MOST_SWEEPS

MachineName = Annotated[str, Option(help="Shipped name, or path of a .toml file.")]
BlockSize = Annotated[str, Option(help="Free layers in one energy block; or one number a block: 2,2,1.")]
Boundary = Annotated[str, Option(help="Where the first linear map of a block runs: tile or digital.")]
FoldsBatchNorm = Annotated[
    bool, Option(help="Fold batch normalisation into weights: the plan is for inference only.")
]
FreeSweeps = Annotated[int, Option(help="Most sweeps of a free phase.", min=1, max=MOST_SWEEPS)]
Dimensions = Annotated[list[str] | None, Option(help="Size of a named dimension: NAME=SIZE.")]
Digital = Annotated[
    list[str] | None,
    Option(metavar="NAME", help="Keep this weight or node digital; * stands for anything; repeatable."),
]
Trainable = Annotated[
    list[str] | None,
    Option(metavar="NAME", help="Train this constant too; * stands for anything; repeatable."),
]
OwnPasses = Annotated[
    list[str] | None,
    Option("--pass", metavar="NAME", help="Run this pass of an installed package too; repeatable."),
]
PhysicsName = Annotated[str, Option(help="Energy of the blocks: hopfield, or one of an installed package.")]
Activations = Annotated[
    list[str] | None,
    Option(metavar="OP", help="Layers may have this activation of an installed package; repeatable."),
]


def sizes_of(text: str) -> int | tuple[int, ...]:
    """What `--block-size` says."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--block-size {text}", allowed="a whole number, or several separated by commas"
        ) from None
    return sizes if "," in text else sizes[0]


def boundary_of(value: str) -> Literal["tile", "digital"]:
    """What `--boundary` says."""
    if value not in {"tile", "digital"}:
        raise UsageError(f"--boundary {value}", allowed="tile or digital")
    return "tile" if value == "tile" else "digital"


def dims_of(entries: list[str]) -> dict[str, int]:
    """What `--dim` says."""
    dims = {}
    for entry in entries:
        name, _, size = entry.partition("=")
        if not name or not size.isdecimal() or int(size) < 1:
            raise UsageError(f"--dim {entry}", allowed="NAME=SIZE with a size of at least 1")
        dims[name] = int(size)
    return dims
