"""Arrays of the user's own, from an .npz file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.graph.tensor import Array
from ffebm.training.data.npz import npz_names, read_npz
from ffebm.training.data.samples import Data, held_out, tensors


def arrays(path: Path, inputs: Sequence[str] = ()) -> Data:
    """Samples and labels, one a sample; without a test set a fifth of them is held out.

    Arrays of samples are called as the inputs of the model that they are for, those of a model with one input
    also `x`; labels are `y`, or `target` where an input is called `y`. Arrays of a test set have the same
    names with `_test`.

    Args:
        path: The file.
        inputs: Names of the model's inputs, in its order.

    Raises:
        UsageError: If arrays are missing or do not fit each other.
    """
    where = Location(str(path))
    labels = "target" if "y" in inputs else "y"
    held = npz_names(path, f"an .npz file with arrays {_listed([*_allowed(inputs), labels])}")
    samples = [inputs[0] if inputs and inputs[0] in held else "x"] if len(inputs) < 2 else list(inputs)
    _require([*samples, labels], [*_allowed(inputs), labels], held, where)
    tests = [f"{name}_test" for name in (*samples, labels)]
    has_tests = set(tests) <= set(held) and not set(tests) & set(inputs)
    wanted = (*samples, labels, *(tests if has_tests else ()))
    found = read_npz(path, wanted, "an .npz file with arrays of numbers")
    train = _labelled(found, samples, labels, where)
    if not has_tests:
        return held_out(path.name, *train)
    test = _labelled(found, tests[:-1], tests[-1], where)
    _check_alike(train, test, (samples[0], labels, *samples[1:]), where)
    return tensors(path.name, train, test)


def _allowed(inputs: Sequence[str]) -> list[str]:
    """Names that arrays of samples may have."""
    return list(inputs) if len(inputs) > 1 else ["x", *(f"(or {name})" for name in inputs if name != "x")]


def _listed(names: Sequence[str]) -> str:
    """Names as in a sentence."""
    return f"{', '.join(names[:-1])} and {names[-1]}".replace(", (or", " (or")


def _require(wanted: Sequence[str], allowed: Sequence[str], held: Sequence[str], where: Location) -> None:
    missing = [name for name in wanted if name not in held]
    if missing:
        found = ", ".join(map(repr, missing))
        raise UsageError(
            f"it has no array{'s' * (len(missing) > 1)} {found}, only {sorted(held)}",
            allowed=f"arrays {_listed(allowed)}",
            location=where,
        )


def _check_alike(
    train: Sequence[Array], test: Sequence[Array], names: Sequence[str], where: Location
) -> None:
    """Test arrays have the shape and kind of the training arrays."""
    for position, (ours, theirs, name) in enumerate(zip(train, test, names, strict=True)):
        if position == 1:  # labels
            continue
        if theirs.shape[1:] != ours.shape[1:]:
            raise UsageError(
                f"a sample of {name}_test is {list(theirs.shape[1:])}",
                allowed=f"one of {name} is {list(ours.shape[1:])}",
                location=where,
            )
    y, y_test, name = train[1], test[1], names[1]
    if y_test.shape[1:] != y.shape[1:] or (y_test.dtype.kind == "f") != (y.dtype.kind == "f"):
        raise UsageError(
            f"{name}_test is {y_test.dtype}{list(y_test.shape)}",
            allowed=f"as {name}, {y.dtype}{list(y.shape)}",
            location=where,
        )


def _labelled(held: Mapping[str, Array], samples: Sequence[str], labels: str, where: Location) -> list[Array]:
    """Samples, labels and what further inputs take, checked; images stay the numbers that they are."""
    y = held[labels]
    for name in samples:
        x = held[name]
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) < 2:
            raise UsageError(
                f"{name} is {x.dtype}{list(x.shape)}, {labels} is {y.dtype}{list(y.shape)}",
                allowed=f"an entry of {labels} for each of {name}, at least 2 of them",
                location=where,
            )
    found = [x.astype(np.int16) if x.dtype == np.uint8 else x for x in (held[name] for name in samples)]
    return [found[0], y, *found[1:]]
