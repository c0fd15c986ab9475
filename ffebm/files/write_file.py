"""Writes a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ffebm.errors import Location, UsageError
from ffebm.files.scratch import NEW, flush, scratch_beside


def write_file(path: Path, content: bytes) -> None:
    """Write a file under another name, then give it its own; folders on the way are made.

    Raises:
        UsageError: If the disk refuses, or something that is no file is in the way.
    """
    with replacing(path) as fresh:
        fresh.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file in steps; folders on the way are made.

    Args:
        path: The file; a link stays one, and what it leads to is replaced.

    Yields:
        Where to write it. What is there in the end is flushed to the disk and takes its place.

    Raises:
        UsageError: If the disk refuses, or something that is no file is in the way.
    """
    where = Location(str(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError("it is no regular file", allowed="a new file, or one to replace", location=where)
    try:
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(path) as scratch:
            yield scratch / NEW
            flush(scratch / NEW)
            os.replace(scratch / NEW, path)
        flush(path.parent)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", location=where) from None
