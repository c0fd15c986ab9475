"""Deep resistive networks: conductances between layers of nodes, diodes, and amplifiers behind the nodes.

A weight is one conductance g >= 0. Ideal diodes hold the voltage v of a node within a range; the amplifier
behind a layer multiplies its voltages by a gain A on the way up, and divides the currents that come back by
it. The state of a layer is what its amplifiers give, s = A v; without amplifiers A is 1. The energy is half
the power that the conductances dissipate, that behind an amplifier divided by its gain squared:

    E = sum over interactions of (c / 2) sum of g (s / A - z)^2  -  <b, s>,

z the state of the source and c the product of 1 / A^2 over the layers below. Its minimum given the
neighbours is s = clip(sum of drives / load): Kirchhoff's law at each node that no diode holds. Signs come
from the model: inputs are doubled, (x, -x), and a layer of the one sign stands beside one of the other.
Biases are current sources.

Source: Kendall et al. 2020 (arXiv 2006.01981), section 4, with amplifiers; Scellier 2024 (arXiv 2402.11674),
sections 3 and 4, exact block coordinate descent.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.admission import DeepResistiveAdmission, counted_power
from ffebm.graph.energy_block import EnergyBlock, Layer
from ffebm.runtime.blocks.physics import activation
from ffebm.runtime.blocks.physics.hopfield import Bilinear
from ffebm.runtime.blocks.physics.physics import Map, Moving, Term, Weights
from ffebm.visible import visible

LEAST = 2.0**-20
"""Conductance that training leaves at least, a number of every precision: the published clamp is at 0, where
a node could float."""


class Conductances:
    """(c / 2) sum of g (y / A - z)^2.

    Args:
        gain: A, of the amplifiers behind the layer.
        power: c, what the energy counts of the power here.
    """

    def __init__(self, gain: float, power: float) -> None:
        self._gain = gain
        self._power = power

    @property
    def factor(self) -> float:
        """Of the drives: c / A."""
        return self._power / self._gain

    def energy(self, linear: Map, z: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """The term, [batch]."""
        voltage, (ones, _) = y / self._gain, linear.ones(weights)
        own = voltage.square() * linear.forward(ones, weights)
        other = linear.forward(z.square(), weights)
        joint = voltage * linear.forward(z, weights)
        return self._power * (own / 2 + other / 2 - joint).flatten(1).sum(1)

    def loads(self, linear: Map, weights: Weights) -> tuple[Tensor, Tensor]:
        """Conductance incident to either end: c / A^2 and c times that of the cells.

        Raises:
            UsageError: If a conductance is negative.
        """
        assert linear.weight is not None  # an identity is not admitted
        least = weights[linear.weight].min()
        if bool(least < 0):
            raise UsageError(
                f"{visible(linear.weight)!r} has conductances down to {float(least):g}",
                allowed="conductances of at least 0",
                hint="training puts weights back after each step, `Executor.constrain` by hand; cells that "
                "learn in place as pairs hold differences, which noise makes negative: take another machine",
            )
        z, y = linear.ones(weights)
        own = self._power / self._gain**2 * linear.forward(z, weights)
        return own, self._power * linear.backward(y, weights)

    def pairs(self, z: Moving, y: Moving) -> tuple[Tensor, Tensor]:
        """Half the squared voltage differences.

        With v = y / A and answers a: c (v - z) times the answer of (z - v), product by product, each as <of
        the layer, of the source>.
        """
        below, above, answer = z.middle(), y.middle(), y.answer
        assert answer is not None  # a layer is free
        factor, own = self.factor, self.factor / self._gain
        left, right = [below, torch.ones_like(below)], [factor * answer, -own * above * answer]
        if z.answer is not None:
            left += [z.answer, below * z.answer]
            right += [factor * above, torch.full_like(above, -self._power)]
        return torch.cat(left), torch.cat(right)


class DeepResistive:
    """The physics of passive arrays: each layer loads its neighbours."""

    _admission = DeepResistiveAdmission()

    def terms(self, block: EnergyBlock) -> Sequence[Term]:
        """Conductances; where the first linear map is digital, what it makes is a current source.

        Raises:
            UsageError: If a layer cannot be wired so, or is driven through unlike amplifiers.
        """
        counted = counted_power(block)
        found: list[Term] = []
        for layer in block.layers:
            for interaction in layer.interactions:
                if interaction.linear is None and interaction.source in block.inputs:
                    found.append(Bilinear())
                    continue
                reason = self._admission.admits(interaction.linear, layer.activation, interaction.pool)
                if reason is not None:
                    raise UsageError(f"{block.name}: layer {visible(layer.value)!r}: {reason}")
                found.append(Conductances(layer.activation.scale, counted[layer.value]))
        return found

    def potential(self, layer: Layer, state: Tensor) -> Tensor:
        """Ideal diodes take no power, and let no node out of its range."""
        low, high = self.bounds(layer)
        return torch.where((state >= low) & (state <= high), 0.0 * state, torch.inf)

    def update(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """clip(sum of drives / load)."""
        return self._unclipped(layer, drive, load).clamp_(*self.bounds(layer))

    def slope(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """One over the load; nothing where a diode holds the node."""
        low, high = self.bounds(layer)
        found, conductance = self._unclipped(layer, drive, load), _conductance(drive, load)
        return ((found > low) & (found < high)) / conductance

    def _unclipped(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """Where a node would be without diodes; the drive carries the gain."""
        return drive / (layer.activation.scale * _conductance(drive, load))

    def bounds(self, layer: Layer) -> tuple[float, float]:
        """Where the diodes are."""
        return activation.bounds(layer.activation)

    def is_holomorphic(self, layer: Layer) -> bool:
        """A square of a difference is no product of the two ends."""
        return False

    def constrain(self, block: EnergyBlock, weights: Weights) -> None:
        """Conductances are at least the least; biases are free."""
        for _, interaction in block.interactions():
            if interaction.linear is not None:
                weights[interaction.linear.weight].clamp_(min=LEAST)


def _conductance(drive: Tensor, load: Tensor | None) -> Tensor:
    """The load; a node without any conductance is at 0 without a current, and without bound with one."""
    least = torch.finfo(drive.dtype).tiny
    return drive.new_full((), least) if load is None else load.clamp(min=least)
