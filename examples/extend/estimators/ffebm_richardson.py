"""An estimator: equilibrium propagation at two strengths of the nudge, extrapolated to none.

A symmetric nudge of strength beta errs by c beta^2 + O(beta^4). From g(beta) and g(beta / 2),

    (4 g(beta / 2) - g(beta)) / 3

is free of c, at twice the work.

Source: Richardson 1911 (10.1098/rsta.1911.0009), section 1.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients
from ffebm.runtime.blocks.estimators.gradient import DEFAULT_BETA, EP
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.settling.settling import Outcome
from ffebm.training.settings import Training


@dataclass(frozen=True)
class Richardson:
    """Two estimates by EP, and what they tell of none.

    Attributes:
        ep: The estimator at the larger strength.
    """

    ep: EP

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        """Gradients of the loss, and how the weaker nudge went."""
        assert self.ep.beta != "auto"
        wide, _ = self.ep.gradients(free, current)
        narrow, outcome = replace(self.ep, beta=self.ep.beta / 2).gradients(free, current)
        return Gradients(_joined(narrow.inputs, wide.inputs), _joined(narrow.weights, wide.weights)), outcome


def _joined(narrow: dict[str, Tensor], wide: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (4 * grad - wide[name]) / 3 for name, grad in narrow.items()}


def richardson(training: Training) -> Richardson:
    """As the settings of a run have it; a strength of "auto" is the usual one here."""
    beta = DEFAULT_BETA if training.beta == "auto" else training.beta
    return Richardson(EP(beta, cost=training.cost))
