"""What a command takes in a process of its own: processor time, wall time, and its peak of memory."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
took = time.perf_counter() - started
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, took, used.ru_maxrss * 1024]))
"""
"""A process starts with the peak of the one that forked it: so one that holds nothing starts the command."""


@dataclass(frozen=True)
class Used:
    """What a command took, with the processes that it started.

    Attributes:
        processor: Seconds of processor time, of user and system together.
        wall: Seconds that passed.
        peak: Bytes of resident memory of its largest process at most, mapped files that were read included.
    """

    processor: float
    wall: float
    peak: int


def used_by(words: Sequence[str]) -> Used:
    """Run a Python command, as words behind the interpreter, and say what it took.

    Raises:
        RuntimeError: If it fails.
    """
    command = [sys.executable, "-S", "-c", LAUNCHER, sys.executable, *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    code, processor, wall, peak = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{' '.join(words)} ended with {code}")
    return Used(processor, wall, peak)


def least_used_by(words: Sequence[str], runs: int = 5) -> Used:
    """The run with the least processor time of several: what others on the machine do only adds to it."""
    return min((used_by(words) for _ in range(runs)), key=lambda used: used.processor)
