"""Timeline: a schedule as columns, with its critical path and what each unit does."""

from typing import TypeVar

import msgspec

from ffebm.plan.schedule import Cost, Schedule, StepKind

T = TypeVar("T")


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule, one column a property, so that many thousand steps stay small.

    Attributes:
        kinds: What steps do; `kind` counts into it.
        names: What they are done to; `name` counts into it.
        units: Rows of the timeline: digital units, the network, tiles; `unit` counts into it.
        costs: Different costs of a step; `cost` counts into it.
        kind: Of each step.
        name: Of each step.
        unit: Units that each step occupies.
        sample: Which of the runs in flight each step works for.
        start_s: Start of each step, seconds.
        end_s: End of each step, seconds.
        after: Steps that each step waits for.
        cost: Of each step.
        critical: Steps of the longest chain that wait for each other, in order.
        busy_s: Seconds that each unit works.
        makespan_s: End of the last step, seconds.
        critical_path_s: Length of that chain, seconds.
        busiest_unit: The unit that works longest.
        lower_bound_s: No schedule is shorter, seconds.
        lower_bound: What makes it so long, in words.
        interval_s: At which samples can follow each other, seconds.
        interval_unit: The unit that limits it.
        ratio: Makespan over lower bound.
        total: Cost of all steps.
        energy: Its joules.
    """

    kinds: tuple[StepKind, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    costs: tuple[Cost, ...]
    kind: tuple[int, ...]
    name: tuple[int, ...]
    unit: tuple[tuple[int, ...], ...]
    sample: tuple[int, ...]
    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    after: tuple[tuple[int, ...], ...]
    cost: tuple[int, ...]
    critical: tuple[int, ...]
    busy_s: tuple[float, ...]
    makespan_s: float
    critical_path_s: float
    busiest_unit: str
    lower_bound_s: float
    lower_bound: str
    interval_s: float
    interval_unit: str
    ratio: float
    total: Cost
    energy: float


def timeline(schedule: Schedule) -> Timeline:
    """A schedule as columns."""
    steps = schedule.steps
    kinds = _numbers([step.kind for step in steps])
    names = _numbers([step.name for step in steps])
    units = {unit: n for n, unit in enumerate(sorted({u for s in steps for u in s.units}, key=_row))}
    costs = _numbers([step.cost for step in steps])
    busy = [0.0] * len(units)
    for step in steps:
        for unit in step.units:
            busy[units[unit]] += step.end_s - step.start_s
    total = schedule.cost
    return Timeline(
        kinds=tuple(kinds),
        names=tuple(names),
        units=tuple(units),
        costs=tuple(costs),
        kind=tuple(kinds[step.kind] for step in steps),
        name=tuple(names[step.name] for step in steps),
        unit=tuple(tuple(units[unit] for unit in step.units) for step in steps),
        sample=tuple(step.sample for step in steps),
        start_s=tuple(step.start_s for step in steps),
        end_s=tuple(step.end_s for step in steps),
        after=tuple(step.after for step in steps),
        cost=tuple(costs[step.cost] for step in steps),
        critical=critical_path(schedule),
        busy_s=tuple(busy),
        makespan_s=schedule.makespan_s,
        critical_path_s=schedule.critical_path_s,
        busiest_unit=schedule.busiest_unit,
        lower_bound_s=schedule.lower_bound_s,
        lower_bound=schedule.lower_bound,
        interval_s=schedule.interval_s,
        interval_unit=schedule.interval_unit,
        ratio=schedule.ratio,
        total=total,
        energy=total.energy,
    )


def critical_path(schedule: Schedule) -> tuple[int, ...]:
    """Ids of the steps of the longest chain that wait for each other, in order.

    Of chains of equal length the one through the earliest steps is taken.
    """
    length: dict[int, float] = {}
    before: dict[int, int] = {}
    for step in sorted(schedule.steps, key=lambda step: (step.start_s, step.end_s, step.id)):
        best = max(step.after, key=lambda other: (length.get(other, 0.0), -other), default=-1)
        before[step.id] = best
        length[step.id] = length.get(best, 0.0) + step.end_s - step.start_s
    last = max(length, key=lambda step: (length[step], -step), default=-1)
    chain = []
    while last >= 0:
        chain.append(last)
        last = before[last]
    return tuple(reversed(chain))


def _numbers(entries: list[T]) -> dict[T, int]:
    """Different entries with their positions, in order of first use."""
    return {entry: number for number, entry in enumerate(dict.fromkeys(entries))}


def _row(unit: str) -> tuple[int, int]:
    """Digital units first, then the network, then cores and tiles, each by number."""
    number = unit.lstrip("abcdefghijklmnopqrstuvwxyz")
    return ("digital", "network", "core", "tile").index(unit.removesuffix(number)), int(number or 0)
