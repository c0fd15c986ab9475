"""What the user wants of the mapping, checked."""

import math
from collections.abc import Mapping
from typing import get_args

import msgspec

from ffebm.errors import UsageError
from ffebm.mapping.search import Wish
from ffebm.plan.mapping import Objective
from ffebm.plan.schema import MOST_EFFORT, Options

Wanted = str | float | None
"""A setting as it is given."""


def with_wish(options: Options, wanted: Mapping[str, Wanted]) -> Options:
    """Options with settings of the mapping.

    Args:
        options: The other options.
        wanted: Objective, tiles, max_latency (s), max_energy (J), max_area (mm2), slowdown, replicas and
            effort.

    Raises:
        UsageError: If one is out of range.
    """
    objectives = get_args(Objective)
    if wanted["objective"] not in objectives:
        raise UsageError(f"objective {wanted['objective']!r}", allowed=f"one of {', '.join(objectives)}")
    _whole("tiles", wanted["tiles"], (0, 1 << 53))
    _whole("replicas", wanted["replicas"], (1, 1 << 53))
    _whole("effort", wanted["effort"], (0, MOST_EFFORT))
    for name, unit in (("max_latency", "s"), ("max_energy", "J"), ("max_area", "mm2"), ("slowdown", "")):
        _positive(name, wanted[name], unit)
    return msgspec.structs.replace(options, **wanted)


def _whole(name: str, value: Wanted, bounds: tuple[int, int]) -> None:
    least, most = bounds
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
        return
    raise UsageError(f"{name} {value!r}", allowed=f"a whole number from {least} to {most}")


def _positive(name: str, value: Wanted, unit: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and 0 < float(value) < math.inf):
        return
    raise UsageError(f"{name} {value!r}", allowed=f"a number above 0{f', in {unit}' if unit else ''}")


def wish_of(options: Options) -> Wish:
    """What the mapping is to be like."""
    limits = (options.max_latency, options.max_energy, options.max_area, options.slowdown)
    seconds, joules, area, slowdown = (math.inf if limit is None else limit for limit in limits)
    usual = 1 if options.objective == "analog" else math.inf  # training writes every copy at every update
    replicas = usual if options.replicas is None else options.replicas
    return Wish(options.objective, options.tiles, seconds, joules, area, slowdown, options.effort, replicas)
