"""Fashion-MNIST: 70,000 images of 28x28 in IDX files."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from ffebm.errors import Location, UsageError, reason_of
from ffebm.graph.tensor import Array
from ffebm.training.data.samples import Data, tensors

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""


def fashion_mnist(folder: Path | None = None) -> Data:
    """Fashion-MNIST from a folder of IDX files.

    Raises:
        UsageError: If they are missing or damaged.
    """
    folder = folder or FASHION_MNIST
    train, test = (
        (_idx(folder, f"{part}-images-idx3-ubyte", 3)[:, None], _idx(folder, f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    )
    return tensors("fashion-mnist", train, test)


def _idx(folder: Path, name: str, axes: int) -> Array:
    """An IDX file, plain or gzipped."""
    packed, plain = folder / f"{name}.gz", folder / name
    path = packed if packed.is_file() else plain
    try:
        content = gzip.decompress(path.read_bytes()) if path is packed else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path.name} cannot be read: {reason_of(error)}",
            hint="install Debian's dataset-fashion-mnist, or name the folder with --data-folder",
            location=Location(str(folder)),
        ) from None
    head = 4 + 4 * axes
    if len(content) < head or content[:4] != bytes([0, 0, 8, axes]):
        raise UsageError(f"{path.name} is not an IDX file", location=Location(str(folder)))
    shape = struct.unpack(f">{axes}I", content[4:head])
    values = np.frombuffer(content, np.uint8, offset=head)
    if values.size != np.prod(shape):
        raise UsageError(f"{path.name} is truncated", location=Location(str(folder)))
    return values.reshape(shape)
