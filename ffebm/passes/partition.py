"""Partition: what each energy block is, and a unit and a reason for every node.

The search of `mapping` takes one option for each block: digital, or tiles of a group with a layout and some
replicas. The weights of blocks on tiles are cut as that says; the nodes of the others become digital.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from ffebm.errors import HardwareError, Location, UsageError
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, Stage
from ffebm.hardware.description import Hardware
from ffebm.mapping.layout import Layout, even_cuts
from ffebm.mapping.options import Choosing, Option, Run, choosing_of
from ffebm.mapping.packing import Box
from ffebm.mapping.search import Goal, Measured, Search, Searched
from ffebm.mapping.solver.program import BeyondError, gap_of
from ffebm.mapping.tile_counts import boxes_of, tile_counts, tiles_needed
from ffebm.passes.placement import Placement
from ffebm.plan.mapping import MappedBlocks, PricedOption
from ffebm.plan.mapping import Mapping as Mapped
from ffebm.plan.summary import engineering


@dataclass(frozen=True)
class Partition:
    """Chooses what each block is.

    Attributes:
        goal: What the mapping is to be like.
        batch: Samples of one inference.
        sweeps: Most sweeps of a free phase.
        schedule: Measures one inference of a placed graph; None if a bound says that it takes more seconds.
        tell: Called with what was chosen.
    """

    goal: Goal
    batch: Callable[[Graph], int]
    sweeps: int
    schedule: Callable[[Graph, Hardware, float], Measured | None]
    tell: Callable[[Mapped], None] | None = None
    name: str = "partition"
    requires: Stage = Stage.TILED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Choose, cut the weights that stay on tiles, and give every node a unit and a reason."""
        if not graph.blocks:
            _apply(graph, hardware, hardware, self.goal, (), ())
            return
        best, whole = self._best(graph, hardware)
        _say_why(graph, hardware, self.goal, best.everything, best.options)
        off = [group.name for group in hardware.digital if group not in best.machine.digital]
        if off:
            graph.notes.append(f"{', '.join(off)} left off: {_compared(self.goal, best, whole)}")
        if self.tell is not None:
            self.tell(_record(graph, self.goal, best.everything, best.options, best.searched))
        _apply(graph, hardware, best.machine, self.goal, best.choosing, best.options)
        _note(graph)

    def _best(self, graph: Graph, hardware: Hardware) -> "tuple[_Found, _Found | None]":
        """The best mapping on the machine, or on it without some of its groups.

        A choice that may use a group can be worse than one that may not: prices bill what digital units leak
        only while these work, each op has the first group that runs it, and the solver counts tiles that may
        not pack. So groups that are in use are left off, one by one, as long as the best gets better. Where
        the whole machine keeps no limits, each of its groups is left off first.

        Returns:
            The best, and that on the whole machine, if there is one.

        Raises:
            UsageError: If no mapping is within the limits.
        """
        whole: _Found | None = None
        try:
            best = whole = self._on(graph, hardware, hardware)
            found = [best]
        except BeyondError as error:
            names = {group.name for group in hardware.analog}
            found, errors = self._each(graph, hardware, _smaller(graph, hardware, names))
            if not found:
                raise min((error, *errors), key=lambda one: one.excess) from None
            best = min(found, key=lambda one: one.key)
        while self.goal.objective != "analog":
            fewer, _ = self._each(graph, hardware, best.smaller(graph))
            found += fewer
            better = min(fewer, key=lambda one: one.key, default=best)
            if better.key >= best.key:
                break
            best = better
        least = min((one.searched for one in found), key=lambda searched: searched.solved)
        bound = min(one.searched.bound for one in found)
        gap = least.gap if bound == least.bound else gap_of(least.solved, bound)
        return replace(
            best, searched=replace(best.searched, solved=least.solved, bound=bound, gap=gap)
        ), whole

    def _each(
        self, graph: Graph, hardware: Hardware, machines: Iterable[Hardware]
    ) -> "tuple[list[_Found], list[BeyondError]]":
        """The best mapping on each of some machines, and which limits others do not keep."""
        found: list[_Found] = []
        errors: list[BeyondError] = []
        for machine in machines:
            try:
                found.append(self._on(graph, hardware, machine))
            except BeyondError as error:
                errors.append(error)
            except UsageError:  # the tiles that are left are too few, or none for some block
                continue
        return found, errors

    def _on(self, graph: Graph, hardware: Hardware, machine: Hardware) -> "_Found":
        """The best mapping on some of the groups of a machine.

        Args:
            graph: With energy blocks.
            hardware: The machine.
            machine: The same, maybe without some groups.

        Raises:
            UsageError: If no mapping is within the limits, or there are no tiles for some block.
        """
        run = Run(self.batch(graph), self.sweeps)
        tiles, replicas = self.goal.tiles, self.goal.replicas
        everything = choosing_of(graph, machine, run, tiles=tiles, replicas=replicas)
        if not all(any(option.group for option in some.options) for some in everything):
            raise UsageError("no tiles for some block", hint="a machine whose tiles hold its weights")
        choosing = tuple(_not_slow(some, self.goal.slowdown) for some in everything)

        def measure(options: Sequence[Option], seconds: float) -> Measured | None:
            return self.measured(graph, hardware, choosing, options, seconds, machine)

        search = Search(graph, machine, choosing, self.goal, measure)
        searched = search.best()
        return _Found(machine, everything, choosing, searched, search.key(searched.found))

    def measured(
        self,
        graph: Graph,
        hardware: Hardware,
        choosing: Sequence[Choosing],
        options: Sequence[Option],
        seconds: float = math.inf,
        machine: Hardware | None = None,
    ) -> Measured | None:
        """One inference of a mapping as it is scheduled; the graph stays as it is.

        Args:
            graph: With energy blocks.
            hardware: The machine.
            choosing: What each block could be.
            options: What each is.
            seconds: None is found if a bound says that it takes longer.
            machine: Whose digital units run what is digital; the whole machine unless given.
        """
        trial = replace(graph, nodes=[replace(node) for node in graph.nodes], notes=[])
        _apply(trial, hardware, machine or hardware, self.goal, choosing, options)
        Placement(self.goal.tiles, self.goal.area).run(trial, hardware)
        used = {place.tile for place in trial.places.values()}
        area = sum(
            group.area.value * len(used & set(hardware.tile_numbers(group.name))) for group in hardware.analog
        )
        found = self.schedule(trial, hardware, seconds)
        return None if found is None else replace(found, area=area)


@dataclass(frozen=True)
class _Found:
    """The best mapping on some groups of a machine.

    Attributes:
        machine: With these groups.
        everything: What each block could be.
        choosing: The same without tiles that are too slow.
        searched: What was chosen.
        key: Smaller is better.
    """

    machine: Hardware
    everything: tuple[Choosing, ...]
    choosing: tuple[Choosing, ...]
    searched: Searched
    key: tuple[float, float, float, int]

    @property
    def options(self) -> tuple[Option, ...]:
        """What each block is."""
        return self.searched.options(self.choosing)

    def smaller(self, graph: Graph) -> Iterator[Hardware]:
        """The machine without one group of tiles in use, or one of digital units whose ops others run."""
        return _smaller(graph, self.machine, {option.group for option in self.options})


def _smaller(graph: Graph, machine: Hardware, used: Collection[str]) -> Iterator[Hardware]:
    """A machine without one of some groups of tiles, or one of digital units whose ops others run.

    Each search looks at no tiles at all. Without digital units, blocks have those that are left as a choice,
    so that of units that are not in use counts too.
    """
    if len(machine.analog) > 1:
        yield from (_without(machine, group.name) for group in machine.analog if group.name in used)
    ops = {node.op for node in graph.nodes}
    for group in machine.digital:
        fewer = _without(machine, group.name)
        if group in map(machine.units_for, ops) and None not in map(fewer.units_for, ops):
            yield fewer


def _without(machine: Hardware, name: str) -> Hardware:
    """A machine without a group and the memories that it owns."""
    return msgspec.structs.replace(
        machine,
        analog=tuple(group for group in machine.analog if group.name != name),
        digital=tuple(group for group in machine.digital if group.name != name),
        memory=tuple(memory for memory in machine.memory if memory.owner != name),
    )


def _not_slow(some: Choosing, slowdown: float) -> Choosing:
    """Without tiles that are more than so many times slower than digital units."""
    digital = some.options[0]
    if digital.group or slowdown == math.inf:
        return some
    most = slowdown * digital.seconds
    return replace(some, options=tuple(o for o in some.options if not o.group or o.seconds <= most))


# --- writing a choice into the graph -----------------------------------------------------------------


def _apply(
    graph: Graph,
    hardware: Hardware,
    machine: Hardware,
    goal: Goal,
    choosing: Sequence[Choosing],
    options: Sequence[Option],
) -> None:
    """Blocks on tiles with their parts; every other node in the first group of digital units that runs it.

    Args:
        graph: With energy blocks.
        hardware: The machine.
        machine: Whose digital units run what is digital.
        goal: What the mapping is to be like.
        choosing: What each block could be.
        options: What each is.
    """
    groups = {
        block.id: option.group
        for some, option in zip(choosing, options, strict=True)
        for block in some.blocks
        if option.group
    }
    members = _members(graph)
    for block in graph.blocks:
        if block.id not in groups:
            for node in members[block.id]:
                node.unit, node.block = "digital", None
    _renumber(graph, [block for block in graph.blocks if block.id in groups], groups, members)
    graph.parts = {layout.weight: layout.parts() for layout in _layouts(hardware, goal, choosing, options)}
    graph.places = {}
    _assign(graph, machine)


def _layouts(
    hardware: Hardware, goal: Goal, choosing: Sequence[Choosing], options: Sequence[Option]
) -> list[Layout]:
    """The layouts, cut evenly where there is an array for each bundle."""
    boxes = boxes_of(choosing, options)
    counts = tile_counts(hardware, boxes, goal.tiles, goal.area) or {}
    found = []
    for option in options:
        for layout in option.layouts:
            size = hardware.analog_group(option.group).tile.size
            if size is not None and len(boxes[option.group]) <= counts.get(option.group, 0):
                layout = _evenly(layout, *((min(size), min(size)) if layout.two_way else size))
            found.append(layout)
    return found


def _evenly(layout: Layout, rows: int, cols: int) -> Layout:
    if layout.cut == "even" or (len(layout.inputs) == 1 and len(layout.outputs) == 1):
        return layout
    inputs, outputs = even_cuts(layout.inputs[-1][1], rows), even_cuts(layout.outputs[-1][1], cols)
    return replace(layout, inputs=inputs, outputs=outputs, cut="even")


def _members(graph: Graph) -> dict[int, list[Node]]:
    """The nodes of each block."""
    members: dict[int, list[Node]] = {block.id: [] for block in graph.blocks}
    for node in graph.nodes:
        if node.block is not None:
            members[node.block].append(node)
    return members


def _renumber(
    graph: Graph, blocks: list[EnergyBlock], groups: dict[int, str], members: dict[int, list[Node]]
) -> None:
    renamed = []
    for position, block in enumerate(blocks):
        fresh = msgspec.structs.replace(block, id=position, group=groups[block.id])
        for node in members[block.id]:
            node.block = position
            node.reason = node.reason.removesuffix(block.name) + fresh.name
        renamed.append(fresh)
    graph.blocks = renamed


def _assign(graph: Graph, hardware: Hardware) -> None:
    """A group of the machine for every node: that of its block, or the first whose digital units run its op.

    Raises:
        HardwareError: If no unit runs the op of a node.
    """
    for node in graph.nodes:
        if node.block is not None:
            node.group = graph.blocks[node.block].group
            continue
        units = hardware.units_for(node.op)
        if units is None:
            known = dict.fromkeys(op for group in hardware.digital for op in group.ops)
            raise HardwareError(
                f"no unit runs {node.op}",
                allowed=f"digital units run {', '.join(known)}",
                hint=f"add {node.op!r} to ops of a [[digital]] in {hardware.name}",
                location=node.location or Location(graph.source, node.name),
            )
        node.group = units.name


# --- saying why --------------------------------------------------------------------------------------


def _say_why(
    graph: Graph, hardware: Hardware, goal: Goal, choosing: Sequence[Choosing], options: Sequence[Option]
) -> None:
    """A reason for the nodes of blocks that become digital, and a note that counts them."""
    members = _members(graph)
    free = _free(hardware, goal, boxes_of(choosing, options))
    short = priced = limited = 0
    for some, option in zip(choosing, options, strict=True):
        if option.group:
            continue
        ranked = [_lacking(hardware, some, other, free) for other in some.options if other.group]
        lacking, needs, group = min(ranked)
        slow = len(_not_slow(some, goal.slowdown).options) == 1
        if goal.objective != "analog" or slow:
            priced += len(some.blocks)
            reason = _price_reason(goal, some, fits=not lacking)
        elif goal.limited and not lacking:
            limited += len(some.blocks)
            reason = _price_reason(goal, some, fits=True)
        else:
            short += len(some.blocks)
            reason = f"no tile left: needs {needs}, {free[group]} free"
        for block in some.blocks:
            for node in members[block.id]:
                node.reason = reason
    if short:
        graph.notes.append(f"{_blocks(short)} digital because the tiles ran out")
    if priced:
        graph.notes.append(f"{_blocks(priced)} digital by price")
    if limited:
        graph.notes.append(f"{_blocks(limited)} digital to keep the limits")


def _compared(goal: Goal, best: _Found, whole: _Found | None) -> str:
    """What the best mapping takes beside that on the whole machine."""
    if whole is None:
        return "with all groups no mapping was found within the limits"
    unit = {"energy": "J", "edp": "J s"}.get(goal.objective, "s")
    here, there = (engineering(one.searched.value, unit) for one in (best, whole))
    room = " on less of the tiles" if here == there else ""
    return f"{goal.objective} {here}{room}, with all groups {there}"


def _free(hardware: Hardware, goal: Goal, boxes: Mapping[str, Sequence[Box]]) -> dict[str, int]:
    """Tiles of each group that are left."""
    used = {g.name: tiles_needed(g, boxes.get(g.name, [])) for g in hardware.analog}
    most = hardware.tile_count if goal.tiles is None else goal.tiles
    left = max(0, most - sum(used.values()))
    return {group.name: max(0, min(left, group.count - used[group.name])) for group in hardware.analog}


def _blocks(count: int) -> str:
    return "1 energy block stays" if count == 1 else f"{count} energy blocks stay"


def _lacking(
    hardware: Hardware, some: Choosing, option: Option, free: Mapping[str, int]
) -> tuple[int, int, str]:
    """How many tiles an option lacks, how many it needs, and of which group."""
    needs = _needs(hardware, some, option)
    return max(0, needs - free[option.group]), needs, option.group


def _needs(hardware: Hardware, some: Choosing, option: Option) -> int:
    """The fewest tiles that an option was made to fit on alone."""
    boxes = boxes_of((some,), (option,))[option.group]
    return tiles_needed(hardware.analog_group(option.group), boxes)


def _price_reason(goal: Goal, some: Choosing, *, fits: bool) -> str:
    """Time, or energy, of the digital units and of the best tiles."""
    energy = goal.objective == "energy"

    def price(option: Option) -> float:
        return option.joules if energy else option.seconds

    digital, tiles = some.options[0], min((o for o in some.options if o.group), key=price)
    unit = "J" if energy else "s"
    many = "1 tile" if tiles.bundles == 1 else f"{tiles.bundles} tiles"
    there, here = engineering(price(digital), unit), engineering(price(tiles), unit)
    if price(digital) <= price(tiles):
        why = ""
    elif not fits:
        why = ", which other blocks need more"
    elif goal.objective == "analog":
        why = ", beyond the limits"
    else:
        why = ", no gain for the whole" + (" within the limits" if goal.limited else "")
    return f"digital: {there} there, {here} on {many}{why}"


def _note(graph: Graph) -> None:
    deep = [block for block in graph.blocks if len(block.layers) > 1]
    if deep:
        found = "1 block holds more than one layer: it computes"
        if len(deep) > 1:
            found = f"{len(deep)} blocks hold more than one layer: they compute"
        graph.notes.append(
            f"{found} an equilibrium, another function than the source model's, to be trained as such"
        )


def _record(
    graph: Graph, goal: Goal, choosing: Sequence[Choosing], options: Sequence[Option], searched: Searched
) -> Mapped:
    """What there was to choose, for the plan."""
    members = _members(graph)
    return Mapped(
        objective=goal.objective,
        value=searched.value,
        priced=searched.priced,
        solved=searched.solved,
        bound=searched.bound,
        gap=searched.gap,
        blocks=tuple(
            MappedBlocks(
                nodes=tuple(node.name for block in some.blocks for node in members[block.id]),
                options=tuple(_priced(other) for other in some.options),
                taken=some.options.index(option),
            )
            for some, option in zip(choosing, options, strict=True)
        ),
    )


def _priced(option: Option) -> PricedOption:
    return PricedOption(
        group=option.group,
        layout=option.kind,
        replicas=option.replicas,
        bundles=option.bundles,
        tiles=sum(option.prices[0].tiles.values()),
        seconds=option.seconds,
        joules=option.joules,
    )
