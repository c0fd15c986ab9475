"""Processes that are killed while they save or train: nothing is lost, runs go on with the same bits."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[1] / "benchmarks" / "kills.py"


def kills(*options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, KILLS, *options], capture_output=True, text=True, cwd=KILLS.parents[1]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_kills_in_saves() -> None:
    in_one, in_two, last = kills("--saves", "12", "--two-steps", "6", "--runs", "0")
    assert in_one.startswith("saves: 12 kills, 0 absent until the next command, 0 lost, ")
    assert in_two.startswith("saves in two steps: 6 kills, ")
    assert last == "nothing lost"


def test_kills_in_training() -> None:
    """Of cells that learn in place, whose state is the largest."""
    options = ("--saves", "0", "--two-steps", "0", "--runs", "2", "--machines", "resistive")
    figures, last = kills(*options)
    assert figures.startswith("training on resistive: ")
    assert last == "nothing lost"


@pytest.mark.slow
def test_many_kills() -> None:
    assert kills("--seed", "1")[-1] == "nothing lost"
