"""What each energy block could have been, what that costs, and what was chosen."""

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

Objective = Literal["analog", "latency", "throughput", "energy", "edp"]
"""What a mapping makes small; "analog" has the most work on tiles, then the least latency."""


class PricedOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that some blocks, or a digital node, could be.

    Attributes:
        group: The group of tiles; empty if digital.
        layout: How the weights lie; "digital" if they do not.
        replicas: Copies of each weight, the most of all; 0 if digital.
        bundles: Arrays on which no read waits for another one.
        tiles: Arrays that it fills, parts of them counted as such.
        seconds: Of one inference, with what is fetched for it.
        joules: Of one inference, with what is fetched for it.
        units: If digital, the groups of digital units that run its nodes, where several groups could.
    """

    group: str
    layout: str
    replicas: int
    bundles: int
    tiles: float
    seconds: float
    joules: float
    units: tuple[str, ...] = ()


class MappedBlocks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Blocks that chose together, because they share a weight, or a digital node; most choose alone.

    Attributes:
        nodes: Names of their nodes.
        options: What they could be.
        taken: Position of the option that was taken.
    """

    nodes: tuple[str, ...]
    options: tuple[PricedOption, ...]
    taken: int


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the blocks were mapped.

    Attributes:
        objective: What was made small.
        value: That, as one inference is scheduled: s, J or J s.
        priced: The same as prices add up.
        solved: The same for the choice that the solver takes by prices alone: it need not pack onto the
            tiles, and the schedule may know better ones.
        bound: No choice has a smaller sum of prices.
        gap: Share by which the solver's own choice may be above the best sum.
        blocks: What each block could be, in graph order.
        digital: What each node outside of blocks could be that several groups of digital units run.
    """

    objective: Objective
    value: float
    priced: float
    solved: float
    bound: float
    gap: float
    blocks: tuple[MappedBlocks, ...] = ()
    digital: tuple[MappedBlocks, ...] = ()


def mapping_problems(mapping: Mapping, nodes: set[str]) -> Iterator[str]:
    """Contradictions of a mapping, as text.

    Args:
        mapping: Of a plan.
        nodes: Names of the plan's nodes.
    """
    for name in ("value", "priced", "solved", "bound", "gap"):
        if not 0 <= getattr(mapping, name) < math.inf:
            yield f"its mapping has a {name} of {getattr(mapping, name)}"
    if mapping.bound > mapping.solved:
        yield f"its mapping is bounded by {mapping.bound}, and solved at {mapping.solved}"
    for blocks in (*mapping.blocks, *mapping.digital):
        unknown = [name for name in blocks.nodes if name not in nodes]
        if unknown:
            yield f"its mapping knows a node {unknown[0]!r}, which there is not"
        if not 0 <= blocks.taken < len(blocks.options):
            yield f"its mapping takes option {blocks.taken} of {len(blocks.options)}"
        for option in blocks.options:
            yield from _option_problems(option)


def _option_problems(option: PricedOption) -> Iterator[str]:
    for name in ("replicas", "bundles", "tiles", "seconds", "joules"):
        if not 0 <= getattr(option, name) < math.inf:
            yield f"an option of its mapping has {name} {getattr(option, name)}"
