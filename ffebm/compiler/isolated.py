"""Runs code of others in a process of its own, where it may crash or hang without taking us along."""

import os
import select
import signal
import time
import warnings
from collections.abc import Callable

from ffebm.errors import ModelError
from ffebm.limits import CONVERTER_SECONDS

DONE, FAILED = b"+", b"-"
"""First byte of what the other process sends: before its result, or before the text of its error."""


def isolated(function: Callable[[bytes], bytes], data: bytes, errors: tuple[type[Exception], ...]) -> bytes:
    """What a function makes of some bytes.

    Args:
        function: It must need no threads and no locks of this process.
        data: Its argument.
        errors: What it may raise.

    Raises:
        ModelError: If it raises one of those, crashes or takes too long; with the cause.
    """
    if not hasattr(os, "fork"):
        sent = _answer(function, data, errors)
    else:
        here, there = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads: the child starts none
            child = os.fork()
        if not child:
            _be_the_child(there, function, data, errors)
        os.close(there)
        sent = _received(here, child)
    if sent[:1] != DONE:
        raise ModelError(sent[1:].decode("utf-8", "backslashreplace") or "onnx crashes at it")
    return sent[1:]


def _answer(function: Callable[[bytes], bytes], data: bytes, errors: tuple[type[Exception], ...]) -> bytes:
    try:
        return DONE + function(data)
    except errors as error:
        return FAILED + str(error).encode("utf-8", "backslashreplace")


def _be_the_child(
    pipe: int, function: Callable[[bytes], bytes], data: bytes, errors: tuple[type[Exception], ...]
) -> None:
    """Compute, send and end at once: nothing of the parent may be cleaned up twice."""
    try:
        with os.fdopen(pipe, "wb") as end:
            end.write(_answer(function, data, errors))
    finally:
        os._exit(0)


def _received(pipe: int, child: int) -> bytes:
    """All that the child sends; nothing if it crashes."""
    deadline = time.monotonic() + CONVERTER_SECONDS.value
    parts: list[bytes] = []
    try:
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ModelError(
                    "onnx takes too long for it",
                    allowed=CONVERTER_SECONDS.allowed,
                    hint=CONVERTER_SECONDS.hint,
                )
            part = os.read(pipe, 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(pipe)
        os.kill(child, signal.SIGKILL)  # it has sent all, has crashed, or takes too long
        os.waitpid(child, 0)
