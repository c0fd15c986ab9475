"""Locks on files, which the kernel takes back when their holder ends, however it ends."""

import errno
import fcntl
import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.files.decoded import decoded

PATIENCE_S = 0.3
"""How long a claim is tried: a lock that is only looked at is free again much sooner."""
LOCK = ".lock.ffebm"
"""Ends the name of the file that stands for a claim."""
_NAME_BYTES = 200
"""Of a name that is part of another name; file systems take 255."""


class Owner(msgspec.Struct, frozen=True):
    """Who holds a lock.

    Attributes:
        pid: Number of the process.
        host: Name of its machine.
        boot: What the machine's kernel calls this run of it; empty if it does not say.
        since: When it began, local time.
        target: Name of what it is held for, in the same folder.
    """

    pid: int
    host: str
    boot: str
    since: str
    target: str

    @property
    def is_here(self) -> bool:
        """It runs or ran on this machine, where a free lock proves that it has ended."""
        return self.host == platform.node() or (bool(self.boot) and self.boot == _boot())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def this_process(target: str) -> Owner:
    """This process, as the owner of something."""
    now = datetime.now().astimezone().isoformat(" ", "seconds")
    return Owner(os.getpid(), platform.node(), _boot(), now, target)


def acquired(number: int, *, wait: bool = False) -> bool:
    """Take the lock of an open file.

    Args:
        number: The open file.
        wait: Until whoever holds it gives it back.

    Returns:
        Whether it is ours; it is given back when the file is closed.

    Raises:
        OSError: If the file system has no locks.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def is_same(number: int, path: Path) -> bool:
    """A path still leads to an open file or folder."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(number))


def sign(number: int, owner: Owner) -> None:
    """Write down who owns a lock, into its file."""
    os.ftruncate(number, 0)
    os.pwrite(number, msgspec.json.encode(owner), 0)


def owner_of(number: int) -> Owner | None:
    """Who owns, or owned, a lock; None if it was never written down."""
    try:
        owner = decoded(os.pread(number, 4096, 0), Owner)
    except (OSError, msgspec.DecodeError):
        return None
    return None if "/" in owner.target or "\0" in owner.target else owner


@dataclass
class _Claim:
    """What this process has claimed; its parts may claim it again."""

    number: int
    times: int = 0


_claims: dict[Path, _Claim] = {}


@contextmanager
def claimed(path: Path, doing: str, hint: str) -> Iterator[None]:
    """Keep other processes from doing the same with a path meanwhile.

    Args:
        path: A file or folder, which need not exist; folders on the way are made.
        doing: What is done, for the message: "trains in it".
        hint: What else the user can do.

    Raises:
        UsageError: If another process has claimed it, or the disk refuses.
    """
    where = Location(str(path))
    path = Path(os.path.realpath(path))
    absent = [folder for folder in path.parents if not folder.exists()]
    if path not in _claims:
        _claims[path] = _Claim(_claim(path, where, doing, hint))
    claim = _claims[path]
    claim.times += 1
    try:
        yield
    finally:
        claim.times -= 1
        if not claim.times:
            del _claims[path]
            _release(claim.number, path, absent)


def _release(number: int, path: Path, absent: list[Path]) -> None:
    """Give a claim back; folders that were made for it go if nothing has come into them."""
    with suppress(OSError):
        lock_of(path).unlink()
    os.close(number)
    with suppress(OSError):
        for folder in absent:
            folder.rmdir()


def lock_of(path: Path) -> Path:
    """The file that stands for the claim on a path."""
    name = path.name
    if len(os.fsencode(name)) > _NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}{LOCK}")


def _claim(path: Path, where: Location, doing: str, hint: str) -> int:
    """The lock's open file."""
    lock = lock_of(path)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            number = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise UsageError(f"cannot be written: {error.strerror}", location=where) from None
        if _is_ours(number, lock):
            sign(number, this_process(path.name))
            return number
        holder = owner_of(number)
        os.close(number)
        if time.monotonic() > deadline:
            raise UsageError(f"another process {doing}: {holder or 'unknown'}", hint=hint, location=where)
        time.sleep(0.01)


def _is_ours(number: int, lock: Path) -> bool:
    try:
        return acquired(number) and is_same(number, lock)
    except OSError as error:
        if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}:
            return True  # a file system without locks: nothing can be held there
        raise


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
