"""Layers in bands whose units are free before what they make is there."""

import random

from msgspec.structs import replace

from ffebm import Plan, load_hardware
from ffebm import compile as compile_plan
from ffebm.hardware.description import Core
from ffebm.plan.schedule import Cost
from ffebm.scheduling.list_schedule import Task
from tests.machines import rate, seconds, with_tiles
from tests.models import Builder


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


def four_copies_in_a_core(slower: float = 1.0, batch: int = 1) -> Plan:
    """A layer of eight rows: in a core a product starts every 0.2 us and is read for 0.8 us.

    Args:
        slower: A digital unit takes so many times as long for everything.
        batch: Runs in flight.
    """
    machine = load_hardware("pimcomp")
    tile = replace(machine.analog[0].tile, rows=72, cols=8)
    machine = with_tiles(machine, count=4, tile=tile, core=Core(tiles=4, issue=seconds(0.2e-6)))
    (unit,) = machine.digital
    rates = {name: rate(getattr(unit.fp32, name).value / slower) for name in ("mac_rate", "op_rate")}
    unit = replace(unit, count=1, place="apart", fp32=replace(unit.fp32, **rates))
    b = Builder()
    y = b.node("Relu", b.conv(b.input("x", 1, 8, 8, 8), 8, 8))
    model = b.model(b.node("Softmax", y, axis=1))
    return compile_plan(model, hardware=replace(machine, digital=(unit,)), replicas=4, batch=batch)
