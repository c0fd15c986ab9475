"""`pip install -e .` as the README says, in a checkout that is called as the package is."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx

import ffebm
from tests.models import Builder

ROOT = Path(ffebm.__file__).parent.parent
BUILD = "from setuptools import build_meta; print(build_meta.build_editable('wheels'))"
SCRIPT = """
import importlib.util, site, sys
site.addsitedir(sys.argv[1])
print(importlib.util.find_spec("ffebm").origin)
"""


def editable_install(clone: Path, site: Path) -> None:
    """What pip does with an editable wheel, without pip: built by the project's own backend, and unpacked."""
    subprocess.run([sys.executable, "-c", BUILD], cwd=clone, check=True, capture_output=True)
    (wheel,) = (clone / "wheels").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)


def copied(clone: Path) -> Path:
    """What a wheel is built from."""
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "ffebm", clone / "ffebm", ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def test_a_built_wheel_works_outside_the_tree(tmp_path: Path) -> None:
    """It holds every file of the package, and compiles, reports and says its types from anywhere."""
    clone, site, work = copied(tmp_path / "clone"), tmp_path / "site", tmp_path / "work"
    work.mkdir()
    build = "from setuptools import build_meta; build_meta.build_wheel('wheels')"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    (wheel,) = (clone / "wheels").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    files = {path.relative_to(site) for path in (site / "ffebm").rglob("*") if path.is_file()}
    ours = {path.relative_to(clone) for path in (clone / "ffebm").rglob("*") if path.is_file()}
    assert files == ours
    assert Path("ffebm/py.typed") in files

    b = Builder()
    onnx.save(b.model(b.node("Relu", b.node("Gemm", b.input("x", 1, 4), b.weight(4, 3)))), work / "net.onnx")
    script = (
        "import sys, ffebm, ffebm.cli; print(ffebm.__file__); "
        "sys.exit(ffebm.cli._guarded(['compile', 'net.onnx', '--report']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == str(site / "ffebm" / "__init__.py")
    assert (work / "net.plan.html").stat().st_size > 10_000


def test_a_script_beside_a_clone_called_ffebm_finds_the_package(tmp_path: Path) -> None:
    """The clone's folder is no package, yet Python takes it for one if only a finder knows the real one."""
    clone, site = copied(tmp_path / "ffebm"), tmp_path / "site"
    editable_install(clone, site)
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    # without the packages of this environment, where another ffebm may be installed
    alone = [sys.executable, "-E", "-S", str(script), str(site)]
    done = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{clone / 'ffebm' / '__init__.py'}\n", "")
