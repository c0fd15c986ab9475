"""Writes a file whole or not at all."""

import os
import tempfile
from pathlib import Path

from ffebm.errors import Location, UsageError


def write_file(path: Path, content: bytes) -> None:
    """Write a file under another name, then give it its own; folders on the way are made.

    Raises:
        UsageError: If the disk refuses, or something that is no file is in the way.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(
            "it is no regular file", allowed="a new file, or one to replace", location=Location(str(path))
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, scratch = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(content)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(scratch, 0o666 & ~umask)
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", location=Location(str(path))) from None
