"""Commands run in this process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ffebm import cli

Run = Callable[..., tuple[int, str, str]]
"""Runs `ffebm` with these arguments; exit code, standard output, standard error."""


def running(capsys: pytest.CaptureFixture[str]) -> Run:
    """What the fixture `run` is."""

    def run_command(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli._guarded([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command
