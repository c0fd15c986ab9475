"""Options of the mapping, checked, and the goal that they set."""

import math
from collections.abc import Mapping
from typing import get_args

import msgspec

from ffebm.errors import UsageError
from ffebm.mapping.search import Goal
from ffebm.plan.mapping import Objective
from ffebm.plan.schema import MOST_EFFORT, Options

MappingSetting = str | float | None
"""A setting as it is given."""


def with_mapping_options(options: Options, settings: Mapping[str, MappingSetting]) -> Options:
    """Options with those of the mapping.

    Args:
        options: The other options.
        settings: Objective, tiles, max_latency (s), max_energy (J), max_area (mm2), slowdown, replicas and
            effort.

    Raises:
        UsageError: If one is out of range.
    """
    objectives = get_args(Objective)
    if settings["objective"] not in objectives:
        raise UsageError(f"objective {settings['objective']!r}", allowed=f"one of {', '.join(objectives)}")
    _whole("tiles", settings["tiles"], (0, 1 << 53))
    _whole("replicas", settings["replicas"], (1, 1 << 53))
    _whole("effort", settings["effort"], (0, MOST_EFFORT))
    for name, unit in (("max_latency", "s"), ("max_energy", "J"), ("max_area", "mm2"), ("slowdown", "")):
        _positive(name, settings[name], unit)
    return msgspec.structs.replace(options, **settings)


def _whole(name: str, value: MappingSetting, bounds: tuple[int, int]) -> None:
    least, most = bounds
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
        return
    raise UsageError(f"{name} {value!r}", allowed=f"a whole number from {least} to {most}")


def _positive(name: str, value: MappingSetting, unit: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (number and 0 < float(value) < math.inf):
        return
    raise UsageError(f"{name} {value!r}", allowed=f"a number above 0{f', in {unit}' if unit else ''}")


def goal_of(options: Options) -> Goal:
    """The goal of the mapping that options set."""
    limits = (options.max_latency, options.max_energy, options.max_area, options.slowdown)
    seconds, joules, area, slowdown = (math.inf if limit is None else limit for limit in limits)
    usual = 1 if options.objective == "analog" else math.inf  # training writes every copy at every update
    replicas = usual if options.replicas is None else options.replicas
    return Goal(options.objective, options.tiles, seconds, joules, area, slowdown, options.effort, replicas)
