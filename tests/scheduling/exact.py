"""The shortest schedule of a few tasks, by constraint programming: it shares no code with ours."""

from collections.abc import Sequence

from ortools.sat.python import cp_model

from ffebm.scheduling.list_schedule import Task


def shortest(tasks: Sequence[Task]) -> int:
    """The least makespan of tasks that take whole seconds, proven.

    Args:
        tasks: In an order in which each waits only for earlier ones.
    """
    model = cp_model.CpModel()
    horizon = sum(int(task.seconds) for task in tasks)
    on_unit: dict[str, list[cp_model.IntervalVar]] = {}
    ends: list[cp_model.LinearExprT] = []
    for number, task in enumerate(tasks):
        seconds = int(task.seconds)
        assert seconds == task.seconds
        start = model.new_int_var(0, horizon, f"start{number}")
        for before in task.after:
            # the next rows of a layer follow when the units are free, if they are there no sooner
            other = tasks[before]
            follows = (
                (task.kind, task.name, task.sample) == (other.kind, other.name, other.sample)
                and task.rows is not None
                and other.rows is not None
                and task.rows[0] == other.rows[1]
                and task.seconds >= other.lag
            )
            model.add(start >= ends[before] - (int(other.lag) if follows else 0))
        ends.append(start + seconds)
        # what takes no time needs no unit for itself; units may be free before the end
        lag = int(task.lag)
        assert lag == task.lag < max(1, seconds)
        if seconds:
            interval = model.new_fixed_size_interval_var(start, seconds - lag, f"task{number}")
            for unit in task.units:
                on_unit.setdefault(unit, []).append(interval)
    for intervals in on_unit.values():
        model.add_no_overlap(intervals)
    makespan = model.new_int_var(0, horizon, "makespan")
    for end in ends:
        model.add(makespan >= end)
    model.minimize(makespan)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    found = solver.solve(model)
    assert found == cp_model.OPTIMAL, solver.status_name(found)
    return round(solver.objective_value)
