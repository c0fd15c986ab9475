"""How fast samples can follow each other where layers take turns on the tiles that they share.

The busiest unit bounds the interval of samples. Where copies of weights lie across each other it is not
reached: a read needs all tiles of its layer at once, and of three layers that share tiles pairwise only one
works at a time. Plans count cliques of such layers (`ffebm/scheduling/bounds/turns.py`).

What can work together is a set of layers of which no two share a unit; each such set is given a time, so that
every layer has as much as it needs. The shortest sum is the weighted fractional chromatic number of the graph
of what meets, found from its dual, set by set (Mehrotra and Trick, "A column generation approach for graph
coloring", INFORMS Journal on Computing 8, 1996). No schedule has a shorter
interval, whatever its order, interrupted or not.

python benchmarks/turns.py shufflenet:reference bvlc_alexnet:reference --batch 8
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence

import schedule

from ffebm.mapping.solver.linear_program import LinearProgram
from ffebm.plan.summary import engineering
from ffebm.scheduling.in_flight import interval_of, samples_in_flight
from ffebm.scheduling.list_schedule import Task, ordered, work_of_units
from ffebm.scheduling.schedules import inference_tasks

NODES = 100_000
"""Of branch and bound for one set of layers; if they do not do, the bound is lower and holds."""
EXACT = 1e-7
"""Part by which a set of layers may be worth more than it takes when the search ends."""


def turns(tasks: Sequence[Task]) -> float:
    """The shortest time in which each kind of task can have its time on its units, seconds.

    Args:
        tasks: Of one sample.
    """
    work: dict[frozenset[str], float] = defaultdict(float)
    for task in tasks:
        if task.busy_s and task.units:
            work[frozenset(task.units)] += task.busy_s
    if not work:
        return 0.0
    most = max(work.values())
    worths = LinearProgram()
    together = LinearProgram()
    for _ in work:
        worths.column(1.0)
        together.column(1.0, whole=True)
    for unit in sorted({unit for units in work for unit in units}):
        together.row({n: 1.0 for n, units in enumerate(work) if unit in units}, upper=1.0)
    while True:
        paying = worths.minimum({n: -seconds / most for n, seconds in enumerate(work.values())}, 0, 0.0)
        worth = paying.values or ()
        dearest = together.minimum({n: -value for n, value in enumerate(worth)}, NODES, 0.0)
        some = [n for n, taken in enumerate(dearest.values or ()) if taken > 0.5]
        if sum(worth[n] for n in some) <= 1 + EXACT:
            paid = sum(value * seconds for value, seconds in zip(worth, work.values(), strict=True))
            return paid / max(1.0, -dearest.bound)  # now no set that works together is worth more than 1
        worths.row(dict.fromkeys(some, 1.0), upper=1.0)


def measured(network: str, machine: str, runs: int) -> str:
    """A network's line, on the mapping for so many runs in flight."""
    model, arguments = schedule.NETWORKS[network]()
    plan, graph, settle = schedule.placed((model, {**arguments, "batch": runs}), machine)
    one = inference_tasks(graph, plan.hardware, settle)
    latency, interval, least = ordered(one)[0].makespan_s, interval_of(one).seconds, turns(one)
    busiest = max(work_of_units(one).values())
    usual = latency + (schedule.RUNS - 1) * interval
    several = ordered(samples_in_flight(one, schedule.RUNS))[0].makespan_s
    by_turns = schedule.RUNS * least / usual, (latency + (schedule.RUNS - 1) * least) / usual
    paces = (
        f"{engineering(busiest, 's')} by the busiest unit, {engineering(interval, 's')} by one clique, "
        f"{engineering(least, 's')} by turns"
    )
    return (
        f"{network} on {machine}, mapped for {runs}: {paces}; {schedule.RUNS} samples take "
        f"{several / usual:.3f} of one and further intervals, by turns no less than {by_turns[0]:.3f}, and "
        f"{by_turns[1]:.3f} at their pace"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="intervals of samples where layers take turns on tiles")
    parser.add_argument("pairs", nargs="+", metavar="NETWORK:MACHINE")
    parser.add_argument("--batch", type=int, default=1, help="runs that the mapping is chosen for")
    arguments = parser.parse_args()
    for pair in arguments.pairs:
        network, machine = pair.split(":")
        print(measured(network, machine, arguments.batch), flush=True)


if __name__ == "__main__":
    main()
