"""Labelled data for training: scikit-learn's digits, Fashion-MNIST, or arrays of the user's own."""

import gzip
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ffebm.errors import Location, UsageError
from ffebm.ir import Array

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
TEST_SHARE = 0.2
"""Share of samples held out where the data has no test set of its own."""


@dataclass(frozen=True)
class Data:
    """Labelled samples.

    Attributes:
        name: As the user named it.
        x_train: [samples, …], float32.
        y_train: [samples], class numbers.
        x_test: As x_train.
        y_test: As y_train.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor

    def shaped(self, sample: tuple[int | str, ...]) -> "Data":
        """The same samples in a model's shape.

        Raises:
            UsageError: If a sample has another number of elements.
        """
        sizes = [d for d in sample if isinstance(d, int)]
        wanted, found = int(np.prod(sizes)), self.x_train[0].numel()
        if len(sizes) != len(sample) or wanted != found:
            raise UsageError(
                f"a sample of {self.name} is {list(self.x_train.shape[1:])}",
                allowed=f"the model takes {list(sample)}",
                hint="pad or resize the data, or compile a model for it",
            )
        return Data(
            self.name,
            self.x_train.reshape(-1, *sizes),
            self.y_train,
            self.x_test.reshape(-1, *sizes),
            self.y_test,
        )


def load_data(name: str, folder: Path | None = None) -> Data:
    """Load data.

    Args:
        name: "digits", "fashion-mnist", or the path of an .npz file with `x` and `y` (and, if it has a test
            set of its own, `x_test` and `y_test`).
        folder: Where the IDX files of Fashion-MNIST are; None is Debian's place.

    Raises:
        UsageError: If there is no such data, or it is damaged.
    """
    if name == "digits":
        return _digits()
    if name == "fashion-mnist":
        return _fashion_mnist(folder or FASHION_MNIST)
    path = Path(name)
    if path.suffix == ".npz":
        return _arrays(path)
    raise UsageError(
        f"no data is called {name!r}", allowed="digits, fashion-mnist, or the path of an .npz file"
    )


def _digits() -> Data:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError(
            "the digits come with scikit-learn, which is not installed", hint="pip install ffebm[digits]"
        ) from None
    bunch = load_digits()
    x = (bunch.data.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32)
    return _held_out("digits", x, bunch.target.astype(np.int64))


def _held_out(name: str, x: Array, y: Array) -> Data:
    """Hold out a fixed share of samples, drawn once and for all."""
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [round(len(x) * TEST_SHARE)])
    return _tensors(name, x[train], y[train], x[test], y[test])


def _tensors(name: str, x_train: Array, y_train: Array, x_test: Array, y_test: Array) -> Data:
    def floats(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    def classes(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.int64))

    return Data(name, floats(x_train), classes(y_train), floats(x_test), classes(y_test))


def _fashion_mnist(folder: Path) -> Data:
    parts = []
    for part in ("train", "t10k"):
        images = _idx(folder, f"{part}-images-idx3-ubyte", 3)
        parts += [images[:, None].astype(np.float32) / 255.0, _idx(folder, f"{part}-labels-idx1-ubyte", 1)]
    x_train, y_train, x_test, y_test = parts
    return _tensors("fashion-mnist", x_train, y_train, x_test, y_test)


def _idx(folder: Path, name: str, axes: int) -> Array:
    """An IDX file, plain or gzipped."""
    packed, plain = folder / f"{name}.gz", folder / name
    path = packed if packed.is_file() else plain
    try:
        content = gzip.decompress(path.read_bytes()) if path is packed else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path.name} cannot be read: {error}",
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


def _arrays(path: Path) -> Data:
    where = Location(str(path))
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"cannot be read: {error}", location=where) from None
    missing = [name for name in ("x", "y") if name not in held]
    if missing:
        raise UsageError(
            f"it has no array {missing[0]!r}, only {sorted(held)}", allowed="arrays x and y", location=where
        )
    x, y = _labelled(held, "x", "y", where)
    if "x_test" not in held or "y_test" not in held:
        return _held_out(path.name, x, y)
    x_test, y_test = _labelled(held, "x_test", "y_test", where)
    if x_test.shape[1:] != x.shape[1:]:
        raise UsageError(
            f"a sample of x_test is {list(x_test.shape[1:])}",
            allowed=f"one of x is {list(x.shape[1:])}",
            location=where,
        )
    return _tensors(path.name, x, y, x_test, y_test)


def _labelled(held: Mapping[str, Array], samples: str, labels: str, where: Location) -> tuple[Array, Array]:
    """Samples and their class numbers, checked."""
    x, y = held[samples], held[labels]
    fits = x.ndim > 0 and y.ndim == 1 and len(x) == len(y) >= 2
    if not fits or y.dtype.kind not in "iu" or x.dtype.kind not in "fiu":
        raise UsageError(
            f"{samples} is {x.dtype}{list(x.shape)}, {labels} is {y.dtype}{list(y.shape)}",
            allowed=f"numbers in {samples}, one whole class number each in {labels}, at least 2 samples",
            location=where,
        )
    return x, y
