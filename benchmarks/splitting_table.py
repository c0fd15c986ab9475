"""The table of benchmarks/splitting.py: rows, the differences that the paper claims, and their page."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Method = Literal["bp", "ep", "implicit"]
NAMES: dict[Method, str] = {"bp": "backpropagation", "ep": "EP", "implicit": "exact adjoint"}
BOUND = 0.3
"""Points by which EP may differ from the exact adjoint and from backpropagation."""


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        accuracy: Per cent of the test set, after the last epoch.
        sweeps: Mean sweeps of a block's free phase in the last epoch.
        unsettled: Per cent of samples and blocks that did not settle in the last epoch.
        step: Median seconds of a training step.
        epoch: Mean seconds of an epoch's training steps.
        memory: MiB above the idle process with its data.
        loss: Training loss of the last epoch.
    """

    accuracy: float
    sweeps: float
    unsettled: float
    step: float
    epoch: float
    memory: float
    loss: float


@dataclass(frozen=True)
class Row:
    """One line of the table: the seeds of one network and gradient that have ended."""

    method: Method
    block_size: int
    results: dict[int, Result]

    def mean(self, name: str) -> float:
        """Of one figure, over seeds."""
        return statistics.fmean(getattr(result, name) for result in self.results.values())

    def text(self, baseline: float) -> str:
        """As a line of Markdown."""
        accuracies = [result.accuracy for result in self.results.values()]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        settles = self.method != "bp"
        cells = (
            str(self.block_size),
            NAMES[self.method],
            str(len(accuracies)),
            f"{statistics.fmean(accuracies):.2f}{spread}",
            f"{self.mean('sweeps'):.1f}" if settles else "",
            f"{self.mean('unsettled'):.1f} %" if settles else "",
            f"{1e3 * self.mean('step'):.1f}",
            f"{self.mean('epoch'):.1f}",
            f"{self.mean('step') / baseline:.1f}",
            f"{self.mean('memory'):.0f}",
        )
        return f"| {' | '.join(cells)} |"


def table_lines(rows: list[Row]) -> list[str]:
    """The table as Markdown."""
    baseline = next((row.mean("step") for row in rows if row.method == "bp"), float("nan"))
    head = (
        "| block size | gradient | seeds | accuracy, % | free sweeps | not settled | ms a step | s an epoch "
        "| x backpropagation | MiB |"
    )
    return [head, "|---|---|---|---|---|---|---|---|---|---|", *(row.text(baseline) for row in rows)]


def difference(a: Row, b: Row) -> tuple[float, str] | None:
    """Mean difference in accuracy over the seeds of both rows, and as text with its standard error."""
    seeds = a.results.keys() & b.results.keys()
    if not seeds:
        return None
    each = [a.results[seed].accuracy - b.results[seed].accuracy for seed in sorted(seeds)]
    error = f" ± {statistics.stdev(each) / len(each) ** 0.5:.2f}" if len(each) > 1 else ""
    mean = statistics.fmean(each)
    return mean, f"{mean:+.2f}{error} points over {len(each)} seed{'s' * (len(each) > 1)}"


def claims(rows: list[Row]) -> list[str]:
    """What the paper claims, in figures: differences seed by seed, with their standard error."""
    by = {(row.method, row.block_size): row for row in rows}
    sizes = sorted(size for method, size in by if method == "ep")
    lines = []
    for size in sizes:
        for key in (("implicit", size), ("bp", 1)):
            gap = difference(by["ep", size], by[key]) if key in by else None
            if gap:
                verdict = "within" if abs(gap[0]) <= BOUND else "beyond"
                lines.append(f"block size {size}: EP - {NAMES[key[0]]} {gap[1]}, {verdict} {BOUND}")
    for size in sizes[:-1]:
        whole, part = by["ep", sizes[-1]], by["ep", size]
        gap = difference(part, whole)
        if gap:
            speed = whole.mean("step") / part.mean("step")
            lines.append(f"block size {size} against {sizes[-1]}: {gap[1]}, {speed:.1f} times as fast")
    return lines


def report(lines: list[str], path: Path) -> None:
    """Write the table between the markers of a page."""
    begin, end = "<!-- begin splitting -->\n", "<!-- end splitting -->"
    content = path.read_text(encoding="utf-8")
    head, _, rest = content.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_end:
        raise SystemExit(f"{path}: no markers; put {begin.strip()} and {end} where the table belongs")
    scratch = path.with_suffix(".part")
    scratch.write_text(head + begin + "\n".join(lines) + "\n" + end + tail, encoding="utf-8")
    scratch.replace(path)
