"""Finds data by its name."""

from collections.abc import Callable
from pathlib import Path

from ffebm.errors import UsageError
from ffebm.runtime.data.arrays import arrays
from ffebm.runtime.data.cifar import cifar_10, cifar_100
from ffebm.runtime.data.digits import digits
from ffebm.runtime.data.fashion_mnist import fashion_mnist
from ffebm.runtime.data.imagenet32 import imagenet32
from ffebm.runtime.data.samples import Data

SOURCES: dict[str, Callable[[Path | None], Data]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cifar-10": cifar_10,
    "cifar-100": cifar_100,
    "imagenet32": imagenet32,
}
"""What reads each kind of data from a folder; None is its usual place, if it has one."""


def load_data(name: str, folder: Path | None = None) -> Data:
    """Load data.

    Args:
        name: A name of `SOURCES`, or the path of an .npz file with `x` and `y` (and, if it has a test set of
            its own, `x_test` and `y_test`).
        folder: Where the files are; None is Debian's place for Fashion-MNIST.

    Raises:
        UsageError: If there is no such data, or it is damaged.
    """
    if name in SOURCES:
        return SOURCES[name](folder)
    path = Path(name)
    if path.suffix == ".npz":
        return arrays(path)
    raise UsageError(
        f"no data is called {name!r}", allowed=f"{', '.join(SOURCES)}, or the path of an .npz file"
    )
