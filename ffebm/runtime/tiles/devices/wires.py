"""Wire resistance: what an array conducts from its word lines to its bit lines.

Word line i is driven at its end beside column 0; bit line j ends in a virtual ground beside the last row. A
wire has one segment of resistance from cell to cell, and one from the first cell to the driver or the last
one to the ground. The network is linear, so all of it is a matrix T, the currents of the bit lines per volt
on each word line. Driven and sensed at the same ends the other way round, the array conducts T transposed
(reciprocity), so wires alone do not make the two directions of a read differ.
"""

import torch
from torch import Tensor

from ffebm.hardware.description import Wires


def conducted(conductance: Tensor, wires: Wires) -> Tensor:
    """T of an array.

    Args:
        conductance: Of the cells, [..., n_out, n_in], siemens.
        wires: The wires.

    Returns:
        [..., n_out, n_in], siemens.
    """
    solve = nodal if wires.solver == "exact" else first_order
    return solve(conductance, wires.row.value, wires.column.value)


def conducted_pairs(plus: Tensor, minus: Tensor, wires: Wires) -> tuple[Tensor, Tensor]:
    """What the two cells of pairs conduct that share their word lines.

    The bit lines of a pair lie beside each other, the one that counts up first; all are one array, so the
    currents of either cell lower the voltages that the other one sees.

    Args:
        plus: Of the cells that count up, [..., n_out, n_in], siemens.
        minus: Of those that count down, likewise.
        wires: The wires.

    Returns:
        Both as they are seen from outside, siemens.
    """
    array = torch.stack([plus, minus], -2).flatten(-3, -2)
    both = conducted(array, wires)
    return both[..., 0::2, :], both[..., 1::2, :]


def nodal(conductance: Tensor, row: float, column: float) -> Tensor:
    """T by Kirchhoff's current law at every node, in double precision.

    The nodes of a word line are eliminated first, a tridiagonal system a row. What is left is block
    tridiagonal in the voltages of the bit lines, one block a row, and is eliminated from the first row to the
    last. Time grows as n_in n_out^3.

    Args:
        conductance: [..., n_out, n_in], siemens.
        row: Resistance of a segment of a word line, ohms.
        column: Resistance of a segment of a bit line, ohms.

    Source: Kirchhoff's and Ohm's laws; tests hold it against a dense solution of all nodes.
    """
    cells = conductance.double()
    n_out, n_in = cells.shape[-2:]
    lines = _WordLines(cells, row)
    identity = torch.eye(n_out, dtype=cells.dtype, device=cells.device)
    # bit-line voltages behind the rows so far, per volt on each of their word lines
    solution = cells[..., :0]
    back: Tensor | None = None  # inverse of the block eliminated last
    for i in range(n_in):
        source = lines.source(i)[..., None]
        if column != 0:
            block = lines.load(i) + identity * ((1.0 if i == 0 else 2.0) / column)
            if back is not None:
                block = block - back / column**2
                solution = back @ solution / column
            back = torch.cholesky_inverse(torch.linalg.cholesky(block))
        solution = torch.cat([solution, source], -1)
    if back is not None:
        solution = back @ solution / column
    return solution.to(conductance.dtype)


def first_order(conductance: Tensor, row: float, column: float) -> Tensor:
    """T from the voltage drops that the currents of an array without resistance would cause.

    With D the drop on the way from the driver through a cell to the ground per volt,

        T = G / (1 + D),
        D_ji = row sum_l G_li (min(j, l) + 1) + column sum_k G_jk (n_in - max(i, k)),

    which is right to first order in the resistances and stays positive. Time grows as n_in n_out.

    Args:
        conductance: [..., n_out, n_in], siemens.
        row: Resistance of a segment of a word line, ohms.
        column: Resistance of a segment of a bit line, ohms.
    """
    # sum_l G_l (min(j, l) + 1) = sum_{k <= j} of what flows through segment k, which is sum_{l >= k} G_l
    through = conductance.flip(-2).cumsum(-2).flip(-2)
    along_row = through.cumsum(-2)
    through = conductance.cumsum(-1)
    along_column = through.flip(-1).cumsum(-1).flip(-1)
    return conductance / (1.0 + row * along_row + column * along_column)


class _WordLines:
    """Word lines as their bit lines see them.

    With C the cells of a row on the diagonal and M the tridiagonal matrix of its nodes, bit lines at voltages
    u and a driver at v send C u - C M^-1 (C u + e_0 v / resistance) into the row. The inverse of a
    tridiagonal matrix follows from its pivots d from the left and e from the right,

        M^-1_jj = 1 / (d_j + e_j - M_jj),   M^-1_ij = M^-1_jj prod_{i <= k < j} 1 / (resistance d_k) for i <
        j.

    Args:
        cells: [..., n_out, n_in], siemens.
        resistance: Of a segment; at 0 all nodes of a row are its driver.

    Source: Usmani 1994 (10.1016/0024-3795(94)90414-6), in terms of pivots.
    """

    def __init__(self, cells: Tensor, resistance: float) -> None:
        self._cells = cells
        self._resistance = resistance
        if resistance == 0:
            return
        segment = 1.0 / resistance
        node = cells + 2.0 * segment
        node[..., -1, :] -= segment
        left, right = list(node.unbind(-2)), list(node.unbind(-2))
        for j in range(1, len(left)):
            left[j] = left[j] - segment**2 / left[j - 1]
            right[-1 - j] = right[-1 - j] - segment**2 / right[-j]
        pivots = torch.stack(left, -2)
        self._diagonal = 1.0 / (pivots + torch.stack(right, -2) - node)
        steps = (segment / pivots).log().cumsum(-2)
        self._reach = torch.cat([torch.zeros_like(steps[..., :1, :]), steps[..., :-1, :]], -2)

    def load(self, row: int) -> Tensor:
        """What a row conducts between its bit lines and to its driver, [..., n_out, n_out]."""
        cells = self._cells[..., row]
        if self._resistance == 0:
            return torch.diag_embed(cells)
        return torch.diag_embed(cells) - cells[..., None] * self._inverse(row) * cells[..., None, :]

    def source(self, row: int) -> Tensor:
        """Currents of a row into grounded bit lines, per volt at its driver, [..., n_out]."""
        cells = self._cells[..., row]
        if self._resistance == 0:
            return cells
        first = self._reach[..., row] - self._reach[..., :1, row]
        return cells * self._diagonal[..., row] * first.exp() / self._resistance

    def _inverse(self, row: int) -> Tensor:
        reach, diagonal = self._reach[..., row], self._diagonal[..., row]
        upper = ((reach[..., None, :] - reach[..., :, None]).exp() * diagonal[..., None, :]).triu()
        return upper + upper.triu(1).mT
