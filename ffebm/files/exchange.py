"""Swaps two names in one step, where the system can."""

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
RENAME_SWAP = 2
"""The same, of macOS."""
SYSCALL = {"x86_64": 316, "aarch64": 276}
"""Numbers of renameat2 for C libraries that do not wrap it."""
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}
"""What a kernel or a file system says that has no such step."""


def exchange(one: Path, other: Path) -> bool:
    """Give two files or folders of one file system each other's name; at no moment is a name free.

    Returns:
        False if the system cannot: then nothing has changed.

    Raises:
        OSError: If it can and fails.
    """
    call = _call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _call() -> Callable[[bytes, bytes], int] | None:
    """The system's call, by two paths; None without one."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        return lambda one, other: int(library.renamex_np(one, other, RENAME_SWAP))
    if hasattr(library, "renameat2"):
        return lambda one, other: int(library.renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE))
    number = SYSCALL.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return None
    return lambda one, other: int(library.syscall(number, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE))
