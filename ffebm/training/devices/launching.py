"""Starts the processes of a run on this machine, and ends them all when one fails."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ffebm.errors import UsageError

COMMAND = (sys.executable, "-m", "ffebm")
MOMENT_S = 0.05
"""Between two looks at the processes."""
GRACE_S = 20.0
"""How long the others may take to end by themselves, and to say why, behind the first that failed."""


def launch(words: Sequence[str], count: int) -> int:
    """Run a command of ffebm in several processes that know of each other, and wait for them.

    The first one prints as if it were alone; what others say is shown where they fail and it does not.

    Args:
        words: The command.
        count: How many processes.

    Returns:
        The exit code of the first one, which has said itself what was wrong; 0 if all have done their work.

    Raises:
        UsageError: If another one fails first.
    """
    command = [*COMMAND, *words]
    with ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(1, count)]
        running = [
            stack.enter_context(_ended(subprocess.Popen(command, env=env, stdout=sink, stderr=sink)))
            for env, sink in zip(_environments(count), [None, *said], strict=True)
        ]
        failed = _first_failed(running)
        if failed is None:
            return 0
        _wait(running, GRACE_S)
        code = running[failed].returncode
        if failed == 0 and code > 0:
            return code
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        text = ""
        if failed:
            said[failed - 1].seek(0)
            text = said[failed - 1].read().decode(errors="replace").strip()
    shown = f":\n{text}" if text else ""
    raise UsageError(
        f"process {failed} of {count} {how}, and the run with it{shown}",
        hint="--resume goes on behind the last epoch, with any number of devices",
    )


def _environments(count: int) -> Iterator[dict[str, str]]:
    """What each process finds the others by; the cores that this one may use are shared out."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    for rank in range(count):
        yield {
            "OMP_NUM_THREADS": str(threads),
            **os.environ,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
        }


def _first_failed(running: "Sequence[subprocess.Popen[bytes]]") -> int | None:
    """The number of the process that fails first; None when all have ended well."""
    while True:
        codes = [process.poll() for process in running]
        bad = [number for number, code in enumerate(codes) if code]
        if bad:  # one that a signal has ended did not fail because of another
            return min(bad, key=lambda number: codes[number] or 0)
        if None not in codes:
            return None
        time.sleep(MOMENT_S)


def _wait(running: "Sequence[subprocess.Popen[bytes]]", seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(MOMENT_S)


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> "Iterator[subprocess.Popen[bytes]]":
    """A process that does not outlive us."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
