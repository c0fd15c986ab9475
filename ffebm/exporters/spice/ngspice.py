"""Runs netlists in ngspice, and reads the waveforms that it writes.

Only files that this package wrote are run: in a folder of their own, in batch mode, without the user's
start-up file, and not for longer than a bound.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.exporters.spice import passive
from ffebm.exporters.spice.control import BILLED, RUNS, drivers, raw_file, watched
from ffebm.exporters.spice.export import Netlist
from ffebm.exporters.spice.names import NodeNames
from ffebm.exporters.spice.passive import PassiveNetlist
from ffebm.exporters.spice.stimulus import PHASES
from ffebm.graph.tensor import Floats
from ffebm.limits import CIRCUIT_SECONDS

_TAIL = 400
"""Characters of ngspice's own message that are shown."""


@dataclass(frozen=True)
class Waveforms:
    """What ngspice found of one sample in one run.

    Attributes:
        times: s, [points].
        states: In units of the model, [points, units of all layers in order].
        watts: What the drivers of all lines give to the cells, [points].
    """

    times: Floats
    states: Floats
    watts: Floats

    def at(self, second: float) -> Floats:
        """The states at a time, between two points of it on a line, [units]."""
        columns = [np.interp(second, self.times, column) for column in self.states.T]
        return np.array(columns)

    def watts_at(self, second: float) -> float:
        """The power at a time."""
        return float(np.interp(second, self.times, self.watts))


def ngspice_path() -> str:
    """Where ngspice is.

    Raises:
        UsageError: If it is not installed.
    """
    found = shutil.which("ngspice")
    if found is None:
        raise UsageError(
            "--run needs ngspice, which is not on the path",
            hint="install it (Debian: apt-get install ngspice); or leave --run out, and run the netlists "
            "elsewhere: ngspice -n -b FILE",
        )
    return found


@contextmanager
def ran(block: str, file: str, text: str) -> Iterator[tuple[Path, str]]:
    """Run a netlist in a folder of its own.

    Args:
        block: Name of the block.
        file: Name of the netlist.
        text: The netlist.

    Yields:
        The folder with what ngspice wrote, and the end of what it said.

    Raises:
        UsageError: If ngspice is missing or takes longer than the bound.
    """
    program = ngspice_path()
    with tempfile.TemporaryDirectory(prefix="ffebm-spice-") as folder:
        here = Path(folder)
        (here / file).write_text(text, encoding="ascii")
        try:
            done = subprocess.run(
                [program, "-n", "-b", file],
                cwd=here,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CIRCUIT_SECONDS.value,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"{block}: ngspice is not through", allowed=CIRCUIT_SECONDS.allowed, hint=CIRCUIT_SECONDS.hint
            ) from None
        said = (done.stderr or done.stdout).decode("utf-8", "replace")[-_TAIL:]
        yield here, " ".join(said.split())


def simulate(made: Netlist) -> dict[tuple[int, str], Waveforms]:
    """Run a netlist.

    Returns:
        Waveforms by sample and run.

    Raises:
        UsageError: If ngspice is missing, takes longer than the bound, or does not get through.
    """
    block = made.circuit.block.name
    with ran(block, made.file, made.text) as (here, said):
        found = {}
        for sample in range(made.stimulus.samples):
            for run in RUNS:
                path = here / raw_file(block, sample, run)
                waves = _read(made, path) if path.exists() else None
                if waves is None or waves.times[-1] < 0.999 * made.timeline.ends(run)[-1]:
                    raise UsageError(
                        f"ngspice did not get through sample {sample} ({run} time): {said}",
                        location=Location(made.file),
                    )
                found[sample, run] = waves
    return found


@dataclass(frozen=True)
class PassiveRun:
    """What ngspice found of a deep resistive block, in units of the model.

    Attributes:
        points: Operating points by phase, [samples, units of all layers in order].
        times: Of each sample's way through its phases as billed, s, [points].
        courses: The states there, [points, units].
    """

    points: dict[str, Floats]
    times: list[Floats]
    courses: list[Floats]


def passive_run(made: PassiveNetlist) -> PassiveRun:
    """Run a netlist of a deep resistive block.

    Raises:
        UsageError: If ngspice is missing, takes longer than the bound, or does not get through.
    """
    circuit, nodes = made.circuit, passive.watched(made.circuit, NodeNames(made.circuit))
    points: dict[str, list[Floats]] = {phase: [] for phase in PHASES}
    times, courses = list[Floats](), list[Floats]()

    def columns_of(here: Path, said: str, sample: int, what: str) -> dict[str, Floats]:
        path = here / passive.raw_file(circuit.block.name, sample, what)
        if not path.exists():
            raise UsageError(
                f"ngspice did not get through sample {sample}, {what}: {said}",
                location=Location(made.file),
            )
        return read_raw(path)

    with ran(circuit.block.name, made.file, made.text) as (here, said):
        for sample in range(made.stimulus.samples):
            for phase in PHASES:
                columns = columns_of(here, said, sample, phase)
                found = np.array([columns[f"v({node})"][-1] for node in nodes])
                points[phase].append(found / circuit.volts)
            columns = columns_of(here, said, sample, BILLED)
            if columns["time"][-1] < 0.999 * made.timeline.ends(BILLED)[-1]:
                raise UsageError(
                    f"ngspice did not get to the end of sample {sample}: {said}", location=Location(made.file)
                )
            times.append(columns["time"])
            courses.append(np.stack([columns[f"v({node})"] for node in nodes], axis=1) / circuit.volts)
    return PassiveRun({phase: np.stack(found) for phase, found in points.items()}, times, courses)


def _read(made: Netlist, path: Path) -> Waveforms:
    names, volts = NodeNames(made.circuit), made.circuit.relaxation.voltage.value
    columns = read_raw(path)
    states = np.stack([columns[f"v({node})"] for node in watched(made.circuit, names)], axis=1)
    watts = np.zeros(len(states))
    for node, element in drivers(made.circuit, names).items():
        watts -= columns[f"v({node})"] * columns[f"i({element})"]
    return Waveforms(columns["time"], states / volts, watts)


def read_raw(path: Path) -> dict[str, Floats]:
    """The vectors of a binary raw file by name, [points] each.

    Source: ngspice's manual, chapter on its output file formats.
    """
    head, _, body = path.read_bytes().partition(b"Binary:\n")
    names, counts, listing = [], {}, False
    for line in head.decode("ascii", "replace").splitlines():
        if listing:
            names.append(line.split("\t")[2].lower())
        elif line.startswith("No. "):
            key, _, value = line.partition(":")
            counts[key] = int(value)
        listing = listing or line.startswith("Variables:")
    shape = (counts["No. Points"], counts["No. Variables"])
    values = np.frombuffer(body, "<f8", shape[0] * shape[1]).reshape(shape)
    return dict(zip(names, values.T, strict=True))
