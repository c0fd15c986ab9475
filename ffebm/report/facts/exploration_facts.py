"""What the page of an exploration shows: its points, their figures, and how much each knob matters."""

from collections.abc import Sequence

import msgspec

from ffebm.exploration.figures import FIGURES, FigureKind
from ffebm.exploration.front import importance
from ffebm.exploration.knobs import Knob, value_text
from ffebm.exploration.table import ExploredPoint


class KnobFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A knob.

    Attributes:
        key: Its name.
        values: What it stands at, as text.
        importance: Share of each figure's variance that it explains alone, by figure.
    """

    key: str
    values: list[str]
    importance: dict[str, float]


class ExploredPointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A point.

    Attributes:
        number: Of the point, in the order of the grid.
        places: Which of its values each knob stands at, a number from 0.
        figures: By name; None is not known.
        front: No other point is better in what the front is of.
        refused: Why it has no figures; empty if it has.
        summary: What else there is to know, in lines.
        command: What compiles the plan of the point again; empty if nothing does.
    """

    number: int
    places: list[int]
    figures: dict[str, float | None]
    front: bool
    refused: str
    summary: list[str]
    command: str


class ExplorationFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An exploration.

    Attributes:
        source: Name of the model.
        machine: Name of the machine, or "several".
        points_asked: Points of the whole grid, a number.
        knobs: What was varied.
        figures: What is known of the points.
        front: Figures whose front was asked for.
        points: The points, in the order of the grid.
    """

    source: str
    machine: str
    points_asked: int
    knobs: list[KnobFacts]
    figures: list[FigureKind]
    front: list[str]
    points: list[ExploredPointFacts]


def exploration_facts(
    names: tuple[str, str],
    asked: int,
    knobs: Sequence[Knob],
    front: Sequence[str],
    rows: Sequence[ExploredPoint],
) -> ExplorationFacts:
    """The facts of an exploration.

    Args:
        names: Of the model, and of the machine.
        asked: Points of the whole grid, a number.
        knobs: What was varied.
        front: Figures whose front was asked for.
        rows: The points that are done.
    """
    points = [row.point for row in rows]
    figures = list(rows[0].figures) if rows else []
    shares = {name: importance(points, [row.figures[name] for row in rows], knobs) for name in figures}
    return ExplorationFacts(
        source=names[0],
        machine=names[1],
        points_asked=asked,
        knobs=[
            KnobFacts(
                key=knob.key,
                values=[value_text(value) for value in knob.values],
                importance={name: shares[name][knob.key] for name in figures},
            )
            for knob in knobs
        ],
        figures=[FIGURES[name] for name in figures],
        front=list(front),
        points=[
            ExploredPointFacts(
                number=row.number,
                places=[knob.values.index(row.point[knob.key]) for knob in knobs],
                figures=row.figures,
                front=row.front,
                refused=row.refused,
                summary=row.summary,
                command=row.command,
            )
            for row in rows
        ],
    )
