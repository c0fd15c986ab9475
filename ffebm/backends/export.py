"""What an exporter makes: the files of a folder that another tool reads, and what they cannot say."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffebm.conductance import to_matrix
from ffebm.hardware import Crossbar
from ffebm.ir import Array, Linear
from ffebm.plan import Piece, Plan


@dataclass(frozen=True)
class Export:
    """A plan in the format of another tool.

    Attributes:
        marker: The file that is always among them.
        files: Contents by relative name.
        notes: What the format cannot express, or what the user must know; the files say it too.
    """

    marker: str
    files: Mapping[str, bytes]
    notes: tuple[str, ...]


def linears(plan: Plan) -> dict[str, Linear]:
    """The linear maps on tiles by the source name of their weight, in graph order."""
    return {
        i.linear.weight: i.linear for b in plan.blocks for _, i in b.interactions() if i.linear is not None
    }


def layer_name(weight: str) -> str:
    """The module that owns a weight, as PyTorch names both."""
    return weight.rpartition(".")[0] or weight


def held_piece(plan: Plan, linear: Linear, piece: Piece) -> Array:
    """What a piece's cells stand for when they meet their targets, [n_out, n_in]: weights on levels."""
    matrix = to_matrix(linear, plan.weights[linear.weight])[piece.group]
    part = matrix[slice(*piece.outputs), slice(*piece.inputs)].astype(np.float32)
    tile = plan.hardware.tiles.tile
    if not isinstance(tile, Crossbar):
        return np.ascontiguousarray(part)
    top = tile.cell.levels - 1
    levels = np.clip(np.round(part / np.float32(piece.scale) * top), -top, top)
    return np.ascontiguousarray((levels / top * piece.scale).astype(np.float32))


def held_matrix(plan: Plan, linear: Linear) -> Array:
    """All pieces of a weight together, [groups, n_out, n_in]."""
    matrix = np.zeros(to_matrix(linear, plan.weights[linear.weight]).shape, np.float32)
    for _, piece in plan.pieces():
        if piece.weight == linear.weight:
            matrix[piece.group, slice(*piece.outputs), slice(*piece.inputs)] = held_piece(plan, linear, piece)
    return matrix


def source_line(plan: Plan) -> str:
    """Which plan a file was made from."""
    return f"{plan.source.name} on {plan.hardware.name}, sha256 {plan.source.digest}"


def settling_notes(plan: Plan) -> list[str]:
    """Blocks that are more than one feedforward layer, which no inference simulator settles."""
    settling = [block.name for block in plan.blocks if len(block.layers) > 1]
    if not settling:
        return []
    return [f"{_some(settling)}: the layers settle together; here each is one product, fed forward"]


def sharing_notes(plan: Plan) -> list[str]:
    """Tiles that hold several pieces, which other simulators place alone."""
    shared = [f"tile{tile.id}" for tile in plan.tiles if len(tile.pieces) > 1]
    if not shared:
        return []
    return [
        f"{_some(shared)}: several pieces share the tile and take turns; here each has an array of its own"
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
