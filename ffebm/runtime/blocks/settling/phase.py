"""One phase of a block: the state of its layers, and the sweeps that move it.

A sweep updates every layer once, colour by colour. Each coupling is used once in each direction a sweep: its
product when its target is updated, its transposed product when its source is. In between, only the source of
a maximum may have moved, so the positions found by the product still hold when they are needed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from ffebm.runtime.blocks.circuit import Circuit, Drives
from ffebm.runtime.blocks.physics.physics import Weights

State = list[Tensor | None]
"""For each layer its state, [batch, *layer]; None is zero."""


@dataclass(frozen=True)
class Nudge:
    """A nudge that depends on the state.

    Attributes:
        layers: The layers that it drives.
        drives: What it adds to their drives, given the state of every layer.
    """

    layers: frozenset[int]
    drives: Callable[[Sequence[Tensor | None]], dict[int, Tensor]]


@dataclass(frozen=True)
class Answer:
    """How a sample answers to its nudge, from the states at its nudging points.

    Attributes:
        factors: By nudging point: the answer is the sum of factor times state, its real part.
        rest: The free state of each layer, [batch, *layer], which is taken off where one point stands alone.
    """

    factors: tuple[complex, ...]
    rest: tuple[Tensor, ...] | None = None

    def combined(self, values: Tensor) -> Tensor:
        """The sum over nudging points, [batch, ...], of values [points * batch, ...]."""
        parts = [
            part * (factor if part.is_complex() else factor.real)
            for factor, part in zip(self.factors, values.chunk(len(self.factors)), strict=True)
        ]
        total = sum(parts[1:], parts[0])
        return total.real if total.is_complex() else total

    def of(self, layer: int, state: Tensor) -> Tensor:
        """The answer of a layer, [batch, *layer], from its states [points * batch, *layer]."""
        total = self.combined(state)
        return total if self.rest is None else total - self.rest[layer]

    def rows(self, samples: Tensor) -> "Answer":
        """That of some samples only."""
        rest = None if self.rest is None else tuple(s[samples] for s in self.rest)
        return Answer(self.factors, rest)


Ties = Mapping[int, float]
"""By coupling whose winners may share, the size of the steps of its shares."""

Note = Literal["nothing", "moved", "residual"]
"""What a sweep should note: whether anything changed at all (cheap), or each row's residual."""

_Progress = tuple[State, list[Tensor | None], dict[int, Tensor]]
"""States, winners of maxima, and how far shares of winners have just moved."""

_SMALL = 1e-6
"""Root mean square below which a layer counts as zero in a relative change."""
_ROUNDING = 4.0
"""Changes of so many roundings of a state are none: an answer cannot be known any better."""


class Phase:
    """The state of a block while it settles.

    Attributes:
        circuit: The block.
        weights: Its weights.
        drives: What stays all through the phase.
        state: State of each layer.
        indices: For each coupling, where its maximum was found; None if its source moved since. If its
            winners may share, their shares, which last.
        ties: Couplings whose winners may share.
        batch: Number of rows.
        answer: In a nudged phase, what its rows say together; None in a free one.
        change: Each row's residual, or in a nudged phase each sample's, if the last sweep was to note it.
        moved: Whether anything changed in the last sweep, if it was to note it.
    """

    def __init__(
        self,
        circuit: Circuit,
        weights: Weights,
        drives: Drives,
        batch: int,
        nudge: Nudge | None = None,
        ties: Ties = MappingProxyType({}),
    ) -> None:
        self.circuit = circuit
        self.weights = weights
        self.drives = drives
        self.batch = batch
        self.state: State = [None] * len(circuit.layers)
        self.indices: list[Tensor | None] = [None] * len(circuit.couplings)
        self.answer: Answer | None = None
        self.change: Tensor | None = None
        self.moved = True
        self.ties = ties
        self._nudge = nudge
        self._shifts: dict[int, Tensor] = {}

    @property
    def like(self) -> Tensor:
        """A tensor of the phase's type and device: a clamped input makes some layer's drive constant."""
        return next(drive for drive in self.drives.layers if drive is not None)

    @property
    def is_split(self) -> bool:
        """Rows settle independently; a nudge that is a function of the whole batch joins them."""
        return self._nudge is None

    def settled_state(self) -> list[Tensor]:
        """The state after at least one sweep."""
        return [s for s in self.state if s is not None]

    def scaled_drive(self, layer: int) -> Tensor:
        """Sum of all drives of a layer at the current state, times its scale, [batch, *layer]."""
        parts = [*self._bottom_up(layer), *self._top_down(layer)]
        scale = self.circuit.layers[layer].activation.scale
        total = self.drives.layers[layer]
        if total is None:
            if not parts:
                return self._zeros(layer)
            total = parts.pop() * scale
        elif not parts:
            return total.expand(self.batch, *self.circuit.layers[layer].shape).contiguous()
        else:
            total = torch.add(total, parts.pop(), alpha=scale)
        for part in parts:
            total.add_(part, alpha=scale)
        return total

    def sweep(
        self, order: Sequence[Sequence[int]], relaxation: float | Tensor = 1.0, note: Note = "nothing"
    ) -> None:
        """Update every layer of `order` once, and note what was asked for.

        Args:
            order: Layers by colour; those of one move together, by the state before.
            relaxation: Step towards the update, of all rows or of each, [rows].
            note: What to note.
        """
        self.change, self.moved = None, note != "moved"
        for colour in order:
            extra = self._nudge.drives(self.state) if self._nudge and self._nudge.layers & {*colour} else {}
            updates = [(layer, self._update(layer, extra.get(layer))) for layer in colour]
            for layer, update in updates:
                self._note(layer, update, note)
                self.assign(layer, self._relaxed(layer, update, relaxation))

    def assign(self, layer: int, state: Tensor) -> None:
        """Replace a layer's state."""
        self.state[layer] = state
        for coupling in self.circuit.out_of[layer]:
            if coupling not in self.ties:
                self.indices[coupling] = None

    def project(self, layer: int, state: Tensor) -> Tensor:
        """The nearest state in the closed range of the layer's activation; in place."""
        low, high = self.circuit.physics.bounds(self.circuit.layers[layer])
        return state if math.isinf(low) and math.isinf(high) else state.clamp_(low, high)

    def index(self, coupling: int) -> Tensor | None:
        """Where a coupling's maximum is found at the current state; None without a maximum."""
        if self.circuit.couplings[coupling].is_max and self.indices[coupling] is None:
            origin = self.circuit.source(coupling)
            source = self.state[origin]
            source = self._zeros(origin) if source is None else source
            self._push(coupling, source)
        return self.indices[coupling]

    def updates(self) -> list[Tensor]:
        """What the equation of each layer asks for at the present state, which stays, [batch, *layer]."""
        return [self._update(layer, None) for layer in range(len(self.state))]

    def read_noise(self, order: Sequence[Sequence[int]], relaxation: float, lead: int, draws: int) -> Tensor:
        """The residual that reads alone make of a state at rest, as `change`; the phase stays as it is.

        Two copies sweep on from the present state, each with reads of its own. How their moves differ, over
        the root of 2, is noise, what it does by way of other layers included; a move of both is none.

        Args:
            order: Layers by colour.
            relaxation: Step towards the update.
            lead: Sweeps before the first one that counts, in which noise spreads through the block.
            draws: Sweeps that count.

        Returns:
            Of each sweep that counts, [draws, rows], or in a nudged phase [draws, samples].
        """
        here = self._copy()
        first, second = here, here
        found = []
        for sweep in range(lead + draws):
            before = [(a, b) for a, b in zip(first[0], second[0], strict=True)]
            first, second = self._swept(first, order, relaxation), self._swept(second, order, relaxation)
            if sweep >= lead:
                found.append(self._difference(before, first[0], second[0], relaxation))
        self.state, self.indices, self._shifts = here
        return torch.stack(found)

    def _copy(self) -> _Progress:
        return list(self.state), list(self.indices), dict(self._shifts)

    def _swept(self, held: _Progress, order: Sequence[Sequence[int]], relaxation: float) -> _Progress:
        self.state, self.indices, self._shifts = (held[0].copy(), held[1].copy(), held[2].copy())
        self.sweep(order, relaxation)
        return self._copy()

    def _difference(
        self, before: Sequence[tuple[Tensor | None, Tensor | None]], first: State, second: State, step: float
    ) -> Tensor:
        """By how much one sweep moved two copies differently, of the size of each layer, as one residual."""
        measure = self._free_change if self.answer is None else self._answer_change
        self._shifts, found = {}, []
        for layer, ((a, b), after, other) in enumerate(zip(before, first, second, strict=True)):
            assert a is not None  # a phase that has ended has all its states
            assert b is not None
            assert after is not None
            assert other is not None
            self.state[layer] = after
            found.append(measure(layer, after + ((after - a) - (other - b)) / (math.sqrt(2) * step)))
        return torch.stack(found).amax(0)

    def _update(self, layer: int, extra: Tensor | None) -> Tensor:
        """What a layer's equation asks for at the present state."""
        scaled = self.scaled_drive(layer)
        if extra is not None:
            scaled = torch.add(scaled, extra, alpha=self.circuit.layers[layer].activation.scale)
        return self.circuit.physics.update(self.circuit.layers[layer], scaled, self.drives.loads[layer])

    def rows(self, rows: Tensor) -> "Phase":
        """The phase of some rows only."""
        constant = [c if c is None or c.shape[0] == 1 else c[rows] for c in self.drives.layers]
        drives = replace(self.drives, layers=constant)
        part = Phase(self.circuit, self.weights, drives, len(rows), self._nudge, self.ties)
        part.state = [None if s is None else s[rows] for s in self.state]
        part.indices = [None if i is None else i[rows] for i in self.indices]
        if self.answer is not None:
            part.answer = self.answer.rows(rows[: len(rows) // len(self.answer.factors)])
        return part

    def _bottom_up(self, layer: int) -> list[Tensor]:
        drives = []
        for coupling in self.circuit.into[layer]:
            origin = self.circuit.source(coupling)
            source = self.state[origin]
            if source is None and self.circuit.couplings[coupling].bias_decides:
                source = self._zeros(origin)
            if source is not None:
                drives.append(self._push(coupling, source))
        return drives

    def _push(self, coupling: int, source: Tensor) -> Tensor:
        """The bottom-up drive of a coupling; notes where its maximum is."""
        if coupling not in self.ties:
            drive, self.indices[coupling] = self.circuit.couplings[coupling].push(source, self.weights)
            return drive
        target = self.circuit.target(coupling)
        drive, self.indices[coupling], shift = self.circuit.couplings[coupling].push_shared(
            source, self.weights, self.indices[coupling], self.state[target], self.ties[coupling]
        )
        self._shifts[target] = shift
        return drive

    def _top_down(self, layer: int) -> list[Tensor]:
        drives = []
        for coupling in self.circuit.out_of[layer]:
            target = self.state[self.circuit.target(coupling)]
            if target is not None:
                drives.append(
                    self.circuit.couplings[coupling].pull(target, self.weights, self.index(coupling))
                )
        return drives

    def _note(self, layer: int, update: Tensor, note: Note) -> None:
        if note == "nothing":
            return
        old = self.state[layer]
        if note == "moved":
            still = old is not None and torch.equal(update, old) and not self._shifted(layer)
            self.moved = self.moved or not still
            return
        measure = self._free_change if self.answer is None else self._answer_change
        change = measure(layer, update)
        self.change = change if self.change is None else torch.maximum(self.change, change)

    def _free_change(self, layer: int, update: Tensor) -> Tensor:
        """How far a layer still moves, of its own size, [rows]."""
        old = self.state[layer]
        moved = _norms(update if old is None else update - old)
        if layer in self._shifts:
            moved = moved + _norms(self._shifts[layer])

        floor = _SMALL * math.sqrt(math.prod(update.shape[1:]))
        return moved / _norms(update).clamp(min=floor)

    def _answer_change(self, layer: int, update: Tensor) -> Tensor:
        """How far a layer's answer to the nudge still moves, of the answer's own size, [samples]."""
        old, answer = self.state[layer], self.answer
        assert old is not None  # a nudged phase starts from the free state
        assert answer is not None
        moved = _norms(answer.combined(update - old))
        if layer in self._shifts:
            moved = moved + _norms(answer.combined(self._shifts[layer]))

        rounding = _norms(update).view(len(answer.factors), -1).amax(0) * torch.finfo(moved.dtype).eps
        stands = moved <= _ROUNDING * rounding
        return torch.where(stands, 0.0, moved / _norms(answer.of(layer, update)))

    def _shifted(self, layer: int) -> bool:
        """Whether shares of a layer's maxima have moved."""
        return layer in self._shifts and bool(self._shifts[layer].any())

    def _relaxed(self, layer: int, update: Tensor, relaxation: float | Tensor) -> Tensor:
        old = self.state[layer]
        if isinstance(relaxation, Tensor):
            relaxation = relaxation.to(update.real.dtype).view(-1, *[1] * (update.dim() - 1))
        elif relaxation == 1.0:
            return update
        if not self.circuit.is_coupled(layer):
            return update
        step = update * relaxation if old is None else torch.lerp(old, update, relaxation)
        return self.project(layer, step)

    def _zeros(self, layer: int) -> Tensor:
        return self.like.new_zeros(self.batch, *self.circuit.layers[layer].shape)


def _norms(values: Tensor) -> Tensor:
    """Euclidean norm of each row."""
    found: Tensor = torch.linalg.vector_norm(values, dim=tuple(range(1, values.dim())))
    return found
