"""The ledger of an exploration: a file in which processes claim points and write down what they found.

It is Optuna's journal, one line of JSON an entry, behind locks that the kernel takes back when their holder
ends. Whoever works holds a lock of its own as long as it lives, and its claims carry that lock's name: so a
claim whose lock is free is of a process that was killed, and its point is claimed again. Claiming itself is
done by one process at a time.
"""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from ffebm.errors import Location, UsageError
from ffebm.exploration.figures import FIGURES, PARTS
from ffebm.exploration.knobs import Grid, Point, Value
from ffebm.exploration.search import MOST_ASKED, SampledSearch, Space
from ffebm.files.lock import acquired, is_same

JOURNAL = "study.jsonl"
NAME = "exploration"
"""Of the study in the journal."""
_CLAIMS, _WRITES, _WORKERS = ".claims.lock", ".writes.lock", ".workers"
WAYS = {"less": StudyDirection.MINIMIZE, "more": StudyDirection.MAXIMIZE}
"""Which way Optuna is to go."""
# attributes of a trial
OWNER, LOST, INSTEAD = "owner", "lost", "instead_of"
FIGURES_OF, SUMMARY, REFUSED = "figures", "summary", "refused"


class ExplorationSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What an exploration is of, so that only the same is continued.

    Attributes:
        model: SHA-256 of the model with its weights.
        hardware: SHA-256 of each machine that is varied, by name.
        options: What the compiler is asked for where nothing is varied.
        knobs: What is varied.
        front: Figures whose front is asked for.
        sampler: Who says which point comes next.
        seed: Of the sampler.
        metric: What is measured beside the price, if something is.
        figures: Of what there are figures.
    """

    model: str
    hardware: dict[str, str]
    options: dict[str, Any]
    knobs: dict[str, list[Any]]
    front: list[str]
    sampler: str
    seed: int
    metric: dict[str, Any] | None
    figures: str


@dataclass(frozen=True)
class Claim:
    """A point that this process works on.

    Attributes:
        number: Of the entry in the ledger.
        point: The point.
    """

    number: int
    point: Point


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a point.

    Attributes:
        point: The point.
        figures: By name; None where it was refused.
        summary: What else there is to know, in lines.
        refused: Why it has no figures; empty if it has.
    """

    point: Point
    figures: dict[str, float | None] | None
    summary: list[str]
    refused: str


class Ledger:
    """Claims and results of an exploration, in a folder.

    Args:
        folder: Where it lies; made if it does not exist.
        setup: What the exploration is of.
        grid: All points.
        search: Which of them are looked at; None: all.

    Raises:
        UsageError: If the folder holds another exploration, or something else of that name.
    """

    def __init__(
        self, folder: Path, setup: ExplorationSetup, grid: Grid, search: SampledSearch | None
    ) -> None:
        self._folder = folder
        self._grid = grid
        self._search = search
        self._first = [] if search is None else search.first_points(grid.knobs)
        self._space = Space(grid.knobs) if search is None else search.space(grid.knobs)
        self._owner = ""
        self._last: Point | None = None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            (folder / _WORKERS).mkdir(parents=True, exist_ok=True)
            self._study = self._opened(setup)
            self._space = self._space.as_begun(
                t.distributions for t in self._study.get_trials(deepcopy=False)
            )
        except OSError as error:
            raise UsageError(f"cannot be written: {error.strerror}", location=Location(str(folder))) from None

    def _opened(self, setup: ExplorationSetup) -> optuna.Study:
        path = self._folder / JOURNAL
        with _locked(self._folder / _CLAIMS):
            try:
                self._storage = JournalStorage(JournalFileBackend(str(path), _KernelLock(path)))
                known = [study.study_name for study in self._storage.get_all_studies()]
            except (ValueError, KeyError, TypeError, AssertionError) as error:
                raise UsageError(
                    f"it is no journal of an exploration: {error}",
                    hint="name another folder",
                    location=Location(str(path)),
                ) from None
            if NAME in known:
                study = optuna.load_study(study_name=NAME, storage=self._storage)
                if "setup" in study.user_attrs:
                    _check_same(study.user_attrs["setup"], setup, path)
                    return study
            study = optuna.create_study(
                study_name=NAME,
                storage=self._storage,
                directions=[WAYS[FIGURES[name].better] for name in setup.front],
                load_if_exists=True,
            )
            study.set_user_attr("setup", msgspec.to_builtins(setup))
            return study

    # --- working -------------------------------------------------------------------------------------

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold a lock of one's own, by which others see that this process lives."""
        self._owner = uuid.uuid4().hex
        path = self._folder / _WORKERS / self._owner
        with _locked(path):
            try:
                yield
            finally:
                self._owner = ""
                path.unlink(missing_ok=True)

    def claim(self) -> Claim | None:
        """A point that nobody has done or works on; None if there is none at the moment."""
        with _locked(self._folder / _CLAIMS):
            trials = self._study.get_trials(deepcopy=False)
            self._bury(trials)
            trials = self._study.get_trials(deepcopy=False)
            again = _lost(trials)
            if again is not None:
                return self._take(self._space.point(again.params), {INSTEAD: again.number})
            if self._search is not None:
                return self._asked(self._search)
            taken = {self._place_of(trial) for trial in trials}
            index = self._next(taken)
            return None if index is None else self._take(self._grid[index], {})

    def _next(self, taken: set[int]) -> int | None:
        """The number of a point that is not taken; None if all are.

        Points that differ in their objective alone take less time in one process (`Variants`): so it is one
        beside this process's last one, else one that nobody has begun with, else any.
        """
        free = [index for index in range(len(self._grid)) if index not in taken]
        if self._last is not None:
            last = _company(self._last)
            beside = next((n for n in free if _company(self._grid[n]) == last), None)
            if beside is not None:
                return beside
        begun = {_company(self._grid[index]) for index in taken}
        alone = (index for index in free if _company(self._grid[index]) not in begun)
        return next(alone, next(iter(free), None))

    def _asked(self, search: SampledSearch) -> Claim | None:
        """One of the first points, or one that the sampler says; None if enough are claimed."""
        while True:
            trials = self._study.get_trials(deepcopy=False)
            claimed = self._claimed(trials)
            if len(claimed) >= self.total or len(trials) >= MOST_ASKED * search.trials:
                return None
            self._study.sampler = search.sampler_for(len(trials))
            begin = (p for p in self._first if self._grid.index_of(p) not in claimed)
            if (point := next(begin, None)) is not None:
                self._study.enqueue_trial(self._space.said(point))
            trial = self._study.ask(self._space.distributions)
            asked = self._space.point(trial.params)
            known = claimed.get(self._grid.index_of(asked))
            if known is None:
                trial.set_user_attr(OWNER, self._owner)
                return Claim(trial.number, asked)
            if known.state == TrialState.COMPLETE:  # the sampler is to learn from it once more
                trial.set_user_attr(FIGURES_OF, known.user_attrs[FIGURES_OF])
                self._study.tell(trial, known.values)
            else:
                self._study.tell(trial, state=TrialState.FAIL)

    def _claimed(self, trials: list[FrozenTrial]) -> dict[int, FrozenTrial]:
        """The entry of each point that is done or worked on, by its number in the grid."""
        found = {}
        for trial in trials:
            if trial.state in {TrialState.COMPLETE, TrialState.RUNNING} or REFUSED in trial.user_attrs:
                found[self._place_of(trial)] = trial
        return found

    def _place_of(self, trial: FrozenTrial) -> int:
        """Where the point of an entry stands in the grid."""
        return self._grid.index_of(self._space.point(trial.params))

    def _take(self, point: Point, attributes: Mapping[str, object]) -> Claim:
        """Write a claim down, in one line, so that it is there whole or not at all."""
        self._last = point
        number = len(self._study.get_trials(deepcopy=False))
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=self._space.said(point),
                distributions=self._space.distributions,
                user_attrs={OWNER: self._owner, **attributes},
            )
        )
        return Claim(number, point)

    def _bury(self, trials: list[FrozenTrial]) -> None:
        """Give up claims whose process was killed."""
        for trial in trials:
            owner = trial.user_attrs.get(OWNER, "")
            if trial.state == TrialState.RUNNING and owner != self._owner and not self._lives(owner):
                self._set(trial.number, LOST, True)
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _lives(self, owner: str) -> bool:
        """A process holds the lock of its name."""
        path = self._folder / _WORKERS / owner
        try:
            number = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            if not acquired(number):
                return True
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(number)

    def finish(self, claim: Claim, figures: dict[str, float | None], summary: list[str]) -> None:
        """Write down the figures of a point."""
        front = self._study.user_attrs["setup"]["front"]
        self._set(claim.number, FIGURES_OF, figures)
        self._set(claim.number, SUMMARY, summary)
        missing = [name for name in front if figures[name] is None]
        if missing:
            self.refuse(claim, f"it has no {missing[0]}: no digital unit of the machine runs all ops")
            return
        self._study.tell(claim.number, [figures[name] or 0.0 for name in front])

    def refuse(self, claim: Claim, why: str) -> None:
        """Write down why a point has no figures."""
        self._set(claim.number, REFUSED, why)
        self._study.tell(claim.number, state=TrialState.FAIL)

    def _set(self, number: int, name: str, value: object) -> None:
        study = self._storage.get_study_id_from_name(NAME)
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        self._storage.set_trial_user_attr(trial, name, value)

    # --- reading -------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """What is known of each point that is done, in the order of the grid."""
        found = {}
        for trial in self._study.get_trials(deepcopy=False):
            refused = trial.user_attrs.get(REFUSED, "")
            if trial.state == TrialState.COMPLETE or refused:
                figures = None if refused else trial.user_attrs[FIGURES_OF]
                summary = trial.user_attrs.get(SUMMARY, [])
                point = self._space.point(trial.params)
                found[self._grid.index_of(point)] = Entry(point, figures, summary, refused)
        return [found[index] for index in sorted(found)]

    @property
    def total(self) -> int:
        """Points that are to be done, if the sampler says so many."""
        return len(self._grid) if self._search is None else min(self._search.trials, len(self._grid))

    def is_finished(self) -> bool:
        """Nothing is left to do, and nobody is at it."""
        if self.done() >= self.total:
            return True
        if self._search is None:
            return False
        trials = self._study.get_trials(deepcopy=False)
        running = any(trial.state == TrialState.RUNNING for trial in trials)
        return not running and len(trials) >= MOST_ASKED * self._search.trials

    def done(self) -> int:
        """Points that are done."""
        return len(self.entries())


def _company(point: Point) -> tuple[Value, ...]:
    """What points have in common that differ in their objective alone."""
    return tuple(value for key, value in point.items() if key != "objective")


def _lost(trials: list[FrozenTrial]) -> FrozenTrial | None:
    """A claim of a killed process whose point nobody has claimed again."""
    redone = {trial.user_attrs.get(INSTEAD) for trial in trials}
    # one that was killed before it knew its whole point leaves nothing to make up for
    lost = (t for t in trials if t.user_attrs.get(LOST) and OWNER in t.user_attrs)
    return next((trial for trial in lost if trial.number not in redone), None)


def _check_same(held: dict[str, Any], asked: ExplorationSetup, path: Path) -> None:
    """Only the same exploration is continued.

    Raises:
        UsageError: If it is another one, with the first difference.
    """
    wanted = msgspec.json.decode(msgspec.json.encode(asked))
    held = {"figures": ",".join(PARTS), **held}  # what was begun before they could be left out
    for name in ExplorationSetup.__struct_fields__:
        if held.get(name) != wanted[name]:
            raise UsageError(
                f"it holds an exploration with {_difference(name, held.get(name), wanted[name])}",
                hint=f"ask for {_again(name, held.get(name))} to continue it, or name another folder with -o",
                location=Location(str(path)),
            )


def _again(name: str, held: Any) -> str:
    """What continues an exploration; its front may be what was usual in an earlier version."""
    if name == "front" and isinstance(held, list):
        return f"--front {','.join(map(str, held))}"
    return "the same"


def _difference(name: str, held: Any, wanted: Any) -> str:
    """What differs, as text."""
    if name == "model":
        return "another model"
    if isinstance(held, dict) and isinstance(wanted, dict):
        key = next(key for key in {**held, **wanted} if held.get(key) != wanted.get(key))
        if name == "hardware":
            return f"another machine {key}"
        return f"{key} = {held.get(key)}, not {wanted.get(key)}"
    return f"{name} {held}, not {wanted}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made; the kernel takes it back if this process is killed."""
    while True:
        number = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
        if acquired(number, wait=True) and is_same(number, path):
            break
        os.close(number)
    try:
        yield
    finally:
        os.close(number)


class _KernelLock(JournalFileOpenLock):
    """Optuna's lock on its journal, by the kernel: nobody waits for a killed process.

    What such a process had begun to write, a line without an end, is taken away.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._number = -1

    def acquire(self) -> bool:
        self._number = os.open(self._journal.with_name(_WRITES), os.O_CREAT | os.O_RDWR, 0o644)
        acquired(self._number, wait=True)
        _mend(self._journal)
        return True

    def release(self) -> None:
        with suppress(OSError):
            os.close(self._number)


def _mend(journal: Path) -> None:
    """Cut a line off that has no end."""
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        kept = size
        while kept:
            start = max(0, kept - 4096)
            file.seek(start)
            found = file.read(kept - start).rfind(b"\n")
            if found >= 0:
                kept = start + found + 1
                break
            kept = start
        if kept != size:
            file.truncate(kept)
