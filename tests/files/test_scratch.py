import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffebm.files.scratch import NEW, OWNER, collect, scratch_beside

DYING = """
import os, pathlib, sys
from ffebm.files.scratch import scratch_beside
with scratch_beside(pathlib.Path(sys.argv[1])) as folder:
    (folder / "new").mkdir()
    (folder / "new" / "file").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), 9)
"""


def started(target: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process in the middle of its work, and its scratch folder; it dies when its input ends."""
    command = [sys.executable, "-c", DYING, str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_scratch_folder_of_a_living_process_stays_that_of_a_dead_one_goes(tmp_path: Path) -> None:
    process, folder = started(tmp_path / "out")
    assert folder.parent == tmp_path
    collect(tmp_path)
    assert (folder / NEW / "file").read_bytes() == b"x"
    process.communicate()
    assert folder.exists()
    collect(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_work_that_ends_or_fails(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "out") as folder:
        (folder / NEW).write_bytes(b"x")
        collect(tmp_path)
        assert sorted(os.listdir(folder)) == [NEW, OWNER]
    with pytest.raises(ZeroDivisionError), scratch_beside(tmp_path / "out"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    kept = [".git.abcdefgh.ffebm", ".x.ffebm", "out.abcdefgh.ffebm", ".out.abcdefgh.ffebm.txt", ".notes"]
    for name in kept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine", encoding="utf-8")
    (tmp_path / ".file.abcdefgh.ffebm").write_text("mine", encoding="utf-8")
    (tmp_path / ".link.abcdefgh.ffebm").symlink_to(tmp_path / ".notes")
    before = sorted(tmp_path.rglob("*"))
    collect(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_beside_what_is_ours_stays(tmp_path: Path) -> None:
    process, folder = started(tmp_path / "out")
    (folder / "thesis.txt").write_text("mine", encoding="utf-8")
    process.communicate()
    collect(tmp_path)
    assert (folder / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_process_that_died_on_another_machine_is_left_alone(tmp_path: Path) -> None:
    """A lock that is free here proves nothing about a process there."""
    process, folder = started(tmp_path / "out")
    process.communicate()
    owner = folder / OWNER
    text = owner.read_text(encoding="utf-8")
    host = text.split('"host":"')[1].split('"')[0]
    boot = text.split('"boot":"')[1].split('"')[0]
    owner.write_text(text.replace(host, "elsewhere").replace(boot, "another"), encoding="utf-8")
    collect(tmp_path)
    assert folder.exists()


def test_who_died_before_owning_anything(tmp_path: Path) -> None:
    (tmp_path / ".out.abcdefgh.ffebm").mkdir()
    (tmp_path / ".out.hgfedcba.ffebm").mkdir()
    (tmp_path / ".out.hgfedcba.ffebm" / OWNER).touch()
    collect(tmp_path)
    assert list(tmp_path.iterdir()) == []
