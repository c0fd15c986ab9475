import inspect
from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from ffebm.commands.options import with_options


@dataclass(frozen=True)
class Size:
    """Two options."""

    wide: Annotated[int, typer.Option(help="How wide.", min=1)] = 3
    names: Annotated[list[str] | None, typer.Option("--name", help="Of whom.")] = None


@with_options
def draw(
    what: Annotated[str, typer.Argument(help="What to draw.")],
    *,
    size: Size,
    twice: Annotated[bool, typer.Option("--twice", help="Two of them.")] = False,
) -> None:
    """Draw something."""
    typer.echo(f"{what} {size} {twice}")


def told(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(draw)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_each_field_is_an_option_where_the_parameter_stands() -> None:
    assert list(inspect.signature(draw).parameters) == ["what", "wide", "names", "twice"]
    assert told("a house", "--wide", "5", "--name", "x", "--name", "y", "--twice") == (
        0,
        "a house Size(wide=5, names=['x', 'y']) True\n",
    )
    assert told("a house") == (0, "a house Size(wide=3, names=None) False\n")


def test_what_is_said_of_a_field_holds() -> None:
    code, text = told("a house", "--wide", "0")
    assert code == 2
    assert "greater than or equal to 1" in text
    assert "How wide." in told("--help")[1]


def test_it_is_called_from_python_too() -> None:
    seen = []

    @with_options
    def keep(what: str, *, size: Size) -> None:
        seen.append((what, size))

    keep("a tree", wide=7)
    assert seen == [("a tree", Size(7))]
    assert draw.__doc__ == "Draw something."
