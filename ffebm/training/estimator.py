"""The gradient estimator that the settings of a run name: one of our own, or an installed package's."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient, Implicit, Unrolled, known_gradient
from ffebm.training.settings import Training

ESTIMATORS: dict[str, Callable[[Training], Gradient]] = {
    "ep": lambda training: EP(beta=training.beta, cost=training.cost),
    "implicit": lambda _: Implicit(),
    "unrolled": lambda _: Unrolled(),
}


def estimator(training: Training) -> Gradient:
    """The gradient estimator that the settings name.

    Raises:
        UsageError: If there is none of that name, or what a package offers is none.
    """
    name = training.gradient
    if name in ESTIMATORS:
        return ESTIMATORS[name](training)
    if plugins.package_of(plugins.ESTIMATORS, name) is None:
        known = dict.fromkeys((*ESTIMATORS, *plugins.names(plugins.ESTIMATORS)))
        raise UsageError(f"gradient {name!r}", allowed=", ".join(known))
    make = plugins.load(plugins.ESTIMATORS, name)
    if not callable(make):
        raise UsageError(f"the estimator {name!r} is {make!r}", allowed="a function of the settings of a run")
    return known_gradient(cast("Callable[[Training], object]", make)(training))


def recorded(gradient: Gradient) -> dict[str, Any]:
    """An estimator as a record holds it: the name of its class, and its fields as JSON has them.

    One that is no dataclass is known by its `repr` alone.
    """
    name = type(gradient).__qualname__
    if not dataclasses.is_dataclass(gradient):
        return {"type": name, "repr": repr(gradient)}
    fields = {field.name: getattr(gradient, field.name) for field in dataclasses.fields(gradient)}
    return {"type": name, **{key: _as_json(value) for key, value in fields.items()}}


def as_known_to(theirs: Mapping[str, Any], gradient: Gradient) -> dict[str, Any]:
    """An estimator as `recorded`, without fields that another record does not know, where they are at rest.

    A field that came after a run was recorded leaves the run as it was at its default.

    Args:
        theirs: The other record.
        gradient: The estimator.
    """
    ours = recorded(gradient)
    fields: tuple[dataclasses.Field[Any], ...] = ()
    if dataclasses.is_dataclass(gradient):
        fields = dataclasses.fields(gradient)
    for field in fields:
        known = field.default is not dataclasses.MISSING and ours[field.name] == _as_json(field.default)
        if field.name not in theirs and known:
            del ours[field.name]
    return ours


def _as_json(value: object) -> Any:
    """A value as it comes back from JSON; in words where that has none."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, msgspec.MsgspecError):
        return repr(value)
