"""The records of benchmarks/fashion.py, and their table."""

import math
import statistics
from pathlib import Path

import msgspec
from fashion_probe import Probe

from ffebm.files.write_file import write_file
from ffebm.training.runs.record import Epoch
from ffebm.training.settings import Training

NAMES = {"bp": "backpropagation", "ep": "EP", "implicit": "exact adjoint", "unrolled": "truncated unrolling"}
KINDS = {
    "held": "held as at {}",
    "feedback": "feedback {}",
    "beta": "beta {}",
    "sweeps": "{} sweeps",
    "depth": "{} layers",
    "width": "{} of the width",
    "epochs": "a schedule of {} epochs",
}
"""What is odd in a run, by the start of its word."""
ORDER = list(NAMES)


class Measured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An epoch.

    Attributes:
        figures: As the run recorded it.
        step: Mean processor seconds of a training step, of one thread; 0 if it was not measured.
        probe: How blocks stand behind it; None without blocks, or if it was lost.
    """

    figures: Epoch
    step: float = 0.0
    probe: Probe | None = None

    @property
    def accuracy(self) -> float:
        """Share of the test images."""
        return self.figures.test_accuracy or 0.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A run so far.

    Attributes:
        run: Its name: method, block size, layers where there are not six, seed, and what is odd.
        stop: Epochs after which it ends.
        training: Its settings.
        epochs: What was measured.
    """

    run: str
    stop: int
    training: Training
    epochs: tuple[Measured, ...] = ()

    @property
    def kind(self) -> tuple[str, int, str]:
        """Method, block size, and what is odd: what runs of several seeds share."""
        method, size, *rest = self.run.split("-")
        return method, int(size), " ".join(word for word in rest if not word.startswith("seed"))


def by_name(folder: Path) -> dict[str, Record]:
    """The records of a folder by run."""
    found = [msgspec.json.decode(path.read_bytes(), type=Record) for path in sorted(folder.glob("*.json"))]
    return {record.run: record for record in found}


def read(folder: Path) -> list[Record]:
    """The records of a folder, by layers of the network, block size and method."""

    def place(record: Record) -> tuple[str, int, int, str]:
        method, size, odd = record.kind
        return _network(odd), size, ORDER.index(method), record.run

    return sorted(by_name(folder).values(), key=place)


def write(record: Record, folder: Path) -> None:
    """Keep a record, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(record), indent=1)
    write_file(folder / f"{record.run}.json", content + b"\n")


def table(records: list[Record]) -> list[str]:
    """A line for each method and block size, and curves of single runs, as Markdown."""
    kinds = list(dict.fromkeys(record.kind for record in records))
    groups = {kind: [r for r in records if r.kind == kind and r.epochs] for kind in kinds}
    baselines = {
        _network(odd): _step(group)
        for (method, _, odd), group in groups.items()
        if method == "bp" and odd == _network(odd)
    }
    head = (
        "| block size | gradient | seeds | epochs | accuracy, % | settled | at bounds | largest norm "
        "| cosine, lowest and median | ms a step | x backpropagation |"
    )
    lines = [head, f"|{'---|' * 11}"]
    lines += [
        _line(kind, part, baselines.get(_network(kind[2]), math.nan))
        for kind, group in groups.items()
        if group
        for part in _as_far(group)
    ]
    lines += ["", "Accuracy on the test images after each epoch, %:", "", *_curves(records)]
    return lines


def _network(odd: str) -> str:
    """Of what is odd, the word that tells another network than that of six layers; "" if none does."""
    return next((word for word in odd.split() if word.startswith("depth")), "")


def _step(group: list[Record]) -> float:
    """Mean seconds of a step over runs; nan without any."""
    steps = [row.step for record in group for row in record.epochs if row.step]
    return statistics.fmean(steps) if steps else math.nan


def _as_far(group: list[Record]) -> list[list[Record]]:
    """All seeds, compared where the last one is; and apart from them those that have got furthest."""
    most = max(len(record.epochs) for record in group)
    furthest = [record for record in group if len(record.epochs) == most]
    return [group] if furthest == group else [group, furthest]


def _line(kind: tuple[str, int, str], group: list[Record], baseline: float) -> str:
    """Runs that differ by their seed alone, at the epoch that all have reached."""
    method, size, odd = kind
    done = min(len(record.epochs) for record in group)
    rows = [record.epochs[done - 1] for record in group]
    accuracies = [100 * row.accuracy for row in rows]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(rows) > 1 else ""
    of = group[0].training.epochs
    probes = [row.probe for row in rows if row.probe is not None]
    step = _step(group)
    cells = [
        str(size),
        f"{NAMES[method]}{_odd(odd)}",
        str(len(rows)),
        str(done) if done == of else f"{done} of {of}",
        f"{statistics.fmean(accuracies):.2f}{spread}",
        "" if method == "bp" else f"{100 * (1 - statistics.fmean(r.figures.unsettled for r in rows)):.0f} %",
        *_probed(probes),
        f"{1e3 * step:.0f}",
        f"{step / baseline:.1f}" if math.isfinite(baseline) else "",
    ]
    return f"| {' | '.join(cells)} |"


def _odd(words: str) -> str:
    """What is not the recipe's, in words."""
    said = {"free": "not held", "val": "a tenth held out", "mirrored": "mirrored images"}
    found = []
    for word in words.split():
        for kind, text in KINDS.items():
            if word.startswith(kind) and word != kind:
                said[word] = text.format(word.removeprefix(kind))
        found.append(said.get(word, word))
    return "".join(f", {word}" for word in found)


def _probed(probes: list[Probe]) -> tuple[str, str, str]:
    """Units at bounds, largest norm, cosines."""
    if not probes:
        return "", "", ""
    bounds = statistics.fmean(probe.at_zero + probe.at_top for probe in probes)
    norm = max((n for probe in probes for n in probe.norms.values()), default=0.0)
    cosines = [cosine for probe in probes for cosine in probe.cosines.values()]
    return f"{bounds:.0%}", f"{norm:.2f}", f"{min(cosines):.2f}, {statistics.median(cosines):.3f}"


def _curves(records: list[Record]) -> list[str]:
    shown = [record for record in records if record.epochs]
    longest = max((len(record.epochs) for record in shown), default=0)
    lines = [f"| run | {' | '.join(str(n) for n in range(1, longest + 1))} |", f"|{'---|' * (longest + 1)}"]
    for record in shown:
        cells = [f"{100 * row.accuracy:.2f}" for row in record.epochs]
        lines.append(f"| {record.run} | {' | '.join(cells + [''] * (longest - len(cells)))} |")
    return lines


def report(lines: list[str], path: Path) -> None:
    """Write the table between the markers of a page."""
    begin, end = "<!-- begin fashion -->\n", "<!-- end fashion -->"
    content = path.read_text(encoding="utf-8")
    head, _, rest = content.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_end:
        raise SystemExit(f"{path}: no markers; put {begin.strip()} and {end} where the table belongs")
    write_file(path, (head + begin + "\n".join(lines) + "\n" + end + tail).encode())
