"""Random choices with a known best one."""

import itertools
import random
from collections.abc import Iterator, Sequence

from ffebm.mapping.solver.price import Price
from ffebm.mapping.solver.problem import Candidate, Decision, Figures, Limits, Link, Problem, figures_of


def random_problem(seed: int, items: int, candidates: int, groups: int = 1) -> tuple[Problem, Limits]:
    """A graph of items with digital candidates and tiles of one or two groups, and what there is of these."""
    draw = random.Random(seed)
    made = [_item(draw, candidates, groups, position) for position in range(items)]
    for position in range(items):
        made[position] = _tied(draw, made, position)
    tiles = {f"group{g}": float(draw.randint(1, 3 * items)) for g in range(groups)}
    leakage = draw.choice([0.0, 0.05])
    return Problem(tuple(made), tuple(_links(draw, items)), leakage=leakage), Limits(tiles=tiles)


def _item(draw: random.Random, candidates: int, groups: int, position: int) -> Decision:
    size = 10 ** draw.uniform(3, 7)
    vector = _digital(size / 1e12, size * 4e-12, "vector")
    if draw.random() < 0.2:
        return Decision((vector, _digital(size / 4e12, size * 6e-12, "matrix")))
    found = [vector]
    for number in range(candidates - 1):
        group, copies = draw.randrange(groups), 1 + number
        seconds = size / 1e12 * 10 ** draw.uniform(-1, 2) / copies
        bring = draw.uniform(1e-9, 1e-7)
        found.append(
            Candidate(
                Price(
                    seconds=seconds + bring,
                    joules=size * 10 ** draw.uniform(-14, -11.5),
                    interval=seconds,
                    busy={"network": bring},
                    tiles={f"group{group}": float(copies * draw.randint(1, 3))},
                    area=copies * 0.1,
                    work=float(round(size)),
                )
            )
        )
    return Decision(tuple(found))


def _digital(seconds: float, joules: float, place: str) -> Candidate:
    return Candidate(Price(seconds=seconds, joules=joules, busy={place: seconds}), place)


def _tied(draw: random.Random, decisions: Sequence[Decision], position: int) -> Decision:
    """Now and then the choice of an item is that of an earlier one, with tiles counted there."""
    if position == 0 or draw.random() > 0.1:
        return decisions[position]
    root = draw.randrange(position)
    bare = tuple(
        Candidate(Price(c.price.seconds, c.price.joules, c.price.interval, c.price.busy, work=1.0), c.place)
        for c in decisions[root].candidates
    )
    return Decision(bare, tied=root)


def _links(draw: random.Random, items: int) -> Iterator[Link]:
    for maker in range(items - 1):
        readers = {maker + 1} if draw.random() < 0.8 else set()
        if draw.random() < 0.3:
            readers.add(draw.randrange(maker + 1, items))
        seconds = draw.uniform(1e-9, 1e-7)
        if readers:
            price = Price(seconds=seconds, joules=seconds * 1e-3, busy={"network": seconds})
            yield Link(
                maker, tuple(sorted(readers)), price, from_tiles=price.joules / 2 if maker % 2 else 0.0
            )


def all_choices(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Every choice; tied items follow."""
    free = [p for p, item in enumerate(problem.decisions) if item.tied is None]
    for taken in itertools.product(*(range(len(problem.decisions[p].candidates)) for p in free)):
        chosen = dict(zip(free, taken, strict=True))
        yield tuple(chosen[problem.root(p)] for p in range(len(problem.decisions)))


def within(figures: Figures, limits: Limits) -> bool:
    """Whether a choice keeps all limits."""
    return (
        all(figures.tiles.get(group, 0.0) <= most for group, most in limits.tiles.items())
        and figures.seconds <= limits.seconds
        and figures.joules <= limits.joules
        and figures.area <= limits.area
    )


def costs(problem: Problem, limits: Limits) -> list[Figures]:
    """What each choice within the limits costs."""
    found = (figures_of(problem, picked) for picked in all_choices(problem))
    return [figures for figures in found if within(figures, limits)]
