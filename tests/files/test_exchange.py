from pathlib import Path

import pytest

from ffebm.files.exchange import exchange


def test_two_folders_swap_their_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).write_text("")
    if not exchange(one, other):
        pytest.skip("this system or file system has no such step")
    assert [path.name for path in (*one.iterdir(), *other.iterdir())] == ["other", "one"]


def test_nothing_is_swapped_with_nothing(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.write_text("1")
    if not exchange(one, one):
        pytest.skip("this system or file system has no such step")
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "absent")
    assert one.read_text() == "1"
