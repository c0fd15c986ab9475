"""The entry points; the only place where an error becomes text and an exit code."""

import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from ffebm.collection import collecting_later
from ffebm.commands.catalogue import COMMANDS
from ffebm.commands.console import err, never_fail_to_print, out
from ffebm.errors import FfebmError, InternalError
from ffebm.visible import visible_lines

QUICK = {"compile", "explain", "passes", "report", "show"}
"""Commands that soon end: they look for no cycles of objects, which takes a tenth of them or more."""


def command_line(arguments: Sequence[str]) -> typer.Typer:
    """The commands, of which only the one that is asked for is imported; the others are there to be listed.

    Args:
        arguments: What follows `ffebm`: a command's name is the first of them that is no option.
    """
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode="markdown",  # in which [default: …] is text
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        callback=_options,
    )
    asked = _asked(arguments)
    for name, summary in COMMANDS.items():
        function = command_of(name) if name == asked else _unasked
        app.command(name, help=None if name == asked else summary)(function)
    return app


def _asked(arguments: Sequence[str]) -> str | None:
    """The word that names a command."""
    return next((word for word in arguments if not word.startswith("-")), None)


def command_of(name: str) -> Callable[..., None]:
    """The function of a command, which is called as its file is."""
    function: Callable[..., None] = getattr(import_module(f"ffebm.commands.{name}"), name)
    return function


def _unasked() -> None:
    """Stands for a command in the list of all."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"ffebm {version('ffebm')}", markup=False)
        raise typer.Exit


def _options(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Compile a model for analog crossbar tiles and digital units; run and train the plan."""


def main() -> None:
    """Entry point of `ffebm`."""
    _run(sys.argv[1:])


def main_compile() -> None:
    """Entry point of `ffebm-compile`, which is `ffebm compile`."""
    _run(["compile", *sys.argv[1:]])


def _run(arguments: list[str]) -> NoReturn:
    """Run a command, and end the process."""
    never_fail_to_print()
    quick = _asked(arguments) in QUICK
    with collecting_later() if quick else nullcontext():
        code = _guarded(arguments)
    if quick:
        gc.freeze()  # the end of the process frees everything, without a last look for cycles
    sys.exit(code)


def _guarded(arguments: list[str]) -> int:
    """Run a command; 0 if done, 2 if the user's input is at fault, 1 if ffebm is, 130 if interrupted."""
    # torch's threads spin while they wait, which on a busy machine costs many times what it saves
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        command_line(arguments)(arguments, prog_name="ffebm")
    except SystemExit as leave:
        return int(leave.code or 0)
    except InternalError:
        return _our_fault()
    except FfebmError as error:
        err.print(f"error: {visible_lines(str(error))}", markup=False)
        return 2
    except KeyboardInterrupt:
        err.print("interrupted")
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            err.print(f"error: {visible_lines(str(error))}", markup=False)
            return 2
        # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # noqa: BLE001 - whatever escapes is a fault of ours, and says so
        return _our_fault()
    return 0


def _our_fault() -> int:
    err.print(traceback.format_exc(), markup=False)
    err.print(
        "this is a fault of ffebm, not of your input; please report it with the text above", markup=False
    )
    return 1
