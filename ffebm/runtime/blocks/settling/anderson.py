"""Anderson acceleration of a settling block, each sample by itself."""

import torch
from torch import Tensor

_GROWTH = 2.0
"""A sample whose step grows by more than this forgets its history and takes the plain sweep."""


class Anderson:
    """Extrapolates the next state from the last few sweeps.

    With g(x) the sweep and f(x) = g(x) - x its step, the next state is g_k - sum_j gamma_j (g_{j+1} - g_j),
    where gamma minimises |f_k - sum_j gamma_j (f_{j+1} - f_j)|. A sample whose step grows or is not finite
    starts anew.

    Source: Walker & Ni 2011, "Anderson acceleration for fixed-point iterations", eq. 2.2 in the form of
        differences.
    """

    def __init__(self, memory: int) -> None:
        """Remember up to `memory` states."""
        self._memory = memory
        self._x: Tensor | None = None
        self._g: Tensor | None = None
        self._f: Tensor | None = None
        self._df: list[Tensor] = []
        self._dg: list[Tensor] = []

    def start(self, x: Tensor) -> None:
        """Note the state that the next sweep starts from, [rows, n]."""
        self._x = x

    def mix(self, g: Tensor) -> Tensor:
        """The state to sweep from next, given what the last sweep made, [rows, n] -> [rows, n]."""
        if self._x is None:
            return g
        f = g - self._x
        if self._f is not None and self._g is not None:
            self._remember(f - self._f, g - self._g, self._restarts(f, self._f))
        self._f, self._g = f, g
        if not self._df:
            return g
        gamma = self._coefficients(f)
        extrapolated: Tensor = g - torch.einsum("bm,mbn->bn", gamma, torch.stack(self._dg))
        return extrapolated

    def rows(self, rows: Tensor) -> None:
        """Keep some rows only."""
        self._x, self._g, self._f = (None if t is None else t[rows] for t in (self._x, self._g, self._f))
        self._df = [t[rows] for t in self._df]
        self._dg = [t[rows] for t in self._dg]

    def _remember(self, df: Tensor, dg: Tensor, restarts: Tensor) -> None:
        self._df = [*self._df, df][-self._memory :]
        self._dg = [*self._dg, dg][-self._memory :]
        if restarts.any():
            keep = (~restarts)[:, None]
            self._df = [torch.where(keep, t, 0.0) for t in self._df]
            self._dg = [torch.where(keep, t, 0.0) for t in self._dg]

    def _restarts(self, f: Tensor, previous: Tensor) -> Tensor:
        size, before = (torch.linalg.vector_norm(t, dim=1) for t in (f, previous))
        grows: Tensor = ~(size <= _GROWTH * before)
        return grows

    def _coefficients(self, f: Tensor) -> Tensor:
        """Least squares by normal equations, of unit differences and regularised; [rows, memory]."""
        df = torch.stack(self._df)
        smallest = torch.finfo(f.dtype).tiny
        length = torch.linalg.vector_norm(df, dim=2)
        unit = df / length.clamp(min=smallest)[:, :, None]
        gram = torch.einsum("mbn,kbn->bmk", unit, unit).double()
        right = torch.einsum("mbn,bn->bm", unit, f).double()
        ridge = 10 * torch.finfo(f.dtype).eps
        gram = gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        gamma: Tensor = torch.linalg.solve(gram, right).to(f.dtype)
        # a forgotten difference has length 0 and stays out
        return torch.where(length > 0, gamma.t() / length.clamp(min=smallest), 0.0).t()
