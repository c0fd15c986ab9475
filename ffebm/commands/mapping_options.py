"""The options of `ffebm compile` that say what the mapping is to be like; quantities are plain numbers."""

from typing import Annotated, get_args

from typer import Option

from ffebm.errors import UsageError
from ffebm.plan.mapping import Objective

ObjectiveName = Annotated[
    str, Option(help="What the mapping makes small: analog, latency, throughput, energy or edp.")
]
TileLimit = Annotated[int | None, Option(help="Most tiles in use.", min=0)]
MaxLatency = Annotated[float | None, Option(help="Most time of one inference, in seconds.")]
MaxEnergy = Annotated[float | None, Option(help="Most energy of one inference, in joules.")]
MaxArea = Annotated[float | None, Option(help="Most area of the tiles in use, in mm2.")]
Slowdown = Annotated[
    float | None, Option(help="A block that is more than so many times slower on tiles is digital.")
]
Replicas = Annotated[
    int | None, Option(help="Most copies of a weight. [default: 1 for analog, else as many as help]", min=1)
]
SearchEffort = Annotated[int, Option(help="How long to look for the mapping: nodes of a search.", min=0)]


def objective_of(value: str) -> Objective:
    """What `--objective` says."""
    objectives: tuple[Objective, ...] = get_args(Objective)
    for known in objectives:
        if value == known:
            return known
    raise UsageError(f"--objective {value}", allowed=f"one of {', '.join(objectives)}")
