"""Works through the points of an exploration, in this process or in several."""

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

import msgspec

from ffebm.collection import collecting_later
from ffebm.compiler.variants import Variant, Variants
from ffebm.errors import FfebmError, HardwareError, InternalError, UsageError
from ffebm.exploration.figures import figures_of, summary_of, with_each
from ffebm.exploration.ledger import Claim, Entry, ExplorationSetup, Ledger
from ffebm.exploration.machine import located
from ffebm.exploration.metric import Metric
from ffebm.exploration.request import Request, digest_of
from ffebm.hardware.description import load_hardware

LOOK_S = 0.2
"""How often it is looked what others have done."""
POINTS_UNCOLLECTED = 20
"""Points after which a process looks for cycles of objects: each leaves a few hundred objects in some, and a
look at all objects takes as long as a tenth of a point of ResNet-50."""


@dataclass(frozen=True)
class Exploration:
    """An exploration in a folder.

    Attributes:
        request: What is asked for.
    """

    request: Request

    @cached_property
    def variants(self) -> Variants:
        """The model, read once."""
        return Variants(self.request.model, self.request.settings["dims"], self.request.passes)

    @cached_property
    def ledger(self) -> Ledger:
        """Who does what, and what was found."""
        return Ledger(self.request.folder, self._setup(), self.request.grid, self.request.search)

    def _setup(self) -> ExplorationSetup:
        request = self.request
        names = next((k.values for k in request.knobs if "hardware" in k.key.split("+")), (request.hardware,))
        options: dict[str, Any] = msgspec.to_builtins(dict(request.settings))
        settling: dict[str, Any] = msgspec.to_builtins(request.settle)
        asked = {**options, **settling, "batch": request.batch, "passes": list(request.passes)}
        return ExplorationSetup(
            model=self.variants.source.digest,
            hardware={str(name): digest_of(load_hardware(str(name))) for name in names},
            options=asked,
            knobs={knob.key: list(knob.values) for knob in request.knobs},
            front=list(request.front),
            sampler=request.sampler,
            seed=request.seed,
            metric=_plain(request.metric),
            figures=",".join(request.parts),
        )

    def open(self) -> None:
        """Read the model and open the ledger.

        Raises:
            ModelError: If the model cannot be read, or lacks weights that are measured.
            UsageError: If the folder holds something else, or the disk refuses.
        """
        if self.request.metric is not None:
            self.variants.needs_weights()
        assert self.ledger

    def work(self, told: Callable[[int], None] = lambda done: None) -> None:
        """Do what nobody else does, until all points are done.

        Args:
            told: Called after each point with how many are done, those of others too.
        """
        with self.ledger.working(), collecting_later():
            claimed = 0
            while True:
                claim = self.ledger.claim()
                if claim is not None:
                    self._do(claim)
                    claimed += 1
                    if claimed % POINTS_UNCOLLECTED == 0:
                        gc.collect()
                elif self.ledger.is_finished():
                    return
                else:
                    time.sleep(LOOK_S)  # others are at it; should one be killed, its point is claimed again
                told(self.ledger.done())

    def _do(self, claim: Claim) -> None:
        """Find the figures of a point, or why it has none."""
        try:
            variant = self.request.variant(claim.point, self.variants.pass_names)
            price = self.variants.price(variant)
            figures = figures_of(price)
            if self.request.metric is not None:
                figures[self.request.metric.figure] = self._measured(variant, self.request.metric)
        except InternalError:
            raise
        except HardwareError as error:
            self.ledger.refuse(claim, located(error, self.request.hardware))
        except FfebmError as error:
            self.ledger.refuse(claim, str(error))
        else:
            self.ledger.finish(claim, figures, summary_of(price))

    def _measured(self, variant: Variant, metric: Metric) -> float:
        """A figure that needs the weights, and data."""
        from ffebm.exploration.measured import measured  # loads torch, which prices do without

        return measured(self.variants.plan(variant), metric)

    def entries(self) -> list[Entry]:
        """What was found, in the order of the grid.

        Raises:
            UsageError: If no point could be compiled.
        """
        entries = self.ledger.entries()
        if entries and all(entry.refused for entry in entries):
            raise UsageError(
                f"none of {len(entries)} points could be compiled; the first one says: {entries[0].refused}"
            )
        return [self._whole(entry) for entry in entries]

    def _whole(self, entry: Entry) -> Entry:
        """An entry with the figures that ledgers did not hold before there were any of each inference."""
        if entry.figures is None:
            return entry
        return replace(entry, figures=with_each(entry.figures, self.request.runs(entry.point)))


def _plain(metric: Metric | None) -> dict[str, Any] | None:
    """A metric as the ledger holds it."""
    if metric is None:
        return None
    return {**asdict(metric), "folder": None if metric.folder is None else str(metric.folder)}


def explore(exploration: Exploration, jobs: int, told: Callable[[int], None]) -> None:
    """Do all points of an exploration that are not done.

    Args:
        exploration: The exploration.
        jobs: Processes that work at it, a number; with 1 it is this one.
        told: Called with how many points are done.

    Raises:
        UsageError: If the disk refuses.
        InternalError: If a process failed.
    """
    left = exploration.ledger.total - exploration.ledger.done()
    told(exploration.ledger.done())
    if min(jobs, left) <= 1:
        exploration.work(told)
        return
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_work, args=(exploration.request,), daemon=True) for _ in range(min(jobs, left))
    ]
    try:
        for other in others:
            other.start()
        while any(other.is_alive() for other in others):
            connection.wait([other.sentinel for other in others if other.is_alive()], LOOK_S)
            told(exploration.ledger.done())
    finally:
        _end(others)
    failed = [other.exitcode for other in others if other.exitcode]
    if failed and not exploration.ledger.is_finished():
        raise InternalError(f"a process of the exploration ended with {failed[0]}")


def _work(request: Request) -> None:
    """A process that works at an exploration, and ends with the one that began it."""
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # before torch is loaded: processes share the machine already
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    try:
        Exploration(request).work()
    except KeyboardInterrupt:
        os._exit(130)


def _follow(parent: BaseProcess) -> None:
    connection.wait([parent.sentinel])
    os._exit(1)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End those that still run: their claims are free then."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join()
