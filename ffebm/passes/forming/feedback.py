"""Blocks whose layers feel those above weaker than they drive them."""

from collections.abc import Iterator, Sequence

import msgspec

from ffebm.errors import Location, UsageError
from ffebm.graph.energy_block import DEFAULT_PHYSICS, EnergyBlock
from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.visible import visible

FAINT = 1e-5
"""Share of a nudge whose answer rounding of single precision spoils: gradients of the first of six layers of
the paper's network, maps of a norm of 2, have a cosine of 0.98 with exact ones at 1e-5, of 0.14 at 3e-7."""


def weaken(graph: Graph, hardware: Hardware, feedback: float) -> None:
    """Give the blocks a feedback.

    Args:
        graph: With its blocks formed; they are replaced.
        hardware: The machine.
        feedback: Of the strength at which a layer drives those above.

    Raises:
        UsageError: If blocks of that physics or on that machine cannot have one, or no layer feels another.
    """
    _check(graph, hardware, feedback)
    graph.blocks = [
        msgspec.structs.replace(block, feedback=feedback) if max(block.depths()) else block
        for block in graph.blocks
    ]
    graph.notes += _faint(graph.blocks, feedback)


def _check(graph: Graph, hardware: Hardware, feedback: float) -> None:
    """Layers feel each other, by reads whose results are multiplied afterwards."""
    at = Location(graph.source)
    physics = next((b.physics for b in graph.blocks if b.physics != DEFAULT_PHYSICS), None)
    if physics is not None:
        raise UsageError(
            f"feedback {feedback:g} in blocks of physics {physics!r}",
            allowed=f"blocks of physics {DEFAULT_PHYSICS!r}",
            hint="amplifiers decide it there: the currents that come back are divided by their gain",
            location=at,
        )
    wired = [group.name for group in hardware.analog if group.settling == "continuous"]
    if wired:
        raise UsageError(
            f"feedback {feedback:g} on {wired[0]!r} of machine {hardware.name!r}, whose blocks are circuits",
            allowed="machines with clocked settling, which multiply what was read",
            location=at,
        )
    if not any(max(block.depths()) for block in graph.blocks):
        raise UsageError(
            f"feedback {feedback:g} where no layer of a block feels another",
            allowed="blocks of several layers",
            hint="ask for larger ones: --block-size 2",
            location=at,
        )


def _faint(blocks: Sequence[EnergyBlock], feedback: float) -> Iterator[str]:
    """Blocks whose lowest layers hardly feel a nudge."""
    for block in blocks:
        depths = block.depths()
        reach = feedback ** max(depths)
        if reach < FAINT:
            lowest = visible(block.layers[depths.index(max(depths))].value)  # blocks may yet change numbers
            yield (
                f"layer {lowest!r} of an energy block feels a nudge at {reach:.1g} of its strength, which "
                "single precision may not resolve: gradients by a stronger feedback, or Implicit, are safe"
            )
