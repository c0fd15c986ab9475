"""An activation: Atan, which ffebm leaves to digital units, becomes one of layers of energy blocks.

Its potential is the integral of its inverse: G(s) = -log cos(s), which grows without bound towards pi / 2.
"""

from math import pi

from ffebm.graph.own_ops import OwnActivation
from ffebm.runtime.blocks.physics.activation import ActivationForm

FORM = ActivationForm(
    sigma=lambda _, u: u.atan(),
    bounds=lambda _: (-pi / 2, pi / 2),
    potential=lambda _, s: -s.cos().log(),
    holomorphic=True,
)
ATAN = OwnActivation(form="ffebm_atan:FORM")
