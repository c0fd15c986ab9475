"""A plan in words: what a person wants to know first."""

import textwrap
from collections.abc import Iterator, Sequence

from ffebm.graph.energy_block import EnergyBlock
from ffebm.hardware.description import AnalogGroup
from ffebm.hardware.silicon import powered
from ffebm.plan.memory.memory_plan import MemoryPlan
from ffebm.plan.schedule import ENERGY_KINDS, Schedule
from ffebm.plan.schema import PlanData
from ffebm.plan.twin import COMPUTED, DigitalTwin, Total
from ffebm.visible import visible


def share(part: float, whole: float) -> str:
    """A share in per cent; a dash if there is nothing to share.

    >>> share(1, 3), share(1, 0)
    ('33.3 %', '-')
    """
    return f"{100 * part / whole:.1f} %" if whole else "-"


def engineering(value: float, unit: str) -> str:
    """A quantity with an SI prefix and four digits.

    >>> engineering(1.234567e-7, "s")
    '123.5 ns'
    """
    for power, prefix in ((0, ""), (-3, "m"), (-6, "u"), (-9, "n"), (-12, "p"), (-15, "f")):
        if abs(value) >= 0.99995 * 10.0**power:  # what rounds to 1 is 1, not 1000 of the next prefix
            return f"{value / 10.0**power:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def binary(count: int) -> str:
    """Bytes with a binary prefix and up to four digits.

    >>> binary(0), binary(1536), binary(4 * 2**20)
    ('0 B', '1.5 KiB', '4 MiB')
    """
    power = min(4, max(0, count.bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def headline(plan: PlanData) -> str:
    """A plan in one line."""
    on_tiles = sum(node.unit == "tile" for node in plan.nodes)
    inference = plan.inference
    return visible(
        f"{plan.source.name} for {plan.hardware.name}: {on_tiles} of {len(plan.nodes)} nodes in "
        f"{len(plan.blocks)} energy blocks on {len(plan.tiles)} tiles; one inference "
        f"{engineering(inference.makespan_s, 's')}, {engineering(inference.cost.energy, 'J')}"
    )


def times_twin(value: float, twin: float) -> str:
    """A figure of a plan as a multiple of its twin's; a dash if that is nothing.

    >>> times_twin(3.0, 2.0), times_twin(3e4, 2.0), times_twin(3.0, 0.0)
    ('1.5 x', '15,000 x', '-')
    """
    if not twin:
        return "-"
    ratio = value / twin
    return f"{ratio:.4g} x" if ratio < 1000 else f"{ratio:,.0f} x"


def summary_lines(plan: PlanData) -> Iterator[str]:
    """What a person wants to know first, as lines of at most 80 columns."""
    tile_nodes = [node for node in plan.nodes if node.unit == "tile"]
    macs = sum(node.macs for node in plan.nodes)
    on_tiles = {piece.weight for _, piece in plan.pieces()}
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    held = sum(plan.weights[name].size for name in on_tiles)
    yield f"plan        {plan.source.name} for {plan.hardware.name}"
    yield f"blocks      {len(plan.blocks)}; {plan.options.blocks}"
    yield f"nodes       {len(tile_nodes)} on tiles, {len(plan.nodes) - len(tile_nodes)} digital"
    analog = share(sum(node.macs for node in tile_nodes), macs)
    yield f"work        {analog} of {macs:,} multiply-accumulates on tiles"
    yield f"weights     {share(held, weights)} of {weights:,} on tiles"
    for name, nodes in plan.tied():
        tie = visible(f"{name} is one weight in {', '.join(nodes)}")
        yield textwrap.fill(tie, 80, initial_indent="tied        ", subsequent_indent=" " * 12)
    used = sum(tile.used for tile in plan.tiles)
    room = sum(tile.rows * tile.cols for tile in plan.tiles)
    count = plan.hardware.tile_count
    yield f"tiles       {len(plan.tiles)} of {count} in use, {share(used, room)} of their cells"
    if len(plan.hardware.analog) > 1:
        yield from _group_lines(plan)
    settle = plan.settle
    sweeps = f"{settle.free_sweeps} free, 2 x {settle.nudged_sweeps} nudged sweeps"
    for group in plan.hardware.analog:
        relaxation = group.relaxation
        when = "in every sweep" if relaxation is None else f"once a phase of {_phases(plan.blocks, group)}"
        named = f" of {group.name}" if len(plan.hardware.analog) > 1 else ""
        yield f"settling    {group.settling}: converters{named} {when}"
    solved = all(group.relaxation is not None for group in plan.hardware.analog)
    simulated = f"{'solved by ' if solved else ''}at most {sweeps}"
    if settle.settling == "circuit":
        simulated = "simulated as circuits, all layers together, until their time is over"
    yield f"            {simulated}"
    yield from _area_lines(plan)
    for name, schedule, memory in (
        ("inference", plan.inference, plan.memory.inference),
        ("training", plan.training, plan.memory.training),
    ):
        yield from _schedule_lines(name, schedule, plan)
        yield from memory_lines(memory)
    yield from _twin_lines(plan)
    yield from _mapping_lines(plan)
    assumed = [name for name, quantity in plan.hardware.quantities() if quantity.assumption]
    total = len(list(plan.hardware.quantities()))
    yield f"constants   {total} of {plan.hardware.name}, {len(assumed)} of them assumptions"
    for note in plan.notes:
        yield textwrap.fill(note, 80, initial_indent="note        ", subsequent_indent=" " * 12)


def _phases(blocks: Sequence[EnergyBlock], group: AnalogGroup) -> str:
    """The shortest and the longest phase of blocks that settle by themselves on a group."""
    assert group.relaxation is not None
    needed = [block.time_constants() for block in blocks if block.group == group.name]
    lasting = [group.relaxation.lasting(count) for count in needed] or [group.relaxation.seconds]
    return " to ".join(engineering(s, "s") for s in sorted({min(lasting), max(lasting)}))


def _group_lines(plan: PlanData) -> Iterator[str]:
    """Tiles in use, by group."""
    for group in plan.hardware.analog:
        held = [tile for tile in plan.tiles if tile.group == group.name]
        used, room = sum(tile.used for tile in held), sum(tile.rows * tile.cols for tile in held)
        yield f"            {group.name}: {len(held)} of {group.count}, {share(used, room)} of their cells"


def _mapping_lines(plan: PlanData) -> Iterator[str]:
    """What the mapping makes small, as scheduled and as the solver adds it up."""
    mapping = plan.mapping
    if mapping is None:
        return
    unit = {"energy": "J", "edp": "J s"}.get(mapping.objective, "s")
    value, priced, solved, bound = (
        engineering(v, unit) for v in (mapping.value, mapping.priced, mapping.solved, mapping.bound)
    )
    runs = plan.options.batch
    figures = f"{value} scheduled, {priced} as prices add up"
    if runs > 1:
        yield f"mapping     for {mapping.objective} of {runs:,} runs together"
        yield f"  one run   {figures}"
    else:
        yield f"mapping     for {mapping.objective}: {figures}"
    least = f"at least {bound} (gap {100 * mapping.gap:.2f} %)"
    if priced == solved:
        yield f"  solver    {least}"
    else:
        yield f"  solver    {solved} by prices alone, which is not taken; {least}"


def _schedule_lines(name: str, schedule: Schedule, plan: PlanData) -> Iterator[str]:
    cost = schedule.cost
    yield f"{name:<11} of {plan.samples} sample(s): {len(schedule.steps)} steps"
    time = (
        f"{engineering(schedule.makespan_s, 's')}; lower bound {engineering(schedule.lower_bound_s, 's')} "
        f"({schedule.lower_bound}); ratio {schedule.ratio:.3f}"
    )
    yield textwrap.fill(time, 80, initial_indent="  time      ", subsequent_indent=" " * 12)
    rate = plan.batch / schedule.interval_s if schedule.interval_s else 0.0
    between = "between runs in flight" if name == "inference" else "for each further run in the step"
    pace = (
        f"{engineering(schedule.interval_s, 's')} {between} ({schedule.interval_limit or '-'}); "
        f"{rate:,.4g} samples/s"
    )
    yield textwrap.fill(pace, 80, initial_indent="  interval  ", subsequent_indent=" " * 12)
    yield f"  energy    {engineering(cost.energy, 'J')}"
    for first in range(0, len(ENERGY_KINDS), 3):
        kinds = ENERGY_KINDS[first : first + 3]
        yield "    " + ", ".join(f"{kind} {engineering(getattr(cost, kind), 'J')}" for kind in kinds)
    yield f"  converts  {cost.dac_count:,} digital to analog, {cost.adc_count:,} analog to digital"


def memory_lines(memory: MemoryPlan) -> Iterator[str]:
    """How full each memory gets, and what did not fit near by."""
    for use in memory.uses:
        room, peak, bound = (binary(count) for count in (use.capacity, use.peak, use.bound))
        yield f"  {use.memory:<9} {peak} of {room} at most; bound {bound}"
    if memory.spills:
        moved = binary(sum(spill.traffic for spill in memory.spills))
        joules = engineering(sum(spill.joules for spill in memory.spills), "J")
        yield f"  spills    {len(memory.spills)} buffers lie farther away: {moved} moved, {joules}"
    if memory.unsized:
        yield f"  unsized   {len(memory.unsized)} values of unknown size are not counted"


def _area_lines(plan: PlanData) -> Iterator[str]:
    """Area of the machine by kind of unit, and what of it the plan powers."""
    parts = powered(plan.hardware, plan.training.units | plan.inference.units)
    used, room = sum(part.area * part.used for part in parts), sum(part.area * part.count for part in parts)
    yield f"area        {used:.4g} of {room:.4g} mm2 powered"
    for part in parts:
        all_of = f"{part.used} of {part.count}" if part.count > 1 else ("in use" if part.used else "unused")
        share_of = f"{part.used * part.area:.4g} of {part.count * part.area:.4g} mm2"
        yield f"  {part.name:<9} {part.kind}, {all_of}: {share_of}"


def _twin_lines(plan: PlanData) -> Iterator[str]:
    """Beside each total that of the machine without tiles."""
    if not plan.twin:
        yield "twin        none: no digital unit runs all ops"
    for dtype, twin in plan.twin.items():
        if dtype != COMPUTED:
            yield f"  {dtype:<9} inference {_ratios(plan, twin, 'inference_s', 'inference_j')}"
            yield f"            training  {_ratios(plan, twin, 'training_s', 'training_j')}"
            continue
        yield f"twin        the same machine without tiles, {dtype}; the plan takes"
        for figure, value in figures_of(plan).items():
            name, kind = figure.split("_")
            what, unit = ("time", "s") if kind == "s" else ("energy", "J")
            digital = getattr(twin, figure)
            found = f"{times_twin(value, digital)} its {what} of {engineering(digital, unit)}"
            yield f"  {name:<9} {found}; less at {twin.batches(figure)}"


def _ratios(plan: PlanData, twin: DigitalTwin, time: Total, energy: Total) -> str:
    ours = figures_of(plan)
    ratios = [times_twin(ours[total], getattr(twin, total)) for total in (time, energy)]
    return f"{ratios[0]} its time, {ratios[1]} its energy"


def figures_of(plan: PlanData) -> dict[Total, float]:
    """The plan's own figures that its twin has too."""
    inference, training = plan.inference, plan.training
    return {
        "inference_s": inference.makespan_s,
        "inference_j": inference.cost.energy,
        "training_s": training.makespan_s,
        "training_j": training.cost.energy,
    }
