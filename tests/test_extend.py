"""The packages in `examples/extend` are installed, found, and run by their own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffebm import plugins
from tests.packages import install, offers

EXTEND = Path(__file__).parent.parent / "examples" / "extend"
PACKAGES = sorted(path.parent for path in EXTEND.glob("*/pyproject.toml"))


def outcome(target: Path) -> str:
    """What the packages' own tests say, with the packages installed in a folder."""
    path = os.pathsep.join([str(target), str(EXTEND.parent.parent)])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--import-mode=importlib",
            "-p",
            "no:cacheprovider",
            str(EXTEND),
        ],
        cwd=target,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_seam_has_a_package_that_runs(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for package in PACKAGES:
        install(package, target)
    assert "failed" not in outcome(target)
    known = {group for package in PACKAGES for group in offers(package)}
    assert known == set(plugins.GROUPS)


@pytest.mark.slow
def test_an_installer_takes_them(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    target = tmp_path / "target"
    done = subprocess.run(
        [*command, "--target", str(target), *map(str, PACKAGES)], capture_output=True, text=True, check=False
    )
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not installed here")
    assert done.returncode == 0, done.stderr
    assert "failed" not in outcome(target)


def test_the_guide_shows_every_package_and_group() -> None:
    guide = (EXTEND.parent.parent / "docs" / "extend.md").read_text(encoding="utf-8")
    assert [p.name for p in PACKAGES if f"examples/extend/{p.name}" not in guide] == []
    assert [group for group in plugins.GROUPS if group not in guide] == []
