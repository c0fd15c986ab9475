"""Packages as an installer leaves them, without an installer."""

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def installed(target: Path, name: str, groups: Mapping[str, Mapping[str, str]], code: str = "") -> None:
    """Put a package of one module into a folder for the path.

    Args:
        target: The folder.
        name: Of the package; its module has underscores.
        groups: Entry points by group.
        code: Of the module.
    """
    target.mkdir(exist_ok=True)
    if code:
        (target / f"{name.replace('-', '_')}.py").write_text(code, encoding="utf-8")
    about = target / f"{name.replace('-', '_')}-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *map(" = ".join, names.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install(source: Path, target: Path) -> None:
    """Install a folder with a pyproject and its modules."""
    project = _project(source)
    installed(target, project["project"]["name"], offers(source))
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(source / f"{module}.py", target)


def offers(source: Path) -> dict[str, dict[str, str]]:
    """The entry points of a folder with a pyproject, by group."""
    found: dict[str, dict[str, str]] = _project(source)["project"]["entry-points"]
    return found


def _project(source: Path) -> dict[str, Any]:
    return tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))
