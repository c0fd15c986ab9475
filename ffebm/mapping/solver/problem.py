"""The choice as a problem: items that take one option each, what they hand on, and what a choice costs."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ffebm.mapping.solver.price import Price


@dataclass(frozen=True)
class Candidate:
    """One thing that an item could be.

    Attributes:
        price: What it costs.
        place: The digital group that it runs on; empty on tiles of its own.
    """

    price: Price
    place: str = ""


@dataclass(frozen=True)
class Decision:
    """A block or a digital node.

    Attributes:
        candidates: What it could be; one of them is taken.
        tied: An earlier item whose choice it follows, by position, as blocks that share a weight do.
    """

    candidates: tuple[Candidate, ...]
    tied: int | None = None


@dataclass(frozen=True)
class Link:
    """A value that an item makes and others read.

    It is carried once to each digital group that reads it and did not make it. What tiles read they fetch
    themselves: that is in the price of the candidate.

    Attributes:
        maker: Position of the item.
        readers: Positions of later items.
        price: Of carrying it once.
        from_tiles: Joules more of carrying it once, if its maker is on tiles.
    """

    maker: int
    readers: tuple[int, ...]
    price: Price
    from_tiles: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What a choice may take in all.

    Attributes:
        tiles: By analog group.
        all_tiles: Of all groups together.
        seconds: Latency of one inference.
        joules: Energy of one inference.
        area: Of the machine in use, mm2.
    """

    tiles: Mapping[str, float] = field(default_factory=dict)
    all_tiles: float = math.inf
    seconds: float = math.inf
    joules: float = math.inf
    area: float = math.inf


@dataclass(frozen=True)
class Problem:
    """Items in an order in which each reads only what earlier ones made.

    Attributes:
        items: What is to be chosen.
        links: What they hand on.
        leakage: Power that the machine takes as long as it runs, W.
        area: Of what every choice uses, mm2.
    """

    decisions: tuple[Decision, ...]
    links: tuple[Link, ...] = ()
    leakage: float = 0.0
    area: float = 0.0

    def root(self, position: int) -> int:
        """The item whose choice an item follows: itself, or the one that it is tied to."""
        tied = self.decisions[position].tied
        return position if tied is None else self.root(tied)

    def costs(self, attribute: str) -> list[list[float]]:
        """What each candidate of an item costs together with those of the items tied to it."""
        found: dict[int, list[float]] = {}
        for position, item in enumerate(self.decisions):
            own = [getattr(candidate.price, attribute) for candidate in item.candidates]
            before = found.get(self.root(position), [0.0] * len(own))
            found[self.root(position)] = [sum(both) for both in zip(before, own, strict=True)]
        return list(found.values())

    @cached_property
    def places(self) -> list[str]:
        """Digital groups that a candidate runs on, sorted."""
        return sorted({c.place for item in self.decisions for c in item.candidates} - {""})


@dataclass(frozen=True)
class Figures:
    """What a choice costs in all.

    Attributes:
        seconds: Latency of one inference.
        joules: Energy of one inference.
        interval: Time between samples that follow each other.
        work: Multiply-accumulates on tiles.
        tiles: By analog group.
        area: mm2.
    """

    seconds: float
    joules: float
    interval: float
    work: float
    tiles: Mapping[str, float]
    area: float

    @property
    def edp(self) -> float:
        """Energy times latency, J s."""
        return self.joules * self.seconds

    def within(self, limits: Limits) -> bool:
        """No limit is exceeded."""
        return (
            all(self.tiles.get(group, 0.0) <= most for group, most in limits.tiles.items())
            and sum(self.tiles.values()) <= limits.all_tiles
            and self.seconds <= limits.seconds
            and self.joules <= limits.joules
            and self.area <= limits.area
        )


def figures_of(problem: Problem, picked: Sequence[int]) -> Figures:
    """What a choice costs.

    Args:
        problem: What there was to choose.
        picked: The candidate of each item.
    """
    taken = [item.candidates[index] for item, index in zip(problem.decisions, picked, strict=True)]
    busy: dict[str, float] = defaultdict(float)
    tiles: dict[str, float] = defaultdict(float)
    for candidate in taken:
        _count(busy, candidate.price.busy)
        _count(tiles, candidate.price.tiles)
    carried = [link for link in problem.links for _ in _carried(link, taken)]
    for link in carried:
        _count(busy, link.price.busy)

    seconds = max([_longest_path(problem, taken), *busy.values()])
    return Figures(
        seconds=seconds,
        joules=sum(c.price.joules for c in taken)
        + sum(link.price.joules + (0.0 if taken[link.maker].place else link.from_tiles) for link in carried)
        + problem.leakage * seconds,
        interval=max([*busy.values(), *_own_tiles(problem, taken)], default=0.0),
        work=sum(c.price.work for c in taken),
        tiles=dict(tiles),
        area=problem.area + sum(c.price.area for c in taken),
    )


def _own_tiles(problem: Problem, taken: Sequence[Candidate]) -> Iterator[float]:
    """How long the tiles of each item are busy; tied items use the same ones."""
    busy: dict[int, float] = defaultdict(float)
    for position, candidate in enumerate(taken):
        busy[problem.root(position)] += candidate.price.interval
    yield from busy.values()


def _count(total: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        total[name] += value


def _carried(link: Link, taken: Sequence[Candidate]) -> Iterator[str]:
    """The digital groups that a value is carried to."""
    yield from sorted({taken[reader].place for reader in link.readers} - {"", taken[link.maker].place})


def _longest_path(problem: Problem, taken: Sequence[Candidate]) -> float:
    """When the last item is done, if each starts as soon as what it reads is there."""
    ready = [0.0] * len(taken)
    incoming: list[list[Link]] = [[] for _ in taken]
    for link in problem.links:
        for reader in link.readers:
            incoming[reader].append(link)
    for position, candidate in enumerate(taken):
        starts = [0.0]
        for link in incoming[position]:
            moves = candidate.place and candidate.place != taken[link.maker].place
            starts.append(ready[link.maker] + (link.price.seconds if moves else 0.0))
        ready[position] = max(starts) + candidate.price.seconds
    return max(ready, default=0.0)
