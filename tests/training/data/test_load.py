import gzip
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.training.data import load_data
from ffebm.training.data.samples import floats
from tests.packages import installed


def message(name: str | Path, folder: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load_data(str(name), folder)
    return str(caught.value)


def test_the_digits() -> None:
    data = load_data("digits")
    assert (tuple(data.x_train.shape), tuple(data.x_test.shape)) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    assert data.x_train.dtype == torch.float32
    assert (float(data.x_train.min()), float(data.x_train.max())) == (0.0, 1.0)
    assert sorted(set(data.y_train.tolist())) == list(range(10))
    assert torch.equal(load_data("digits").y_test, data.y_test)


def idx(path: Path, array: np.ndarray[Any, np.dtype[np.uint8]], packed: bool) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = head + array.tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.fixture(params=[True, False])
def fashion(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, n in (("train", 5), ("t10k", 3)):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        images[0, 0, 0] = 255
        idx(tmp_path / f"{part}-images-idx3-ubyte", images, request.param)
        idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8), request.param)
    return tmp_path


def test_fashion_mnist(fashion: Path) -> None:
    data = load_data("fashion-mnist", fashion)
    assert tuple(data.x_train.shape) == (5, 1, 28, 28)
    assert data.y_test.tolist() == [0, 1, 2]
    assert (data.x_train.dtype, float(floats(data.x_train).max())) == (torch.uint8, 1.0)


def test_damaged_idx_files(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    hint = "\n  hint: install Debian's dataset-fashion-mnist, or name the folder with --data-folder"
    found = message("fashion-mnist", tmp_path)
    assert found.startswith(f"{tmp_path}: train-images-idx3-ubyte cannot be read: ")
    assert found.endswith(hint)
    path.write_bytes(b"hello")
    assert message("fashion-mnist", tmp_path) == f"{tmp_path}: {path.name} is not an IDX file"
    idx(path, np.zeros((2, 28, 28), np.uint8), packed=False)
    path.write_bytes(path.read_bytes()[:-1])
    assert message("fashion-mnist", tmp_path) == f"{tmp_path}: {path.name} is truncated"
    packed = tmp_path / f"{path.name}.gz"
    whole = gzip.compress(bytes(range(256)) * 20)
    for content in (b"hello", whole[:-9], whole[:20] + b"\xff" * 20 + whole[40:]):
        packed.write_bytes(content)
        assert message("fashion-mnist", tmp_path).startswith(f"{tmp_path}: {packed.name} cannot be read: ")


def test_arrays_of_the_users_own(tmp_path: Path) -> None:
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 3
    np.savez(tmp_path / "held_out.npz", x=x, y=y)
    data = load_data(str(tmp_path / "held_out.npz"))
    assert (len(data.x_train), len(data.x_test)) == (16, 4)
    both = torch.cat([data.x_train, data.x_test])
    assert sorted(both[:, 0].tolist()) == x[:, 0].tolist()
    np.savez(tmp_path / "own_test.npz", x=x, y=y, x_test=x[:3], y_test=y[:3])
    data = load_data(str(tmp_path / "own_test.npz"))
    assert (len(data.x_train), data.x_test.tolist()) == (20, x[:3].tolist())
    shaped = data.shaped((1, 2))
    assert tuple(shaped.x_train.shape) == (20, 1, 2)


X, Y = np.zeros((4, 2)), np.zeros(4, np.int64)
ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"x": X}, "it has no array 'y', only ['x']; arrays x and y"),
    "other length": (
        {"x": X, "y": Y[:3]},
        "x is float64[4, 2], y is int64[3]; an entry of y for each of x, at least 2 of them",
    ),
    "one number": (
        {"x": np.float64(1), "y": Y},
        "x is float64[], y is int64[4]; an entry of y for each of x, at least 2 of them",
    ),
    "numbers and classes": (
        {"x": X, "y": X, "x_test": X, "y_test": Y},
        "y_test is int64[4]; as y, float64[4, 2]",
    ),
    "test labels": (
        {"x": X, "y": Y, "x_test": X, "y_test": Y[:2]},
        "x_test is float64[4, 2], y_test is int64[2]; "
        "an entry of y_test for each of x_test, at least 2 of them",
    ),
    "test samples": (
        {"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y},
        "a sample of x_test is [1]; one of x is [2]",
    ),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_wrong_arrays(tmp_path: Path, case: str) -> None:
    arrays, expected = ARRAYS[case]
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    assert message(path) == f"{path}: {expected}"


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    assert message(path).startswith(f"{path}: cannot be read: ")
    np.savez(path, x=X, y=Y)
    whole = path.read_bytes()
    with path.open("wb") as file:
        np.save(file, X)
    single = path.read_bytes()
    for content in (b"", b"text", whole[:-30], single):
        path.write_bytes(content)
        found = message(path)
        assert found.startswith(f"{path}: cannot be read: ")
        assert found.endswith("; an .npz file with arrays x and y")


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    assert message(path) == f"{path}: this is no .npz file; arrays x and y, as numpy.savez writes them"


def test_folders_of_data_that_is_read_from_none(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X, y=Y)
    hint = "\n  hint: leave --data-folder out"
    assert message("digits", Path("/nope")) == f"digits is read from no folder, but /nope is named{hint}"
    assert message(path, tmp_path) == f"{path} is read from no folder, but {tmp_path} is named{hint}"


def test_no_such_data() -> None:
    assert message("cats") == (
        "no data is called 'cats'; digits, python-manual, fashion-mnist, cifar-10, cifar-100, imagenet32, "
        "or the path of an .npz file"
    )


def test_data_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import torch
from ffebm.training.data import Data
def given(folder, labels=3):
    x, y = torch.ones(3, 2), torch.zeros(labels, dtype=int)
    return Data(str(folder), x, y, x[:1], y[:1])
def short(folder):
    return given(folder, 2)
def nothing(folder):
    return None
NUMBER = 3
"""
    offers = {name: f"plug_data:{name}" for name in ("given", "short", "nothing", "NUMBER", "digits")}
    installed(tmp_path / "target", "plug-data", {plugins.DATA: offers}, code)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "target"), *sys.path])
    assert load_data("given", tmp_path).name == str(tmp_path)
    assert load_data("digits").name == "digits"
    assert message("short") == "the data 'short' has 3 samples and 2 labels"
    assert message("nothing") == "the data 'nothing' gives None; Data"
    assert message("NUMBER") == "the data 'NUMBER' is 3; a function of a folder"
    assert message("absent") == (
        "no data is called 'absent'; digits, python-manual, fashion-mnist, cifar-10, cifar-100, imagenet32, "
        "NUMBER, given, nothing, short, or the path of an .npz file"
    )
