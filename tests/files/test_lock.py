import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ffebm.errors import UsageError
from ffebm.files.lock import claimed, lock_of
from ffebm.files.scratch import collect

HOLDING = """
import os, pathlib, sys
from ffebm.files.lock import claimed
with claimed(pathlib.Path(sys.argv[1]), "works on it", ""):
    print("held", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), 9)
"""


def holding(path: Path) -> subprocess.Popen[str]:
    """A process that has claimed a path; it is killed when its input ends."""
    command = [sys.executable, "-c", HOLDING, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_what_is_claimed_is_refused_to_others_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = holding(path)
    collect(tmp_path)  # the living one's lock stays
    with pytest.raises(UsageError) as caught, claimed(path, "works on it", "wait"):
        pass
    pattern = (
        rf"{re.escape(str(path))}: another process works on it: process {process.pid} on \S+ "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d\n  hint: wait"
    )
    assert re.fullmatch(pattern, str(caught.value))
    process.communicate()
    assert lock_of(path).exists()
    with claimed(path, "works on it", "wait"):
        assert lock_of(path).exists()
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_the_dead_is_removed(tmp_path: Path) -> None:
    process = holding(tmp_path / "run")
    process.communicate()
    collect(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_claims_again_what_it_has_claimed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with claimed(path, "works on it", ""):
        with claimed(path, "works on it", ""):
            pass
        assert os.listdir(path.parent) == [".run.lock.ffebm"]
    assert list(tmp_path.iterdir()) == []


def test_claims_of_long_names_are_told_apart(tmp_path: Path) -> None:
    names = ["x" * 250 + end for end in "ab"]
    with claimed(tmp_path / names[0], "works on it", ""), claimed(tmp_path / names[1], "works on it", ""):
        assert len(list(tmp_path.iterdir())) == 2
