"""The gradient estimator that the settings of a run name: one of our own, or an installed package's."""

from collections.abc import Callable
from typing import cast

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
