"""What the fixture `run` of `conftest.py` is."""

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
"""Runs `ffebm` with these arguments, in this process; exit code, standard output, standard error."""
