"""The exact adjoint of an equilibrium.

With D the slopes of the activations and J the couplings at the equilibrium, lambda = D (delta + J lambda).
Both are symmetric, so with lambda = D^(1/2) mu the system

    (1 - D^(1/2) J D^(1/2)) mu = D^(1/2) delta

is symmetric, possibly indefinite, and MINRES solves it: each sample by itself, with one product and one
transposed product of each coupling an iteration.

Where layers take two colours, those of one do not feel each other: with K = D^(1/2) J D^(1/2) from one colour
to the other, the half with more units follows from the other half, and

    (1 - K K^T) mu_1 = r_1 + K r_2,   mu_2 = r_2 + K^T mu_1,

is solved instead: as many products an iteration, about half as many iterations, and shorter vectors.

Where winners of a maximum share a window (`shared_maximum`), the shares answer too, by mu that sums to 0 over
the tied values, and those stay tied. With B the map from nu = s mu to what it drives,

    lambda = D (delta + J lambda + B nu),   B^T lambda = 0,

which is symmetric again.

Source: Paige & Saunders 1975, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer.
    Anal. 12; Hageman & Young 1981, "Applied iterative methods", chapter 8, for one colour alone; Sleijpen,
    van der Vorst & Modersitzki 2000, "Differences in the effects of rounding errors in Krylov solvers for
    symmetric indefinite linear systems", SIAM J. Matrix Anal. Appl. 22, for what rounding makes of it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.runtime.blocks.physics.shared_maximum import centred, tied
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import Outcome

_SINGLE = 1e-6
"""Smallest tolerance that makes sense in single precision."""

_CAUTION = 10
"""Assumed: so many times the estimate of what rounding has done to a residual is taken for its bound."""

_EXPONENTS = 120
"""Powers of two that have an inverse in single precision, with room to spare."""


@dataclass(frozen=True)
class Adjoint:
    """How a settled block answers to a nudge.

    Attributes:
        layers: lambda by layer, [batch, *layer].
        ties: nu by coupling whose winners share, [batch, channels, windows, values]: how what each value gets
            from its windows answers.
    """

    layers: list[Tensor]
    ties: dict[int, Tensor]


def solve_adjoint(
    phase: Phase, delta: Mapping[int, Tensor], tol: float, max_iterations: int
) -> tuple[Adjoint, Outcome]:
    """The adjoint of a settled phase.

    Args:
        phase: The settled phase.
        delta: Error current by output layer, [batch, *layer].
        tol: Residual at which a sample stops, relative to the right-hand side.
        max_iterations: Most applications of J.

    Returns:
        The adjoint, and how the solve went: its relative residual, iterations as sweeps.
    """
    state = phase.settled_state()
    if state[0].dtype != torch.float64:
        tol = max(tol, _SINGLE)
    among = {index: tied(shares) for index, shares in _shares(phase).items()}
    among = {index: where for index, where in among.items() if bool(where.any())}
    drives = [_settled_drive(phase, i) for i in range(len(state))]
    roots = [
        phase.circuit.physics.slope(layer, drive, load).sqrt()
        for layer, drive, load in zip(phase.circuit.layers, drives, phase.drives.loads, strict=True)
    ]
    right = [roots[i] * delta[i] if i in delta else torch.zeros_like(s) for i, s in enumerate(state)]
    units = _units(right)  # the norm of a faint current would be 0, and nothing left to solve
    right = [_times(r, 1 / units) for r in right]
    if among:
        mu, ties, outcome = _solve_with_ties(phase, (roots, right), among, tol, max_iterations)
    elif len(phase.circuit.colours) == 2:
        mu, outcome = _solve_by_colour(phase, (roots, right), tol, max_iterations)
        ties = {}
    else:
        mu, ties, outcome = _solve_with_ties(phase, (roots, right), {}, tol, max_iterations)
    layers = [_times(root * m, units) for root, m in zip(roots, mu, strict=True)]
    return Adjoint(layers, {index: _times(nu, units) for index, nu in ties.items()}), outcome


def _units(right: Sequence[Tensor]) -> Tensor:
    """The power of two just above the largest number of each sample, [batch]; no rounding comes of it."""
    largest = _join([r.detach() for r in right]).abs().amax(1)
    exponent = torch.frexp(largest).exponent.clamp(-_EXPONENTS, _EXPONENTS)
    return torch.where(largest.isfinite() & (largest > 0), torch.exp2(exponent.to(largest.dtype)), 1.0)


def _times(values: Tensor, units: Tensor) -> Tensor:
    return values * units.view(-1, *[1] * (values.ndim - 1))


_System = tuple[list[Tensor], list[Tensor]]
"""D^(1/2) and D^(1/2) delta by layer, [batch, *layer]."""


def _solve_with_ties(
    phase: Phase, system: _System, among: Mapping[int, Tensor], tol: float, max_iterations: int
) -> tuple[list[Tensor], dict[int, Tensor], Outcome]:
    """Solve for mu by layer and nu by coupling, all as one system."""
    roots, right = system
    root = _join([*roots, *(where.to(roots[0].dtype) for where in among.values())])
    zeros = [torch.zeros_like(where, dtype=root.dtype) for where in among.values()]
    of_layers = _join([*(torch.ones_like(s) for s in right), *zeros])
    like = [*right, *zeros]

    def matrix(mu: Tensor) -> Tensor:
        values = _split(root * mu, like)
        ties = dict(zip(among, values[len(right) :], strict=True))
        coupled, answers = _coupled(phase, values[: len(right)], ties, among)
        return of_layers * mu - root * _join([*coupled, *answers])

    joined = _join(like)
    solution, outcome = _minres(matrix, joined, _scale(joined), (tol, max_iterations))
    values = _split(solution, like)
    found = _split(root * solution, like)[len(right) :]
    ties = {index: centred(nu, among[index]) for index, nu in zip(among, found, strict=True)}
    return values[: len(right)], ties, outcome


def _solve_by_colour(
    phase: Phase, system: _System, tol: float, max_iterations: int
) -> tuple[list[Tensor], Outcome]:
    """Solve for mu by layer, from the colour with fewer units."""
    roots, right = system
    kept, other = sorted(phase.circuit.colours, key=lambda colour: sum(right[i][0].numel() for i in colour))

    def across(mu: dict[int, Tensor], to: Sequence[int]) -> dict[int, Tensor]:
        """K or its transpose."""
        driven = _driven_by(phase, {i: roots[i] * m for i, m in mu.items()})
        return {i: roots[i] * driven[i] if i in driven else torch.zeros_like(right[i]) for i in to}

    def matrix(joined: Tensor) -> Tensor:
        mu = dict(zip(kept, _split(joined, [right[i] for i in kept]), strict=True))
        back = across(across(mu, other), kept)
        return joined - _join([back[i] for i in kept])

    first = across({i: right[i] for i in other}, kept)
    reduced = _join([right[i] + first[i] for i in kept])
    # the other half is exact, so what is left of this one is the residual of the whole system
    solution, outcome = _minres(matrix, reduced, _scale(_join(right)), (tol, max_iterations))
    mu = dict(zip(kept, _split(solution, [right[i] for i in kept]), strict=True))
    mu |= {i: right[i] + drive for i, drive in across(mu, other).items()}
    return [mu[i] for i in range(len(right))], outcome


def _driven_by(phase: Phase, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What the layers of one colour drive those of the other with, maxima as they are at the equilibrium."""
    out: dict[int, Tensor] = {}
    for i, coupling in enumerate(phase.circuit.couplings):
        source, target = phase.circuit.source(i), phase.circuit.target(i)
        if source in values:
            layer, drive = target, coupling.push_at(values[source], phase.weights, phase.index(i))
        else:
            layer, drive = source, coupling.pull(values[target], phase.weights, phase.index(i))
        out[layer] = out[layer] + drive if layer in out else drive
    return out


def _scale(right: Tensor) -> Tensor:
    """Norm of each row; 1 where it is 0."""
    norm = torch.linalg.vector_norm(right, dim=1)
    return torch.where(norm > 0, norm, 1.0)


def _shares(phase: Phase) -> dict[int, Tensor]:
    found = {index: phase.index(index) for index in phase.ties}
    return {index: shares for index, shares in found.items() if shares is not None}


def _settled_drive(phase: Phase, layer: int) -> Tensor:
    """The scaled drive of a layer at the equilibrium; looking does not move the shares."""
    kept = list(phase.indices)
    drive = phase.scaled_drive(layer)
    for index in phase.ties:
        phase.indices[index] = kept[index]
    return drive


def _join(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([v.flatten(1) for v in values], dim=1)


def _split(values: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = torch.split(values, [each[0].numel() for each in like], dim=1)
    return [part.reshape(each.shape) for part, each in zip(parts, like, strict=True)]


def _coupled(
    phase: Phase, values: Sequence[Tensor], ties: Mapping[int, Tensor], among: Mapping[int, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """J and B applied to values by layer and by tie, the maxima as they are at the equilibrium.

    Returns:
        J lambda + B nu by layer, and B^T lambda by coupling in `ties`.
    """
    circuit = phase.circuit
    out: list[Tensor | None] = [None] * len(values)
    for i, coupling in enumerate(circuit.couplings):
        source, target = circuit.source(i), circuit.target(i)
        up = coupling.push_at(values[source], phase.weights, phase.index(i))
        down = coupling.pull(values[target], phase.weights, phase.index(i))
        for layer, drive in ((target, up), (source, down)):
            known = out[layer]
            out[layer] = drive if known is None else known + drive
    answers = []
    for i, nu in ties.items():
        coupling, source = circuit.couplings[i], circuit.source(i)
        answers.append(coupling.answer(values[source], phase.weights, among[i]))
        down = coupling.pull_linear(coupling.fold(centred(nu, among[i])), phase.weights)
        known = out[source]
        out[source] = down if known is None else known + down
    return [torch.zeros_like(v) if o is None else o for o, v in zip(out, values, strict=True)], answers


def _minres(
    matrix: Callable[[Tensor], Tensor], right: Tensor, scale: Tensor, limits: tuple[float, int]
) -> tuple[Tensor, Outcome]:
    """Solve for each row, starting again from the true residual where rounding has spoilt the recurrence.

    Args:
        matrix: The symmetric map, [rows, n] -> [rows, n].
        right: [rows, n].
        scale: What a residual is relative to, [rows].
        limits: Relative residual at which a row stops, and most products.
    """
    tol, max_iterations = limits
    x = torch.zeros_like(right)
    residual = right
    size = torch.linalg.vector_norm(right, dim=1)
    done = 0
    count = torch.zeros_like(scale, dtype=torch.int64)
    while done < max_iterations and bool((size > tol * scale).any()):
        starts_exact = done == 0  # later ones start from a residual that rounding is in
        limit = tol * scale if starts_exact else 0.5 * tol * scale
        found = _lanczos_pass(matrix, residual, limit, max_iterations - done)
        x = x + found.x
        done += int(found.used.max())
        count += found.used
        if starts_exact and bool((found.residual <= tol * scale).all()):
            size = found.residual
            break
        before, residual = size, right - matrix(x)
        size = torch.linalg.vector_norm(residual, dim=1)
        if not bool((size < 0.5 * before)[before > tol * scale].any()):
            break
    relative = size / scale
    unknown = torch.full_like(relative, torch.nan)
    return x, Outcome(relative, count, relative <= tol, unknown, torch.zeros_like(count))


@dataclass(frozen=True)
class _Pass:
    """What one pass of MINRES found.

    Attributes:
        x: [rows, n].
        used: Products of each row, [rows].
        residual: What is left is no more than this, rounding allowed for, [rows].
    """

    x: Tensor
    used: Tensor
    residual: Tensor


def _lanczos_pass(
    matrix: Callable[[Tensor], Tensor], right: Tensor, limit: Tensor, max_iterations: int
) -> _Pass:
    """MINRES from zero; a row stops changing when its residual is at most its `limit`.

    What rounding adds to the recurrence's residual goes with eps K^2 |right|, K being the condition
    (Sleijpen et al.). After k products 3 sqrt(3 k) times that is assumed, and `_CAUTION` times as much
    allowed for, since the diagonal that the rotations leave tells less than K. Where it is more than half of
    the limit, a row stops at half of that, to be looked at.
    """
    norm = torch.linalg.vector_norm(right, dim=1, keepdim=True)
    limit = limit[:, None]
    x, v_old, w, w_old = (torch.zeros_like(right) for _ in range(4))
    v = right * _inverse(norm)
    eta, beta = norm, torch.zeros_like(norm)
    c, c_old = torch.ones_like(norm), torch.ones_like(norm)
    s, s_old = torch.zeros_like(norm), torch.zeros_like(norm)
    least, most, off = torch.full_like(norm, torch.inf), torch.zeros_like(norm), torch.zeros_like(norm)
    used = torch.zeros(len(right), dtype=torch.int64, device=right.device)
    for k in range(1, max_iterations + 1):
        active = eta.abs() > limit - torch.minimum(off, 0.5 * limit)
        if not bool(active.any()):
            break
        used += active[:, 0]
        p = matrix(v).addcmul_(v_old, beta, value=-1)
        alpha = torch.linalg.vecdot(v, p)[:, None]
        p.addcmul_(v, alpha, value=-1)
        beta_new = torch.linalg.vector_norm(p, dim=1, keepdim=True)
        rho_0 = c * alpha - c_old * s * beta
        rho_1 = torch.hypot(rho_0, beta_new)
        rho_2 = s * alpha + c_old * c * beta
        rho_3 = s_old * beta
        turn = torch.where(active, _inverse(rho_1), 0.0)  # of a row that has stopped nothing may grow
        w, w_old = (v * turn).addcmul_(w_old, -rho_3 * turn).addcmul_(w, -rho_2 * turn), w
        c_old, s_old, c, s = c, s, rho_0 * turn, beta_new * turn
        x.addcmul_(w, c * eta)
        eta = torch.where(active, -s * eta, eta)
        v, v_old, beta = p.mul_(_inverse(beta_new)), v, beta_new
        least = torch.where(active, torch.minimum(least, rho_1), least)
        most = torch.where(active, torch.maximum(most, rho_1), most)
        rounding = _CAUTION * 3 * math.sqrt(3 * k) * torch.finfo(norm.dtype).eps
        off = torch.where(active, rounding * (most / least) ** 2 * norm, off)
    return _Pass(x, used, (eta.abs() + off)[:, 0])


def _inverse(values: Tensor) -> Tensor:
    """1 over values; 0 where they are 0."""
    return torch.where(values != 0, 1 / values, 0.0)
