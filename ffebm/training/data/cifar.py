"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32x32, in the published binary version.

A record is the class number (CIFAR-100: the number of its superclass, then its own) and the 3,072 bytes of an
image, channel by channel. The version for Python is pickled; reading a pickle runs code, so it is refused.

Source: Krizhevsky 2009, Learning multiple layers of features from tiny images; the data's web page.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.graph.tensor import Array
from ffebm.training.data.samples import Data, tensors

IMAGE = (3, 32, 32)
N_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class _Variant:
    """The files of one of the two."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    pickled: tuple[str, str]
    classes: int
    labels: int

    @property
    def archive(self) -> str:
        return f"{self.name}-binary.tar.gz"


_CIFAR_10 = _Variant(
    "cifar-10",
    "cifar-10-batches-bin",
    tuple(f"data_batch_{n}.bin" for n in range(1, 6)),
    "test_batch.bin",
    ("cifar-10-batches-py", "data_batch_1"),
    classes=10,
    labels=1,
)
_CIFAR_100 = _Variant(
    "cifar-100", "cifar-100-binary", ("train.bin",), "test.bin", ("cifar-100-python", "train"), 100, 2
)


def cifar_10(folder: Path | None = None) -> Data:
    """CIFAR-10 from the folder of its binary version, or the folder around it.

    Raises:
        UsageError: If files are missing or damaged.
    """
    return _cifar(_CIFAR_10, folder)


def cifar_100(folder: Path | None = None) -> Data:
    """CIFAR-100, with its 100 fine classes, from the folder of its binary version, or the folder around it.

    Raises:
        UsageError: If files are missing or damaged.
    """
    return _cifar(_CIFAR_100, folder)


def _cifar(version: _Variant, folder: Path | None) -> Data:
    if folder is None:
        raise UsageError(
            f"{version.name} is not on this machine by itself",
            hint=f"unpack {version.archive} and name the folder with --data-folder",
        )
    inner = folder / version.folder
    folder = inner if inner.is_dir() else folder
    _refuse_pickles(version, folder)
    parts = [_records(version, folder / name) for name in version.train]
    train = (np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]))
    return tensors(version.name, train, _records(version, folder / version.test))


def _refuse_pickles(version: _Variant, folder: Path) -> None:
    inner, first = version.pickled
    if (folder / version.train[0]).is_file():
        return
    for place in (folder, folder / inner):
        if (place / first).is_file():
            raise UsageError(
                f"{first} is a pickle, which is not read: it can run any code",
                allowed=f"the binary version of {version.name}",
                hint=f"unpack {version.archive} and name its folder",
                location=Location(str(place)),
            )


def _records(version: _Variant, path: Path) -> tuple[Array, Array]:
    """Images and class numbers of a file."""
    where = Location(str(path))
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}",
            hint=f"unpack {version.archive} and name the folder with --data-folder",
            location=where,
        ) from None
    size = version.labels + N_BYTES
    if not len(content) or len(content) % size:
        raise UsageError(
            f"it is damaged: {len(content)} bytes", allowed=f"a multiple of {size}", location=where
        )
    records = content.reshape(-1, size)
    classes = records[:, version.labels - 1].astype(np.int64)
    if classes.max() >= version.classes:
        raise UsageError(
            f"it is damaged: class number {classes.max()}",
            allowed=f"0 to {version.classes - 1}",
            location=where,
        )
    return records[:, version.labels :].reshape(-1, *IMAGE), classes
