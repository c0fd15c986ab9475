"""Arrays of the user's own, from an .npz file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.graph.tensor import Array
from ffebm.training.data.npz import npz_names, read_npz
from ffebm.training.data.samples import Data, held_out, tensors


def arrays(path: Path) -> Data:
    """Samples `x` and labels `y`, one a sample; without `x_test` and `y_test` a fifth is held out.

    Raises:
        UsageError: If arrays are missing or do not fit each other.
    """
    where = Location(str(path))
    allowed = "an .npz file with arrays x and y"
    names = npz_names(path, allowed)
    missing = [name for name in ("x", "y") if name not in names]
    if missing:
        raise UsageError(
            f"it has no array {missing[0]!r}, only {sorted(names)}", allowed="arrays x and y", location=where
        )
    held = read_npz(path, ("x", "y", "x_test", "y_test"), allowed)
    x, y = _labelled(held, "x", "y", where)
    if "x_test" not in held or "y_test" not in held:
        return held_out(path.name, x, y)
    x_test, y_test = _labelled(held, "x_test", "y_test", where)
    if x_test.shape[1:] != x.shape[1:]:
        raise UsageError(
            f"a sample of x_test is {list(x_test.shape[1:])}",
            allowed=f"one of x is {list(x.shape[1:])}",
            location=where,
        )
    if y_test.shape[1:] != y.shape[1:] or (y_test.dtype.kind == "f") != (y.dtype.kind == "f"):
        raise UsageError(
            f"y_test is {y_test.dtype}{list(y_test.shape)}",
            allowed=f"as y, {y.dtype}{list(y.shape)}",
            location=where,
        )
    return tensors(path.name, (x, y), (x_test, y_test))


def _labelled(held: Mapping[str, Array], samples: str, labels: str, where: Location) -> tuple[Array, Array]:
    """Samples and their labels, checked; images stay the numbers that they are, not 0 to 1."""
    x, y = held[samples], held[labels]
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) < 2:
        raise UsageError(
            f"{samples} is {x.dtype}{list(x.shape)}, {labels} is {y.dtype}{list(y.shape)}",
            allowed=f"an entry of {labels} for each of {samples}, at least 2 of them",
            location=where,
        )
    return x.astype(np.int16) if x.dtype == np.uint8 else x, y
