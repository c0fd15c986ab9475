"""A grid of 500 points by a process that is killed twice, then goes on, and two that share what is left.

The command is `ffebm explore`, as a user starts it. It is killed with SIGKILL in the middle of a point, once
a fifth of all are done and once two fifths are; behind three fifths a second process is started beside the
third. With `--undisturbed` one process does all. Either way a digest of the table is printed, of all points
with all their figures and which are on the front, without the commands, which name the folder: both are to be
the same. What other programs take counts in the wall time alone.

python benchmarks/explore_killed.py FOLDER [--network digits] [--undisturbed] [--effort 50]
    [--figures inference]
"""

import argparse
import csv
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from explore import LIGHT, WHOLE

from examples.digits_model import digits_model

LOOK_S = 0.5
DONE = '"op_code":6,', '"state":1,'
"""In lines of the journal that say that a point is done."""


@dataclass(frozen=True)
class Command:
    """The exploration, as a user asks for it.

    Attributes:
        model: What is explored.
        folder: Where it lies.
        options: Beside what is varied.
    """

    model: Path
    folder: Path
    options: tuple[str, ...]

    def started(self) -> subprocess.Popen[bytes]:
        """The command, in a process of its own."""
        varied = [word for knob in WHOLE for word in ("--vary", knob)]
        words = ["explore", str(self.model), "-o", str(self.folder), "--jobs", "1", *self.options, *varied]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "ffebm", *words], stdout=log, stderr=log)


def done(folder: Path) -> int:
    """Points that are done, by the journal."""
    journal = folder / "study.jsonl"
    if not journal.exists():
        return 0
    return sum(all(word in line for word in DONE) for line in journal.read_text().splitlines())


def until(count: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until so many points are done."""
    while done(folder) < count:
        if process.poll() is not None:
            raise SystemExit(f"ended with {process.returncode} after {done(folder)} points")
        time.sleep(LOOK_S)


def killed(count: int, command: Command) -> None:
    """Work until so many points are done, and be killed in the next one."""
    process = command.started()
    until(count, process, command.folder)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    print(f"killed after {done(command.folder)} points", flush=True)


def explored(command: Command, total: int, *, undisturbed: bool) -> None:
    """Do all points, one way or the other."""
    if undisturbed:
        if code := command.started().wait():
            raise SystemExit(f"ended with {code}")
        return
    killed(total // 5, command)
    killed(2 * total // 5, command)
    alone = command.started()
    until(3 * total // 5, alone, command.folder)
    print(f"a second process beside it after {done(command.folder)} points", flush=True)
    other = command.started()
    if codes := [code for process in (alone, other) if (code := process.wait())]:
        raise SystemExit(f"ended with {codes}")


def claims(folder: Path) -> Counter[str]:
    """How points ended: done, or lost with a process that was killed, by the journal."""
    lines = [json.loads(line) for line in (folder / "study.jsonl").read_text().splitlines()]
    states = {line["trial_id"]: line["state"] for line in lines if line["op_code"] == 6}
    return Counter({1: "done", 3: "lost"}.get(state, "running") for state in states.values())


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The table without the commands."""
    with (folder / "table.csv").open(newline="", encoding="utf-8") as text:
        return [{name: row[name] for name in row if name != "command"} for row in csv.DictReader(text)]


def main() -> None:
    """Do the points, and print what they took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the exploration; made")
    parser.add_argument("--network", choices=("resnet50", "digits"), default="resnet50")
    parser.add_argument("--undisturbed", action="store_true", help="one process that nobody kills")
    parser.add_argument("--effort", default="1000", help="as ffebm explore --effort")
    parser.add_argument("--figures", default="inference,training", help="as ffebm explore --figures")
    asked = parser.parse_args()
    asked.folder.parent.mkdir(parents=True, exist_ok=True)
    model = LIGHT / "light_resnet50.onnx"
    if asked.network == "digits":
        model = asked.folder.parent / "digits.onnx"
        onnx.save(digits_model(), model)
    start = time.time()
    options = ("--effort", asked.effort, "--figures", asked.figures)
    explored(Command(model, asked.folder, options), 500, undisturbed=asked.undisturbed)
    wall, used = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime
    rows = rows_of(asked.folder)
    front = sum(row["front"] == "true" for row in rows)
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    ended = ", ".join(f"{count} {how}" for how, count in sorted(claims(asked.folder).items()))
    print(f"claims: {ended}; {len(rows)} rows, {front} of them on the front, SHA-256 {digest}")
    print(f"{wall / 60:.1f} minutes, {spent / 60:.1f} of a processor: {spent / 500:.2f} s a point")


if __name__ == "__main__":
    main()
