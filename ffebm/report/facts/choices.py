"""What each block could have been, and what that would cost: the mapping's options, by node."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from ffebm.plan.mapping import Objective, PricedOption
from ffebm.plan.plan import Plan


class NodeChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes that chose together, and between what.

    Attributes:
        name: The energy block that they became, or the nodes if they stay digital.
        nodes: Positions of the nodes.
        options: What they could be, as the plan lists them.
        taken: Position of what was taken.
        quickest: Position of what takes least time, on the fewest tiles of several.
        thriftiest: Position of what takes least energy, on the fewest tiles of several.
    """

    name: str
    nodes: tuple[int, ...]
    options: tuple[PricedOption, ...]
    taken: int
    quickest: int
    thriftiest: int


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """All choices of a plan.

    Attributes:
        objective: What was made small.
        gap: Share by which the solver's choice may be above the best sum of prices.
        blocks: In graph order, then digital nodes that several groups of units run.
    """

    objective: Objective
    gap: float
    blocks: tuple[NodeChoice, ...]


def choices(plan: Plan) -> Choices | None:
    """What the blocks of a plan could have been; None if nothing was chosen."""
    if plan.mapping is None:
        return None
    at = {node.name: position for position, node in enumerate(plan.nodes)}
    return Choices(
        objective=plan.mapping.objective,
        gap=plan.mapping.gap,
        blocks=tuple(
            _choice(plan, tuple(sorted(at[name] for name in some.nodes)), some.options, some.taken)
            for some in (*plan.mapping.blocks, *plan.mapping.digital)
        ),
    )


def _choice(plan: Plan, nodes: tuple[int, ...], options: tuple[PricedOption, ...], taken: int) -> NodeChoice:
    blocks = dict.fromkeys(plan.nodes[node].block for node in nodes)
    names = [f"block{block}" for block in blocks if block is not None]
    return NodeChoice(
        name=", ".join(names or [plan.nodes[node].name for node in nodes]),
        nodes=nodes,
        options=options,
        taken=taken,
        quickest=least(options, "seconds"),
        thriftiest=least(options, "joules"),
    )


def least(options: Sequence[PricedOption], figure: Literal["seconds", "joules"]) -> int:
    """Position of the option with the least of a figure; of several the one on the fewest tiles."""
    return min(range(len(options)), key=lambda n: (getattr(options[n], figure), options[n].tiles, n))


def remarkable(choice: NodeChoice) -> list[int]:
    """Options that say most: digital, what was taken, the quickest, the thriftiest; in the plan's order."""
    digital = (n for n, option in enumerate(choice.options) if not option.group)
    return sorted({*digital, choice.taken, choice.quickest, choice.thriftiest})


def option_text(option: PricedOption) -> str:
    """An option in words."""
    if not option.group:
        return f"digital on {' and '.join(option.units)}" if option.units else "digital"
    copies = f", {option.replicas:,} replicas" if option.replicas > 1 else ""
    return f"{option.group}: {option.layout}{copies}"
