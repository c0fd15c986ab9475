"""Where commands print, and the arguments that several of them take."""

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from rich.console import Console, RenderableType
from typer import Argument, Option

out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

LARGEST = 2**31 - 1
"""Of numbers that torch counts or seeds with."""

PlanPath = Annotated[Path, Argument(metavar="PLAN", help="Folder that `ffebm compile` wrote.")]
DATA = Option(
    help="digits, python-manual, fashion-mnist, cifar-10, cifar-100, imagenet32, a package's, or an .npz "
    "with x (or an array for each input, by its name) and y."
)
"""`--data` of a command that takes labelled data."""
DataFolder = Annotated[
    Path | None, Option(help="Where the data's files are. [default: Debian's, for fashion-mnist]")
]


PIPE = 80
"""Columns of tables that go to a file or another program, unless COLUMNS says otherwise."""
PLAIN = str.maketrans({"†": "+", "×": "x", "µ": "u", "…": "..."})
"""For streams that are not in Unicode."""


def tables() -> Console:
    """A console for tables: as wide as the terminal."""
    width = None if out.is_terminal or os.environ.get("COLUMNS", "").isdecimal() else PIPE
    return Console(highlight=False, emoji=False, markup=False, width=width)


def print_tables(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print tables; plain text without blanks at the ends of lines if it goes to no terminal."""
    if console.is_terminal:
        for part in parts:
            console.print(part)
        return
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    text = "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
    console.file.write(text if console.encoding.startswith("utf") else text.translate(PLAIN))


def never_fail_to_print() -> None:
    """Names that a stream's encoding lacks are printed as their codes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
