"""Reasons: what kept nodes off the tiles, and how much of the work and of the weights that is."""

import msgspec

from ffebm.plan.plan import Plan
from ffebm.plan.schema import PlanNode
from ffebm.plan.summary import share


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """What kept nodes off the tiles.

    Attributes:
        text: The reason.
        nodes: How many nodes have it.
        macs: Their multiply-accumulates.
        share: Those of all, in per cent, as text.
        weights: Their weights and biases; a weight that two nodes read counts for both.
        weight_share: Those of all, in per cent, as text.
    """

    text: str
    nodes: int
    macs: int
    share: str
    weights: int
    weight_share: str


def reasons(plan: Plan) -> tuple[Reason, ...]:
    """Every reason for digital nodes, that of the largest share of work or of weights first."""
    macs = sum(node.macs for node in plan.nodes)
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    groups: dict[str, list[PlanNode]] = {}
    for node in plan.nodes:
        if node.unit == "digital":
            groups.setdefault(node.reason, []).append(node)
    found = []
    for text, nodes in groups.items():
        lost, kept = sum(node.macs for node in nodes), sum(node.weights for node in nodes)
        found.append(
            Reason(
                text=text,
                nodes=len(nodes),
                macs=lost,
                share=share(lost, macs),
                weights=kept,
                weight_share=share(kept, weights),
            )
        )

    def rank(reason: Reason) -> tuple[float, float, int, str]:
        larger = max(reason.macs / max(1, macs), reason.weights / max(1, weights))
        return -larger, -reason.macs, -reason.nodes, reason.text

    return tuple(sorted(found, key=rank))
