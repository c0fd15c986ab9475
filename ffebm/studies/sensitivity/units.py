"""What goes on tiles, or stays off them, on its own: an energy block, or one projection."""

import math
from typing import Literal

import msgspec

from ffebm.errors import UsageError
from ffebm.graph.energy_block import EnergyBlock, Interaction
from ffebm.plan.plan import Plan

By = Literal["block", "projection"]


class Unit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a plan's work that tiles can do.

    Attributes:
        name: Of the block (of several that share a weight: joined by +), or of the projection's weight.
        weights: The weights that lie on tiles, by source name.
        macs: Multiply-accumulates of one inference.
    """

    name: str
    weights: tuple[str, ...]
    macs: int


def units_of(plan: Plan, by: By) -> tuple[Unit, ...]:
    """The units of a plan in its order.

    Raises:
        UsageError: If nothing lies on crossbars.
    """
    if not any(tile.kind == "crossbar" for tile in plan.tiles):
        raise UsageError(
            f"nothing of the plan lies on crossbars of {plan.hardware.name}",
            hint="compile it for a machine that has crossbars",
        )
    return _blocks(plan) if by == "block" else _projections(plan)


def work_of(plan: Plan) -> int:
    """Multiply-accumulates of one inference, wherever they run."""
    return sum(node.macs for node in plan.nodes)


def _projections(plan: Plan) -> tuple[Unit, ...]:
    work: dict[str, int] = {}
    for block in plan.blocks:
        for _, interaction in block.interactions():
            if interaction.linear is not None:
                weight = interaction.linear.weight
                work[weight] = work.get(weight, 0) + plan.batch * _macs(plan, interaction)
    return tuple(Unit(name=weight, weights=(weight,), macs=macs) for weight, macs in work.items())


def _blocks(plan: Plan) -> tuple[Unit, ...]:
    """Blocks that share a weight are one unit: the weight is on tiles or not."""
    groups: list[tuple[list[EnergyBlock], dict[str, None]]] = []
    for block in plan.blocks:
        found = ([block], dict.fromkeys(_on_tiles(block)))
        apart = []
        for blocks, weights in groups:
            if weights.keys() & found[1].keys():
                found = ([*blocks, *found[0]], weights | found[1])
            else:
                apart.append((blocks, weights))
        groups = [*apart, found]
    return tuple(
        Unit(
            name="+".join(block.name for block in blocks),
            weights=tuple(weights),
            macs=sum(node.macs for node in plan.nodes if node.block in {block.id for block in blocks}),
        )
        for blocks, weights in sorted(groups, key=lambda group: group[0][0].id)
    )


def _on_tiles(block: EnergyBlock) -> list[str]:
    return [i.linear.weight for _, i in block.interactions() if i.linear is not None]


def _macs(plan: Plan, interaction: Interaction) -> int:
    """Multiply-accumulates of a projection for one sample."""
    linear = interaction.linear
    assert linear is not None  # callers ask for projections
    shape = plan.weights[linear.weight].shape
    if linear.op == "ConvTranspose":
        return math.prod(interaction.source_shape) * math.prod(shape[1:])
    if linear.op == "Conv":
        return math.prod(interaction.linear_shape) * math.prod(shape[1:])
    return math.prod(interaction.linear_shape) * shape[1 if linear.transposed else 0]
