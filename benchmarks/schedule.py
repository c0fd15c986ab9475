"""Latency and interval of well-known networks, and how far their schedules may be from the shortest ones.

Each network is compiled for each machine as it is shipped, for the default objective with as many replicas as
help. Its inference and its training step of one sample, without what far memories add, are held against the
strongest lower bounds of their units and replicas at single rows: no way to cut layers into bands gives
shorter ones. Apart from these: a bound over all mappings that have the same blocks on tiles
(mapping_bound.py).

Rows are kept in the record as soon as they are measured, each with a digest of the code that decides on
times; the same command goes on from there, and measures only rows that are missing, or with --anew those of
other code too. Recipes of the paper have their published block sizes and sweeps, at full width.

python benchmarks/schedule.py --networks squeezenet splitting-small-2 --machines reference isaac
"""

import argparse
import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from mapping import LIGHT, gpt2, light, mobilenet_v2, vit_b16
from mapping_bound import mapping_bound

import ffebm
from ffebm.files.write_file import write_file
from ffebm.graph.graph import Graph
from ffebm.plan.schedule import Schedule
from ffebm.plan.schema import Settle
from ffebm.plan.summary import engineering
from ffebm.recipes.paper import RECIPES
from ffebm.scheduling.bands import MOST_TRAINING_BANDS, MOST_TRAINING_STEPS, SINGLE_ROWS
from ffebm.scheduling.bounds.bounds import bounds_of
from ffebm.scheduling.in_flight import interval_of, joining, samples_in_flight
from ffebm.scheduling.list_schedule import Task, ordered
from ffebm.scheduling.schedules import TaskLists, inference_tasks, training_tasks
from ffebm.scheduling.training_bands import FINER, cuts_to_try

MACHINES = ("reference", "isaac", "hermes", "pimcomp")
RECORD = Path("out/schedule.json")
RUNS = 8
"""In flight, where batches are looked at."""
DECIDING = ("graph", "hardware", "mapping", "passes", "plan/memory", "scheduling")
"""Folders of ffebm whose code decides on times."""
HEADS = (
    "network",
    "machine",
    "latency",
    "over bound",
    "batch of 8",
    "all mappings",
    "steps",
    "interval (unit)",
    "training step",
    "over bound",
    "batch of 8",
    "interval (unit)",
    "tiles",
    "peak / bound",
    "CPU s",
    "code",
)
Job = tuple[Any, dict[str, Any]]
"""A model, and further arguments to compile it with."""


# --- networks ----------------------------------------------------------------------------------------


def recipe(name: str) -> Job:
    """A network of the paper at its block sizes."""
    chosen = RECIPES[name]
    model = chosen.model(1.0, chosen.training.data, seed=0)
    return model, {
        "block_size": chosen.block_size,
        "boundary": chosen.boundary,
        "settle": chosen.settling(1.0),
    }


def well_known(made: Callable[[], tuple[Any, Any]]) -> Callable[[], Job]:
    """A network with its example inputs, at block size 1."""

    def job() -> Job:
        model, example = made()
        return model, {"example_inputs": example}

    return job


PAPER = (
    *(f"splitting-small-{size}" for size in (1, 2, 3, 6)),
    *(f"splitting-large-{size}" for size in (2, 3, 4)),
    "scaling-large",
    "static-gradients",
)
"""Networks of 6, 12 and 15 layers."""
LIGHTS = sorted(path.stem.removeprefix("light_") for path in LIGHT.glob("*.onnx"))
NETWORKS: dict[str, Callable[[], Job]] = {
    **{name: well_known(light(name)) for name in LIGHTS},
    "mobilenet_v2": well_known(mobilenet_v2),
    "vit_b16": well_known(vit_b16),
    "gpt2": well_known(gpt2),
    **{name: (lambda name=name: recipe(name)) for name in PAPER},
}
ORDER = [(network, machine) for network in NETWORKS for machine in MACHINES]
"""Rows of the table."""


# --- measuring ---------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One network on one machine.

    Attributes:
        network: Its name.
        machine: The machine's name.
        latency: Of one inference, seconds.
        near: The same without what far memories add, seconds.
        bound: No schedule of its units and replicas is shorter, whatever its bands, seconds.
        batch: Makespan of several inferences in flight over that of one and an interval for each further one;
            None: not looked at, as the two figures below in older rows.
        mappings: No mapping of the same blocks onto tiles is shorter, seconds.
        steps: Of its schedule, a number.
        interval: At which inferences can follow, seconds.
        unit: What limits that.
        training: Time of a training step of one sample, seconds.
        training_near: The same without what far memories add, seconds.
        training_bound: No schedule of its units and replicas is shorter, whatever its bands, seconds.
        training_batch: As `batch`, of a training step of as many samples.
        training_interval: What a further sample adds to a training step, seconds.
        training_unit: What limits that.
        tiles: In use, a number.
        memory: End of the highest buffer over the most bytes alive at once, of the memory and schedule where
            that is most.
        cpu: Seconds of a processor that compiling and bounds took.
        code: Digest of the code that decides on times.
    """

    network: str
    machine: str
    latency: float
    near: float
    bound: float
    batch: float | None = None
    mappings: float
    steps: int
    interval: float
    unit: str
    training: float
    training_near: float
    training_bound: float
    training_batch: float | None = None
    training_interval: float
    training_unit: str
    tiles: int
    memory: float | None = None
    cpu: float
    code: str

    def text(self) -> str:
        """As a line of Markdown."""
        cells = (
            self.network,
            self.machine,
            engineering(self.latency, "s"),
            f"{self.near / self.bound:.3f}",
            "-" if self.batch is None else f"{self.batch:.3f}",
            f"{engineering(self.mappings, 's')}, {self.latency / self.mappings:.2f}",
            f"{self.steps:,}",
            f"{engineering(self.interval, 's')} ({self.unit})",
            engineering(self.training, "s"),
            f"{self.training_near / self.training_bound:.3f}",
            "-" if self.training_batch is None else f"{self.training_batch:.3f}",
            f"{engineering(self.training_interval, 's')} ({self.training_unit})",
            f"{self.tiles:,}",
            "-" if self.memory is None else f"{self.memory:.3f}",
            f"{self.cpu:.0f}",
            self.code,
        )
        return f"| {' | '.join(cells)} |"


def code() -> str:
    """Digest of the code that decides on times."""
    root = Path(ffebm.__file__).parent
    digest = hashlib.sha256()
    for folder in DECIDING:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".toml"}:
                digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


class Held(NamedTuple):
    """Schedules of tasks without what far memories add, beside what they should take.

    Attributes:
        near: Makespan of one run, seconds.
        bound: No way to cut its layers gives a shorter one, seconds.
        batch: Makespan of `RUNS` runs in flight over that of one and an interval for each further one.
    """

    near: float
    bound: float
    batch: float


def held_against_bounds(
    tasks: Callable[..., list[Task]],
    graph: Graph,
    hardware: ffebm.Hardware,
    settle: Settle,
    joined: Collection[str] = (),
) -> Held:
    """What the tasks of a placed graph take beside their bounds.

    Args:
        tasks: Lists them.
        graph: The graph.
        hardware: The machine.
        settle: How energy blocks settle.
        joined: Names of nodes that need all runs before they can work for one.
    """
    rows = tasks(graph, hardware, settle, most_bands=SINGLE_ROWS, most_steps=SINGLE_ROWS)
    uncut = tasks(graph, hardware, settle, most_bands=1)
    one = tasks(graph, hardware, settle)
    near = ordered(one)[0].makespan_s
    several = ordered(samples_in_flight(one, RUNS, joined))[0].makespan_s
    usual = near + (RUNS - 1) * interval_of(one, joined).seconds
    return Held(near, bounds_of(rows, uncut)[0].seconds, several / usual)


def first_cut(
    graph: Graph, hardware: ffebm.Hardware, settle: Settle, most_bands: int = 0, most_steps: int = 0
) -> list[Task]:
    """Tasks of a training step, as `training_tasks`; by default in the bands that are tried first."""
    bands, steps = most_bands, most_steps or MOST_TRAINING_STEPS
    if not bands:
        joined = bool(joining(graph))
        few = TaskLists(graph, hardware, settle).training_steps(FINER if joined else MOST_TRAINING_BANDS)
        bands, steps = cuts_to_try("analog", joined=joined, left=0, finer_steps=few)[0]
    return training_tasks(graph, hardware, settle, most_bands=bands, most_steps=steps)


def limit(schedule: Schedule) -> str:
    """What limits how fast runs follow each other: a unit, or turns on one and others."""
    return f"turns on {schedule.interval_unit}" if schedule.interval_turns else schedule.interval_unit


def fullest(plan: ffebm.Plan) -> float:
    """The largest peak of a memory over its bound, in inference and training; 1 where nothing lies in any."""
    uses = (*plan.memory.inference.uses, *plan.memory.training.uses)
    return max((use.peak / use.bound for use in uses if use.bound), default=1.0)


def placed(job: Job, machine: str) -> tuple[ffebm.Plan, Graph, Settle]:
    """A plan for a machine, the graph that it was made of, with its places, and how its blocks settle."""
    model, arguments = job
    graphs: list[Graph] = []

    def keep(name: str, graph: Graph) -> None:
        if name == "placement":
            graphs.append(graph)

    plan = ffebm.compile(model, hardware=machine, progress=keep, **arguments)
    (graph,) = graphs
    return plan, graph, arguments.get("settle") or Settle()


def measured(network: str, machine: str) -> Row:
    """Compile once, and bound what came of it."""
    job = NETWORKS[network]()
    start = time.process_time()
    plan, graph, settle = placed(job, machine)
    inference = held_against_bounds(inference_tasks, graph, plan.hardware, settle)
    training = held_against_bounds(first_cut, graph, plan.hardware, settle, joining(graph))
    return Row(
        network=network,
        machine=plan.hardware.name,
        latency=plan.inference.makespan_s,
        near=inference.near,
        bound=inference.bound,
        batch=inference.batch,
        mappings=mapping_bound(graph, plan.hardware, settle),
        steps=len(plan.inference.steps),
        interval=plan.inference.interval_s,
        unit=limit(plan.inference),
        training=plan.training.makespan_s,
        training_near=training.near,
        training_bound=training.bound,
        training_batch=training.batch,
        training_interval=plan.training.interval_s,
        training_unit=limit(plan.training),
        tiles=len(plan.tiles),
        memory=fullest(plan),
        cpu=time.process_time() - start,
        code=code(),
    )


class Record:
    """Rows in a file, by network and machine.

    Args:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = msgspec.json.decode(path.read_bytes(), type=list[Row]) if path.exists() else []
        self.rows = {(row.network, row.machine): row for row in kept}

    def keep(self, row: Row) -> None:
        """Keep a row, in place of an older one."""
        self.rows[row.network, row.machine] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [self.rows[key] for key in sorted(self.rows)]
        write_file(self.path, msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")

    def ordered(self) -> list[Row]:
        """All rows in the order of the table."""
        return [self.rows[key] for key in ORDER if key in self.rows]


# --- the table ---------------------------------------------------------------------------------------


def table_lines(rows: Sequence[str], now: str) -> Iterator[str]:
    """The table as Markdown; rows of other code than what is here are counted under it."""
    yield f"| {' | '.join(HEADS)} |"
    yield f"|{'---|' * len(HEADS)}"
    yield from rows
    stale = sum(not row.endswith(f"| {now} |") for row in rows)
    if stale:
        yield ""
        yield f"Code when this was written: `{now}`; {stale} of {len(rows)} rows are of older code."


def report(rows: Iterable[Row], now: str, path: Path) -> None:
    """Put rows into the table between the markers of a page, beside others that stand there."""
    begin, end = "<!-- begin schedule -->\n", "<!-- end schedule -->"
    head, found, rest = path.read_text(encoding="utf-8").partition(begin)
    table, found_end, tail = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"{path}: no markers; put {begin.strip()} and {end} where the table belongs")

    standing = {key: line for line in table.splitlines() if (key := _key(line)) is not None}
    lines = standing | {(row.network, row.machine): row.text() for row in rows}
    merged = [lines[key] for key in ORDER if key in lines]
    whole = "\n".join(table_lines(merged, now))
    write_file(path, (head + begin + whole + "\n" + end + tail).encode())


def _key(line: str) -> tuple[str, str] | None:
    """Network and machine of a line of the table; None: it is no row."""
    cells = [cell.strip() for cell in line.split("|")]
    key = (cells[1], cells[2]) if len(cells) == len(HEADS) + 2 else None
    return key if key in ORDER else None


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    parser.add_argument("--anew", action="store_true", help="measure rows of other code too")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument(
        "--report", type=Path, metavar="PAGE", help="put the rows into the table between its markers"
    )
    parser.add_argument("--record", type=Path, default=RECORD, help="where rows are kept")
    options = parser.parse_args()
    record, now = Record(options.record), code()
    for network in () if options.table else options.networks:
        for machine in options.machines:
            kept = record.rows.get((network, machine))
            if kept is None or (options.anew and kept.code != now):
                record.keep(measured(network, machine))
                print(record.rows[network, machine].text(), flush=True)
    rows = record.ordered()
    print("\n".join(table_lines([row.text() for row in rows], now)))
    if options.report:
        report(rows, now, options.report)


if __name__ == "__main__":
    main()
