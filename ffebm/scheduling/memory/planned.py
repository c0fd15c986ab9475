"""A schedule whose values have a place: buffers with offsets, and the cost of those that lie farther away.

Each value wants the nearest memory of the unit that makes it. What does not fit there lies in the next one,
and costs what `pricing` says. What fits in none is refused. Steps that take longer move others, and with them
lives; so the schedule is made again until nothing more has to leave.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import DataType
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.levels import capacity, levels_of, scratchpads
from ffebm.plan.memory.memory_plan import Buffer, MemoryPlan
from ffebm.plan.schedule import Schedule
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.memory.places import Places
from ffebm.scheduling.memory.pricing import Pricing

KEPT = 4
"""Schedules that are kept of those that were looked at: large graphs try no more, small ones are quick."""
Scheduler = Callable[[list[Task]], tuple[Schedule, list[int]]]
"""Gives the schedule of tasks, and the position of each step's task in the list."""


@dataclass(frozen=True)
class Priced:
    """A schedule whose values all have a place.

    Attributes:
        tasks: With what far values add to them.
        schedule: Theirs.
        order: The position of each step's task in the list.
        places: Where they lie.
    """

    tasks: list[Task]
    schedule: Schedule
    order: list[int]
    places: Places


@dataclass(frozen=True)
class Planned(Priced):
    """A schedule with a place for every value.

    Attributes:
        memory: Where values lie.
    """

    memory: MemoryPlan


@dataclass
class Remembered:
    """Schedules of mappings that were looked at, of which one is taken in the end.

    Attributes:
        kept: The last of them: the dataflow, the tasks before memories have their price, what orders them,
            and what was found.
    """

    kept: deque[tuple[Dataflow, list[Task], Scheduler, Priced]] = field(
        default_factory=lambda: deque(maxlen=KEPT)
    )

    def take(self, flow: Dataflow, tasks: list[Task], scheduler: Scheduler) -> Priced | None:
        """What was found for the same tasks; it is not kept, as it may be changed now."""
        for number, (other, same, by, found) in enumerate(self.kept):
            if by == scheduler and same == tasks and other == flow:
                del self.kept[number]
                return found
        return None


Found = TypeVar("Found", bound=Priced)
Fit = Callable[[Dataflow, Hardware, list[Task], Scheduler, DataType], Found]
"""Gives tasks a time, and a place to what they read and write: `planned` or `priced`."""


def planned(
    flow: Dataflow,
    hardware: Hardware,
    tasks: list[Task],
    scheduler: Scheduler,
    dtype: DataType = "fp32",
    tried: Remembered | None = None,
) -> Planned:
    """Schedule tasks, and find a place for all that they read and write.

    Args:
        flow: What nodes and blocks read and make.
        hardware: The machine.
        tasks: What is done.
        scheduler: Gives each a time.
        dtype: Of which type values are.
        tried: What was looked at before, in fp32.

    Raises:
        UsageError: If something fits in no memory.
    """
    return settled(_first_found(flow, hardware, tasks, scheduler, dtype, tried), tasks, scheduler)


def _first_found(
    flow: Dataflow,
    hardware: Hardware,
    tasks: list[Task],
    scheduler: Scheduler,
    dtype: DataType,
    tried: Remembered | None,
) -> Priced:
    """What was found before, or what is now."""
    found = tried.take(flow, tasks, scheduler) if tried is not None and dtype == "fp32" else None
    return _fitting(Places(flow, hardware, dtype), tasks, scheduler) if found is None else found


def settled(found: Priced, tasks: list[Task], scheduler: Scheduler) -> Planned:
    """What has a price with a place for everything.

    Args:
        found: The schedule.
        tasks: Before memories have their price.
        scheduler: Gives each a time.

    Raises:
        UsageError: If something fits in no memory.
    """
    while not found.places.settle():
        found = _fitting(found.places, tasks, scheduler)
    return Planned(found.tasks, found.schedule, found.order, found.places, _plan(found.places))


def priced(
    flow: Dataflow,
    hardware: Hardware,
    tasks: list[Task],
    scheduler: Scheduler,
    dtype: DataType = "fp32",
    tried: Remembered | None = None,
) -> Priced:
    """The same without offsets: whether all has a place is asked, the best one is not looked for.

    Args:
        flow: What nodes and blocks read and make.
        hardware: The machine.
        tasks: What is done.
        scheduler: Gives each a time.
        dtype: Of which type values are.
        tried: What was looked at before, in fp32.

    Raises:
        UsageError: If something fits in no memory.
    """
    found = first = _first_found(flow, hardware, tasks, scheduler, dtype, tried)
    while not found.places.fits():
        found = _fitting(found.places, tasks, scheduler)
    if tried is not None and dtype == "fp32" and found is first:  # it is as it was
        tried.kept.append((flow, tasks, scheduler, found))
    return found


def timed(
    flow: Dataflow,
    hardware: Hardware,
    tasks: list[Task],
    scheduler: Scheduler,
    tried: Remembered | None = None,
) -> Schedule:
    """The schedule alone, in fp32; at once where all values together fit beside the digital units.

    Args:
        flow: What nodes and blocks read and make.
        hardware: The machine.
        tasks: What is done.
        scheduler: Gives each a time.
        tried: Keeps what was found, where that took long.

    Raises:
        UsageError: If something fits in no memory.
    """
    near = {levels_of(hardware, f"digital{number}")[0] for number in range(hardware.unit_count)}
    shared = len(near) == 1 and not any(scratchpads(hardware, block.group) for block in flow.blocks)
    room = min(capacity(level.memory) for level in near)
    if shared and sum(flow.elements.values()) * hardware.host.fp32.value_bits <= 8 * room:
        return scheduler(tasks)[0]
    found = _fitting(Places(flow, hardware, "fp32"), tasks, scheduler)
    if tried is not None:
        tried.kept.append((flow, tasks, scheduler, found))
    return found.schedule


def _fitting(places: Places, tasks: list[Task], scheduler: Scheduler) -> Priced:
    """Priced tasks, their schedule and its order, when as much as fits is near by."""
    places.take(tasks)
    schedule, order = scheduler(tasks)
    places.read(schedule.steps, order)
    pricing = Pricing(places)
    priced = pricing.tasks(tasks)
    if priced is not tasks:  # memories beside tiles, and what is far already, have a price of their own
        schedule, order = scheduler(priced)
        places.read(schedule.steps, order)
    while moved := places.crowd_out():
        places.read(schedule.steps, order)  # what has left the tiles is called otherwise
        priced = pricing.again(tasks, priced, moved)
        schedule, order = scheduler(priced)
        places.read(schedule.steps, order)
    return Priced(priced, schedule, order, places)


def _plan(places: Places) -> MemoryPlan:
    """What a plan says of them."""
    buffers = tuple(
        Buffer(
            content=held.content,
            name=held.name,
            at=held.at,
            rows=held.rows,
            sample=held.sample,
            memory=places.level(held).memory.name,
            unit=places.level(held).unit,
            offset=places.offsets[held],
            size=places.sizes.each(held),
            first=life.first,
            last=life.last,
        )
        for held, life in places.lives.items()
    )
    return MemoryPlan(
        uses=tuple(places.uses),
        buffers=buffers,
        spills=tuple(Pricing(places).spills()),
        unsized=tuple(name for name, count in places.flow.elements.items() if not count),
    )
