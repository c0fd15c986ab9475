"""What is asked of the compiler: checked, as a plan holds it, and the goal of the mapping that it sets."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, TypedDict, get_args

from ffebm.errors import UsageError
from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import LEAST_FEEDBACK
from ffebm.graph.monotone import known_activations
from ffebm.limits import as_number
from ffebm.mapping.search.goal import Goal
from ffebm.plan.mapping import Objective
from ffebm.plan.schema import MOST_EFFORT, Options


class Settings(TypedDict):
    """Arguments of `ffebm.compile` that become options of a plan; it says what each is."""

    block_size: int | tuple[int, ...] | list[int]
    boundary: Literal["tile", "digital"]
    fold_batch_norm: bool
    dims: Mapping[str, int]
    digital: Sequence[str]
    trainable: Sequence[str]
    physics: str
    feedback: float
    activations: Sequence[str]
    objective: Objective
    tiles: int | None
    max_latency: float | None
    max_energy: float | None
    max_area: float | None
    slowdown: float | None
    replicas: int | None
    effort: int


MOST_RUNS = 10_000
"""Runs in flight in one schedule at most."""


def checked_batch(batch: int) -> int:
    """Runs that each schedule has in flight.

    Raises:
        UsageError: If that is no number of runs.
    """
    _whole("batch", batch, (1, MOST_RUNS))
    return batch


def checked_feedback(feedback: float) -> float:
    """How strongly layers of a block feel those above.

    Raises:
        UsageError: If it is out of range.
    """
    if isinstance(feedback, bool) or not LEAST_FEEDBACK <= as_number(feedback) <= 1:
        raise UsageError(f"feedback {feedback!r}", allowed=f"at least {LEAST_FEEDBACK:g}, and at most 1")
    return feedback


def options_from(settings: Settings) -> Options:
    """The options of a plan.

    Raises:
        UsageError: If a setting is wrong, or something of a name is not offered.
    """
    _check_parts(settings)
    _check_mapping(settings)
    block_size = settings["block_size"]
    return Options(
        block_size=block_size if isinstance(block_size, int) else tuple(block_size),
        boundary=settings["boundary"],
        fold_batch_norm=settings["fold_batch_norm"],
        dims=dict(settings["dims"]),
        digital=tuple(dict.fromkeys(settings["digital"])),
        trainable=tuple(dict.fromkeys(settings["trainable"])),
        physics=_offered(settings["physics"]),
        feedback=checked_feedback(settings["feedback"]),
        activations=known_activations(settings["activations"]),
        objective=settings["objective"],
        tiles=settings["tiles"],
        max_latency=settings["max_latency"],
        max_energy=settings["max_energy"],
        max_area=settings["max_area"],
        slowdown=settings["slowdown"],
        replicas=settings["replicas"],
        effort=settings["effort"],
    )


def goal_of(options: Options) -> Goal:
    """The goal of the mapping that options set."""
    limits = (options.max_latency, options.max_energy, options.max_area, options.slowdown)
    seconds, joules, area, slowdown = (math.inf if limit is None else limit for limit in limits)
    replicas = math.inf if options.replicas is None else options.replicas
    return Goal(
        options.objective,
        options.tiles,
        seconds,
        joules,
        area,
        slowdown,
        options.effort,
        replicas,
        options.batch,
    )


def _check_parts(settings: Settings) -> None:
    """What the blocks are, and what of the model goes where."""
    sizes, boundary = settings["block_size"], settings["boundary"]
    listed = sizes if isinstance(sizes, Collection) else (sizes,)
    if not listed or not all(_is_whole(size) and size >= 1 for size in listed):
        allowed = "a whole number of at least 1, or a list of such numbers"
        raise UsageError(f"block size {sizes!r}", allowed=allowed)
    if boundary not in {"tile", "digital"}:
        raise UsageError(f"boundary {boundary!r}", allowed="'tile' or 'digital'")
    for name, size in settings["dims"].items():
        if not _is_whole(size) or size < 1:
            raise UsageError(f"dimension {name!r} is {size!r}", allowed="a whole number of at least 1")
    _names("digital", settings["digital"], "weights and nodes")
    _names("trainable", settings["trainable"], "constants")


def _check_mapping(settings: Settings) -> None:
    objectives = get_args(Objective)
    if settings["objective"] not in objectives:
        raise UsageError(f"objective {settings['objective']!r}", allowed=f"one of {', '.join(objectives)}")
    _whole("tiles", settings["tiles"], (0, 1 << 53))
    _whole("replicas", settings["replicas"], (1, 1 << 53))
    if settings["effort"] is None:
        raise UsageError("effort None", allowed=f"a whole number from 0 to {MOST_EFFORT}")
    _whole("effort", settings["effort"], (0, MOST_EFFORT))
    _positive("max_latency", settings["max_latency"], "s")
    _positive("max_energy", settings["max_energy"], "J")
    _positive("max_area", settings["max_area"], "mm2")
    _positive("slowdown", settings["slowdown"])


def _offered(physics: object) -> str:
    """The name of a physics that is here."""
    if not isinstance(physics, str):
        raise UsageError(
            f"physics={physics!r}",
            allowed="a name: a plan says by name what it needs",
            hint="Executor(plan, physics=…) takes an object",
        )
    admission_of(physics)
    return physics


def _names(setting: str, value: Collection[object], what: str) -> None:
    listed = isinstance(value, Collection) and not isinstance(value, str)
    if not listed or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{setting}={value!r}", allowed=f"a list of names of {what}")


def _whole(name: str, value: int | None, bounds: tuple[int, int]) -> None:
    least, most = bounds
    if value is not None and not (_is_whole(value) and least <= value <= most):
        raise UsageError(f"{name} {value!r}", allowed=f"a whole number from {least} to {most}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive(name: str, value: float | None, unit: str = "") -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):
        raise UsageError(f"{name} {value!r}", allowed=f"a number above 0{f', in {unit}' if unit else ''}")
