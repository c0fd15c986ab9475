"""Hidden folders in which something is made before it takes its place, and what the dead have left of them.

A scratch folder lies beside its target, `.NAME.xxxxxxxx.ffebm`. Its file `owner` is locked as long as its
process lives, so a scratch folder whose lock is free is litter, and whoever comes next removes it. `new` is
what is being made. Where two names cannot be swapped in one step, `old` is what was in its place; both of
them there mean that the process died between two renames, and `new`, which is whole by then, is put into its
place.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ffebm.files.lock import LOCK, acquired, is_same, owner_of, sign, this_process

OWNER, NEW, OLD = "owner", "new", "old"
SUFFIX = ".ffebm"
_SCRATCH = re.compile(r"\..*\.[a-z0-9_]{8}\.ffebm", re.DOTALL)
"""Names of scratch folders."""


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A scratch folder for a target; what the dead have left beside it is removed first.

    Args:
        target: What will take `new`; its folder exists.

    Yields:
        The folder. Whatever it holds in the end is removed.

    Raises:
        OSError: If the disk refuses.
    """
    collect(target.parent)
    folder, number = _made(target)
    try:
        yield folder
    finally:
        with suppress(OSError):
            _remove(folder)
        os.close(number)


def collect(folder: Path) -> None:
    """Remove what dead processes have left in a folder; what cannot be proven to be theirs stays."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.startswith(".") and entry.name.endswith(SUFFIX)]
    except OSError:
        return
    for entry in found:
        with suppress(OSError):
            if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            if entry.name.endswith(LOCK) and entry.is_file(follow_symlinks=False):
                _collect_lock(Path(entry.path))
            elif _SCRATCH.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _collect_scratch(Path(entry.path))


def makers(target: Path) -> list[Path]:
    """Scratch folders in which something for a target is made."""
    try:
        names = [name for name in os.listdir(target.parent) if _SCRATCH.fullmatch(name)]
    except OSError:
        return []
    folders = [target.with_name(name) for name in names]
    return [folder for folder in folders if _target_of(folder) == target.name]


def flush(path: Path) -> None:
    """Have a file or folder on the disk; some file systems do not know that of folders."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
            raise
    finally:
        os.close(number)


def _made(target: Path) -> tuple[Path, int]:
    """A new scratch folder, and the open file whose lock says that we live."""
    while True:
        folder = Path(tempfile.mkdtemp(SUFFIX, f".{target.name[:40]}.", target.parent))
        try:
            number = os.open(folder / OWNER, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except FileNotFoundError:
            continue  # somebody took it for the dead one's that has no owner yet
        with suppress(OSError):  # without locks nobody can prove us dead, and nobody removes it
            acquired(number, wait=True)
        if is_same(number, folder / OWNER):
            sign(number, this_process(target.name))
            return folder, number
        os.close(number)


def _collect_lock(path: Path) -> None:
    number = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        owner = owner_of(number)
        is_here = owner is None or owner.is_here
        if is_here and acquired(number) and is_same(number, path):
            path.unlink()
    finally:
        os.close(number)


def _collect_scratch(folder: Path) -> None:
    try:
        number = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        folder.rmdir()  # its maker died before it held anything; refused if it does
        return
    try:
        owner = owner_of(number)
        if (owner is not None and not owner.is_here) or not acquired(number):
            return
        if is_same(number, folder / OWNER):
            if owner is not None:
                _recover(folder, folder.with_name(owner.target))
            _remove(folder)
    finally:
        os.close(number)


def _recover(folder: Path, target: Path) -> None:
    """Finish what a process began that died between two renames."""
    if (folder / NEW).is_dir() and (folder / OLD).is_dir() and not os.path.lexists(target):
        os.rename(folder / NEW, target)
        flush(target.parent)


def _remove(folder: Path) -> None:
    """Remove a scratch folder; its owner's mark goes last, so that we may die on the way."""
    for name in (NEW, OLD):
        path = folder / name
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        elif not _is_read(path):
            shutil.rmtree(path, ignore_errors=True)
    if os.listdir(folder) == [OWNER]:
        (folder / OWNER).unlink()
        folder.rmdir()


def _is_read(folder: Path) -> bool:
    """Somebody who has opened a folder in its old place still reads it; who comes next removes it."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return not acquired(number)
    except OSError:
        return False  # no locks: readers that miss a file look for the new folder
    finally:
        os.close(number)


def _target_of(folder: Path) -> str:
    try:
        number = os.open(folder / OWNER, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        owner = owner_of(number)
    finally:
        os.close(number)
    return "" if owner is None else owner.target
