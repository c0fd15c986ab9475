"""Another physics, complete in one file: deep resistive networks.

Nodes are joined by conductances, diodes clip their voltages, and between layers stand amplifiers that
multiply voltages by a gain A on the way up and divide currents by it on the way down. The state of a layer is
its voltages before the amplifier. With d the depth of a layer, the energy is the power that the conductances
dissipate, half of it, in units in which the amplifiers take none:

    E = sum over interactions of (1/2) A^(-2 (d - 1)) sum of g (y - A z)^2,

so a node settles at clip(sum of currents / incident conductance). Signs come from the model: inputs are
doubled, (x, -x), and a layer of the one sign stands beside one of the other.

Source: Kendall et al. 2020 (arXiv 2006.01981), section 4; Scellier 2024 (arXiv 2402.11674), section 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation, EnergyBlock, Layer, Linear, Pool
from ffebm.runtime.blocks.physics.activation import bounds
from ffebm.runtime.blocks.physics.hopfield import Bilinear
from ffebm.runtime.blocks.physics.physics import Map, Moving, Term, Weights


class ResistiveAdmission:
    """Conductances into nodes that diodes clip."""

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can."""
        if linear is None:
            return "a resistive network joins layers by conductances, and an identity has none"
        if pool is not None:
            return "a resistive network has no pooling"
        if activation.op not in {"Identity", "Relu", "Clip"}:
            return f"diodes clip, and make no {activation.op}"
        if activation.scale != 1.0:
            return "the drive of a node is divided by its conductance, and has no other scale"
        return None


class _Conductances:
    """(1/2) c sum of g (y - A z)^2."""

    def __init__(self, gain: float, weight: float) -> None:
        self._gain = gain
        self._weight = weight

    @property
    def factor(self) -> float:
        """Of the drives: c A."""
        return self._weight * self._gain

    def energy(self, linear: Map, z: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """The term, [batch]."""
        ones, _ = linear.ones(weights)
        own = y.square() * linear.forward(ones, weights)
        other = linear.forward((self._gain * z).square(), weights)
        joint = y * linear.forward(self._gain * z, weights)
        return self._weight * (own / 2 + other / 2 - joint).flatten(1).sum(1)

    def loads(self, linear: Map, weights: Weights) -> tuple[Tensor, Tensor]:
        """Incident conductance of both ends; amplifiers see that above multiplied by A^2."""
        assert linear.weight is not None
        if bool((weights[linear.weight] <= 0).any()):
            raise UsageError(
                f"{linear.weight!r} has conductances down to {float(weights[linear.weight].min()):g}",
                allowed="positive ones",
                hint="constrain the weights after each step",
            )
        z, y = linear.ones(weights)
        above = self._gain**2 * self._weight
        return self._weight * linear.forward(z, weights), above * linear.backward(y, weights)

    def pairs(self, z: Moving, y: Moving) -> tuple[Tensor, Tensor]:
        """Half the squared voltage differences."""
        below, above, answer = z.middle(), y.middle(), y.answer
        assert answer is not None
        ones, factor = torch.ones_like(below), self.factor
        left, right = [below, ones], [factor * answer, -self._weight * above * answer]
        if z.answer is not None:
            left += [z.answer, below * z.answer]
            right += [factor * above, torch.full_like(above, -factor * self._gain)]
        return torch.cat(left), torch.cat(right)


class Resistive:
    """Deep resistive networks.

    Args:
        gain: Of the amplifiers behind each layer and each input.
        g_min: Least conductance.
    """

    admission = ResistiveAdmission()

    def __init__(self, gain: float = 1.0, g_min: float = 1e-3) -> None:
        self._gain = gain
        self._g_min = g_min

    def terms(self, block: EnergyBlock) -> Sequence[Term]:
        """Conductances; what is clamped may also be a current source."""
        depth: dict[str, int] = {}
        found: list[Term] = []
        for layer in block.layers:
            own = {depth[i.source] + 1 for i in layer.interactions if i.source in depth}
            if len(own) > 1:
                raise UsageError(f"{layer.value!r} is driven from {len(own)} depths, and amplifiers add up")
            depth[layer.value] = own.pop() if own else 1
            for interaction in layer.interactions:
                clamped = interaction.source not in depth
                reason = self.admission.admits(interaction.linear, layer.activation, interaction.pool)
                if interaction.linear is None and clamped:
                    found.append(Bilinear())
                elif reason is not None:
                    raise UsageError(f"{layer.value!r}: {reason}")
                else:
                    weight = self._gain ** (-2 * (depth[layer.value] - 1))
                    found.append(_Conductances(self._gain, weight))
        return found

    def potential(self, layer: Layer, state: Tensor) -> Tensor:
        """Ideal diodes take no power."""
        low, high = self.bounds(layer)
        return torch.where((state >= low) & (state <= high), 0.0 * state, torch.inf)

    def update(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """clip(drive / incident conductance)."""
        assert load is not None  # of conductances that are positive
        return (drive / load).clamp(*self.bounds(layer))

    def slope(self, layer: Layer, drive: Tensor, load: Tensor | None) -> Tensor:
        """One over the conductance; nothing where a diode holds the node."""
        assert load is not None
        low, high = self.bounds(layer)
        free = (drive / load > low) & (drive / load < high)
        return free / load

    def bounds(self, layer: Layer) -> tuple[float, float]:
        """Where the diodes are."""
        return bounds(layer.activation)

    def is_holomorphic(self, layer: Layer) -> bool:
        """A term has squares."""
        return False

    def constrain(self, block: EnergyBlock, weights: Weights) -> None:
        """Conductances are at least the least."""
        for _, interaction in block.interactions():
            if interaction.linear is not None:
                weights[interaction.linear.weight].clamp_(min=self._g_min)
