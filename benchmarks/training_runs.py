"""The command of a table of training runs that go on where they stopped: run, list, table."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """A run."""

    @property
    def name(self) -> str:
        """What records and checkpoints are called."""


R = TypeVar("R", bound=Named)


@dataclass(frozen=True)
class TrainingRuns(Generic[R]):
    """Runs and what is done with them.

    Attributes:
        text: What the command says of itself.
        runs: All of them, in the order in which they are worked off.
        work: Folder of checkpoints, unless another is given.
        show: Prints how far runs have got.
        work_off: Goes on with runs, with checkpoints in a folder.
        lines: The table of what is recorded.
        report: Writes the table between the markers of a page.
    """

    text: str
    runs: Sequence[R]
    work: Path
    show: Callable[[list[R]], None]
    work_off: Callable[[list[R], Path], None]
    lines: Callable[[], list[str]]
    report: Callable[[list[str], Path], None]

    def main(self) -> None:
        """Do what the command line asks for."""
        names = [run.name for run in self.runs]
        parser = argparse.ArgumentParser(
            description=self.text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("what", choices=["run", "list", "table"])
        parser.add_argument("--only", nargs="+", default=names, metavar="NAME")
        parser.add_argument("--work", type=Path, default=self.work, help="folder of checkpoints")
        parser.add_argument("--report", type=Path, metavar="PAGE", help="write the table between its markers")
        options = parser.parse_args()
        unknown = sorted(set(options.only) - set(names))
        if unknown:
            parser.error(f"--only {' '.join(unknown)}: {', '.join(names)}")
        chosen = [run for run in self.runs if run.name in options.only]
        if options.what == "list":
            self.show(chosen)
        elif options.what == "run":
            options.work.mkdir(parents=True, exist_ok=True)
            try:
                self.work_off(chosen, options.work)
            except KeyboardInterrupt:
                raise SystemExit("interrupted; the same command goes on") from None
        else:
            lines = self.lines()
            print("\n".join(lines))
            if options.report:
                self.report(lines, options.report)
