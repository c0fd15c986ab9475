"""A schedule whose values have a place: buffers with offsets, and the cost of those that lie farther away.

Each value wants the nearest memory of the unit that makes it. What does not fit there lies in the next one,
and costs what `pricing` says. What fits in none is refused. Steps that take longer move others, and with them
lives; so the schedule is made again until nothing more has to leave.
"""

from collections.abc import Callable
from dataclasses import dataclass
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

Scheduler = Callable[[list[Task]], tuple[Schedule, list[int]]]
"""Gives the schedule of tasks, and the position of each step's task in the list."""


@dataclass(frozen=True)
class Priced:
    """A schedule whose values all have a place.

    Attributes:
        tasks: With what far values add to them.
        schedule: Theirs.
        order: The position of each step's task in the list.
    """

    tasks: list[Task]
    schedule: Schedule
    order: list[int]


@dataclass(frozen=True)
class Planned(Priced):
    """A schedule with a place for every value.

    Attributes:
        memory: Where values lie.
    """

    memory: MemoryPlan


Found = TypeVar("Found", bound=Priced)
Fit = Callable[[Dataflow, Hardware, list[Task], Scheduler, DataType], Found]
"""Gives tasks a time, and a place to what they read and write: `planned` or `priced`."""


def planned(
    flow: Dataflow, hardware: Hardware, tasks: list[Task], scheduler: Scheduler, dtype: DataType = "fp32"
) -> Planned:
    """Schedule tasks, and find a place for all that they read and write.

    Args:
        flow: What nodes and blocks read and make.
        hardware: The machine.
        tasks: What is done.
        scheduler: Gives each a time.
        dtype: Of which type values are.

    Raises:
        UsageError: If something fits in no memory.
    """
    places = Places(flow, hardware, dtype)
    found = _fitting(places, tasks, scheduler)
    while not places.settle():
        found = _fitting(places, tasks, scheduler)
    return Planned(*found, _plan(places))


def priced(
    flow: Dataflow, hardware: Hardware, tasks: list[Task], scheduler: Scheduler, dtype: DataType = "fp32"
) -> Priced:
    """The same without offsets: whether all has a place is asked, the best one is not looked for.

    Args:
        flow: What nodes and blocks read and make.
        hardware: The machine.
        tasks: What is done.
        scheduler: Gives each a time.
        dtype: Of which type values are.

    Raises:
        UsageError: If something fits in no memory.
    """
    places = Places(flow, hardware, dtype)
    found = _fitting(places, tasks, scheduler)
    while not places.fits():
        found = _fitting(places, tasks, scheduler)
    return Priced(*found)


def timed(flow: Dataflow, hardware: Hardware, tasks: list[Task], scheduler: Scheduler) -> Schedule:
    """The schedule alone, in fp32; at once where all values together fit beside the digital units.

    Raises:
        UsageError: If something fits in no memory.
    """
    near = {levels_of(hardware, f"digital{number}")[0] for number in range(hardware.unit_count)}
    shared = len(near) == 1 and not any(scratchpads(hardware, block.group) for block in flow.blocks)
    room = min(capacity(level.memory) for level in near)
    if shared and sum(flow.elements.values()) * hardware.host.fp32.value_bits <= 8 * room:
        return scheduler(tasks)[0]
    return _fitting(Places(flow, hardware, "fp32"), tasks, scheduler)[1]


def _fitting(
    places: Places, tasks: list[Task], scheduler: Scheduler
) -> tuple[list[Task], Schedule, list[int]]:
    """Priced tasks, their schedule and its order, when as much as fits is near by."""
    schedule, order = scheduler(tasks)
    places.read(schedule.steps)
    priced = Pricing(places).tasks(tasks, order)
    if priced is not tasks:  # memories beside tiles, and what is far already, have a price of their own
        schedule, order = scheduler(priced)
        places.read(schedule.steps)
    while places.crowd_out():
        places.read(schedule.steps)  # what has left the tiles is called otherwise
        priced = Pricing(places).tasks(tasks, order)
        schedule, order = scheduler(priced)
        places.read(schedule.steps)
    return priced, schedule, order


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
