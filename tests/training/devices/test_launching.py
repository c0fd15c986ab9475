"""Processes are started together, and end together; here each is a script."""

import sys

import pytest

from ffebm.errors import UsageError
from ffebm.training.devices import launching
from ffebm.training.devices.launching import launch


def test_one_that_is_killed_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, signal, sys, time\n"
        "os.environ['RANK'] == '1' and os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(100)"
    )
    monkeypatch.setattr(launching, "GRACE_S", 0.2)
    monkeypatch.setattr(launching, "COMMAND", (sys.executable, "-c"))
    with pytest.raises(UsageError) as caught:
        launch([script], 3)
    assert str(caught.value) == (
        "process 1 of 3 was ended by SIGKILL, and the run with it\n"
        "  hint: --resume goes on behind the last epoch, with any number of devices"
    )


@pytest.mark.parametrize(("rank", "code"), [("0", 2), ("1", 3)])
def test_one_that_fails_ends_the_run(rank: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os, sys, time\n"
        f"os.environ['RANK'] == '{rank}' and (print('no disk', file=sys.stderr), sys.exit({code}))\n"
        "time.sleep(100)"
    )
    monkeypatch.setattr(launching, "GRACE_S", 0.2)
    monkeypatch.setattr(launching, "COMMAND", (sys.executable, "-c"))
    if rank == "0":
        assert launch([script], 2) == code
        return
    with pytest.raises(UsageError, match=r"^process 1 of 2 ended with code 3, .*:\nno disk\n"):
        launch([script], 2)
