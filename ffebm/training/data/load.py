"""Finds data by its name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ffebm import plugins
from ffebm.errors import Location, UsageError
from ffebm.training.data.arrays import arrays
from ffebm.training.data.cifar import cifar_10, cifar_100
from ffebm.training.data.digits import digits
from ffebm.training.data.fashion_mnist import fashion_mnist
from ffebm.training.data.imagenet32 import imagenet32
from ffebm.training.data.python_manual import python_manual
from ffebm.training.data.samples import Data

SOURCES: dict[str, Callable[[Path | None], Data]] = {
    "fashion-mnist": fashion_mnist,
    "cifar-10": cifar_10,
    "cifar-100": cifar_100,
    "imagenet32": imagenet32,
}
"""What reads each kind of data from a folder; None is its usual place, if it has one."""
INSTALLED: dict[str, Callable[[], Data]] = {"digits": digits, "python-manual": python_manual}
"""What comes with Python or with a package, and is read from no folder."""
NAMES = (*INSTALLED, *SOURCES)


def load_data(name: str, folder: Path | None = None, inputs: Sequence[str] = ()) -> Data:
    """Load data.

    Args:
        name: A name of `NAMES`, one that an installed package offers, or the path of an .npz file with `x`
            and `y` (and, if it has a test set of its own, `x_test` and `y_test`); arrays of samples may be
            called as inputs.
        folder: Where the files are; None for Debian's place of Fashion-MNIST, and for data that is read from
            no folder.
        inputs: Names of the inputs of the model that it is for, in its order; with several of them, an .npz
            file has an array for each.

    Raises:
        UsageError: If there is no such data, it is damaged, or a folder is named that it is not read from.
    """
    if name in SOURCES:
        return SOURCES[name](folder)
    if name not in NAMES and plugins.package_of(plugins.DATA, name) is not None:
        return _offered(name, folder)
    path = Path(name)
    if name not in NAMES and path.suffix != ".npz":
        raise _unknown(name)
    if folder is not None:
        raise UsageError(
            f"{name} is read from no folder, but {folder} is named", hint="leave --data-folder out"
        )
    return INSTALLED[name]() if name in INSTALLED else arrays(path, inputs)


def _offered(name: str, folder: Path | None) -> Data:
    """Data that an installed package reads or makes."""
    read = plugins.load(plugins.DATA, name)
    if not callable(read):
        raise UsageError(f"the data {name!r} is {read!r}", allowed="a function of a folder")
    found = read(folder)
    if not isinstance(found, Data):
        raise UsageError(f"the data {name!r} gives {found!r}", allowed="Data")
    for samples, y in ((found.train, found.y_train), (found.test, found.y_test)):
        for x in samples:
            if len(x) != len(y):
                raise UsageError(f"the data {name!r} has {len(x)} samples and {len(y)} labels")
    return found


def _unknown(name: str) -> UsageError:
    """What is wrong with a name that is neither of `NAMES` nor an .npz file's."""
    if Path(name).is_file():
        return UsageError(
            "this is no .npz file",
            allowed="arrays x and y, as numpy.savez writes them",
            location=Location(name),
        )
    known = dict.fromkeys((*NAMES, *plugins.names(plugins.DATA)))
    return UsageError(
        f"no data is called {name!r}", allowed=f"{', '.join(known)}, or the path of an .npz file"
    )
