"""Recognises samples that go round in a limit cycle instead of settling."""

import torch
from torch import Tensor

from ffebm.runtime.blocks.settling.phase import Phase

WATCHED = 17
"""Last sweeps that are searched."""

_LONGEST = 8
_RETURNS = 1e-2
"""In a cycle a state returns this much closer to where it was than it moves in a sweep."""


class Watch:
    """Fingerprints of the last states, one number a layer: they cost little memory and time."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []
        self._probes: dict[int, Tensor] = {}

    def see(self, phase: Phase) -> None:
        """Note the present state."""
        marks = [self._mark(layer, s) for layer, s in enumerate(phase.state) if s is not None]
        self._seen = [*self._seen, torch.stack(marks, dim=1)][-WATCHED:]

    def rows(self, rows: Tensor) -> None:
        """Keep some rows only."""
        self._seen = [mark[rows] for mark in self._seen]

    def period(self) -> Tensor:
        """Sweeps after which each row repeats itself, up to 8; 0 if it does not or was seen too briefly."""
        seen = torch.stack(self._seen)  # [sweeps, rows, layers]
        found = torch.zeros(seen.shape[1], dtype=torch.int64, device=seen.device)
        if len(seen) < 2 + _LONGEST:
            return found
        step = torch.linalg.vector_norm(seen[1:] - seen[:-1], dim=2).amax(0)
        for period in range(_LONGEST, 1, -1):
            back = torch.linalg.vector_norm(seen[period:] - seen[:-period], dim=2).amax(0)
            found[back <= _RETURNS * step] = period
        return found

    def _mark(self, layer: int, state: Tensor) -> Tensor:
        flat = state.flatten(1)
        if layer not in self._probes:
            angles = torch.arange(flat.shape[1], dtype=torch.float64, device=flat.device)
            self._probes[layer] = angles.square().cos().to(flat.dtype)
        return flat @ self._probes[layer]
