"""The heterogeneous machine beside machines of one kind of unit and the same area.

Each other machine gives the area of all tiles to one kind of tiles, or the area of tiles and digital units to
one kind of digital units; a part of a unit counts as a whole one, in its favour. Every machine is mapped for
the same objective; what counts is the figure that the objective makes small. Networks are those of mapping.py
and two more of the onnx package.

python benchmarks/heterogeneous.py --networks squeezenet --objectives latency
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterator

from mapping import NETWORKS as MAPPED
from mapping import OBJECTIVES, Made, light, revision
from msgspec.structs import replace

import ffebm
from ffebm.plan.mapping import Objective
from ffebm.plan.summary import engineering

NETWORKS: dict[str, Callable[[], Made]] = {**MAPPED, "vgg19": light("vgg19"), "zfnet512": light("zfnet512")}
FIGURES: dict[Objective, Callable[[ffebm.Plan], float]] = {
    "analog": lambda plan: plan.inference.makespan_s,
    "latency": lambda plan: plan.inference.makespan_s,
    "throughput": lambda plan: plan.inference.interval_s,
    "energy": lambda plan: plan.inference.cost.energy,
    "edp": lambda plan: plan.inference.makespan_s * plan.inference.cost.energy,
}
DEFAULT = ("bert_2_256", "bert_4_128", "bert_6_128", "squeezenet")
UNITS: dict[Objective, str] = {"energy": "J", "edp": "J s"}
"""Of the figures; s where none is said."""


@dataclasses.dataclass(frozen=True)
class Rival:
    """A machine to be mapped for.

    Attributes:
        name: What it is made of.
        hardware: Its description.
        digital: Names of what stays digital: all, where it has no tiles.
    """

    name: str
    hardware: ffebm.Hardware
    digital: tuple[str, ...] = ()


def rivals(machine: ffebm.Hardware) -> Iterator[Rival]:
    """The machine itself, then those of one kind of tiles, then those of digital units alone."""
    yield Rival("all of it", machine)
    tiles = sum(group.count * group.area.value for group in machine.analog)
    for kind in machine.analog:
        count = math.ceil(tiles / kind.area.value)
        yield Rival(f"{count} {kind.name}", replace(machine, analog=(replace(kind, count=count),)))
    everything = tiles + sum(group.count * group.area.value for group in machine.digital)
    for group in machine.digital:
        # a group that runs some ops only keeps one unit of each other group beside it
        others = [other for other in machine.digital if other.name != group.name] if group.ops else []
        room = everything - sum(other.count * other.area.value for other in others)
        more = replace(group, count=math.ceil(room / group.area.value))
        units = tuple(more if g is group else g for g in machine.digital if g is group or g in others)
        beside = "".join(f" and {other.count} {other.name}" for other in others)
        yield Rival(f"{more.count} {group.name}{beside}", replace(machine, digital=units), digital=("*",))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--machine", default="heterogeneous", help="shipped name, or a description")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=DEFAULT)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=["latency", "energy", "edp"])
    options = parser.parse_args()
    print("| network | objective | machine | figure | to all of it | blocks, by group | CPU s | revision |")
    print(f"|{'---|' * 8}", flush=True)
    for network in options.networks:
        model, example = NETWORKS[network]()
        for objective in options.objectives:
            first = 0.0
            for rival in rivals(ffebm.load_hardware(options.machine)):
                start = time.process_time()
                plan = ffebm.compile(
                    model,
                    example,
                    hardware=rival.hardware,
                    objective=objective,
                    digital=rival.digital,
                )
                cpu = time.process_time() - start
                figure = FIGURES[objective](plan)
                first = first or figure
                cells = (
                    network,
                    objective,
                    rival.name,
                    engineering(figure, UNITS.get(objective, "s")),
                    f"{figure / first:.3f} x",
                    used(plan),
                    f"{cpu:.1f}",
                    revision(),
                )
                print(f"| {' | '.join(cells)} |", flush=True)


def used(plan: ffebm.Plan) -> str:
    """Blocks on each group of tiles, and digital nodes on each group of units that runs any."""
    held = [
        f"{sum(block.group == group.name for block in plan.blocks)} {group.name}"
        for group in plan.hardware.analog
    ]
    nodes = [node.group for node in plan.nodes if node.unit == "digital"]
    held += [f"{nodes.count(group.name)} nodes {group.name}" for group in plan.hardware.digital]
    return ", ".join(text for text in held if not text.startswith("0 "))


if __name__ == "__main__":
    main()
