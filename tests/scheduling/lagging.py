"""Random layers in bands whose units are free before what they make is there."""

import random

from ffebm.plan.schedule import Cost
from ffebm.scheduling.list_schedule import Task


def lagging_tasks(rng: random.Random) -> list[Task]:
    """Up to 20 tasks of whole seconds: chains of bands, some of no time, and digital work behind some.

    A band waits for the band before it and for one of the layer before; layers share units.
    """
    tasks: list[Task] = []
    before: list[int] = []
    rows = rng.randint(1, 4)
    for layer in range(rng.randint(1, 3)):
        units = tuple(sorted(rng.sample("abc", rng.choice([1, 1, 2]))))
        made: list[int] = []
        for row in range(rows):
            seconds = rng.choice([0, 1, 2, 3, 5])
            lag = rng.randrange(seconds) if seconds and rng.random() < 0.8 else 0
            after = {*made[-1:], *before[row : row + 1]}
            task = Task(
                "free",
                f"l{layer}",
                units,
                float(seconds),
                tuple(sorted(after)),
                Cost(),
                block=layer,
                rows=(row, row + 1),
                lag=float(lag),
            )
            made.append(len(tasks))
            tasks.append(task)
            if rng.random() < 0.25:
                digital = Task("digital", f"d{len(tasks)}", ("a",), 1.0, (made[-1],), Cost())
                tasks.append(digital)
        before = made
    return tasks
