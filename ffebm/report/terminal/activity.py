"""Activity: a timeline as rows of letters, a row a unit, a letter the kind of step that fills a stretch."""

from collections.abc import Sequence

from ffebm.plan.schedule import StepKind
from ffebm.report.facts.timeline import Timeline

LETTERS: dict[StepKind, str] = {
    "free": "F",
    "nudged": "N",
    "digital": "D",
    "digital_backward": "B",
    "contrast": "C",
    "update": "U",
    "loss": "L",
    "transfer": "T",
}
IDLE = "."


def activity(line: Timeline, columns: int) -> list[str]:
    """For each unit, a letter a column: of the kind that it does most there.

    A capital stands for a unit at work for half of that stretch or more, a small letter for less, a dot for
    idle.

    Args:
        line: The timeline.
        columns: Stretches of equal length that the makespan is cut into.
    """
    work: list[list[dict[StepKind, float]]] = [[{} for _ in range(columns)] for _ in line.units]
    width = line.makespan_s / columns
    for start, end, kind, place in zip(line.start_s, line.free_s, line.kind, line.unit, strict=True):
        if end <= start:
            continue
        first = min(columns - 1, int(start / width))
        last = min(columns - 1, int(end / width))
        for column in range(first, last + 1):
            inside = min(end, (column + 1) * width) - max(start, column * width)
            if inside <= 0:
                continue
            for unit in line.unit_sets[place]:
                cell = work[unit][column]
                cell[line.kinds[kind]] = cell.get(line.kinds[kind], 0.0) + inside
    return ["".join(_letter(cell, width) for cell in row) for row in work]


def legend(kinds: Sequence[StepKind]) -> str:
    """What the letters of some kinds mean."""
    known = [f"{letter} {words(kind)}" for kind, letter in LETTERS.items() if kind in kinds]
    return ", ".join([*known, f"{IDLE} idle; a small letter: busy for less than half of the stretch"])


def words(kind: str) -> str:
    """A kind of step as words."""
    return {"free": "free phase", "nudged": "nudged phase"}.get(kind, kind.replace("_", " "))


def _letter(cell: dict[StepKind, float], width: float) -> str:
    if not cell:
        return IDLE
    letter = LETTERS[max(cell, key=cell.__getitem__)]
    # steps that fill half a column to rounding fill half of it
    return letter if sum(cell.values()) >= 0.4999 * width else letter.lower()
