"""The records of benchmarks/beyond.py, and their tables."""

import math
import statistics
from pathlib import Path

import msgspec
from fashion_table import Measured

from ffebm.files.write_file import write_file
from ffebm.training.settings import Training

METHODS = {"bp": "backpropagation", "ep": "EP", "implicit": "exact adjoint"}
ODD = {
    "": "",
    "free": ", not held",
    "equal": ", feedback of equal strength, held at 0.4",
    "norm0.7": ", feedback of equal strength, held at 0.7",
    "held": ", the same maps held",
}
MOST = 10
"""Columns of a curve."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run so far.

    Attributes:
        run: Its name: network, method, seed, and what is odd.
        text: Digest of the text that it learns; empty for other data.
        training: Its settings.
        epochs: What was measured.
    """

    run: str
    text: str = ""
    training: Training
    epochs: tuple[Measured, ...] = ()

    @property
    def kind(self) -> tuple[str, str, str]:
        """Network, method, and what is odd: what runs of several seeds share."""
        network, method, _, *odd = self.run.split("-")
        return network, method, " ".join(odd)

    @property
    def seed(self) -> str:
        """As its name says."""
        return self.run.split("-")[2]

    def figure(self, epoch: int) -> float:
        """Bits a character of the test's text, or the share of test samples in percent, after an epoch."""
        figures = self.epochs[epoch - 1].figures
        if self.text:
            return (figures.test_loss or math.nan) / math.log(2)
        return 100 * (figures.test_accuracy or 0.0)

    def words(self) -> str:
        """What it has reached."""
        done = len(self.epochs)
        return f"{self.figure(done):.3f} {'bits a character' if self.text else '%'}" if done else ""


def by_name(folder: Path) -> dict[str, Record]:
    """The records of a folder by run."""
    found = [msgspec.json.decode(path.read_bytes(), type=Record) for path in sorted(folder.glob("*.json"))]
    return {record.run: record for record in found}


def write(record: Record, folder: Path) -> None:
    """Keep a record, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(record), indent=1)
    write_file(folder / f"{record.run}.json", content + b"\n")


def table(records: list[Record]) -> list[str]:
    """For each network a line a method, differences seed by seed, and curves, as Markdown."""
    parts = []
    for network in ("transformer", "residual"):
        own = [record for record in records if record.kind[0] == network and record.epochs]
        if own:
            parts.append([*_methods(own), "", *_differences(own), "", *_curves(own)])
    return [line for number, part in enumerate(parts) for line in ([""] * bool(number) + part)]


def _methods(records: list[Record]) -> list[str]:
    """A line for each method, at the epoch that all its seeds have reached."""
    what = "bits a character" if records[0].text else "accuracy, %"
    head = f"| {records[0].kind[0]} by | seeds | epochs | {what} | settled | at bounds | largest norm "
    lines = [f"{head}| cosine, lowest and median | ms a step |", f"|{'---|' * 9}"]
    for kind in sorted({record.kind for record in records}, key=lambda k: (k[2], list(METHODS).index(k[1]))):
        group = [record for record in records if record.kind == kind]
        done = min(len(record.epochs) for record in group)
        rows = [record.epochs[done - 1] for record in group]
        of = group[0].training.epochs
        steps = [row.step for record in group for row in record.epochs if row.step]
        cells = [
            f"{METHODS[kind[1]]}{ODD[kind[2]]}",
            str(len(group)),
            str(done) if done == of else f"{done} of {of}",
            _spread([record.figure(done) for record in group]),
            ""
            if kind[1] == "bp"
            else f"{100 * (1 - statistics.fmean(r.figures.unsettled for r in rows)):.0f} %",
            *_probed([record.epochs[:done] for record in group]),
            f"{1e3 * statistics.fmean(steps):.0f}" if steps else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _spread(figures: list[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {statistics.stdev(figures):.3f}" if len(figures) > 1 else ""
    return f"{statistics.fmean(figures):.3f}{spread}"


def _probed(runs: list[tuple[Measured, ...]]) -> tuple[str, str, str]:
    """Units at bounds, largest norm, cosines, where they were last looked at."""
    seen = [[row.probe for row in rows if row.probe is not None] for rows in runs]
    probes = [found[-1] for found in seen if found]
    if not probes:
        return "", "", ""
    bounds = statistics.fmean(probe.at_zero + probe.at_top for probe in probes)
    norm = max(n for probe in probes for n in probe.norms.values())
    cosines = [cosine for probe in probes for cosine in probe.cosines.values()]
    return f"{bounds:.0%}", f"{norm:.2f}", f"{min(cosines):.3f}, {statistics.median(cosines):.4f}"


def _differences(records: list[Record]) -> list[str]:
    """What each method is above backpropagation at equal steps, seed by seed, with its standard error."""
    baseline = {record.seed: record for record in records if record.kind[1:] == ("bp", "")}
    lines = []
    for kind in sorted({record.kind for record in records if record.kind[1:] != ("bp", "")}):
        pairs = [(r, baseline[r.seed]) for r in records if r.kind == kind and r.seed in baseline]
        if not pairs:
            continue
        done = min(len(record.epochs) for pair in pairs for record in pair)
        apart = [ours.figure(done) - theirs.figure(done) for ours, theirs in pairs]
        mean = statistics.fmean(apart)
        error = f" ± {statistics.stdev(apart) / math.sqrt(len(apart)):.3f}" if len(apart) > 1 else ""
        share = mean / statistics.fmean(theirs.figure(done) for _, theirs in pairs)
        unit = f"bits a character, {share:+.2%}," if records[0].text else "points"
        seeds = f"{len(pairs)} seed{'s' if len(pairs) > 1 else ''}"
        name = f"{METHODS[kind[1]]}{ODD[kind[2]]}"
        lines.append(
            f"- {name} - backpropagation: {mean:+.3f}{error} {unit} over {seeds}, after epoch {done}"
        )
    return lines


def _curves(records: list[Record]) -> list[str]:
    """The figure after each epoch; of long runs after every few."""
    longest = max(len(record.epochs) for record in records)
    every = 1 if longest <= MOST else -(-longest // MOST)
    shown = range(every, longest + 1, every)
    lines = [f"| run | {' | '.join(map(str, shown))} |", f"|{'---|' * (len(shown) + 1)}"]
    for record in records:
        cells = [f"{record.figure(n):.3f}" if n <= len(record.epochs) else "" for n in shown]
        lines.append(f"| {record.run} | {' | '.join(cells)} |")
    return lines


def report(lines: list[str], path: Path) -> None:
    """Write the tables between the markers of a page."""
    begin, end = "<!-- begin beyond -->\n", "<!-- end beyond -->"
    content = path.read_text(encoding="utf-8")
    head, _, rest = content.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_end:
        raise SystemExit(f"{path}: no markers; put {begin.strip()} and {end} where the tables belong")
    write_file(path, (head + begin + "\n".join(lines) + "\n" + end + tail).encode())
