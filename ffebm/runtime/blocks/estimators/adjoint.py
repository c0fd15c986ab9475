"""The exact adjoint of an equilibrium.

With D the slopes of the activations and J the couplings at the equilibrium, lambda = D (delta + J lambda).
Both are symmetric, so with lambda = D^(1/2) mu the system

    (1 - D^(1/2) J D^(1/2)) mu = D^(1/2) delta

is symmetric, possibly indefinite, and MINRES solves it: each sample by itself, with one product and one
transposed product of each coupling an iteration.

Where winners of a maximum share a window (`shared_maximum`), the shares answer too, by mu that sums to 0 over
the tied values, and those stay tied. With B the map from nu = s mu to what it drives,

    lambda = D (delta + J lambda + B nu),   B^T lambda = 0,

which is symmetric again.

Source: Paige & Saunders 1975, "Solution of sparse indefinite systems of linear equations", SIAM J. Numer.
    Anal. 12.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffebm.runtime.blocks.physics.shared_maximum import centred, tied
from ffebm.runtime.blocks.settling.phase import Phase
from ffebm.runtime.blocks.settling.settling import Outcome

_SINGLE = 1e-6
"""Smallest tolerance that makes sense in single precision."""


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
    among = {index: tied(shares) for index, shares in _shares(phase).items()}
    among = {index: where for index, where in among.items() if bool(where.any())}
    drives = [_settled_drive(phase, i) for i in range(len(state))]
    roots = [
        phase.circuit.physics.slope(layer, drive, load).sqrt()
        for layer, drive, load in zip(phase.circuit.layers, drives, phase.drives.loads, strict=True)
    ]
    right = [delta[i] if i in delta else torch.zeros_like(s) for i, s in enumerate(state)]
    root = _join([*roots, *(where.to(state[0].dtype) for where in among.values())])
    zeros = [torch.zeros_like(where, dtype=root.dtype) for where in among.values()]
    of_layers = _join([*(torch.ones_like(s) for s in state), *zeros])
    like = [*state, *zeros]

    def matrix(mu: Tensor) -> Tensor:
        values = _split(root * mu, like)
        ties = dict(zip(among, values[len(state) :], strict=True))
        coupled, answers = _coupled(phase, values[: len(state)], ties, among)
        return of_layers * mu - root * _join([*coupled, *answers])

    if tol < _SINGLE and root.dtype != torch.float64:
        tol = _SINGLE
    solution, outcome = _minres(matrix, root * _join([*right, *zeros]), tol, max_iterations)
    values = _split(root * solution, like)
    ties = {index: centred(values[len(state) + k], where) for k, (index, where) in enumerate(among.items())}
    return Adjoint(values[: len(state)], ties), outcome


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
    matrix: Callable[[Tensor], Tensor], right: Tensor, tol: float, max_iterations: int
) -> tuple[Tensor, Outcome]:
    """Solve for each row, starting again from the true residual where rounding has spoilt the recurrence."""
    x = torch.zeros_like(right)
    norm = torch.linalg.vector_norm(right, dim=1)
    scale = torch.where(norm > 0, norm, 1.0)
    residual = right
    done = 0
    count = torch.zeros_like(norm, dtype=torch.int64)
    while True:
        size = torch.linalg.vector_norm(residual, dim=1)
        relative = size / scale
        if done >= max_iterations or bool((relative <= tol).all()):
            break
        step, used = _lanczos_pass(matrix, residual, 0.5 * tol * scale, max_iterations - done)
        x = x + step
        done += int(used.max())
        count += used
        better = right - matrix(x)
        stalled = not bool((torch.linalg.vector_norm(better, dim=1) < 0.5 * size)[relative > tol].any())
        residual = better
        if stalled:
            relative = torch.linalg.vector_norm(residual, dim=1) / scale
            break
    unknown = torch.full_like(relative, torch.nan)
    return x, Outcome(relative, count, relative <= tol, unknown, torch.zeros_like(count))


def _lanczos_pass(
    matrix: Callable[[Tensor], Tensor], right: Tensor, limit: Tensor, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """MINRES from zero; a row stops changing when its residual is at most its `limit`."""
    norm = torch.linalg.vector_norm(right, dim=1, keepdim=True)
    limit = limit[:, None]
    x, v_old, w, w_old = (torch.zeros_like(right) for _ in range(4))
    v = _ratio(right, norm)
    eta, beta = norm, torch.zeros_like(norm)
    c, c_old = torch.ones_like(norm), torch.ones_like(norm)
    s, s_old = torch.zeros_like(norm), torch.zeros_like(norm)
    used = torch.zeros(len(right), dtype=torch.int64, device=right.device)
    for _ in range(max_iterations):
        active = eta.abs() > limit
        if not bool(active.any()):
            break
        used += active[:, 0]
        p = matrix(v) - beta * v_old
        alpha = (v * p).sum(1, keepdim=True)
        p = p - alpha * v
        beta_new = torch.linalg.vector_norm(p, dim=1, keepdim=True)
        rho_0 = c * alpha - c_old * s * beta
        rho_1 = torch.hypot(rho_0, beta_new)
        rho_2 = s * alpha + c_old * c * beta
        rho_3 = s_old * beta
        w, w_old = _ratio(v - rho_3 * w_old - rho_2 * w, rho_1), w
        c_old, s_old, c, s = c, s, _ratio(rho_0, rho_1), _ratio(beta_new, rho_1)
        x = torch.where(active, x + c * eta * w, x)
        eta = torch.where(active, -s * eta, eta)
        v, v_old, beta = _ratio(p, beta_new), v, beta_new
    return x, used


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Quotient; 0 where b is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0)
