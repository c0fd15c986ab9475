"""Relations: which tiles hold a weight, and what a node reads in its subgraphs."""

from collections.abc import Iterator

from ffebm.plan.plan import Plan
from ffebm.plan.program import Instruction


def tiles_of_weights(plan: Plan) -> dict[str, tuple[int, ...]]:
    """The tiles that hold a part of each weight, by its source name."""
    held: dict[str, set[int]] = {}
    for tile, piece in plan.pieces():
        held.setdefault(piece.weight, set()).add(tile.id)
    return {weight: tuple(sorted(tiles)) for weight, tiles in held.items()}


def captured(instruction: Instruction) -> Iterator[str]:
    """What an instruction's subgraphs read from outside."""
    for program in instruction.graphs.values():
        own = {*program.inputs, *(value for inner in program.instructions for value in inner.outputs)}
        for inner in program.instructions:
            yield from (value for value in (*inner.inputs, *captured(inner)) if value and value not in own)
        yield from (value for value in program.outputs if value not in own)
