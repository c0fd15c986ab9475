"""A folder of files that is written whole or not at all, and whose every byte is checked when it is read.

`SHA256SUMS` lists the digest of each file in the format of `sha256sum`, so `sha256sum -c` checks it too.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ffebm.errors import Location, PlanError

SUMS = "SHA256SUMS"


def write_folder(path: Path, files: Mapping[str, bytes], marker: str) -> None:
    """Write files and their digests into a folder; all of them or nothing.

    Args:
        path: The folder; one that holds `marker` is replaced.
        files: Contents by relative name.
        marker: File that tells a folder of this kind from others.

    Raises:
        PlanError: If something else is in the way, or the disk refuses.
    """
    where = Location(str(path))
    try:
        path = path.resolve()
        _check_replaceable(path, marker)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except (OSError, RuntimeError) as error:
        raise PlanError(f"cannot be written: {error}", location=where) from None
    try:
        _fill(scratch, files)
        _swap(scratch, path)
    except OSError as error:
        raise PlanError(f"cannot be written: {error.strerror}", location=Location(str(path))) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_replaceable(path: Path, marker: str) -> None:
    """Refuse to replace anything but an empty folder or one whose every file its own list names."""
    if not path.exists():
        return
    where = Location(str(path))
    if not path.is_dir() or (any(path.iterdir()) and not (path / marker).is_file()):
        raise PlanError(
            f"it exists and holds no {marker}",
            allowed="a new folder, an empty one or an older plan",
            hint="choose another path",
            location=where,
        )
    if not (path / marker).is_file():
        return
    known = {*_digests(path), SUMS} if (path / SUMS).is_file() else {marker}
    found = sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())
    foreign = [name for name in found if name not in known]
    if foreign:
        raise PlanError(
            f"it holds {foreign[0]!r}, which would be lost",
            allowed=f"a folder with nothing but the files that {SUMS} names",
            hint="move the file away, or choose another path",
            location=where,
        )


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.chmod(0o755)

    def write(item: tuple[str, bytes]) -> str:
        name, content = item
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    names = sorted(files)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(write, [(name, files[name]) for name in names]))
    lines = [f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _swap(scratch: Path, path: Path) -> None:
    """Put the new folder where the old one is; a crash in between leaves one of the two."""
    if not path.exists():
        os.rename(scratch, path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        os.rename(path, old)
        try:
            os.rename(scratch, path)
        except OSError:
            os.rename(old, path)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def read_folder(path: Path, marker: str) -> dict[str, bytes]:
    """Read a folder and check every byte.

    Args:
        path: The folder.
        marker: File that tells a folder of this kind from others.

    Returns:
        Contents by relative name.

    Raises:
        PlanError: If it is not such a folder, a file is missing, or a digest differs.
    """
    if not path.is_dir():
        raise PlanError(
            "there is no such folder",
            hint="`ffebm compile MODEL -o PLAN` makes one",
            location=Location(str(path)),
        )
    if not (path / marker).is_file():
        raise PlanError(f"it holds no {marker}: not a plan", location=Location(str(path)))
    digests = _digests(path)
    missing = sorted(name for name in digests if not (path / name).is_file())
    if missing:
        raise _damaged(path, missing[0], "is missing")
    names = sorted(digests)
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(lambda name: (path / name).read_bytes(), names))
        found = list(pool.map(lambda content: hashlib.sha256(content).hexdigest(), contents))
    for name, digest in zip(names, found, strict=True):
        if digest != digests[name]:
            raise _damaged(path, name, "is damaged: its SHA-256 digest differs")
    if marker not in digests:
        raise _damaged(path, SUMS, f"does not list {marker}")
    return dict(zip(names, contents, strict=True))


def _digests(path: Path) -> dict[str, str]:
    try:
        *lines, rest = (path / SUMS).read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise _damaged(path, SUMS, "is missing or unreadable") from None
    digests = {}
    for line in [*lines, rest] if rest else lines:
        digest, _, name = line.partition("  ")
        parts = Path(name).parts
        if len(digest) != 64 or not parts or Path(name).is_absolute() or ".." in parts:
            raise _damaged(path, SUMS, f"holds a line that is no digest: {line[:80]!r}")
        digests[name] = digest
    return digests


def _damaged(path: Path, name: str, what: str) -> PlanError:
    return PlanError(f"{name} {what}", hint="compile the model again", location=Location(str(path)))
