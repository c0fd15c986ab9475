"""Lower bounds of what objectives make small, found from tasks that are not scheduled yet."""

import math

from ffebm.hardware.description import Hardware
from ffebm.hardware.silicon import watts
from ffebm.mapping.search.goal import FOR_TIME, Measured, value_of
from ffebm.plan.mapping import Objective
from ffebm.scheduling.list_schedule import Task, chains_behind, work_of_units


def least_value(
    objective: Objective, tasks: list[Task], hardware: Hardware, *, chains: bool = True, runs: int = 1
) -> float:
    """What no schedule of some tasks has less of, wherever values lie: s, J or J s.

    Far memories only add to time and energy, but that a transfer which passes none of the memories beside
    digital units does not pay these.

    Args:
        objective: What is to be small.
        tasks: Of one inference, before memories have their price.
        hardware: The machine.
        chains: Tasks that wait for each other take their sum. Not so of uncut layers, whose bands may overlap
            in a schedule; what these have to do, and take, is no less in bands. Units of a group may share it
            out otherwise there, where several nodes are done in one step.
        runs: Inferences in flight that are taken together.
    """
    busy = work_of_units(tasks)
    if not chains:
        busy = _however_shared(busy, hardware)
    interval = max(busy.values(), default=0.0)
    if objective == "throughput":
        return interval
    seconds = max(max(chains_behind(tasks), default=0.0), interval) if chains else interval
    if objective in FOR_TIME:
        return seconds + (runs - 1) * interval
    billed = math.fsum(task.cost.energy for task in tasks)
    unpaid = math.fsum(task.cost.memory for task in tasks if task.kind == "transfer")
    power = watts(hardware, frozenset(busy))
    least = Measured(seconds, billed - unpaid + power * seconds, interval, leakage=power)
    return value_of(objective, least.together(runs))


def _however_shared(busy: dict[str, float], hardware: Hardware) -> dict[str, float]:
    """What units have to do at least, and which are powered, whichever of a group does what."""
    least = dict(busy)
    for group in hardware.digital:
        if group.place == "apart":
            units = [f"digital{number}" for number in hardware.unit_numbers(group.name)]
            seconds = [least.pop(unit) for unit in units if unit in least]
            if seconds:
                least[units[0]] = math.fsum(seconds) / len(units)
    return least
