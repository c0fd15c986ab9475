"""What a physics lets the layers of an energy block be; the numbers behind it are the runtime's.

The pass that forms energy blocks asks this, so it needs no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.graph.energy_block import (
    DEFAULT_PHYSICS,
    Activation,
    EnergyBlock,
    Interaction,
    Linear,
    Pool,
    Rearrangement,
)
from ffebm.graph.tensor import Array
from ffebm.visible import visible

V = TypeVar("V", np.bool_, np.int_)
Mask: TypeAlias = NDArray[np.bool_]
"""True for some nodes."""
NAMED = 5
"""Nodes that a note names."""


class Admission(Protocol):
    """What the circuit of one physics can be wired for."""

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can.

        A linear map and a pooling are asked for before the layer's activation is known, with the identity.

        Args:
            linear: The map that drives the layer; None for the state of another layer as it is.
            activation: The layer's activation, with its scale.
            pool: The pooling behind the map.
        """
        ...

    def holds(self, weight: Array) -> str | None:
        """Why its arrays cannot hold a weight with these values; None if they can.

        Args:
            weight: Of a linear map, as the model stores it.
        """
        ...

    def notes(self, block: EnergyBlock, constants: Mapping[str, Array]) -> Sequence[str]:
        """What a user should know of a whole block.

        Args:
            block: All of its layers admitted one by one.
            constants: Weights by source name.

        Raises:
            UsageError: If its circuit cannot be wired after all.
        """
        ...

    @property
    def role(self) -> str:
        """What a linear map with a weight is in its circuits, before "into layer 1 of 2 in block0"."""
        ...

    @property
    def cells_a_weight(self) -> int:
        """Cells that its circuits take for a weight."""
        ...

    @property
    def joins_branches(self) -> bool:
        """Whether layers side by side that drive one layer settle with it in one block, where it has room.

        Otherwise a layer joins the block of one of them, and the others stand clamped before it.
        """
        ...


@dataclass(frozen=True)
class OwnPhysics:
    """A physics of one's own.

    Attributes:
        admission: What its blocks may be made of.
        physics: Where it lies, `module:attribute`, a `Physics` or a class of them, which is imported when a
            block of it first runs.
    """

    admission: Admission
    physics: str


class HopfieldAdmission:
    """All that an energy block can be made of: any linear map, any pooling, any monotone activation."""

    role = "linear map with a stationary weight"
    cells_a_weight = 2  # the difference of a pair
    joins_branches = False

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can."""
        return None

    def holds(self, weight: Array) -> str | None:
        """Why its arrays cannot hold a weight; None if they can."""
        return None

    def notes(self, block: EnergyBlock, constants: Mapping[str, Array]) -> Sequence[str]:
        """What a user should know of a whole block: nothing."""
        return ()


class DeepResistiveAdmission:
    """Conductances into nodes that ideal diodes hold, and an amplifier of one gain behind all of a layer.

    Nodes of either sign are two layers side by side, since a conductance has none.
    """

    role = "conductances, one cell a weight"
    cells_a_weight = 1
    joins_branches = True

    def admits(self, linear: Linear | None, activation: Activation, pool: Pool | None = None) -> str | None:
        """Why a layer cannot be driven in a way; None if it can."""
        if linear is None:
            return "a resistive network joins layers by conductances, and an identity has none"
        if pool is not None:
            return f"a resistive network has no {pool.op}: nodes are joined by conductances alone"
        if activation.op not in {"Identity", "Relu", "Clip"}:
            return f"diodes hold a node within a range (Relu, Clip), and make no {activation.op}"
        return None

    def holds(self, weight: Array) -> str | None:
        """Why its arrays cannot hold a weight; None if they can."""
        values = weight.astype(np.float64)
        negative = int((values < 0).sum())
        if not negative:
            return None
        return (
            f"{negative} of its {values.size} weights are negative, down to {values.min():.3g}, and a weight "
            "is one conductance; double its inputs, [x, -x], and clamp it at 0"
        )

    def notes(self, block: EnergyBlock, constants: Mapping[str, Array]) -> Sequence[str]:
        """Nodes that no conductance touches.

        Raises:
            UsageError: If a layer is driven through unlike gains.
        """
        counted_power(block)
        held = {layer.value: np.zeros(layer.shape, bool) for layer in block.layers}
        for layer, interaction in block.interactions():
            source, target = touched(interaction, constants)
            held[layer.value] |= target
            if interaction.source in held:
                held[interaction.source] |= source
        return [
            f"{_floating(held[layer.value], f'{visible(layer.value)!r} of {block.name}')}, and "
            "a current drives them without bound, until training raises conductances to their least"
            for layer in block.layers
            if not held[layer.value].all()
        ]


def _floating(held: Mask, layer: str) -> str:
    """What of a layer floats, where some or none of its nodes are held by a conductance."""
    if not held.any():
        return f"every conductance at layer {layer} is 0: its nodes float"
    floating = np.flatnonzero(~held)
    which = ", ".join(map(str, floating[:NAMED].tolist())) + (", …" if len(floating) > NAMED else "")
    some = f"{len(floating)} of {held.size} nodes"
    return f"every conductance at {some} of layer {layer} is 0 ({which}): they float"


def touched(interaction: Interaction, constants: Mapping[str, Array]) -> tuple[Mask, Mask]:
    """Where an interaction has a conductance other than 0.

    A node of a convolution counts as its channel does; at the border it may have fewer conductances.

    Args:
        interaction: Without pooling.
        constants: Weights by source name.

    Returns:
        Nodes of the source, in its shape; nodes of the linear map's output, as the layer is driven by them.
    """
    linear, numbers = interaction.linear, np.arange(math.prod(interaction.source_shape))
    places = _rearranged(numbers.reshape(interaction.source_shape), interaction.before)
    if linear is None:
        return np.ones(interaction.source_shape, bool), np.array(True)
    matrix = constants[linear.weight] != 0
    if linear.op == "MatMul":
        matrix = matrix if linear.transposed else matrix.T
        below, above = matrix.any(0), matrix.any(1)
    else:
        matrix = matrix.reshape(*matrix.shape[:2], -1).any(2)
        grouped = matrix.reshape(linear.groups, -1, matrix.shape[1])
        below, above = grouped.any(1).ravel(), grouped.any(2).ravel()
        if linear.op == "ConvTranspose":
            below, above = above, below
        below, above = (m.reshape(-1, *[1] * (places.ndim - 1)) for m in (below, above))
    source = np.zeros(interaction.source_shape, bool)
    source.flat[places[np.broadcast_to(below, places.shape)]] = True
    return source, _rearranged(np.broadcast_to(above, interaction.linear_shape), interaction.after)


def _rearranged(values: NDArray[V], steps: Sequence[Rearrangement]) -> NDArray[V]:
    """Values without a batch in the layout behind some rearrangements."""
    for step in steps:
        if step.op == "Transpose":
            values = values.transpose([axis - 1 for axis in step.sizes[1:]])
        else:
            values = values.reshape(step.sizes)
    return values


def counted_power(block: EnergyBlock) -> dict[str, float]:
    """What the energy of a deep resistive block counts of the power of the conductances into each layer.

    One over the squared gains of all amplifiers below, since those divide the currents that come back.

    Raises:
        UsageError: If the layers that drive one layer disagree: there is no one energy then.
    """
    behind: dict[str, float] = {}
    found: dict[str, float] = {}
    for layer in block.layers:
        counted = {behind[i.source] for i in layer.interactions if i.source in behind}
        if len(counted) > 1:
            raise UsageError(
                f"{block.name}: layer {visible(layer.value)!r} is driven through unlike gains",
                allowed="one product of the gains of the amplifiers on all ways to a layer",
                hint="smaller blocks (block_size, --block-size), or one of the ways kept digital",
            )
        found[layer.value] = counted.pop() if counted else 1.0
        behind[layer.value] = found[layer.value] / layer.activation.scale**2
    return found


ADMISSIONS: dict[str, Admission] = {
    DEFAULT_PHYSICS: HopfieldAdmission(),
    "deep-resistive": DeepResistiveAdmission(),
}
"""Of ffebm's own physics, by name."""


def admission_of(name: str) -> Admission:
    """What blocks of a physics may be made of.

    Raises:
        UsageError: If neither ffebm nor an installed package has a physics of that name.
    """
    own = ADMISSIONS.get(name)
    return own_physics(name).admission if own is None else own


def own_physics(name: str) -> OwnPhysics:
    """The physics that an installed package offers by a name.

    Raises:
        UsageError: If none does, or what it offers is none.
    """
    package = plugins.package_of(plugins.PHYSICS, name)
    if package is None:
        known = dict.fromkeys((*ADMISSIONS, *plugins.names(plugins.PHYSICS)))
        raise UsageError(
            f"there is no physics {name!r}",
            allowed=", ".join(known),
            hint="a package offers others, as docs/extend.md says",
        )
    found = plugins.load(plugins.PHYSICS, name)
    if not isinstance(found, OwnPhysics):
        raise UsageError(f"package {package} offers {found!r} as physics {name}", allowed="an OwnPhysics")
    return found
