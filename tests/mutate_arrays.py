"""Damages files of arrays in ways that a seed repeats: members, headers, types, shapes, numbers, bytes.

python -m tests.mutate_arrays 1000 [seed]     checks so many mutants and prints what is wrong
"""

import random
import zipfile
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

from ffebm.errors import FfebmError, InternalError
from ffebm.graph.tensor import Array
from ffebm.plan.plan import Plan
from ffebm.runtime.executor import Executor
from ffebm.studies.inference import infer, read_inputs
from ffebm.training.data import load_data
from ffebm.training.trainer import Trainer
from tests.mutants import Finding, check_apart, main, place
from tests.mutate_runs import damaged
from tests.training.test_trainer import TRAINING, tiny

Members = dict[str, bytes]
"""Contents of a zip file, by name."""
DTYPES = (
    "float64", "float32", "float16", "int64", "int32", "int8", "uint8", "uint64", "bool", "complex64",
    ">f4", ">i8", "<U3", "S2", "O", "datetime64[s]", "f4,i4", "longdouble",
)  # fmt: skip
NUMBERS = (np.nan, np.inf, -np.inf, 1e30, 1e308, -1e308, 0.0, 5e-324)
LABELS = (-1, 3, 10, 127, 2**31, 2**62, -(2**62))
HEADERS = (
    b"(1,)", b"(-1, 4)", b"(10000000000000,)", b"(2, 2", b"()", b"'x'", b"(1.5,)",
    b"(True,)", b"None", b"((1,),)",
)  # fmt: skip
NAMES = ("x", "y", "x_test", "y_test", "", "x.npy", "a/b", "../x", "\u202eabc", "n" * 3000, "__proto__")


@cache
def plan() -> Plan:
    """What is run and trained on the arrays."""
    return tiny("ideal")


def arrays() -> dict[str, Array]:
    """Samples and labels that fit the plan."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((12, 1, 4, 4)).astype(np.float32),
        "y": np.arange(12) % 3,
        "x_test": rng.standard_normal((6, 1, 4, 4)).astype(np.float32),
        "y_test": np.arange(6) % 3,
    }


def mutant(seed: int) -> tuple[str, bytes]:
    """The damaged file of a seed, and what was changed first."""
    rng = random.Random(seed)
    held = arrays()
    if rng.random() < 0.5:
        del held["x_test"], held["y_test"]
    if rng.random() < 0.3:
        held = {"x": held["x"]}
    for _ in range(rng.choice((0, 1, 1, 2))):
        _change_array(held, rng)
    members: Members = {}
    for name, array in held.items():
        file = BytesIO()
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=True)
        members[f"{name}.npy"] = file.getvalue()
    if rng.random() < 0.4:
        _change_member(members, rng)
    return ",".join(held)[:40], _packed(members, rng)


def _change_array(held: dict[str, Array], rng: random.Random) -> None:
    """Another type, shape or number; one is added, dropped or renamed."""
    name = rng.choice(sorted(held))
    array = held[name]
    choice = rng.random()
    if choice < 0.25:
        held[name] = _cast(array, rng.choice(DTYPES))
    elif choice < 0.5:
        held[name] = _shaped(array, rng)
    elif choice < 0.75 and array.size and array.dtype.kind in "fi":
        fresh = array.copy()
        numbers: tuple[Any, ...] = NUMBERS if array.dtype.kind == "f" else LABELS
        with np.errstate(over="ignore"):
            for _ in range(rng.choice((1, 1, array.size))):
                fresh.reshape(-1)[rng.randrange(array.size)] = rng.choice(numbers)
        held[name] = fresh
    elif choice < 0.85:
        held[rng.choice(NAMES)] = array
    elif choice < 0.95:
        held[rng.choice(NAMES)] = held.pop(name)
    elif len(held) > 1:
        del held[name]


def _cast(array: Array, dtype: str) -> Array:
    try:
        with np.errstate(all="ignore"):
            return array.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(array.shape, dtype)


def _shaped(array: Array, rng: random.Random) -> Array:
    array = np.atleast_1d(array)
    flat = array.reshape(-1)
    made: tuple[Any, ...] = (
        array[:0], array[:1], array[:2], array[None], array[..., None], flat, flat[:-1],
        np.zeros((), array.dtype), np.concatenate([array, array]), array.T, np.asfortranarray(array),
        array[..., :0], array[:, None], np.zeros(2**20, array.dtype),
    )  # fmt: skip
    chosen: Array = rng.choice(made)
    return chosen


def _change_member(members: Members, rng: random.Random) -> None:
    """Damage one file inside: its header, its bytes, its name."""
    if not members:
        return
    name = rng.choice(sorted(members))
    data, choice = members[name], rng.random()
    if choice < 0.4:
        old = rng.choice((b"(12,", b"(6,", b"'<f4'", b"'<i8'", b"False", b"'shape'", b"{"))
        new = rng.choice((*HEADERS, b"'|O'", b"'<f8'", b"'<M8'", b"'<V4'", b"True", b"", b"[" * 200))
        members[name] = data.replace(old, new, 1)
    elif choice < 0.8:
        members[name] = damaged(data, rng)
    else:
        members[rng.choice((name[:-4], "readme.txt", "sub/x.npy", ".npy", "x.NPY"))] = members.pop(name)


def _packed(members: Members, rng: random.Random) -> bytes:
    file = BytesIO()
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in members.items():
            # the same bytes at any time of day
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, kind)
    data = file.getvalue()
    return damaged(data, rng) if rng.random() < 0.2 else data


def examine(data: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of a file: what `run` and `train` make of it."""
    path = folder / "mutant.npz"
    path.write_bytes(data)
    ran, trained = _run(path), _trained(path)
    for kind, text in (ran, trained):
        if kind not in {"refused", "accepted"}:
            return kind, text
    return ran if ran[0] == "accepted" else trained


def _run(path: Path) -> tuple[str, str]:
    try:
        inputs = read_inputs(plan(), path)
        if not _as_numpy_reads(inputs, path):
            return "other result", "numpy reads another array"
        infer(plan(), inputs, 0, "cpu")
    except InternalError as error:
        return "traceback", f"run: {place(error)} {error}"
    except FfebmError as error:
        return "refused", f"run: {error}"
    return "accepted", ""


def _as_numpy_reads(inputs: dict[str, Array], path: Path) -> bool:
    """Whether the input is the array that numpy finds, in the model's type."""
    with np.load(path) as held, np.errstate(all="ignore"):
        wanted = held["x"].astype(np.float32)
    found = inputs["x"]
    return wanted.size == 1 == found.size or np.array_equal(found, wanted, equal_nan=True)


def _trained(path: Path) -> tuple[str, str]:
    try:
        data = load_data(str(path))
        trainer = Trainer(Executor(plan()), data, replace(TRAINING, epochs=1))
        for _ in trainer.run():
            pass
    except InternalError as error:
        return "traceback", f"train: {place(error)} {error}"
    except FfebmError as error:
        return "refused", f"train: {error}"
    labels = data.y_train
    if not labels.is_floating_point() and not bool(((labels >= 0) & (labels < 3)).all()):
        return "other result", f"labels from {int(labels.min())} to {int(labels.max())} for three classes"
    finite = all(bool(torch.isfinite(weight).all()) for weight in trainer.net.weights().values())
    return ("accepted", "") if finite else ("other result", "a weight is not finite")


def check(seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Examine mutants with limits of time and memory."""
    return check_apart(mutant, lambda data: examine(data, folder), seeds)


if __name__ == "__main__":
    main(check)
