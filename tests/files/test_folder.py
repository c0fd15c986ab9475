import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ffebm.files.folder
from ffebm.errors import PlanError
from ffebm.files.folder import SUMS, read_folder, write_folder

FILES = {"main.json": b"{}", "sub/data.bin": bytes(range(256)), "empty": b""}


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "new" / "out", FILES, "main.json")
    assert read_folder(tmp_path / "new" / "out", "main.json") == FILES
    assert names(tmp_path / "new") == sorted(f"out/{n}" for n in [*FILES, SUMS])
    assert stat.S_IMODE((tmp_path / "new" / "out").stat().st_mode) == 0o755


def test_an_older_folder_is_replaced(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", FILES, "main.json")
    write_folder(tmp_path / "out", {"main.json": b"[]"}, "main.json")
    assert names(tmp_path) == ["out/SHA256SUMS", "out/main.json"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_link_to_an_older_folder_stays_a_link(tmp_path: Path) -> None:
    write_folder(tmp_path / "real", FILES, "main.json")
    (tmp_path / "link").symlink_to("real")
    write_folder(tmp_path / "link", {"main.json": b"[]"}, "main.json")
    assert (tmp_path / "link").is_symlink()
    assert read_folder(tmp_path / "real", "main.json") == {"main.json": b"[]"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", FILES, "main.json")
    assert read_folder(tmp_path / "out", "main.json") == FILES


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_of_another_kind_is_not_touched(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("precious")
    else:
        target.write_text("precious")
    with pytest.raises(PlanError) as caught:
        write_folder(target, FILES, "main.json")
    assert str(caught.value) == (
        f"{target}: it exists and holds no main.json; a new folder, an empty one or an older plan\n"
        "  hint: choose another path"
    )
    assert names(tmp_path) == (["out/thesis.txt"] if kind == "folder" else ["out"])


@pytest.mark.parametrize("step", ["fill", "exchange", "first rename", "second rename"])
@pytest.mark.parametrize("old", [False, True])
def test_a_failure_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: bool
) -> None:
    target = tmp_path / "out"
    if old:
        write_folder(target, FILES, "main.json")
    calls = []
    rename = os.rename

    def failing(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == (1 if step == "first rename" or not old else 2):
            raise OSError(28, "No space left on device")
        rename(source, destination)

    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "fill":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(os, "rename", failing)
            patch.setattr(ffebm.files.folder, "exchange", full if step == "exchange" else cannot)
        with pytest.raises(PlanError) as caught:
            write_folder(target, {"main.json": b"new"}, "main.json")
    assert str(caught.value) == f"{target}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == ([target] if old else [])
    if old:
        assert read_folder(target, "main.json") == FILES


def cannot(*_: object) -> bool:
    """A system that cannot swap two names."""
    return False


ANOTHER = {"main.json": b"[]", "other": b"x" * 9}


@pytest.fixture(params=["in one step", "in two steps"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in two steps":
        monkeypatch.setattr(ffebm.files.folder, "exchange", cannot)
    return str(request.param)


@pytest.mark.parametrize("then", ["read", "write"])
def test_who_dies_between_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    target = tmp_path / "out"
    write_folder(target, FILES, "main.json")
    script = (
        "import os, sys, pathlib, ffebm.files.folder as f\n"
        "f.exchange = lambda *_: False\n"
        "rename, calls = os.rename, []\n"
        "def dying(a, b):\n"
        "    if calls: os.kill(os.getpid(), 9)\n"
        "    calls.append(rename(a, b))\n"
        "os.rename = dying\n"
        "f.write_folder(pathlib.Path(sys.argv[1]), {'main.json': b'[]', 'other': b'x' * 9}, 'main.json')\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(target)]).returncode == -signal.SIGKILL
    assert not target.exists()
    if then == "read":
        assert read_folder(target, "main.json") == ANOTHER
    else:
        write_folder(target, FILES, "main.json")
        assert read_folder(target, "main.json") == FILES
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_beside_a_writer_sees_one_of_the_two(tmp_path: Path, swap: str) -> None:
    target = tmp_path / "out"
    write_folder(target, FILES, "main.json")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_folder(target, ANOTHER, "main.json")
            write_folder(target, FILES, "main.json")

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        seen = [read_folder(target, "main.json") for _ in range(200)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert all(files in (FILES, ANOTHER) for files in seen)
    assert FILES in seen
    assert ANOTHER in seen
    read_folder(target, "main.json")
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_has_the_files_that_it_has_opened(tmp_path: Path) -> None:
    """The old folder is replaced while it is read: its files stay until it has been read."""
    target = tmp_path / "out"
    write_folder(target, FILES, "main.json")
    real = ffebm.files.folder._content
    calls: list[str] = []

    def slow(folder: int, name: str) -> bytes:
        if not calls:
            calls.append(name)
            write_folder(target, ANOTHER, "main.json")
        return real(folder, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ffebm.files.folder, "_content", slow)
        patch.setattr(ffebm.files.folder, "ThreadPoolExecutor", lambda: ThreadPoolExecutor(1))
        assert read_folder(target, "main.json") == FILES
    assert read_folder(target, "main.json") == ANOTHER
    assert list(tmp_path.iterdir()) == [target]


def test_several_writers_leave_one_whole_folder(tmp_path: Path, swap: str) -> None:
    target = tmp_path / "out"

    def write(number: int) -> None:
        write_folder(target, {"main.json": b"%d" % number}, "main.json")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(40)))
    assert int(read_folder(target, "main.json")["main.json"]) in range(40)
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_put_into_the_old_folder_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    write_folder(target, FILES, "main.json")
    fill = ffebm.files.folder._fill

    def filling(folder: Path, files: Mapping[str, bytes]) -> None:
        fill(folder, files)
        (target / "notes.txt").write_text("mine", encoding="utf-8")

    monkeypatch.setattr(ffebm.files.folder, "_fill", filling)
    with pytest.raises(PlanError) as caught:
        write_folder(target, ANOTHER, "main.json")
    assert str(caught.value).startswith(f"{target}: it holds 'notes.txt', which would be lost; ")
    assert (target / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError) as caught:
        write_folder(tmp_path / "file" / "out", FILES, "main.json")
    assert "cannot be written: " in str(caught.value)


@given(
    name=st.sampled_from([*sorted(n for n in FILES if FILES[n]), SUMS]),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_one_flipped_bit_anywhere_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, name: str, where: float, bit: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flip"
    if not folder.exists():
        write_folder(folder, FILES, "main.json")
    whole = (folder / name).read_bytes()
    content = bytearray(whole)
    content[int(where * len(content))] ^= 1 << bit
    (folder / name).write_bytes(content)
    try:
        with pytest.raises(PlanError):
            read_folder(folder, "main.json")
    finally:
        (folder / name).write_bytes(whole)


def test_a_file_of_the_users_is_never_lost(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_folder(folder, FILES, "main.json")
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        write_folder(folder, FILES, "main.json")
    assert str(caught.value) == (
        f"{folder}: it holds 'notes.txt', which would be lost; a folder with nothing but the files that "
        "SHA256SUMS names\n  hint: move the file away, or choose another path"
    )
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_messages_of_damage(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def message() -> str:
        with pytest.raises(PlanError) as caught:
            read_folder(folder, "main.json")
        return str(caught.value)

    again = "\n  hint: compile the model again"
    assert message() == f"{folder}: there is no such folder\n  hint: `ffebm compile MODEL -o PLAN` makes one"
    folder.mkdir()
    assert message() == f"{folder}: it holds no main.json: not a plan"
    write_folder(folder, FILES, "main.json")
    (folder / "empty").write_bytes(b"x")
    assert message() == f"{folder}: empty is damaged: its SHA-256 digest differs{again}"
    (folder / "empty").unlink()
    assert message() == f"{folder}: empty is missing{again}"
    (folder / SUMS).write_text("nonsense\n")
    assert message() == f"{folder}: SHA256SUMS holds a line that is no digest: 'nonsense'{again}"
    (folder / SUMS).write_text(f"{'0' * 64}  ../secret\n")
    assert message() == f"{folder}: SHA256SUMS holds a line that is no digest: '{'0' * 64}  ../secret'{again}"
    (folder / SUMS).write_text("")
    assert message() == f"{folder}: SHA256SUMS does not list main.json{again}"
    (folder / SUMS).unlink()
    assert message() == f"{folder}: SHA256SUMS is missing or unreadable{again}"
