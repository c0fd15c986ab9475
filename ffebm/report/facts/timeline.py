"""Timeline: a schedule as columns, with its critical path, what each unit does, and how layers are cut."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import msgspec

from ffebm.plan.memory.held import Rows
from ffebm.plan.memory.work import waits_for_units
from ffebm.plan.schedule import Cost, Schedule, Step, StepKind
from ffebm.report.units import unit_order
from ffebm.scheduling.list_schedule import filling_chain

T = TypeVar("T")
OF_BLOCKS = frozenset({"free", "nudged", "contrast"})
OF_NODES = frozenset({"digital", "digital_backward"})
"""What a layer does itself; others carry, compare with the target, and write weights."""


@dataclass(frozen=True)
class LayerBands:
    """How a layer is cut, and how much it limits a schedule.

    Attributes:
        name: The energy block or digital node; "" for transfers, the loss and updates together.
        bands: Its bands on the way forward: steps of one sample.
        rows: Rows of the highest one; 0: it is done at once.
        start_s: When the first one starts, seconds.
        end_s: When the last one ends, seconds.
        limits_s: Its part of a chain of steps without a gap that fills the makespan, seconds.
    """

    name: str
    bands: int
    rows: int
    start_s: float
    end_s: float
    limits_s: float


class Timeline(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A schedule, one column a property, so that many thousand steps stay small.

    Attributes:
        kinds: What steps do; `kind` counts into it.
        names: What they are done to; `name` counts into it.
        units: Rows of the timeline: digital units, the network, tiles; `unit_sets` count into it.
        unit_sets: Different sets of units that steps occupy; `unit` counts into it.
        costs: Different costs of a step; `cost` counts into it.
        bands: Different bands of rows; `band` counts into it.
        kind: Of each step.
        name: Of each step.
        unit: The set of units that each step occupies.
        band: Rows that each step makes or moves.
        sample: Which of the runs in flight each step works for.
        start_s: Start of each step, seconds, to a millionth of the shortest step.
        lengths_s: Seconds that steps take, each once, rounded in the same way; `length` counts into it.
        length: How long each takes.
        lags_s: Seconds at the end of steps in which their units are free already, each once; `lag` counts
            into it.
        lag: Of each step.
        fused: The digital nodes that steps do before the one that they name, by that one's name.
        after: Steps that each step waits for.
        cost: Of each step.
        critical: Steps of the longest chain that wait for each other, in order.
        filling: Steps of a chain without a gap that fills the makespan, in order.
        busy_s: Seconds that each unit works.
        makespan_s: End of the last step, seconds.
        critical_path_s: Length of that chain, seconds.
        busiest_unit: The unit that works longest.
        lower_bound_s: No schedule is shorter, seconds.
        lower_bound: What makes it so long, in words.
        interval_s: At which samples can follow each other, seconds.
        interval_limit: What limits it, in words.
        interval_turns: What takes turns on units that it shares, where that limits it.
        ratio: Makespan over lower bound.
        total: Cost of all steps.
        energy: Its joules.
    """

    kinds: tuple[StepKind, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    unit_sets: tuple[tuple[int, ...], ...]
    costs: tuple[Cost, ...]
    bands: tuple[Rows | None, ...]
    kind: tuple[int, ...]
    name: tuple[int, ...]
    unit: tuple[int, ...]
    band: tuple[int, ...]
    sample: tuple[int, ...]
    start_s: tuple[float, ...]
    lengths_s: tuple[float, ...]
    length: tuple[int, ...]
    lags_s: tuple[float, ...]
    lag: tuple[int, ...]
    fused: dict[str, tuple[str, ...]]
    after: tuple[tuple[int, ...], ...]
    cost: tuple[int, ...]
    critical: tuple[int, ...]
    filling: tuple[int, ...]
    busy_s: tuple[float, ...]
    makespan_s: float
    critical_path_s: float
    busiest_unit: str
    lower_bound_s: float
    lower_bound: str
    interval_s: float
    interval_limit: str
    interval_turns: tuple[str, ...]
    ratio: float
    total: Cost
    energy: float

    @cached_property
    def end_s(self) -> tuple[float, ...]:
        """End of each step, seconds."""
        taken = (self.lengths_s[length] for length in self.length)
        return tuple(start + length for start, length in zip(self.start_s, taken, strict=True))

    @cached_property
    def free_s(self) -> tuple[float, ...]:
        """When the units of each step are free, seconds."""
        return tuple(end - self.lags_s[lag] for end, lag in zip(self.end_s, self.lag, strict=True))

    def along_critical(self) -> Iterator[tuple[int, float]]:
        """Steps of the longest chain, and how long the next one has to wait: for its end, or its units."""
        for step, behind in zip(self.critical, [*self.critical[1:], None], strict=True):
            here = self._timed(step)
            early = behind is not None and waits_for_units(self._timed(behind), here)
            yield step, here.seconds - (here.lag if early else 0.0)

    def along_filling(self) -> Iterator[tuple[int, float]]:
        """Steps of the chain without a gap, and how long the next one waits for each."""
        for step, behind in zip(self.filling, [*self.filling[1:], None], strict=True):
            lag = self.lags_s[self.lag[step]]
            early = lag > 0.0 and behind is not None and self.start_s[behind] < self.end_s[step] - lag / 2
            yield step, self.end_s[step] - self.start_s[step] - (lag if early else 0.0)

    def _timed(self, step: int) -> "_Timed":
        """One step."""
        return _Timed(
            kind=self.kinds[self.kind[step]],
            name=self.names[self.name[step]],
            rows=self.bands[self.band[step]],
            sample=self.sample[step],
            seconds=self.end_s[step] - self.start_s[step],
            lag=self.lags_s[self.lag[step]],
        )


@dataclass(frozen=True)
class _Timed:
    """A step, as far as it says what waits for it, and how long."""

    kind: StepKind
    name: str
    rows: Rows | None
    sample: int
    seconds: float
    lag: float


def timeline(schedule: Schedule) -> Timeline:
    """A schedule as columns."""
    steps = schedule.steps
    kinds = _numbers([step.kind for step in steps])
    names = _numbers([step.name for step in steps])
    units = {unit: n for n, unit in enumerate(sorted({u for s in steps for u in s.units}, key=unit_order))}
    sets = _numbers([step.units for step in steps])
    costs = _numbers([step.cost for step in steps])
    bands = _numbers([step.rows for step in steps])
    busy = [0.0] * len(units)
    for step in steps:
        for unit in step.units:
            busy[units[unit]] += step.free_s - step.start_s
    decimals = _decimals(steps)
    lengths = _rounded([step.end_s - step.start_s for step in steps], decimals)
    different = _numbers(list(lengths))
    lags = _rounded([step.lag for step in steps], decimals)
    different_lags = _numbers(list(lags))
    total = schedule.cost
    return Timeline(
        kinds=tuple(kinds),
        names=tuple(names),
        units=tuple(units),
        unit_sets=tuple(tuple(units[unit] for unit in some) for some in sets),
        costs=tuple(costs),
        bands=tuple(bands),
        kind=tuple(kinds[step.kind] for step in steps),
        name=tuple(names[step.name] for step in steps),
        unit=tuple(sets[step.units] for step in steps),
        band=tuple(bands[step.rows] for step in steps),
        sample=tuple(step.sample for step in steps),
        start_s=_rounded([step.start_s for step in steps], decimals),
        lengths_s=tuple(different),
        length=tuple(different[length] for length in lengths),
        lags_s=tuple(different_lags),
        lag=tuple(different_lags[lag] for lag in lags),
        fused={step.name: step.fused for step in steps if step.fused},
        after=tuple(step.after for step in steps),
        cost=tuple(costs[step.cost] for step in steps),
        critical=critical_path(schedule),
        filling=tuple(reversed(filling_chain(schedule))),
        busy_s=tuple(busy),
        makespan_s=schedule.makespan_s,
        critical_path_s=schedule.critical_path_s,
        busiest_unit=schedule.busiest_unit,
        lower_bound_s=schedule.lower_bound_s,
        lower_bound=schedule.lower_bound,
        interval_s=schedule.interval_s,
        interval_limit=schedule.interval_limit,
        interval_turns=schedule.interval_turns,
        ratio=schedule.ratio,
        total=total,
        energy=total.energy,
    )


def layer_bands(line: Timeline) -> Iterator[LayerBands]:
    """How each layer is cut, in order of their starts; what is of no layer last, if it limits anything."""
    forward: dict[tuple[bool, str], list[int]] = {}
    for step, kind in enumerate(line.kind):
        if line.kinds[kind] in {"digital", "free"} and not line.sample[step]:
            forward.setdefault(_layer(line, step), []).append(step)
    limits: dict[tuple[bool, str], float] = defaultdict(float)
    for step, seconds in line.along_filling():
        limits[_layer(line, step)] += seconds
    for layer, steps in forward.items():
        rows = [line.bands[line.band[step]] for step in steps]
        yield LayerBands(
            name=layer[1],
            bands=len(steps),
            rows=max(0 if band is None else band[1] - band[0] for band in rows),
            start_s=line.start_s[steps[0]],
            end_s=max(line.end_s[step] for step in steps),
            limits_s=limits.pop(layer, 0.0),
        )
    rest = sum(limits.values())
    if rest:
        yield LayerBands(name="", bands=0, rows=0, start_s=0.0, end_s=0.0, limits_s=rest)


def _layer(line: Timeline, step: int) -> tuple[bool, str]:
    """Whether a step is done for a block, and its name; nameless if it is done for no layer."""
    kind, name = line.kinds[line.kind[step]], line.names[line.name[step]]
    if kind in OF_BLOCKS:
        return True, name.removesuffix(" +beta").removesuffix(" -beta")
    return False, name if kind in OF_NODES else ""


def critical_path(schedule: Schedule) -> tuple[int, ...]:
    """Ids of the steps of the longest chain that wait for each other, in order.

    Of chains of equal length the one through the earliest steps is taken.
    """
    length: dict[int, float] = {}
    before: dict[int, int] = {}
    for step in sorted(schedule.steps, key=lambda step: (step.start_s, step.end_s, step.id)):
        ready = {other: _until(schedule.steps[other], step, length) for other in step.after}
        best = max(ready, key=lambda other: (ready[other], -other), default=-1)
        before[step.id] = best
        length[step.id] = ready.get(best, 0.0) + step.seconds
    last = max(length, key=lambda step: (length[step], -step), default=-1)
    chain = []
    while last >= 0:
        chain.append(last)
        last = before[last]
    return tuple(reversed(chain))


def _until(before: Step, step: Step, length: dict[int, float]) -> float:
    """Length of the longest chain up to when a step lets another one start."""
    return length.get(before.id, 0.0) - (before.lag if waits_for_units(step, before) else 0.0)


def _decimals(steps: Sequence[Step]) -> int | None:
    """Decimals of times that tell a millionth of the shortest step; None if no step takes time.

    The last digits of sums make a tenth of the columns, and are seen nowhere.
    """
    shortest = min((step.end_s - step.start_s for step in steps if step.end_s > step.start_s), default=0.0)
    return math.ceil(6 - math.log10(shortest)) if shortest else None


def _rounded(times: Sequence[float], decimals: int | None) -> tuple[float, ...]:
    return tuple(times) if decimals is None else tuple(round(time, decimals) for time in times)


def _numbers(entries: list[T]) -> dict[T, int]:
    """Different entries with their positions, in order of first use."""
    return {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
