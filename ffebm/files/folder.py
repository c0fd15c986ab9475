"""A folder of files that is written whole or not at all, and whose every byte is checked when it is read.

`SHA256SUMS` lists the digest of each file in the format of `sha256sum`, so `sha256sum -c` checks it too.

Under a folder's name there is the old or the new one at every moment, whatever happens to the process that
writes; a reader sees one of the two, even if they change places while it reads.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from ffebm.errors import Location, PlanError
from ffebm.files.exchange import exchange
from ffebm.files.lock import is_same
from ffebm.files.scratch import NEW, OLD, OWNER, collect, flush, makers, scratch_beside

SUMS = "SHA256SUMS"
PATIENCE_S = 10.0
"""How long a reader tries to meet a folder that others keep replacing."""
MOMENT_S = 0.2
"""How long a reader waits for a folder that others make and that may or may not have been there before."""
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}
"""What a rename says if something has taken the name meanwhile."""
_T = TypeVar("_T")
FileContent = bytes | Iterable[bytes | memoryview]
"""Of a file: all of it, or one part after another."""


@dataclass(frozen=True)
class FolderKind:
    """What a folder is, in messages.

    Attributes:
        noun: What it is called.
        made_by: The command that makes one.
        mended_by: What to do about a damaged one.
    """

    noun: str
    made_by: str
    mended_by: str


PLAN = FolderKind("plan", "ffebm compile MODEL -o PLAN", "compile the model again")


# --- writing -----------------------------------------------------------------------------------------


def write_folder(path: Path, files: Mapping[str, FileContent], marker: str, kind: FolderKind = PLAN) -> None:
    """Write files and their digests into a folder; all of them or nothing.

    Args:
        path: The folder; one that holds `marker` is replaced.
        files: Contents by relative name, whole or in parts, which are asked for once.
        marker: File that tells a folder of this kind from others.
        kind: What such a folder is called.

    Raises:
        PlanError: If something else is in the way, or the disk refuses.
    """
    where = Location(str(path))

    def check(older: Path) -> None:
        _check_replaceable(older, marker, kind, where)

    try:
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(path) as scratch:
            check(path)
            _fill(scratch / NEW, files)
            _place(scratch, path, check)
    except OSError as error:
        raise PlanError(f"cannot be written: {error.strerror}", location=where) from None


def _check_replaceable(path: Path, marker: str, kind: FolderKind, where: Location) -> None:
    """Refuse to replace anything but an empty folder or one whose every file its own list names."""
    in_the_way = PlanError(
        f"it exists and holds no {marker}",
        allowed=f"a new folder, an empty one or an older {kind.noun}",
        hint="choose another path",
        location=where,
    )

    def check(
        folder: int,
    ) -> None:  # raises in there, so that a folder that others replace is looked at again
        foreign = _foreign(folder, marker, path)
        if foreign == ".":
            raise in_the_way
        if foreign:
            raise PlanError(
                f"it holds {foreign!r}, which would be lost",
                allowed=f"a folder with nothing but the files that {SUMS} names",
                hint="move the file away, or choose another path",
                location=where,
            )

    try:
        _steadily(path, check)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise in_the_way from None


def _foreign(folder: int, marker: str, path: Path) -> str:
    """The first file that its list does not name; "." if the whole folder is of another kind."""
    found = sorted(_files(folder))
    if marker not in found:
        return "." if os.listdir(folder) else ""
    known = {marker}
    if SUMS in found:
        with suppress(PlanError):  # without its list, no file is known
            known = {*_digests(folder, path, PLAN), SUMS, marker}
    return next((name for name in found if name not in known), "")


def _files(folder: int) -> list[str]:
    """Everything in a folder but folders, by relative name."""
    found = []
    for root, folders, files, number in os.fwalk(".", dir_fd=folder):
        links = [n for n in folders if stat.S_ISLNK(os.stat(n, dir_fd=number, follow_symlinks=False).st_mode)]
        found += [str(PurePosixPath(root, name)) for name in (*files, *links)]
    return found


def _fill(folder: Path, files: Mapping[str, FileContent]) -> None:
    """Have all files on the disk, in a new folder."""
    folder.mkdir()
    folder.chmod(0o755)

    def write(name: str) -> str:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        content, digest = files[name], hashlib.sha256()
        with target.open("wb") as file:
            for part in [content] if isinstance(content, bytes) else content:
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    names = sorted(files)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(write, names))
    lines = [f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True)]
    with (folder / SUMS).open("w", encoding="utf-8") as file:
        file.write("".join(lines))
        file.flush()
        os.fsync(file.fileno())
    for root, _, _ in os.walk(folder):
        flush(Path(root))


def _place(scratch: Path, path: Path, check: Callable[[Path], None]) -> None:
    """Put the new folder where the old one is, which goes into the scratch folder."""
    fresh = scratch / NEW
    flush(scratch)
    while not (_moved(fresh, path) or _swapped(fresh, path, check) or _moved_both(scratch, path)):
        pass  # others have been faster: what is in the way now?
    flush(path.parent)


def _moved(fresh: Path, path: Path, back: Path | None = None) -> bool:
    """Where nothing is; if the disk refuses, what was there before comes back."""
    if os.path.lexists(path):
        return False
    try:
        os.rename(fresh, path)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if back is not None:
            os.rename(back, path)
        raise
    return True


def _swapped(fresh: Path, path: Path, check: Callable[[Path], None]) -> bool:
    """In one step; what somebody has put into the old folder meanwhile is not lost."""
    try:
        if not exchange(fresh, path):
            return False
    except FileNotFoundError:
        return False
    try:
        check(fresh)
    except PlanError:
        exchange(fresh, path)
        raise
    return True


def _moved_both(scratch: Path, path: Path) -> bool:
    """In two steps; who dies between them leaves the new folder to the next command that looks here."""
    fresh, old = scratch / NEW, scratch / OLD
    flush(scratch / OWNER)
    try:
        os.rename(path, old)
    except FileNotFoundError:
        return False
    flush(scratch)
    if _moved(fresh, path, back=old):
        return True
    shutil.rmtree(old)  # another process has put its own where it was
    return False


# --- reading -----------------------------------------------------------------------------------------


def read_folder(path: Path, marker: str, kind: FolderKind = PLAN) -> dict[str, bytes]:
    """Read a folder and check every byte.

    Args:
        path: The folder.
        marker: File that tells a folder of this kind from others.
        kind: What such a folder is called.

    Returns:
        Contents by relative name.

    Raises:
        PlanError: If it is not such a folder, a file is missing, or a digest differs.
    """
    real = Path(os.path.realpath(path))
    try:
        return _steadily(real, lambda number: _contents(number, marker, kind, path))
    except (FileNotFoundError, NotADirectoryError):
        found = f"a file; a {kind.noun} is a folder" if path.is_file() else "there is no such folder"
        hint = f"`{kind.made_by}` makes one"
    except OSError as error:
        found, hint = f"cannot be read: {error.strerror}", ""
    raise PlanError(found, hint=hint, location=Location(str(path)))


def _steadily(path: Path, work: Callable[[int], _T]) -> _T:
    """Work on an open folder; again if another one has taken its place meanwhile.

    A folder that is open here is locked, so that whoever replaces it leaves its files for us to read.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        number = _opened(path, deadline)
        try:
            with suppress(OSError):  # without locks, files that vanish tell
                fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if is_same(number, path) or time.monotonic() > deadline:
                return work(number)
        except (PlanError, OSError):
            if is_same(number, path) or time.monotonic() > deadline:
                raise
        finally:
            os.close(number)


def _opened(path: Path, deadline: float) -> int:
    """The open folder; one that another process is about to put into its place is waited for."""
    soon = time.monotonic() + MOMENT_S
    while True:
        collect(path.parent)
        try:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            folders = makers(path)
            is_between = any((folder / OLD).exists() for folder in folders)
            is_coming = bool(folders) or path.exists()
            if not is_coming or time.monotonic() > (deadline if is_between else soon):
                raise
        time.sleep(0.001)


def _contents(folder: int, marker: str, kind: FolderKind, path: Path) -> dict[str, bytes]:
    """Every file of an open folder, checked; `path` is for messages."""
    if not _is_file(folder, marker):
        raise PlanError(f"it holds no {marker}: not a {kind.noun}", location=Location(str(path)))
    digests = _digests(folder, path, kind)
    names = sorted(digests)
    missing = next((name for name in names if not _is_file(folder, name)), None)
    if missing is not None:
        raise _damaged(path, missing, "is missing", kind)
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(lambda name: _content(folder, name), names))
        found = list(pool.map(lambda content: hashlib.sha256(content).hexdigest(), contents))
    for name, digest in zip(names, found, strict=True):
        if digest != digests[name]:
            raise _damaged(path, name, "is damaged: its SHA-256 digest differs", kind)
    if marker not in digests:
        raise _damaged(path, SUMS, f"does not list {marker}", kind)
    return dict(zip(names, contents, strict=True))


def _is_file(folder: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder).st_mode)
    except (OSError, ValueError):
        return False


def _content(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
        return file.read()


def _digests(folder: int, path: Path, kind: FolderKind) -> dict[str, str]:
    try:
        *lines, rest = _content(folder, SUMS).decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise _damaged(path, SUMS, "is missing or unreadable", kind) from None
    digests = {}
    for line in [*lines, rest] if rest else lines:
        digest, _, name = line.partition("  ")
        parts = Path(name).parts
        if len(digest) != 64 or not parts or Path(name).is_absolute() or ".." in parts:
            raise _damaged(path, SUMS, f"holds a line that is no digest: {line[:80]!r}", kind)
        digests[name] = digest
    return digests


def _damaged(path: Path, name: str, what: str, kind: FolderKind) -> PlanError:
    return PlanError(f"{name} {what}", hint=kind.mended_by, location=Location(str(path)))
