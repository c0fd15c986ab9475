"""How many bands a layer has in a training step: as many as are best for what the mapping makes small.

More bands let more layers work at once, which shortens a step. They also keep more values alive at once, of
which more lie in far memories where near ones are small: these take energy, and their bandwidth keeps units
busy. So steps of fewer bands are tried too, and the best one is taken with all that memories add.

Where statistics of a batch join samples, layers wait for all rows, and many bands help little.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic

from ffebm.errors import ModelError, UsageError
from ffebm.hardware.description import Hardware
from ffebm.hardware.silicon import watts
from ffebm.mapping.search.goal import FOR_TIME, Measured, value_of
from ffebm.plan.mapping import Objective
from ffebm.plan.summary import engineering
from ffebm.scheduling.bands import (
    FEW_TRAINING_STEPS,
    MOST_STEPS,
    MOST_TRAINING_BANDS,
    MOST_TRAINING_STEPS,
)
from ffebm.scheduling.in_flight import Interval, first_of, interval_of
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.memory.planned import Found

NUMBERS = tuple(MOST_TRAINING_BANDS >> halved for halved in range(MOST_TRAINING_BANDS.bit_length()))
"""Bands of a layer that are tried, most first; 1 is layer by layer."""
FINER = 2 * MOST_TRAINING_BANDS
"""Bands of a layer that are tried where they make few steps, or where latency is asked for and steps are
left. Compiling takes longer, so the default objective does without where they make many."""
FINEST = 4 * MOST_TRAINING_BANDS
"""Bands of a layer that are tried first where nothing joins samples, in as many steps as an inference may
have: they shorten the steps of ViT-B/16 on `pimcomp` by 23 %, of Inception v1 on `hermes` by 10 %:
docs/scheduling.md."""
DIGITS = 9
"""Of a figure that count: sums in another order differ in their last ones."""


@dataclass(frozen=True)
class BandedStep(Generic[Found]):
    """A training step whose layers are cut into bands.

    Attributes:
        bands: Most bands of a layer.
        tasks: Before memories have their price.
        found: Its schedule with that.
        hardware: The machine.
        joined: Names of nodes that need all samples before they can work for one.
    """

    bands: int
    tasks: list[Task]
    found: Found
    hardware: Hardware
    joined: Collection[str]

    @property
    def streams(self) -> bool:
        """Whether anything is cut."""
        return any(task.rows is not None for task in self.tasks)

    @cached_property
    def used(self) -> int:
        """Bands of the layer that has most."""
        made = {
            (task.kind, task.name, task.rows)
            for task in self.tasks
            if task.rows is not None and task.kind != "transfer"
        }
        return max(Counter((kind, name) for kind, name, _ in made).values(), default=1)

    @property
    def slowed(self) -> bool:
        """Whether far memories make a step longer."""
        both = zip(self.found.tasks, self.tasks, strict=True)
        return any(priced.seconds > task.seconds for priced, task in both)

    @cached_property
    def interval(self) -> Interval:
        """What a further run adds."""
        return interval_of(first_of(self.found.tasks), self.joined)

    @cached_property
    def measured(self) -> Measured:
        """What it takes, leakage included."""
        schedule = self.found.schedule
        leakage = watts(self.hardware, schedule.units) * schedule.makespan_s
        return Measured(schedule.makespan_s, schedule.cost.energy + leakage, self.interval.seconds)

    def better_for(self, objective: Objective) -> tuple[float, float, float]:
        """What is less in a better cut: of equal ones the energy counts, then the time."""
        found = self.measured
        first, second, third = (
            float(f"{figure:.{DIGITS}g}")
            for figure in (value_of(objective, found), found.joules, found.seconds)
        )
        return first, second, third


@dataclass(frozen=True)
class BandChoice(Generic[Found]):
    """The cuts of a training step that were tried.

    Attributes:
        objective: What is to be small.
        cuts: With fewer and fewer bands.
    """

    objective: Objective
    cuts: tuple[BandedStep[Found], ...]

    @cached_property
    def best(self) -> BandedStep[Found]:
        """What is taken."""
        return min(self.cuts, key=lambda cut: cut.better_for(self.objective))

    def notes(self) -> Iterator[str]:
        """What was chosen, beside what else there was; nothing if there was no choice."""
        if len(self.cuts) > 1:
            others = "; ".join(_words(cut) for cut in self.cuts if cut is not self.best)
            yield f"training step cut for {self.objective}: {_words(self.best)}; not taken: {others}"


def _words(cut: BandedStep[Found]) -> str:
    """A cut with what it takes."""
    measured = cut.measured
    bands = "layer by layer" if cut.bands == 1 else f"up to {cut.bands} bands a layer"
    figures = f"{engineering(measured.seconds, 's')}, {engineering(measured.joules, 'J')}"
    return f"{bands} {figures}, a further sample {engineering(measured.interval, 's')}"


def cuts_to_try(
    objective: Objective, *, joined: bool, left: int, finer_steps: int, runs: int = 1
) -> list[tuple[int, int]]:
    """The cuts of a training step among which an objective chooses, finest first: bands of a layer, steps.

    Args:
        objective: What is to be small.
        joined: Something joins the samples.
        left: Steps that an inference leaves of those of a plan.
        finer_steps: About how many `FINER` bands would make, or half as many bands where nothing joins
            samples: up to `FEW_TRAINING_STEPS` all objectives try finer ones.
        runs: In flight, which have so many steps together.
    """
    cuts: list[tuple[int, int]] = []
    if not joined and MOST_STEPS // runs > FEW_TRAINING_STEPS:
        cuts.append((FINEST, MOST_STEPS // runs))
    asked = objective == "latency" and left > MOST_TRAINING_STEPS
    room = left if asked else FEW_TRAINING_STEPS
    if asked or finer_steps <= room:
        cuts.append((FINER, room))
    return [*cuts, *((bands, MOST_TRAINING_STEPS) for bands in NUMBERS)]


def tried_cuts(
    objective: Objective, cut: Callable[[int, int], BandedStep[Found]], cuts: Sequence[tuple[int, int]]
) -> BandChoice[Found]:
    """The best cut of a training step; what fits in no memory is left out, and what is a cut once more.

    Where time is to be small, fewer bands are tried only where far memories make steps longer, and as long as
    that helps: without these memories, what waits for a band has no reason to wait for a higher one (an
    assumption: a list schedule may happen to be shorter).

    Args:
        objective: What is to be small.
        cut: Makes a training step whose layers have up to so many bands, in up to so many steps.
        cuts: What to try, finest first.

    Raises:
        ModelError: If that takes more steps than a schedule may have, layer by layer too.
        UsageError: If something fits in no memory, layer by layer too.
    """
    found: list[BandedStep[Found]] = []
    for bands, steps in cuts:
        last = found[-1] if found else None
        if last is not None and (not last.streams or (objective in FOR_TIME and not last.slowed)):
            break
        if last is not None and last.used <= bands and len(last.tasks) <= steps:
            continue
        try:
            found.append(cut(bands, steps))
        except (ModelError, UsageError):
            if (bands, steps) == cuts[-1] and not found:
                raise
            continue
        if last is not None and objective in FOR_TIME and _as_good(last, found[-1], objective):
            break
    return BandChoice(objective, tuple(found))


def _as_good(one: BandedStep[Found], other: BandedStep[Found], objective: Objective) -> bool:
    return one.better_for(objective) <= other.better_for(objective)
