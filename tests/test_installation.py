"""`pip install -e .` as the README says, in a checkout that is called as the package is."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import ffebm

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


def test_a_script_beside_a_clone_called_ffebm_finds_the_package(tmp_path: Path) -> None:
    """The clone's folder is no package, yet Python takes it for one if only a finder knows the real one."""
    clone, site = tmp_path / "ffebm", tmp_path / "site"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "ffebm", clone / "ffebm", ignore=shutil.ignore_patterns("__pycache__"))
    editable_install(clone, site)
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    # without the packages of this environment, where another ffebm may be installed
    alone = [sys.executable, "-E", "-S", str(script), str(site)]
    done = subprocess.run(alone, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{clone / 'ffebm' / '__init__.py'}\n", "")
