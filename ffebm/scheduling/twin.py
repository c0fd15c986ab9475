"""Both schedules of a placed graph, and what the same machine takes without its tiles: the digital twin.

The twin is the same graph with every node digital, each op in the first group of units that runs it,
scheduled by the same rules. That is what compiling with `digital=["*"]` bills, unless it leaves a group off.

Larger batches are estimated from one schedule. Of each task some seconds and joules stay as they are whatever
the batch (latencies, reading and updating weights), the others grow in proportion. Energy is the sum over all
tasks; time is the sum over a chain of steps that fills the makespan. So time and energy are straight lines
over the batch, and a plan and its twin cross at most once.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic

from msgspec import structs

from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import DataType
from ffebm.hardware.silicon import NETWORK, powered, watts
from ffebm.limits import SCHEDULE_STEPS
from ffebm.mapping.search.goal import UNBOUNDED, AtMost, Measured, value_of
from ffebm.plan.mapping import Objective
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.memory_plan import Memories
from ffebm.plan.schedule import Schedule, Step, one_after_the_other
from ffebm.plan.schema import Settle
from ffebm.plan.twin import Batches, DigitalTwin, Total
from ffebm.scheduling.bands import MOST_STEPS, MOST_TRAINING_BANDS
from ffebm.scheduling.bounds.bounds import with_bound
from ffebm.scheduling.bounds.digital import digital_seconds
from ffebm.scheduling.bounds.figures import least_value
from ffebm.scheduling.in_flight import Interval, first_of, interval_of, joining, samples_in_flight
from ffebm.scheduling.list_schedule import Task, early_results, filling_chain, ordered
from ffebm.scheduling.memory.flow_of import flow_of
from ffebm.scheduling.memory.planned import Fit, Found, Priced, Remembered, planned, priced, settled, timed
from ffebm.scheduling.schedules import TaskLists, batch_of, inference_tasks
from ffebm.scheduling.training_bands import FINER, BandChoice, BandedStep, cuts_to_try, tried_cuts

DTYPES: tuple[DataType, ...] = ("fp32", "bf16", "int8")
TIMES: tuple[Objective, ...] = ("analog", "latency", "throughput")
"""Objectives that make a time small, which is no less than what a unit has to do."""
ROUNDING = 1e-9
"""Part of a sum that is no difference to the same in another order."""


@dataclass(frozen=True)
class Growth:
    """A figure that grows with the batch.

    Attributes:
        fixed: What stays, whatever the batch.
        sample: What each sample adds.
    """

    fixed: float
    sample: float


@dataclass(frozen=True)
class Scheduled:
    """Both schedules of a graph.

    Attributes:
        inference: One inference.
        training: One training step.
        lines: Time and energy of both, over the batch.
        memory: Where values lie in both.
        runs: How many runs of the graph each has in flight.
        objective: What bands of the training step were chosen for.
        notes: What was chosen.
    """

    inference: Schedule
    training: Schedule
    lines: dict[Total, Growth]
    memory: Memories
    runs: int
    objective: Objective
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Job(Generic[Found]):
    """What is to be scheduled, and how.

    Attributes:
        graph: A placed graph.
        hardware: The machine.
        lists: Its tasks.
        objective: What bands of a training step are chosen for.
        runs: How many runs of the graph each schedule has in flight.
        fit: Gives tasks a time, and a place to what they read and write.
        dtype: In which digital units compute.
    """

    graph: Graph
    hardware: Hardware
    lists: TaskLists
    objective: Objective
    runs: int
    fit: Fit[Found]
    dtype: DataType = "fp32"

    def inference(self, flow: Dataflow) -> Found:
        """One inference, or several in flight.

        Several are done sooner where more of them are at work together. Where their values do not fit near by
        then, the objective chooses between that and results that are early.
        """
        tasks = _in_flight(self.lists.inference(self.dtype), self.runs, frozenset())
        found = self._fitted(flow, tasks)
        if self.runs == 1 or not found.places.down:
            return found
        early = self.fit(flow, self.hardware, tasks, early_results, self.dtype)
        return min((found, early), key=self._value)

    def _value(self, found: Priced) -> tuple[float, float]:
        """What is less in better runs in flight: of equal ones the energy counts."""
        schedule = found.schedule
        joules = schedule.cost.energy + watts(self.hardware, schedule.units) * schedule.makespan_s
        measured = Measured(schedule.makespan_s, joules, schedule.makespan_s / self.runs)
        return value_of(self.objective, measured), joules

    def training(self, flow: Dataflow, inference: Priced) -> BandChoice[Found]:
        """One training step beside an inference, in the bands that suit the objective."""
        joined = joining(self.graph)

        def cut(bands: int, steps: int) -> BandedStep[Found]:
            tasks = _in_flight(self.lists.training(self.dtype, bands, steps), self.runs, joined)
            return BandedStep(bands, tasks, self._fitted(flow, tasks), self.hardware, joined)

        cuts = cuts_to_try(
            self.objective,
            joined=bool(joined),
            left=MOST_STEPS - len(inference.tasks) // self.runs,
            finer_steps=self.lists.training_steps(FINER if joined else MOST_TRAINING_BANDS),
            runs=self.runs,
        )
        return tried_cuts(self.objective, cut, cuts)

    def _fitted(self, flow: Dataflow, tasks: list[Task]) -> Found:
        return self.fit(flow, self.hardware, tasks, ordered, self.dtype)


def schedules_of(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    runs: int = 1,
    objective: Objective = "analog",
    tried: Remembered | None = None,
) -> Scheduled:
    """An inference and a training step of a placed graph, with their bounds.

    Args:
        graph: The graph.
        hardware: The machine.
        settle: How energy blocks settle.
        runs: How many runs of the graph each has in flight.
        objective: What bands of a training step are chosen for.
        tried: Inferences that were looked at before.

    Raises:
        ModelError: If that takes more steps than a schedule may have.
        UsageError: If something fits in no memory.
    """
    flow, lists = flow_of(graph), TaskLists(graph, hardware, settle)
    whole = partial(planned, tried=tried)
    inference = _Job(graph, hardware, lists, objective, runs, whole).inference(flow)
    cuts = _Job(graph, hardware, lists, objective, runs, priced).training(flow, inference)
    training = cuts.best
    placed = settled(training.found, training.tasks, ordered)
    interval = interval_of(first_of(inference.tasks), frozenset())
    first = with_bound(_following(inference.schedule, interval), inference.tasks)
    second = with_bound(_following(placed.schedule, training.interval), placed.tasks)
    billed = _billed(hardware, (inference, placed), batch_of(graph) * runs)
    return Scheduled(
        _leaking(first, billed.leaks[0]),
        _leaking(second, billed.leaks[1]),
        billed.lines,
        Memories(inference=inference.memory, training=placed.memory),
        runs,
        objective,
        tuple(cuts.notes()),
    )


@dataclass(frozen=True)
class Wanted:
    """Which schedules of a graph are to be priced.

    Attributes:
        runs: How many runs of the graph each has in flight.
        objective: What bands of a training step are chosen for.
        training: A training step is wanted too.
    """

    runs: int = 1
    objective: Objective = "analog"
    training: bool = True


def priced_schedules(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    wanted: Wanted,
    tried: Remembered | None = None,
) -> tuple[Schedule, Schedule | None]:
    """An inference and a training step with all that they take, without bounds and places in memories.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
        wanted: What is to be priced.
        tried: Inferences that were looked at before.

    Returns:
        Both; None for a training step that is not wanted, and powers nothing that an inference does not.

    Raises:
        ModelError: If that takes more steps than a schedule may have.
        UsageError: If something fits in no memory.
    """
    lists = TaskLists(graph, hardware, settle)
    flow, job = flow_of(graph), _Job(graph, hardware, lists, wanted.objective, wanted.runs, priced)
    inference = replace(job, fit=partial(priced, tried=tried)).inference(flow)
    first = _following(inference.schedule, interval_of(first_of(inference.tasks), frozenset()))
    first = _leaking(first, watts(hardware, first.units))
    if not wanted.training and _powers_all(graph, hardware, first.units):
        return first, None
    step = job.training(flow, inference).best
    second = _following(step.found.schedule, step.interval)
    return first, _leaking(second, watts(hardware, second.units))


def _powers_all(graph: Graph, hardware: Hardware, units: Collection[str]) -> bool:
    """Whatever an inference or a training step of a placed graph may power is powered for some units."""
    named = {hardware.host.name, *(node.group for node in graph.nodes)}
    groups = [group.name for group in hardware.digital if group.name in named]
    most = {f"digital{number}" for name in groups for number in hardware.unit_numbers(name)}
    most |= {f"tile{place.tile}" for place in graph.places.values()}
    if len(most) > 1:
        most.add(NETWORK)
    return powered(hardware, units) == powered(hardware, most)


@dataclass(frozen=True)
class _Billed:
    """What both schedules of a graph take.

    Attributes:
        leaks: Power of what each uses, W.
        lines: Time and energy of both, over the batch.
    """

    leaks: list[float]
    lines: dict[Total, Growth]


def _billed(hardware: Hardware, plans: Sequence[Priced], batch: int) -> _Billed:
    """The bill of an inference and a training step."""
    leaks = [watts(hardware, found.schedule.units) for found in plans]
    times = [_time(found.tasks, found.schedule, found.order, batch) for found in plans]
    lines: dict[Total, Growth] = {
        "inference_s": times[0],
        "inference_j": _energy(plans[0].tasks, batch, times[0], leaks[0]),
        "training_s": times[1],
        "training_j": _energy(plans[1].tasks, batch, times[1], leaks[1]),
    }
    return _Billed(leaks, lines)


def _in_flight(tasks: list[Task], runs: int, joined: frozenset[str]) -> list[Task]:
    """The tasks of several runs, if they are not too many."""
    if runs == 1:
        return tasks
    SCHEDULE_STEPS.check(len(tasks) * runs, f"{len(tasks):,} steps for each of {runs:,} runs in flight")
    return samples_in_flight(tasks, runs, joined)


def inference_of(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    tried: Remembered | None = None,
    most: AtMost = UNBOUNDED,
) -> Schedule | None:
    """One inference of a placed graph, without its leakage.

    Args:
        graph: The graph.
        hardware: The machine.
        settle: How energy blocks settle.
        tried: Keeps it for `schedules_of`.
        most: None is found if a bound says that it takes more.
    """
    bounded = most.value < math.inf
    timed_alone = bounded and most.objective in TIMES
    if timed_alone and digital_seconds(graph, hardware) > most.value * (1 + ROUNDING):
        return None
    if bounded and (most.doubtful or most.objective != "analog"):
        # other objectives look at mappings that have little in common: uncut layers tell most of them apart
        uncut = inference_tasks(graph, hardware, settle, most_bands=1)
        if least_value(most.objective, uncut, hardware, chains=False, runs=most.runs) > most.value:
            return None
    tasks = inference_tasks(graph, hardware, settle)
    if bounded and least_value(most.objective, tasks, hardware, runs=most.runs) > most.value:
        return None
    return timed(flow_of(graph), hardware, tasks, ordered, tried)


def _following(schedule: Schedule, interval: Interval) -> Schedule:
    return structs.replace(
        schedule, interval_s=interval.seconds, interval_unit=interval.unit, interval_turns=interval.turns
    )


def _leaking(schedule: Schedule, leakage: float) -> Schedule:
    return structs.replace(schedule, leakage=leakage * schedule.makespan_s)


def twins_of(
    graph: Graph, hardware: Hardware, settle: Settle, plan: Scheduled, units: Mapping[str, str] | None = None
) -> dict[str, DigitalTwin]:
    """The digital twin of a placed graph, by data type; none where no digital unit runs some op of it.

    Args:
        graph: The graph.
        hardware: The machine.
        settle: How energy blocks settle.
        plan: The graph's own schedules.
        units: The group of digital units of each node; the first that runs its op unless given.
    """
    if any(hardware.units_for(node.op) is None for node in graph.nodes):
        return {}
    alone = _alone(graph, hardware, units)
    lists = TaskLists(alone, hardware, settle)
    names = {node.group for node in alone.nodes} | {hardware.host.name}
    groups = {group.name: group for group in hardware.digital if group.name in names}
    nodes = list(zip(graph.nodes, alone.nodes, strict=True))
    twins: dict[str, DigitalTwin] = {}
    for dtype in DTYPES:
        if all(group.arithmetic(dtype) is not None for group in groups.values()):
            same = dtype == "fp32" and all(ours.group == its.group for ours, its in nodes)
            job = _Job(alone, hardware, lists, plan.objective, plan.runs, priced, dtype)
            bill = _bill(job) if not same else None
            twins[dtype] = _twin(graph, plan, bill or _Bill(plan.inference, plan.training, plan.lines))
    return twins


@dataclass(frozen=True)
class _Bill:
    """Both schedules with their leakage, and their lines; no places in memories, no bounds, no interval."""

    inference: Schedule
    training: Schedule
    lines: dict[Total, Growth]


def _bill(job: _Job[Priced]) -> _Bill:
    """What a graph takes, digital work at the price of a data type."""
    flow = flow_of(job.graph)
    inference = job.inference(flow)
    plans = (inference, job.training(flow, inference).best.found)
    billed = _billed(job.hardware, plans, batch_of(job.graph) * job.runs)
    first, second = (_leaking(p.schedule, w) for p, w in zip(plans, billed.leaks, strict=True))
    return _Bill(first, second, billed.lines)


def totals_without_tiles(
    graph: Graph,
    hardware: Hardware,
    settle: Settle,
    wanted: Wanted,
    units: Mapping[str, str] | None = None,
) -> dict[Total, float] | None:
    """What the digital twin takes in the type that digital units compute in.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
        wanted: What is to be priced.
        units: The group of digital units of each node; the first that runs its op unless given.

    Returns:
        Seconds and joules by figure; None if no digital unit runs some op.
    """
    if any(hardware.units_for(node.op) is None for node in graph.nodes):
        return None
    first, second = priced_schedules(_alone(graph, hardware, units), hardware, settle, wanted)
    found: dict[Total, float] = {"inference_s": first.makespan_s, "inference_j": first.cost.energy}
    if wanted.training and second is not None:
        found |= {"training_s": second.makespan_s, "training_j": second.cost.energy}
    return found


def _alone(graph: Graph, hardware: Hardware, units: Mapping[str, str] | None) -> Graph:
    """The graph without tiles, each node in its group, or in the first of digital units that runs its op."""
    if units is None:
        first = {op: hardware.units_for(op) for op in {node.op for node in graph.nodes}}
        units = {n.name: group.name for n in graph.nodes if (group := first[n.op]) is not None}
    return without_tiles(graph, units)


def _twin(graph: Graph, plan: Scheduled, bill: _Bill) -> DigitalTwin:
    """A plan beside the bill of the machine without tiles."""
    better = {figure: below(line, bill.lines[figure]) for figure, line in plan.lines.items()}
    digital = _digital_work(graph, bill.inference)
    return DigitalTwin(
        inference_s=bill.inference.makespan_s,
        inference_j=bill.inference.cost.energy,
        training_s=bill.training.makespan_s,
        training_j=bill.training.cost.energy,
        better={figure: batches for figure, batches in better.items() if batches is not None},
        losing=_losing(graph, plan.inference, digital),
        blocks={block.name: digital[block.id] for block in graph.blocks},
    )


def without_tiles(graph: Graph, groups: Mapping[str, str]) -> Graph:
    """The graph with every node digital.

    Args:
        graph: The graph.
        groups: The group of digital units of each node, by name.
    """
    nodes = [replace(node, unit="digital", block=None, group=groups[node.name]) for node in graph.nodes]
    return replace(graph, nodes=nodes, blocks=[], parts={}, places={})


def _time(tasks: list[Task], schedule: Schedule, order: list[int], batch: int) -> Growth:
    """The makespan over the batch, along a chain of steps that fills it."""
    fixed = math.fsum(tasks[order[step]].fixed_s for step in filling_chain(schedule))
    return Growth(fixed, (schedule.makespan_s - fixed) / batch)


def _energy(tasks: list[Task], batch: int, time: Growth, leakage: float) -> Growth:
    """The energy over the batch: of all tasks, and so many watts of leakage all the time."""
    fixed = math.fsum(task.fixed_j for task in tasks)
    sample = (math.fsum(task.cost.energy for task in tasks) - fixed) / batch
    return Growth(fixed + leakage * time.fixed, sample + leakage * time.sample)


def below(ours: Growth, theirs: Growth) -> Batches | None:
    """The batches at which our line is below theirs."""
    if ours.sample == theirs.sample:
        return Batches(first=1) if ours.fixed < theirs.fixed else None
    cross = (ours.fixed - theirs.fixed) / (theirs.sample - ours.sample)
    if ours.sample < theirs.sample:
        return Batches(first=max(1, math.floor(cross) + 1))
    last = math.ceil(cross) - 1
    return Batches(first=1, last=last) if last >= 1 else None


def _digital_work(graph: Graph, schedule: Schedule) -> dict[int, tuple[float, float]]:
    """Seconds and joules that the nodes of each block take on digital units in one run."""
    digital = {block.id: (0.0, 0.0) for block in graph.blocks}
    owner = {node.name: node.block for node in graph.nodes}
    for step in schedule.steps:
        block = owner.get(step.name)
        if step.kind == "digital" and block is not None and step.sample == 0:
            seconds, joules = digital[block]
            digital[block] = (seconds + step.end_s - step.start_s, joules + step.cost.energy)
    return digital


def _losing(graph: Graph, ours: Schedule, digital: dict[int, tuple[float, float]]) -> tuple[str, ...]:
    """Blocks whose settling takes more time and more energy than their nodes do digitally."""
    bands: dict[int, list[Step]] = {block.id: [] for block in graph.blocks}
    for step in ours.steps:
        if step.kind == "free" and step.block is not None and not step.sample:
            bands[step.block].append(step)
    settling = {
        block: (
            one_after_the_other((step.free_s - step.start_s, step.lag) for step in steps),
            math.fsum(step.cost.energy for step in steps),
        )
        for block, steps in bands.items()
    }
    return tuple(
        block.name
        for block in graph.blocks
        if all(here > there for here, there in zip(settling[block.id], digital[block.id], strict=True))
    )
