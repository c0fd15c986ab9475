"""What the compiler is asked for on a command line, by `ffebm compile` and `ffebm passes` alike."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from typer import Option

from ffebm.errors import UsageError
from ffebm.graph.energy_block import DEFAULT_PHYSICS
from ffebm.plan.mapping import Objective
from ffebm.plan.schema import MOST_SWEEPS

if TYPE_CHECKING:
    from ffebm.compiler.options import Settings


@dataclass(frozen=True)
class Compiling:
    """Options of the compiler, each with what it says; quantities of the mapping are plain numbers."""

    hardware: Annotated[str, Option(help="Shipped name, or path of a .toml file.")] = "reference"
    block_size: Annotated[
        str, Option(help="Free layers in one energy block; or one number a block: 2,2,1.")
    ] = "1"
    boundary: Annotated[str, Option(help="Where the first linear map of a block runs: tile or digital.")] = (
        "tile"
    )
    free_sweeps: Annotated[int, Option(help="Most sweeps of a free phase.", min=1, max=MOST_SWEEPS)] = 60
    fold_batch_norm: Annotated[
        bool, Option(help="Fold batch normalisation into weights: the plan is for inference only.")
    ] = False
    dim: Annotated[list[str] | None, Option(help="Size of a named dimension: NAME=SIZE.")] = None
    digital: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Keep this weight or node digital; * stands for anything; repeatable."),
    ] = None
    trainable: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Train this constant too; * stands for anything; repeatable."),
    ] = None
    own_passes: Annotated[
        list[str] | None,
        Option("--pass", metavar="NAME", help="Run this pass of an installed package too; repeatable."),
    ] = None
    physics: Annotated[
        str, Option(help="Energy of the blocks: hopfield, deep-resistive, or one of an installed package.")
    ] = DEFAULT_PHYSICS
    feedback: Annotated[
        float,
        Option(help="How strongly layers of a block feel those above; 1: as strongly as they drive them."),
    ] = 1.0
    activation: Annotated[
        list[str] | None,
        Option(metavar="OP", help="Layers may have this activation of an installed package; repeatable."),
    ] = None
    objective: Annotated[
        str,
        Option(
            help="What the mapping makes small: analog, latency, throughput, energy or edp. Which blocks are "
            "on tiles follows from it; those of several layers compute an equilibrium there."
        ),
    ] = "analog"
    tiles: Annotated[int | None, Option(help="Most tiles in use.", min=0)] = None
    max_latency: Annotated[float | None, Option(help="Most time of one inference, in seconds.")] = None
    max_energy: Annotated[float | None, Option(help="Most energy of one inference, in joules.")] = None
    max_area: Annotated[float | None, Option(help="Most area of the tiles in use, in mm2.")] = None
    slowdown: Annotated[
        float | None, Option(help="A block that is more than so many times slower on tiles is digital.")
    ] = None
    replicas: Annotated[
        int | None,
        Option(help="Most copies of a weight; training writes them all. [default: as many as help]", min=1),
    ] = None
    effort: Annotated[int, Option(help="How long to look for the mapping: nodes of a search.", min=0)] = 1000

    def settings(self) -> "Settings":
        """What becomes options of a plan, named as `ffebm.compile` names it.

        Raises:
            UsageError: If an option cannot be read.
        """
        return {
            "block_size": sizes_of(self.block_size),
            "boundary": boundary_of(self.boundary),
            "fold_batch_norm": self.fold_batch_norm,
            "dims": dims_of(self.dim or []),
            "digital": self.digital or (),
            "trainable": self.trainable or (),
            "physics": self.physics,
            "feedback": self.feedback,
            "activations": self.activation or (),
            "objective": objective_of(self.objective),
            "tiles": self.tiles,
            "max_latency": self.max_latency,
            "max_energy": self.max_energy,
            "max_area": self.max_area,
            "slowdown": self.slowdown,
            "replicas": self.replicas,
            "effort": self.effort,
        }


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


def objective_of(value: str) -> Objective:
    """What `--objective` says."""
    objectives: tuple[Objective, ...] = get_args(Objective)
    for known in objectives:
        if value == known:
            return known
    raise UsageError(f"--objective {value}", allowed=f"one of {', '.join(objectives)}")
