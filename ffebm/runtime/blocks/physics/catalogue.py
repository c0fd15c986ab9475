"""The physics of energy blocks by name: our own, and those of installed packages."""

from collections.abc import Callable
from functools import cache
from typing import cast

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.graph.admission import own_physics
from ffebm.graph.energy_block import DEFAULT_PHYSICS
from ffebm.runtime.blocks.physics.deep_resistive import DeepResistive
from ffebm.runtime.blocks.physics.hopfield import Hopfield
from ffebm.runtime.blocks.physics.physics import Physics

PHYSICS: dict[str, Callable[[], Physics]] = {DEFAULT_PHYSICS: Hopfield, "deep-resistive": DeepResistive}
METHODS = ("terms", "potential", "update", "slope", "bounds", "is_holomorphic", "constrain")
"""Of a `Physics`."""


@cache
def physics_of(name: str) -> Physics:
    """A physics by its name.

    Raises:
        UsageError: If there is none of that name, or what a package offers is none.
    """
    if name in PHYSICS:
        return PHYSICS[name]()
    place = own_physics(name).physics
    found = plugins.imported(plugins.PHYSICS, name, place)
    return known_physics(found() if isinstance(found, type) else found)


def known_physics(found: object) -> Physics:
    """A physics as it was given.

    Raises:
        UsageError: If it is none.
    """
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if isinstance(found, type) or missing:
        lacking = "" if isinstance(found, type) else f", which has no {', '.join(missing)}"
        raise UsageError(
            f"the physics is {found!r}{lacking}", allowed="an object with the methods of Physics"
        )
    return cast("Physics", found)
