"""Utilisation: what of a machine's area a plan powers, and how long its units are busy."""

import msgspec

from ffebm.hardware.groups import units_among
from ffebm.hardware.routes import network_units
from ffebm.hardware.silicon import Powered, powered
from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Schedule


class Utilisation(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one kind.

    Attributes:
        name: Of the group or memory; "network".
        kind: "analog", "digital", "memory" or "network".
        used: How many the plan powers.
        count: How many there are.
        area_used: Of those in use, mm2.
        area: Of all, mm2.
        inference: Share of the inference that the powered units, or ports of a mesh in use, are busy on
            average; None of a memory.
        training: The same of a training step.
        basis: Constants behind the areas.
    """

    name: str
    kind: str
    used: int
    count: int
    area_used: float
    area: float
    inference: float | None
    training: float | None
    basis: tuple[str, ...]


def utilisation(plan: Plan) -> tuple[Utilisation, ...]:
    """What of a machine a plan uses, by group, memory and network."""
    found = powered(plan.hardware, plan.inference.units | plan.training.units)
    return tuple(
        Utilisation(
            name=part.name,
            kind=part.kind,
            used=part.used,
            count=part.count,
            area_used=part.used * part.area,
            area=part.count * part.area,
            inference=_busy(plan, plan.inference, part),
            training=_busy(plan, plan.training, part),
            basis=("network.area",) if part.kind == "network" else (f"{part.kind}.{part.name}.area",),
        )
        for part in found
    )


def _busy(plan: Plan, schedule: Schedule, part: Powered) -> float | None:
    """Mean share of the makespan that the powered units of a kind do something."""
    if part.kind == "memory":
        return None
    if not part.used or not schedule.makespan_s:
        return 0.0
    units = _units(plan, part, plan.inference.units | plan.training.units)
    busy = sum((step.free_s - step.start_s) * len(units & {*step.units}) for step in schedule.steps)
    return busy / (len(units) * schedule.makespan_s)


def _units(plan: Plan, part: Powered, units: frozenset[str]) -> frozenset[str]:
    """Those of some units that are of a kind."""
    if part.kind == "analog":
        return units_among(units, "tile", plan.hardware.tile_numbers(part.name))
    if part.kind == "digital":
        return units_among(units, "digital", plan.hardware.unit_numbers(part.name))
    return network_units(plan.hardware, units)
