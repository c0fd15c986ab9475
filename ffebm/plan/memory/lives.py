"""How long what steps read and write must stay: from its first write to its last read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffebm.plan.memory.accesses import Access, Beside, accesses, nothing_beside
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.held import GIVEN, HOST, Held
from ffebm.plan.schedule import Step

BEFORE = GIVEN
"""In the place of the first step: it is there from the start."""


@dataclass(frozen=True)
class Life:
    """How long something stays.

    Attributes:
        first: Id of the step that writes it first; `BEFORE` if it is there from the start.
        last: Id of the last step that reads or writes it; the number of steps if it stays to the end.
    """

    first: int
    last: int


def moments(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Order of all begins and ends: for each step when it begins and ends, as positions from 0.

    At one time, what ends comes first, then steps that take no time, in their order, then what begins: a step
    may put what it makes where a step that has just ended found what it read.
    """
    ids = np.array([step.id for step in steps], dtype=np.int64)
    times = np.array([(step.start_s, step.end_s) for step in steps]).reshape(-1, 2)
    instant = times[:, 0] == times[:, 1]
    ranks = np.where(instant[:, None], 1, np.array([2, 0]))
    events = 2 * ids[:, None] + np.array([0, 1])
    order = np.lexsort((events.ravel(), ranks.ravel(), times.ravel()))
    found = np.empty(len(order), dtype=np.int64)
    found[events.ravel()[order]] = np.arange(len(order))
    return list(zip(found[::2].tolist(), found[1::2].tolist(), strict=True))


def lives(flow: Dataflow, steps: Sequence[Step], beside: Beside = nothing_beside) -> dict[Held, Life]:
    """Lives of all that steps read and write, in the order of their first writes.

    Args:
        flow: What nodes and blocks read and make.
        steps: Of one schedule.
        beside: What lies in memories beside tiles.
    """
    return lives_of(flow, steps, accesses(flow, steps, beside), moments(steps))


def lives_of(
    flow: Dataflow, steps: Sequence[Step], accessed: Sequence[Access], at: Sequence[tuple[int, int]]
) -> dict[Held, Life]:
    """The same from what each step is known to read and write, and the moments of steps.

    Outputs of a model stay to the end of an inference; a training step is done with them after its loss.
    """
    runs = range(1 + max((step.sample for step in steps), default=0))
    first = {Held("value", value, sample=run): BEFORE for run in runs for value in flow.inputs}
    last = dict(first)
    for step, access in zip(steps, accessed, strict=True):
        for held in (*access.writes, *access.begins):
            known = first.get(held)
            if known is None or (known != BEFORE and at[step.id][0] < at[known][0]):
                first[held] = step.id
        for held in (*access.writes, *access.begins, *access.reads, *access.needs):
            known = last.get(held, BEFORE)
            if known == BEFORE or at[step.id][1] > at[known][1]:
                last[held] = step.id
    if not any(step.kind == "loss" for step in steps):
        names = {flow.seen(value) for value in flow.outputs}
        kept = [held for held in first if held.content == "value" and held.name in names]
        carried = {held.name for held in kept if held.at == HOST}
        last |= {held: len(steps) for held in kept if held.at == HOST or held.name not in carried}
    return {held: Life(begin, last[held]) for held, begin in first.items()}


def spans(at: Sequence[tuple[int, int]], lived: Sequence[Life]) -> list[tuple[int, int]]:
    """Lives as moments, from those of steps: the begin of the first step and the end of the last."""
    begins = {BEFORE: -1, **{number: begin for number, (begin, _) in enumerate(at)}}
    ends = {BEFORE: -1, len(at): 2 * len(at), **{number: end for number, (_, end) in enumerate(at)}}
    return [(begins[life.first], ends[life.last]) for life in lived]
