"""Comparison: two plans of one model side by side; what moved, and what it cost."""

from collections.abc import Iterator

import msgspec

from ffebm.errors import UsageError
from ffebm.hardware.description import Hardware
from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Schedule
from ffebm.plan.schema import PlanNode
from ffebm.plan.summary import figures_of
from ffebm.plan.twin import COMPUTED, Total
from ffebm.report.facts.bill import Constant, constants, energy_basis, schedule_basis
from ffebm.report.facts.utilisation import utilisation
from ffebm.report.plain import plain_fields

NAMES: dict[Total, str] = {
    "inference_s": "inference: time",
    "inference_j": "inference: energy",
    "training_s": "training step: time",
    "training_j": "training step: energy",
}
NamedCost = tuple[str, str, float, tuple[str, ...]]
"""Name, unit, value and the constants behind it."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of both plans.

    Attributes:
        name: What it is.
        unit: "s", "J", "%" or empty for a count.
        a: Of the first plan.
        b: Of the second.
        basis_a: Constants that the first plan's figure is computed from.
        basis_b: The same of the second.
    """

    name: str
    unit: str
    a: float
    b: float
    basis_a: tuple[str, ...] = ()
    basis_b: tuple[str, ...] = ()


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """An option, a field of the hardware or a constant that differs; a dash where there is none."""

    name: str
    a: str
    b: str


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A node that runs elsewhere, or that only one plan has.

    Attributes:
        name: The node.
        op: What it computes.
        macs: Multiply-accumulates of one inference.
        change: "to tiles", "to digital", "only in A", "only in B" or "other block".
        a: Where it runs in the first plan; empty if it is not there.
        b: The same of the second.
        reason_a: Why, in the first plan.
        reason_b: Why, in the second.
    """

    name: str
    op: str
    macs: int
    change: str
    a: str
    b: str
    reason_a: str
    reason_b: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two plans side by side.

    Attributes:
        schema: Version of this format.
        names: How the user named the plans.
        source: The model.
        same_source: Both were compiled from the same bytes.
        lines: Figures.
        constants_a: What the figures of the first plan rest on.
        constants_b: The same of the second.
        settings: Options and hardware that differ.
        moved: Nodes that run elsewhere, the most work first.
        same: How many nodes run where they ran.
    """

    schema: int = 1
    names: tuple[str, str]
    source: str
    same_source: bool
    lines: tuple[Line, ...]
    constants_a: tuple[Constant, ...]
    constants_b: tuple[Constant, ...]
    settings: tuple[Setting, ...]
    moved: tuple[Moved, ...]
    same: int


def comparison(first: Plan, second: Plan, names: tuple[str, str]) -> Comparison:
    """Compare two plans of one model, node by node by name.

    Raises:
        UsageError: If they have no node in common.
    """
    ours, theirs = ({node.name: node for node in plan.nodes} for plan in (first, second))
    if not ours.keys() & theirs.keys():
        raise UsageError(
            f"{names[0]} and {names[1]} have no node in common",
            allowed="two plans of one model",
            hint="compile the same model twice, with other options or hardware",
        )
    every = dict.fromkeys((*ours, *theirs))
    moved = [found for name in every if (found := _moved(ours.get(name), theirs.get(name))) is not None]
    moved.sort(key=lambda entry: -entry.macs)
    return Comparison(
        names=names,
        source=first.source.name,
        same_source=first.source.digest == second.source.digest,
        lines=tuple(_lines(first, second)),
        constants_a=constants(first.hardware),
        constants_b=constants(second.hardware),
        settings=tuple(_settings(first, second)),
        moved=tuple(moved),
        same=len(every) - len(moved),
    )


def _moved(a: PlanNode | None, b: PlanNode | None) -> Moved | None:
    known = a or b
    assert known is not None
    where = [_where(node) for node in (a, b)]
    if a is None or b is None:
        change = "only in A" if b is None else "only in B"
    elif a.unit != b.unit:
        change = "to tiles" if b.unit == "tile" else "to digital"
    elif a.block != b.block:
        change = "other block"
    else:
        return None
    return Moved(
        name=known.name,
        op=known.op,
        macs=known.macs,
        change=change,
        a=where[0],
        b=where[1],
        reason_a=a.reason if a else "",
        reason_b=b.reason if b else "",
    )


def _where(node: PlanNode | None) -> str:
    if node is None:
        return ""
    return "digital" if node.block is None else f"block{node.block}"


def _lines(first: Plan, second: Plan) -> Iterator[Line]:
    """Counts, which rest on no constant, then times and energies."""
    for (name, unit, a), (_, _, b) in zip(_counts(first), _counts(second), strict=True):
        yield Line(name=name, unit=unit, a=a, b=b)
    for (name, unit, a, basis_a), (_, _, b, basis_b) in zip(_costs(first), _costs(second), strict=True):
        yield Line(name=name, unit=unit, a=a, b=b, basis_a=basis_a, basis_b=basis_b)


def _counts(plan: Plan) -> Iterator[tuple[str, str, float]]:
    on_tiles = [node for node in plan.nodes if node.unit == "tile"]
    macs = sum(node.macs for node in plan.nodes)
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    held = sum(plan.weights[name].size for name in {piece.weight for _, piece in plan.pieces()})
    used, room = sum(t.used for t in plan.tiles), sum(t.rows * t.cols for t in plan.tiles)
    yield "energy blocks", "", len(plan.blocks)
    yield "free layers", "", sum(len(block.layers) for block in plan.blocks)
    yield "nodes", "", len(plan.nodes)
    yield "nodes on tiles", "", len(on_tiles)
    yield "work on tiles", "%", 100 * sum(node.macs for node in on_tiles) / macs if macs else 0.0
    yield "weights on tiles", "%", 100 * held / weights if weights else 0.0
    yield "tiles in use", "", len(plan.tiles)
    yield "cells of these in use", "%", 100 * used / room if room else 0.0


def _costs(plan: Plan) -> Iterator[NamedCost]:
    parts = utilisation(plan)
    area = tuple(name for part in parts for name in part.basis)
    yield "area in use", "mm²", sum(part.area_used for part in parts), area
    yield "area of the machine", "mm²", sum(part.area for part in parts), area
    for name, schedule in (("inference", plan.inference), ("training step", plan.training)):
        yield from _schedule_costs(name, schedule, plan)
    ours = figures_of(plan)
    for total, name in NAMES.items():
        twin = plan.twin.get(COMPUTED)
        theirs = getattr(twin, total) if twin is not None else 0.0
        yield f"{name} over that of the {COMPUTED} twin", "", ours[total] / theirs if theirs else 0.0, ()


def _schedule_costs(name: str, schedule: Schedule, plan: Plan) -> Iterator[NamedCost]:
    cost = schedule.cost
    times, energies = schedule_basis(schedule, plan)
    yield f"{name}: time", "s", schedule.makespan_s, times
    yield f"{name}: lower bound of time", "s", schedule.lower_bound_s, times
    yield f"{name}: energy", "J", cost.energy, energies
    for kind, basis in energy_basis(plan, schedule).items():
        spent = getattr(cost, kind)
        yield f"{name}: energy, {kind}", "J", spent, basis if spent else ()
    yield f"{name}: D/A conversions", "", cost.dac_count, ()
    yield f"{name}: A/D conversions", "", cost.adc_count, ()
    yield f"{name}: steps", "", len(schedule.steps), ()


def _settings(first: Plan, second: Plan) -> Iterator[Setting]:
    ours, theirs = _described(first), _described(second)
    for name in dict.fromkeys((*ours, *theirs)):
        a, b = ours.get(name, "-"), theirs.get(name, "-")
        if a != b:
            yield Setting(name=name, a=a, b=b)


def _described(plan: Plan) -> dict[str, str]:
    """Options, settling and hardware as text by dotted name."""
    fields = {"batch": str(plan.batch)}
    fields.update(plain_fields("options.", plan.options))
    fields.update(plain_fields("settle.", plan.settle))
    return fields | _machine(plan.hardware)


def _machine(hardware: Hardware) -> dict[str, str]:
    fields = dict(plain_fields("", hardware))
    for name, quantity in hardware.quantities():
        unit = str(getattr(quantity, "unit", "1"))
        fields[name] = f"{quantity.value:g}" + ("" if unit == "1" else f" {unit}")
    return fields
