"""Where commands print, and the arguments that several of them take."""

from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument

out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

LARGEST = 2**31 - 1
"""Of numbers that torch counts or seeds with."""

PlanPath = Annotated[Path, Argument(metavar="PLAN", help="Folder that `ffebm compile` wrote.")]
