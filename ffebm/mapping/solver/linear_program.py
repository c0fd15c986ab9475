"""A mixed-integer linear program, solved by HiGHS so that the same input gives the same answer.

One thread, a fixed seed and a limit in nodes instead of seconds: HiGHS takes the same path on every run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from highspy import Highs, HighsLp

TOLERANCE = 1e-9
"""Of rows and whole numbers; rows are scaled to a largest coefficient of one."""


@dataclass(frozen=True)
class Solved:
    """What the solver found.

    Attributes:
        values: Of each column; None if no solution was found.
        bound: No solution has a smaller objective; infinite if there is no solution at all.
    """

    values: tuple[float, ...] | None
    bound: float


def _quiet() -> "Highs":
    """HiGHS without a word: its own start hooks up callbacks, which print who they are."""
    from highspy import Highs  # a compile without a choice needs none

    class Quiet(Highs):
        def __init__(self) -> None:
            super(Highs, self).__init__()
            self.setOptionValue("output_flag", False)

    return Quiet()


@dataclass
class LinearProgram:
    """Columns, and rows that bound sums of them."""

    upper: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[tuple[list[int], list[float], float, float]] = field(default_factory=list)

    def column(self, upper: float = math.inf, *, whole: bool = False) -> int:
        """A new column of at least zero; its number."""
        self.upper.append(upper)
        self.whole.append(whole)
        return len(self.upper) - 1

    def row(self, terms: Mapping[int, float], lower: float = -math.inf, upper: float = math.inf) -> None:
        """The sum of factors times columns lies between two bounds."""
        scale = max((abs(factor) for factor in terms.values()), default=0.0) or 1.0
        factors = [factor / scale for factor in terms.values()]
        self.rows.append((list(terms), factors, lower / scale, upper / scale))

    def without_last_row(self) -> None:
        """Take the last row away."""
        self.rows.pop()

    def minimum(
        self,
        objective: Mapping[int, float],
        nodes: int,
        gap: float,
        fixed: Mapping[int, float] | None = None,
    ) -> Solved:
        """The columns that minimise a sum.

        Args:
            objective: Factors of columns.
            nodes: Most nodes of branch and bound; 0 solves the relaxation, where columns need not be whole.
            gap: Stop when a solution is known to be at most this share above the optimum.
            fixed: Columns with a value of their own.
        """
        solver = _quiet()
        for name, value in {
            "threads": 1,
            "random_seed": 0,
            "mip_rel_gap": gap,
            "mip_abs_gap": 0.0,
            "mip_max_nodes": max(nodes, 1),
            "primal_feasibility_tolerance": TOLERANCE,
            "dual_feasibility_tolerance": TOLERANCE,
            "mip_feasibility_tolerance": TOLERANCE,
        }.items():
            solver.setOptionValue(name, value)
        scale = max((abs(factor) for factor in objective.values()), default=0.0) or 1.0
        solver.passModel(self._model({c: f / scale for c, f in objective.items()}, nodes > 0, fixed or {}))
        solver.run()
        return self._read(solver, scale, mip=nodes > 0 and any(self.whole))

    def _model(self, objective: Mapping[int, float], whole: bool, fixed: Mapping[int, float]) -> "HighsLp":
        import highspy

        model = highspy.HighsLp()
        count = len(self.upper)
        model.num_col_, model.num_row_ = count, len(self.rows)
        costs = np.zeros(count)
        costs[list(objective)] = list(objective.values())
        lower, upper = np.zeros(count), np.array(self.upper)
        if fixed:
            lower[list(fixed)] = upper[list(fixed)] = list(fixed.values())
        model.col_cost_, model.col_lower_, model.col_upper_ = costs, lower, upper
        model.row_lower_ = np.array([row[2] for row in self.rows])
        model.row_upper_ = np.array([row[3] for row in self.rows])
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(len(row[0]) for row in self.rows)])
        model.a_matrix_.index_ = np.array([column for row in self.rows for column in row[0]], dtype=np.int32)
        model.a_matrix_.value_ = np.array([factor for row in self.rows for factor in row[1]])
        if whole:
            kinds = highspy.HighsVarType
            model.integrality_ = [kinds.kInteger if flag else kinds.kContinuous for flag in self.whole]
        return model

    def _read(self, solver: "Highs", scale: float, *, mip: bool) -> Solved:
        import highspy

        status, info = solver.getModelStatus(), solver.getInfo()
        if status == highspy.HighsModelStatus.kInfeasible:
            return Solved(None, math.inf)
        bound = info.mip_dual_bound if mip else info.objective_function_value
        feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        values = tuple(map(float, solver.getSolution().col_value)) if feasible else None
        return Solved(values, bound * scale)
