"""A matrix over several tiles."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ffebm.errors import InternalError, SmallStepWarning
from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.tile import Health, Readings, Tile, remapped, update_products

Span = tuple[int, int]
"""First and last-but-one index."""


@dataclass(frozen=True)
class Stack:
    """Pieces of equal size, one for each combination of a group, a span of inputs and a span of outputs."""

    groups: tuple[int, ...]
    inputs: tuple[Span, ...]
    outputs: tuple[Span, ...]


def stacks(pieces: Sequence[Piece]) -> tuple[Stack, ...]:
    """Few stacks that hold every piece once.

    Args:
        pieces: All pieces of a weight, in any order; the ranges may be split unevenly.
    """
    by_inputs: dict[tuple[int, int, Span], list[Span]] = {}
    for piece in sorted(pieces, key=lambda p: (p.group, p.inputs, p.outputs)):
        by_inputs.setdefault((piece.n_out, piece.group, piece.inputs), []).append(piece.outputs)
    by_outputs: dict[tuple[int, int, tuple[Span, ...]], list[Span]] = {}
    for (_, group, span), beside in by_inputs.items():
        by_outputs.setdefault((span[1] - span[0], group, tuple(beside)), []).append(span)
    by_group: dict[tuple[tuple[Span, ...], tuple[Span, ...]], list[int]] = {}
    for (_, group, outputs), above in by_outputs.items():
        by_group.setdefault((tuple(above), outputs), []).append(group)
    return tuple(Stack(tuple(groups), inputs, outputs) for (inputs, outputs), groups in by_group.items())


class SplitTile:
    """Tiles that hold the pieces of the matrices [groups, n_out, n_in] and work as one.

    Each tile holds a stack, [groups, inputs, outputs, n_out, n_in]. Products of pieces with the same outputs
    (in a transposed read, inputs) are added digitally, behind the converters.
    """

    def __init__(self, pieces: Sequence[Piece], make_tile: Callable[[], Tile]) -> None:
        """Take one tile from `make_tile` for each stack of equal pieces."""
        self._parts = [(stack, make_tile()) for stack in stacks(pieces)]
        self._weight = pieces[0].weight
        self._warned = False
        self._n_cells = sum(piece.n_in * piece.n_out for piece in pieces)
        self._shape = (
            1 + max(piece.group for piece in pieces),
            max(piece.outputs[1] for piece in pieces),
            max(piece.inputs[1] for piece in pieces),
        )

    def program(self, weight: Tensor) -> None:
        """[groups, n_out, n_in]."""
        if tuple(weight.shape) != self._shape or weight.numel() != self._n_cells:
            raise InternalError(
                f"a weight of {list(weight.shape)} on pieces with {self._n_cells} cells, {list(self._shape)}"
            )
        for stack, tile in self._parts:
            tile.program(_cut(weight, stack))

    def read(self) -> Tensor:
        """[groups, n_out, n_in]."""
        first = self._parts[0][1].read()
        weight = first.new_empty(self._shape)
        for stack, tile in self._parts:
            held = tile.read()
            for i, inputs in enumerate(stack.inputs):
                for o, outputs in enumerate(stack.outputs):
                    weight[list(stack.groups), slice(*outputs), slice(*inputs)] = held[:, i, o]
        return weight

    @torch.no_grad()
    def mvm(self, x: Tensor) -> Tensor:
        """[groups, batch, n_in] -> [groups, batch, n_out]."""
        total = _Sum(x, self._shape[1])
        for stack, tile in self._parts:
            vectors = _take(x.mT, stack.groups, stack.inputs).unsqueeze(2)
            total.add(_added(tile.mvm(vectors.mT), 1).mT, stack.groups, stack.outputs)
        return total.value.mT

    @torch.no_grad()
    def mvm_t(self, y: Tensor) -> Tensor:
        """[groups, batch, n_out] -> [groups, batch, n_in]."""
        total = _Sum(y, self._shape[2])
        for stack, tile in self._parts:
            vectors = _take(y.mT, stack.groups, stack.outputs).unsqueeze(1)
            total.add(_added(tile.mvm_t(vectors.mT), 2).mT, stack.groups, stack.inputs)
        return total.value.mT

    def update(self, step: Tensor) -> None:
        """[groups, n_out, n_in]."""
        for stack, tile in self._parts:
            tile.update(_cut(step, stack))
        self._warn()

    def update_products(self, x: Tensor, d: Tensor) -> None:
        """Each part takes the outer products of what is on its own lines.

        Args:
            x: [groups, pairs, n_in].
            d: [groups, pairs, n_out].
        """
        for stack, tile in self._parts:
            across = _take(x.mT, stack.groups, stack.inputs).unsqueeze(2).mT
            along = _take(d.mT, stack.groups, stack.outputs).unsqueeze(1).mT
            update_products(tile, across, along)

    def remap(self) -> None:
        """Write anew what the cells hold, in ranges that the weights ask for now.

        Raises:
            UsageError: If a tile of one's own cannot do so.
        """
        for _, tile in self._parts:
            remapped(tile, self._weight)

    def readings(self) -> Readings:
        """Of all tiles together."""
        return sum((tile.readings() for _, tile in self._parts), Readings())

    def health(self) -> Health:
        """Of all tiles together."""
        return sum((tile.health() for _, tile in self._parts), Health())

    def at(self, seconds: float | None) -> None:
        """Reads of all tiles come so long after programming."""
        for _, tile in self._parts:
            tile.at(seconds)

    def calibrate(self, stage: Calibration) -> None:
        """Set the ADC ranges of each tile by data."""
        for _, tile in self._parts:
            tile.calibrate(stage)

    def state(self) -> dict[str, Tensor]:
        """Of all tiles."""
        return {f"{n}.{key}": t for n, (_, tile) in enumerate(self._parts) for key, t in tile.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        for n, (_, tile) in enumerate(self._parts):
            tile.restore({k.removeprefix(f"{n}."): t for k, t in state.items() if k.startswith(f"{n}.")})

    def _warn(self) -> None:
        """Say it if all steps of the first update are below a pulse; later ones shrink as training ends."""
        if self._warned:
            return
        steps = self.health().steps
        self._warned = steps.total > 0
        if 0 < steps.total == steps.clipped:
            warnings.warn(
                f"{self._weight!r} learns in place, and all {steps.total} steps of its first update are "
                "below a pulse of its cells: few cells move, by whole pulses and at random; take a larger "
                "learning rate, or tiles.tile.update.remedy of type 'accumulate'",
                SmallStepWarning,
                stacklevel=2,
            )


def _cut(weight: Tensor, stack: Stack) -> Tensor:
    """The pieces of a stack, [groups, inputs, outputs, n_out, n_in], from [groups, n_out, n_in]."""
    rows = _take(weight, stack.groups, stack.outputs)
    return torch.stack([rows[..., slice(*inputs)] for inputs in stack.inputs], 1)


def _take(lines: Tensor, groups: tuple[int, ...], spans: tuple[Span, ...]) -> Tensor:
    """Spans of lines, [groups, spans, lines of a span, batch], from [groups, lines, batch]."""
    chosen = lines if len(groups) == len(lines) else lines[list(groups)]
    if _adjacent(spans):
        whole = chosen[:, spans[0][0] : spans[-1][1]]
        return whole.view(len(chosen), len(spans), spans[0][1] - spans[0][0], lines.shape[-1])
    return torch.stack([chosen[:, slice(*span)] for span in spans], 1)


def _added(products: Tensor, dim: int) -> Tensor:
    """The digital sum over one dimension, whole lines at a time: many times faster than torch's sum."""
    first, *others = products.unbind(dim)
    for other in others:
        first = first.add_(other)
    return first


def _adjacent(spans: tuple[Span, ...]) -> bool:
    return all(left[1] == right[0] for left, right in pairwise(spans))


class _Sum:
    """Adds products into lines, [groups, lines, batch]; the first that covers them all is taken as it is."""

    def __init__(self, like: Tensor, n_lines: int) -> None:
        self._like = like
        self._n_lines = n_lines
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """The sum."""
        if self._value is None:
            groups, batch, _ = self._like.shape
            self._value = self._like.new_zeros(groups, self._n_lines, batch)
        return self._value

    def add(self, products: Tensor, groups: tuple[int, ...], spans: tuple[Span, ...]) -> None:
        """Add [groups, spans, lines of a span, batch]."""
        whole = len(groups) == len(self._like) and _adjacent(spans)
        if whole and self._value is None and spans[-1][1] - spans[0][0] == self._n_lines:
            self._value = products.flatten(1, 2)
            return
        for s, span in enumerate(spans):
            lines = self.value[:, slice(*span)]
            if len(groups) == len(self._like):
                lines += products[:, s]
            else:
                lines[list(groups)] += products[:, s]
