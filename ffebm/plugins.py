"""What other packages add to ffebm: found by their entry points, loaded when they are asked for.

| Group | An entry point leads to |
|---|---|
| `ffebm.activations` | an `OwnActivation`; its name is the op's |
| `ffebm.converters` | a curve: what an ADC makes of values in units of its range, as tensors |
| `ffebm.data` | a function from a folder, or None, to `Data` |
| `ffebm.estimators` | a function from the settings of a run, `Training`, to an estimator |
| `ffebm.exporters` | a function from a `Plan` to an `Export` |
| `ffebm.hardware` | a `Hardware`, or the path of a description |
| `ffebm.kernels` | an `OwnOp`; its name is the op's, `domain.Name` |
| `ffebm.passes` | a pass, or a class of passes whose options have defaults |
| `ffebm.physics` | an `OwnPhysics` |
| `ffebm.tiles` | an `OwnTile` |
| `ffebm.torch_ops` | what registers torch ops as it is imported; its name is their namespace |

Nothing is loaded by its presence alone: who compiles, runs or exports names it. A plan names ops and
packages, never what to import: of packages that are not installed here as plug-ins it makes nothing run.
"""

import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from ffebm.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ACTIVATIONS = "ffebm.activations"
CONVERTERS = "ffebm.converters"
DATA = "ffebm.data"
ESTIMATORS = "ffebm.estimators"
EXPORTERS = "ffebm.exporters"
HARDWARE = "ffebm.hardware"
KERNELS = "ffebm.kernels"
PASSES = "ffebm.passes"
PHYSICS = "ffebm.physics"
TILES = "ffebm.tiles"
TORCH_OPS = "ffebm.torch_ops"
GROUPS = (
    ACTIVATIONS, CONVERTERS, DATA, ESTIMATORS, EXPORTERS, HARDWARE, KERNELS, PASSES, PHYSICS, TILES,
    TORCH_OPS,
)  # fmt: skip


def names(group: str) -> list[str]:
    """Names that installed packages give in a group, sorted."""
    return sorted(_offers(group, tuple(sys.path)))


def package_of(group: str, name: str) -> str | None:
    """The package that offers a name in a group; None if none does."""
    offers = _offers(group, tuple(sys.path)).get(name)
    return None if offers is None else _package(offers[0])


def packages() -> frozenset[str]:
    """The installed packages that add anything."""
    path = tuple(sys.path)
    return frozenset(_package(offers[0]) for group in GROUPS for offers in _offers(group, path).values())


def load(group: str, name: str) -> object:
    """What a name in a group leads to.

    Raises:
        UsageError: If no package offers it, several do, or it cannot be loaded.
    """
    offers = _offers(group, tuple(sys.path)).get(name, ())
    if not offers:
        listed = ", ".join(names(group)) or "none"
        raise UsageError(
            f"no installed package offers {name!r} in {group}", allowed=f"installed are: {listed}"
        )
    if len(offers) > 1:
        raise UsageError(
            f"{name!r} in {group} is offered by {' and '.join(sorted(map(_package, offers)))}",
            allowed="one package for a name",
            hint="uninstall one of them",
        )
    try:
        return offers[0].load()
    except Exception as error:
        raise UsageError(
            f"{name!r} in {group}, of package {_package(offers[0])}, cannot be loaded: "
            f"{type(error).__name__}: {error}",
            hint=f"its entry point is {offers[0].value!r}; mend or uninstall the package",
        ) from error


@cache
def imported(group: str, name: str, place: str) -> object:
    """What an offer imports only when it runs, `module:attribute`.

    Args:
        group: Of the offer.
        name: Of the offer.
        place: As the offer says.

    Raises:
        UsageError: If it cannot be imported.
    """
    try:
        return resolve_name(place)
    except Exception as error:
        raise UsageError(
            f"{place}, of {name!r} in {group}, cannot be loaded: {type(error).__name__}: {error}",
            hint=f"mend or uninstall package {package_of(group, name)}",
        ) from error


def _package(offer: "EntryPoint") -> str:
    return offer.dist.name if offer.dist is not None else "?"


@lru_cache(maxsize=8)
def _entry_points(path: tuple[str, ...]) -> "Mapping[str, tuple[EntryPoint, ...]]":
    """Those of all that lies on the path, by group: read once, since each package brings a file of them."""
    from importlib.metadata import entry_points  # slow to import, and who only compiles needs none

    found = entry_points()
    return {group: tuple(found.select(group=group)) for group in GROUPS}


@lru_cache(maxsize=64)
def _offers(group: str, path: tuple[str, ...]) -> "Mapping[str, tuple[EntryPoint, ...]]":
    """By name, one entry point a package; of a package that lies twice on the path, the first one's."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for offer in _entry_points(path)[group]:
        found.setdefault(offer.name, {}).setdefault(_package(offer), offer)
    return {name: tuple(by_package.values()) for name, by_package in found.items()}
