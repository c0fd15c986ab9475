"""Files of arrays: what is read, and what is refused in one message."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffebm.errors import UsageError
from ffebm.training.data.npz import npz_names, read_npz


def message(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_npz(path, npz_names(path, "an .npz file"), "an .npz file")
    return str(caught.value).removeprefix(f"{path}: ")


def test_numbers_of_any_width(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    arrays: dict[str, Any] = {
        "f": np.ones((2, 3)),
        "i": np.arange(3, dtype=np.int8),
        "b": np.array(True),
        "u/v": np.zeros(0),
    }
    np.savez(path, **arrays, text=np.array(["a"]))
    found = read_npz(path, arrays, "an .npz file")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


ODD: dict[str, tuple[Any, str]] = {
    "objects": (np.array([{}]), "'x' holds Python objects, no numbers; arrays of numbers"),
    "text": (np.array(["a"]), "'x' holds text, no numbers; arrays of numbers"),
    "bytes": (np.array([b"a"]), "'x' holds text, no numbers; arrays of numbers"),
    "records": (np.zeros(2, "f4,i4"), "'x' holds records, no numbers; arrays of numbers"),
    "dates": (np.zeros(1, "datetime64[s]"), "'x' holds datetime64[s], no numbers; arrays of numbers"),
    "complex": (np.zeros(1, complex), "'x' holds complex128, no numbers; arrays of numbers"),
}


@pytest.mark.parametrize("kind", ODD)
def test_members_that_hold_no_numbers(kind: str, tmp_path: Path) -> None:
    array, expected = ODD[kind]
    np.savez(tmp_path / "x.npz", x=array)
    assert message(tmp_path / "x.npz") == expected


def test_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"1, 2")
    assert message(path) == "'x' is no array; arrays, as numpy.savez writes them"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"1, 2")
    assert message(path).startswith("cannot be read: ")


def test_a_header_that_asks_for_more_than_the_file_holds(tmp_path: Path) -> None:
    file = BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", file.getvalue())
    assert message(tmp_path / "x.npz") == (
        "'x' is damaged: it declares float64[1099511627776], but holds 128 bytes"
    )


def header(text: bytes) -> bytes:
    """An array's file with a header as written."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


def test_a_header_that_is_no_python(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2"))
    assert message(tmp_path / "x.npz").startswith("cannot be read: ")


def test_a_damaged_member_of_any_compression(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    array = BytesIO()
    np.save(array, np.random.default_rng(0).standard_normal(400))
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("x.npy", array.getvalue())
        data = bytearray(path.read_bytes())
        data[300:320] = bytes(20)
        path.write_bytes(data)
        assert message(path).startswith("cannot be read: ")
