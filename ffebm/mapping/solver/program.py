"""A choice under limits as a mixed-integer linear program.

One column for each candidate of an item, the end of each item after the ends of those that it reads from, and
what units that items share have to do.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ffebm.errors import UsageError
from ffebm.mapping.solver.linear_program import LinearProgram, Solved
from ffebm.mapping.solver.problem import Figures, Limits, Link, Problem, figures_of

Criterion = Literal["seconds", "joules", "interval", "offloaded", "area"]
"""What a stage makes small; `offloaded` is the work on tiles with its sign turned."""

TIES: dict[Criterion, Criterion] = {"seconds": "joules", "joules": "seconds", "interval": "seconds"}
"""What decides among choices that are as good as each other."""

GAP = 5e-4
"""A solution that is known to be so close to the optimum, as a share, is good enough."""
GAPS: dict[Criterion, float] = {"joules": 2e-3, "interval": 5e-3}
"""The same for what takes longest to prove; all objectives look at these choices."""
SUM_GAP = 2e-3
"""The same for sums of energy and latency, of which bounds of their product are made."""
TIE = 1e-4
"""Most that a tie may weigh, as a share."""
MOST_COLUMNS = 20_000
"""With more candidates than this, only those that the relaxation takes, and the smallest of each item, are
searched."""


Picked = tuple[tuple[int, ...], Figures]
"""The candidate of each item, and what they cost."""


@dataclass(frozen=True)
class Solution:
    """What one program gave.

    Attributes:
        picked: The candidate of each item.
        figures: What it costs.
        value: Of the figure that was made small.
        bound: No choice has less.
    """

    picked: tuple[int, ...]
    figures: Figures
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """Share by which the value may be above the optimum."""
        return gap_of(self.value, self.bound)


def _usual(problem: Problem, attribute: str, pick: Callable[[Iterable[float]], float]) -> float:
    """The sum of the least, or of the largest, that items with one choice could cost together."""
    return sum(pick(costs) for costs in problem.costs(attribute))


def value_of(figures: Figures, figure: Criterion) -> float:
    """A figure of a choice."""
    return -figures.work if figure == "offloaded" else float(getattr(figures, figure))


def gap_of(value: float, bound: float) -> float:
    """Share by which a value may be above its bound."""
    return max(0.0, value - bound) / abs(value) if value else 0.0


@dataclass
class MappingProgram:
    """The problem as a mixed-integer program.

    Attributes:
        problem: What there is to choose.
        limits: What it may take.
        effort: Most nodes of branch and bound for each search; 0 rounds the relaxation.
        solves: Searches so far.
        rows: Columns and rows.
        terms: Columns whose sum each figure is.
        last: The choice that `minimum` found last, which keeps what is kept since.
    """

    problem: Problem
    limits: Limits
    effort: int
    solves: int = 0
    rows: LinearProgram = field(default_factory=LinearProgram)
    terms: dict[Criterion, dict[int, float]] = field(default_factory=dict)
    last: Picked | None = None

    def __post_init__(self) -> None:
        """Write the columns and rows; times are columns in units of a usual time, so that none is tiny."""
        problem, rows = self.problem, self.rows
        self.columns: list[list[int]] = []
        self.second = _usual(problem, "seconds", min) or 1.0
        self.incoming: list[list[Link]] = [[] for _ in problem.decisions]
        for link in problem.links:
            for reader in link.readers:
                self.incoming[reader].append(link)
        for position, item in enumerate(problem.decisions):
            if item.tied is None:
                own = [rows.column(1.0, whole=True) for _ in item.candidates]
                rows.row(dict.fromkeys(own, 1.0), 1.0, 1.0)
            else:
                own = self.columns[problem.root(position)]
            self.columns.append(own)
        self.latency, self.interval = rows.column(), rows.column()
        self.out_of_tiles: dict[int, float] = {}
        self.carried = list(self._carry())
        self._paths()
        self._shared_units()
        self.terms = {
            "seconds": {self.latency: self.second},
            "interval": {self.interval: self.second},
            "joules": self._energy(),
            "offloaded": self._sum("work", sign=-1.0),
            "area": self._sum("area"),
        }
        self._limit()

    # --- rows ----------------------------------------------------------------------------------------

    def _sum(self, attribute: str, sign: float = 1.0) -> dict[int, float]:
        """The sum of a number of the candidates that are taken."""
        total: dict[int, float] = defaultdict(float)
        for item, own in zip(self.problem.decisions, self.columns, strict=True):
            for candidate, column in zip(item.candidates, own, strict=True):
                total[column] += sign * getattr(candidate.price, attribute)
        return total

    def _at(self, position: int, place: str) -> dict[int, float]:
        """One if an item is at a place."""
        candidates = zip(self.problem.decisions[position].candidates, self.columns[position], strict=True)
        return {column: 1.0 for candidate, column in candidates if candidate.place == place}

    def _carry(self) -> Iterator[tuple[int, int]]:
        """A column that is one if a link carries its value to a digital group; pairs of link and column."""
        for number, link in enumerate(self.problem.links):
            if not link.price.joules and not link.price.busy:
                continue  # nothing hangs on whether it is carried
            for place in self.problem.places:
                here = self._at(link.maker, place)
                there = [at for reader in link.readers if (at := self._at(reader, place))]
                if not there:
                    continue
                column = self.rows.column(1.0)
                for at in there:  # it is carried if a reader is there and the maker is not
                    self.rows.row({column: 1.0, **_difference(here, at)}, 0.0)
                yield number, column
                if link.from_tiles:
                    self._from_tiles(link, there)

    def _from_tiles(self, link: Link, there: Sequence[Mapping[int, float]]) -> None:
        """A column that is one if a value is carried out of tiles to where some readers are."""
        column = self.rows.column(1.0)
        tiles = self._at(link.maker, "")
        for at in there:  # both the maker is on tiles and a reader is there
            self.rows.row({column: 1.0, **_difference({}, _sums(tiles, at))}, -1.0)
        self.out_of_tiles[column] = link.from_tiles

    def _paths(self) -> None:
        """Each item ends after those that it reads from, with what it takes and what carrying takes."""
        ends = [self.rows.column() for _ in self.problem.decisions]
        for position, item in enumerate(self.problem.decisions):
            takes: dict[int, float] = defaultdict(float)
            takes[ends[position]] = 1.0
            for candidate, column in zip(item.candidates, self.columns[position], strict=True):
                takes[column] -= candidate.price.seconds / self.second
            self.rows.row(takes, 0.0)
            self.rows.row({self.latency: 1.0, ends[position]: -1.0}, 0.0)
            self._incoming(position, takes, ends)

    def _incoming(self, position: int, takes: Mapping[int, float], ends: Sequence[int]) -> None:
        for link in self.incoming[position]:
            self.rows.row({**takes, ends[link.maker]: -1.0}, 0.0)
            for place in self.problem.places:
                moves = _difference(self._at(position, place), self._at(link.maker, place))
                if link.price.seconds and any(factor > 0 for factor in moves.values()):
                    row = defaultdict(float, takes)
                    row[ends[link.maker]] -= 1.0
                    for column, factor in moves.items():
                        row[column] -= factor * link.price.seconds / self.second
                    self.rows.row(row, 0.0)

    def _shared_units(self) -> None:
        """What shared units have to do bounds latency and interval; own tiles bound the interval."""
        busy: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for item, own in zip(self.problem.decisions, self.columns, strict=True):
            for candidate, column in zip(item.candidates, own, strict=True):
                for unit, seconds in candidate.price.busy.items():
                    busy[unit][column] += seconds
        self._own_tiles()
        for number, column in self.carried:
            for unit, seconds in self.problem.links[number].price.busy.items():
                busy[unit][column] += seconds
        for work in busy.values():
            for total in (self.latency, self.interval):
                self.rows.row({total: 1.0, **{c: -s / self.second for c, s in work.items()}}, 0.0)

    def _own_tiles(self) -> None:
        """Tiles of an item, and of those tied to it, bound the interval."""
        works: dict[int, dict[int, float]] = {}
        for position, item in enumerate(self.problem.decisions):
            work = works.setdefault(self.problem.root(position), defaultdict(float))
            for candidate, column in zip(item.candidates, self.columns[position], strict=True):
                work[column] -= candidate.price.interval / self.second
        for work in works.values():
            if any(work.values()):
                self.rows.row({self.interval: 1.0, **work}, 0.0)

    def _energy(self) -> dict[int, float]:
        total = self._sum("joules")
        for number, column in self.carried:
            total[column] += self.problem.links[number].price.joules
        for column, joules in self.out_of_tiles.items():
            total[column] += joules
        total[self.latency] += self.problem.leakage * self.second
        return total

    def _limit(self) -> None:
        for group, most in self.limits.tiles.items():
            self.rows.row(self._tiles([group]), upper=float(most))
        if self.limits.all_tiles < math.inf:
            self.rows.row(self._tiles(list(self.limits.tiles)), upper=self.limits.all_tiles)
        if self.limits.seconds < math.inf:
            self.rows.row(self.terms["seconds"], upper=self.limits.seconds)
        if self.limits.joules < math.inf:
            self.rows.row(self.terms["joules"], upper=self.limits.joules)
        if self.limits.area < math.inf:
            self.rows.row(self.terms["area"], upper=self.limits.area - self.problem.area)

    def _tiles(self, groups: Sequence[str]) -> dict[int, float]:
        used: dict[int, float] = defaultdict(float)
        for item, own in zip(self.problem.decisions, self.columns, strict=True):
            for candidate, column in zip(item.candidates, own, strict=True):
                used[column] += sum(candidate.price.tiles.get(group, 0.0) for group in groups)
        return used

    # --- solving -------------------------------------------------------------------------------------

    def keep(self, figure: Criterion, most: float, slack: float = 1e-9) -> None:
        """A figure stays as small as this from here on."""
        fixed = self.problem.area if figure == "area" else 0.0
        self.rows.row(self.terms[figure], upper=most - fixed + slack * abs(most))

    def least(self, figure: Criterion) -> Solution:
        """The choice with the least of a figure.

        Raises:
            UsageError: If nothing is within the limits.
        """
        found = self.minimum(self.terms[figure], figure)
        if found is None:
            raise impossible(self.problem, self.limits, self.effort)
        return found

    def minimum(self, terms: Mapping[int, float], figure: Criterion) -> Solution | None:
        """The choice with the least sum of columns, valued by a figure; None if none is within the limits."""
        tie, most = self._tie(figure)
        found, bound = self.search(_difference(terms, tie), GAPS.get(figure, GAP))
        if found is None and bound < math.inf:  # little effort has overlooked what there is
            found = self.last or self._on_fewest_tiles()
        if found is None:
            return None
        self.last = found
        fixed = self.problem.area if figure == "area" else 0.0
        value = value_of(found[1], figure)
        return Solution(*found, value, min(value, bound + fixed - most))

    def _tie(self, figure: Criterion) -> tuple[dict[int, float], float]:
        """What decides a tie, with its sign turned, so small that it decides nothing else; and its most."""
        if figure not in TIES:
            return {}, 0.0
        other = TIES[figure]
        usual = self.second if figure != "joules" else _usual(self.problem, "joules", min)
        most = _usual(self.problem, other, max) or 1.0
        weight = TIE * usual / most
        return self._sum(other, -weight), TIE * usual

    def search(self, terms: Mapping[int, float], gap: float = SUM_GAP) -> tuple[Picked | None, float]:
        """The choice with the least sum of columns with its cost, if there is one; and a bound of the sum."""
        self.solves += 1
        solved = self._solved(terms, gap)
        if solved.values is None:
            return None, solved.bound
        picked = self._picked(solved.values)
        return (picked, figures_of(self.problem, picked)), solved.bound

    def _solved(self, terms: Mapping[int, float], gap: float) -> Solved:
        if self.effort and sum(self.rows.whole) <= MOST_COLUMNS:
            return self.rows.minimum(terms, self.effort, gap)
        relaxed = self.rows.minimum(terms, 0, gap)
        if relaxed.values is None:
            return relaxed
        rounded = self.rows.minimum(terms, max(self.effort, 1), gap, self._left_out(relaxed.values))
        return Solved(rounded.values, relaxed.bound)

    def _left_out(self, values: Sequence[float]) -> dict[int, float]:
        """Candidates that the relaxation does not take.

        Not left out are the one with the fewest tiles of each item, and what was found last, which alone
        may have what is kept of other figures.
        """
        smallest = self._smallest()
        last = smallest if self.last is None else self.last[0]
        return {
            column: 0.0
            for own, *held in zip(self.columns, smallest, last, strict=True)
            for number, column in enumerate(own)
            if number not in held and values[column] < 1e-6
        }

    def _smallest(self) -> tuple[int, ...]:
        """The candidate of each item that takes the fewest tiles, with the items that are tied to it."""
        problem = self.problem
        rooms: dict[int, list[float]] = {}
        for position, item in enumerate(problem.decisions):
            own = [sum(candidate.price.tiles.values()) for candidate in item.candidates]
            before = rooms.setdefault(problem.root(position), [0.0] * len(own))
            rooms[problem.root(position)] = [sum(both) for both in zip(before, own, strict=True)]
        least = {root: room.index(min(room)) for root, room in rooms.items()}
        return tuple(least[problem.root(position)] for position in range(len(problem.decisions)))

    def _on_fewest_tiles(self) -> Picked | None:
        """The choice with the fewest tiles, with its cost; None if it is not within the limits."""
        picked = self._smallest()
        figures = figures_of(self.problem, picked)
        return (picked, figures) if figures.within(self.limits) else None

    def _picked(self, values: Sequence[float]) -> tuple[int, ...]:
        return tuple(max(range(len(own)), key=lambda n: values[own[n]]) for own in self.columns)


def _difference(positive: Mapping[int, float], negative: Mapping[int, float]) -> dict[int, float]:
    total: dict[int, float] = defaultdict(float, positive)
    for column, factor in negative.items():
        total[column] -= factor
    return dict(total)


def _sums(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {column: one.get(column, 0.0) + other.get(column, 0.0) for column in one.keys() | other.keys()}


# --- what cannot be --------------------------------------------------------------------------------------

LIMIT_NAMES: dict[Criterion, tuple[str, str]] = {
    "seconds": ("max_latency", "s"),
    "joules": ("max_energy", "J"),
    "area": ("max_area", "mm2"),
}
"""Public name and unit of each limit, by attribute."""


class BeyondError(UsageError):
    """A limit that no mapping keeps.

    Attributes:
        excess: The least that was found, as times of the limit.
    """

    excess: float = math.inf


def beyond(name: str, most: float, unit: str, least: float, beside: str = "") -> BeyondError:
    """A limit that no mapping keeps; the least is rounded up, so that it is kept when it is asked for."""
    step = 10.0 ** (math.floor(math.log10(least)) - 3)
    error = BeyondError(
        f"no mapping keeps {name} {most:.10g} {unit}{beside}",
        allowed=f"the least that was found is {math.ceil(least / step - 1e-6) * step:.4g} {unit}",
        hint="raise the limit, or allow more tiles",
    )
    error.excess = least / most
    return error


def impossible(problem: Problem, limits: Limits, effort: int) -> UsageError:
    """Which limit cannot be kept, beside those before it, and what can be reached."""
    active, before = Limits(tiles=limits.tiles, all_tiles=limits.all_tiles), ""
    for criterion, (name, unit) in LIMIT_NAMES.items():
        most = getattr(limits, criterion)
        if most == math.inf:
            continue
        program = MappingProgram(problem, active, effort)
        best = program.minimum(program.terms[criterion], criterion)
        if best is None:
            break
        if best.value > most * (1 + 1e-9):
            return beyond(name, most, unit, best.value, before)
        active = replace(active, **{criterion: most})
        before = f"{before} beside {name} {most:.10g} {unit}"
    return UsageError(
        "no mapping keeps all limits",
        hint="raise a limit, or the effort: more of the search may find one",
    )
