"""CIFAR and ImageNet32 in tiny files of the published formats."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffebm.errors import UsageError
from ffebm.graph.tensor import Array
from ffebm.training.data import load_data

N = 3


def images(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (N, 3072), np.uint8)


def labels(seed: int, classes: int) -> Array:
    return np.random.default_rng(seed).integers(0, classes, N).astype(np.uint8)


def message(name: str, folder: Path | None) -> str:
    with pytest.raises(UsageError) as caught:
        load_data(name, folder)
    return str(caught.value)


@pytest.fixture
def cifar_10(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        records = np.concatenate([labels(seed, 10)[:, None], images(seed)], axis=1)
        records.tofile(folder / f"{name}.bin")
    return folder


@pytest.fixture
def cifar_100(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for seed, name in enumerate(("train", "test")):
        coarse = labels(seed + 10, 20)[:, None]
        records = np.concatenate([coarse, labels(seed, 100)[:, None], images(seed)], axis=1)
        records.tofile(folder / f"{name}.bin")
    return folder


@pytest.fixture
def imagenet32(tmp_path: Path) -> Path:
    for seed in range(10):
        path = tmp_path / f"train_data_batch_{seed + 1}.npz"
        np.savez(path, data=images(seed), labels=labels(seed, 200).astype(int) + 1, mean=np.zeros(3072))
    np.savez(tmp_path / "val_data.npz", data=images(99), labels=np.array([1, 500, 1000]))
    return tmp_path


def test_cifar_10(cifar_10: Path) -> None:
    for folder in (cifar_10, cifar_10.parent):
        data = load_data("cifar-10", folder)
        assert tuple(data.x_train.shape) == (5 * N, 3, 32, 32)
        assert data.x_train.dtype == torch.uint8
        expected = np.concatenate([images(seed) for seed in range(5)])
        assert np.array_equal(data.x_train.numpy().reshape(-1, 3072), expected)
        assert data.y_train.tolist() == [int(y) for seed in range(5) for y in labels(seed, 10)]
        assert data.y_test.tolist() == labels(5, 10).tolist()


def test_cifar_100_takes_the_fine_classes(cifar_100: Path) -> None:
    data = load_data("cifar-100", cifar_100)
    assert data.y_train.tolist() == labels(0, 100).tolist()
    assert np.array_equal(data.x_test.numpy().reshape(-1, 3072), images(1))


def test_imagenet32(imagenet32: Path) -> None:
    data = load_data("imagenet32", imagenet32)
    assert tuple(data.x_train.shape) == (10 * N, 3, 32, 32)
    assert data.y_train[:N].tolist() == labels(0, 200).tolist()
    assert data.y_test.tolist() == [0, 499, 999]
    assert np.array_equal(data.x_test.numpy().reshape(-1, 3072), images(99))


@pytest.mark.parametrize(
    ("name", "archive"),
    [("cifar-10", "cifar-10-binary.tar.gz"), ("cifar-100", "cifar-100-binary.tar.gz")],
)
def test_no_folder_of_cifar(name: str, archive: str) -> None:
    assert message(name, None) == (
        f"{name} is not on this machine by itself\n"
        f"  hint: unpack {archive} and name the folder with --data-folder"
    )


def test_no_folder_of_imagenet32() -> None:
    assert message("imagenet32", None).startswith("imagenet32 is not on this machine by itself\n  hint: ")


@pytest.mark.parametrize(
    ("name", "inner", "file"),
    [("cifar-10", "cifar-10-batches-py", "data_batch_1"), ("cifar-100", "cifar-100-python", "train")],
)
def test_pickles_of_cifar_are_refused(tmp_path: Path, name: str, inner: str, file: str) -> None:
    place = tmp_path / inner
    place.mkdir()
    (place / file).write_bytes(b"\x80\x02}q\x00.")
    for folder in (tmp_path, place):
        assert message(name, folder) == (
            f"{place}: {file} is a pickle, which is not read: it can run any code; "
            f"the binary version of {name}\n"
            f"  hint: unpack {name}-binary.tar.gz and name its folder"
        )


def test_pickles_of_imagenet32_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train_data_batch_1").write_bytes(b"\x80\x02}q\x00.")
    assert message("imagenet32", tmp_path) == (
        f"{tmp_path}: train_data_batch_1 is a pickle, which is not read: it can run any code; "
        "the .npz version of imagenet32\n"
        "  hint: unpack Imagenet32_train_npz.zip and Imagenet32_val_npz.zip and name their folder"
    )


def test_damaged_files_of_cifar(cifar_10: Path) -> None:
    path = cifar_10 / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert message("cifar-10", cifar_10) == f"{path}: it is damaged: 9218 bytes; a multiple of 3073"
    path.write_bytes(b"")
    assert message("cifar-10", cifar_10) == f"{path}: it is damaged: 0 bytes; a multiple of 3073"
    path.write_bytes(b"\x0a" + whole[1:])
    assert message("cifar-10", cifar_10) == f"{path}: it is damaged: class number 10; 0 to 9"
    path.unlink()
    assert message("cifar-10", cifar_10) == (
        f"{path}: cannot be read: No such file or directory\n"
        "  hint: unpack cifar-10-binary.tar.gz and name the folder with --data-folder"
    )


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"data": images(0)}, "it lacks data or labels; arrays data and labels"),
    "floats": (
        {"data": images(0).astype(np.float32), "labels": np.ones(N, np.int64)},
        "data is float32[3, 3072], labels is int64[3]; "
        "data uint8[images, 3072], labels one whole number an image",
    ),
    "fewer labels": (
        {"data": images(0), "labels": np.ones(2, np.int64)},
        "data is uint8[3, 3072], labels is int64[2]; "
        "data uint8[images, 3072], labels one whole number an image",
    ),
    "labels from 0": (
        {"data": images(0), "labels": np.arange(N)},
        "labels run from 0 to 2; class numbers from 1 to 1000",
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_wrong_arrays_of_imagenet32(imagenet32: Path, case: str) -> None:
    held, expected = ROWS[case]
    path = imagenet32 / "train_data_batch_4.npz"
    np.savez(path, **held)
    assert message("imagenet32", imagenet32) == f"{path}: {expected}"


def test_damaged_files_of_imagenet32(imagenet32: Path) -> None:
    path = imagenet32 / "val_data.npz"
    whole = path.read_bytes()
    for content in (whole[:-30], b"hello"):
        path.write_bytes(content)
        assert message("imagenet32", imagenet32).startswith(f"{path}: cannot be read: ")
    np.savez(path, data=np.array([{}]), labels=np.ones(1, np.int64))
    expected = f"{path}: 'data' holds Python objects, no numbers; arrays of numbers"
    assert message("imagenet32", imagenet32) == expected
