import stat
from pathlib import Path

import pytest

from ffebm.errors import UsageError
from ffebm.files.write_file import replacing, write_file


def test_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_file(path, b"one")
    write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for target, why in (
        (tmp_path / "file" / "x", "File exists"),
        (tmp_path / "folder", "Is a directory"),
    ):
        with pytest.raises(UsageError) as caught:
            write_file(target, b"x")
        assert str(caught.value) == f"{target}: cannot be written: {why}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(UsageError) as caught:
        write_file(Path("/dev/null"), b"x")
    assert str(caught.value) == "/dev/null: it is no regular file; a new file, or one to replace"
    assert not Path("/dev/null").is_file()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("deep/file")
    write_file(tmp_path / "link", b"one")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep" / "file").read_bytes() == b"one"


def test_what_fails_while_it_is_written_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one")

    def failing() -> None:
        with replacing(path) as fresh:
            fresh.write_bytes(b"tw")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert path.read_bytes() == b"one"

    def full() -> None:
        with replacing(path):
            raise OSError(28, "No space left on device")

    with pytest.raises(UsageError) as caught:
        full()
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == [path]
