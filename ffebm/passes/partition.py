"""Partition: what each energy block is, and a unit and a reason for every node.

The search of `mapping` takes one option for each block: digital, or tiles of a group with a layout and some
replicas. The weights of blocks on tiles are cut as that says; the nodes of the others become digital.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec

from ffebm.errors import HardwareError, Location, UsageError
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, Stage
from ffebm.hardware.description import Hardware
from ffebm.mapping.layout import Layout, even_cuts
from ffebm.mapping.options import Choosing, Option, Run, choosing_of
from ffebm.mapping.packing import Box
from ffebm.mapping.search.goal import BY_PRICE, UNBOUNDED, AtMost, Goal, Measured
from ffebm.mapping.search.known import Known
from ffebm.mapping.search.search import Search, Searched, Top
from ffebm.mapping.solver.program import BeyondError, gap_of
from ffebm.mapping.tile_counts import boxes_of, tile_counts, tiles_needed
from ffebm.passes.placement import Placement
from ffebm.plan.mapping import MappedBlocks, PricedOption
from ffebm.plan.mapping import Mapping as Mapped
from ffebm.plan.summary import engineering

NOTES = SHORT, PRICED, LIMITED = "because the tiles ran out", "by price", "to keep the limits"
"""Why blocks are digital, for notes that count them."""
SCATTERED = (
    "blocks that share tiles are far apart in the graph, not neighbours: so they wait less for each other"
)


@dataclass(frozen=True)
class OnMachine:
    """What is known of the mappings of a graph on a machine, whatever their objective.

    Attributes:
        everything: What each block could be.
        choosing: The same without tiles that are too slow.
        searched: What searches found out.
    """

    everything: tuple[Choosing, ...]
    choosing: tuple[Choosing, ...]
    searched: Known = field(default_factory=Known)


@dataclass(frozen=True)
class Partition:
    """Chooses what each block is.

    Attributes:
        goal: What the mapping is to be like.
        batch: Samples of one inference.
        sweeps: Most sweeps of a free phase.
        schedule: Measures one inference of a placed graph; None if a bound says that it takes more seconds.
        tell: Called with what was chosen.
        known: What goals with other objectives found out about the same graph, by machine; filled. None: no
            other goal is asked for.
        reasons: Nodes and notes are to say why blocks are digital, which takes as long as another schedule.
    """

    goal: Goal
    batch: Callable[[Graph], int]
    sweeps: int
    schedule: Callable[[Graph, Hardware, AtMost], Measured | None]
    tell: Callable[[Mapped], None] | None = None
    known: "dict[bytes, OnMachine] | None" = None
    reasons: bool = True
    name: str = "partition"
    requires: Stage = Stage.TILED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Choose, cut the weights that stay on tiles, and give every node a unit and a reason."""
        chooses = bool(graph.blocks) or self._several(graph, hardware)
        if not chooses and not self.goal.limited:
            _apply(graph, hardware, hardware, self.goal, (), ())
            return
        best, whole = self._best(graph, hardware)
        if self.reasons:
            _say_why(graph, hardware, self.goal, best.everything, best.options)
        off = [group.name for group in hardware.digital if group not in best.machine.digital]
        if off:
            graph.notes.append(f"{', '.join(off)} left off: {_compared(self.goal, best, whole)}")
        if self.tell is not None and chooses:
            self.tell(_record(graph, self.goal, best.everything, best.options, best.searched))
        _apply(graph, hardware, best.machine, self.goal, best.choosing, best.options)
        graph.scattered = best.searched.found.scattered
        if graph.scattered:
            graph.notes.append(SCATTERED)
        _note(graph)

    def without_tiles(self, graph: Graph, hardware: Hardware) -> dict[str, str]:
        """The group of digital units of each node, by name, if nothing is on tiles; limits are not looked at.

        Args:
            graph: With or without energy blocks; all its ops run on digital units.
            hardware: The machine.
        """
        nodes = [replace(node, unit="digital", block=None) for node in graph.nodes]
        alone = replace(graph, nodes=nodes, blocks=[], parts={}, places={}, notes=[])
        free = Goal(self.goal.objective, effort=self.goal.effort, runs=self.goal.runs)
        replace(self, goal=free, tell=None, known=None, reasons=False).run(alone, hardware)
        return {node.name: node.group for node in alone.nodes}

    def _several(self, graph: Graph, hardware: Hardware) -> bool:
        """Some node may run on several groups of digital units."""
        return any(len(hardware.all_units_for(op)) > 1 for op in {node.op for node in graph.nodes})

    def _best(self, graph: Graph, hardware: Hardware) -> "tuple[_Found, _Found | None]":
        """The best mapping on the machine, or on it without some of its groups.

        A choice that may use a group can be worse than one that may not: prices bill what digital units leak
        only while these work, each op has the first group that runs it, and the solver counts tiles that may
        not pack. So groups that are in use are left off, one by one, as long as the best gets better, by
        each objective that searches look for. Where the whole machine keeps no limits, each of its groups is
        left off first.

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
        if self.goal.objective != "analog":
            found += self._fewer(graph, hardware, found)
            best = min(found, key=lambda one: one.key)
        least = min((one.searched for one in found), key=lambda searched: searched.solved)
        bound = min(one.searched.bound for one in found)
        gap = least.gap if bound == least.bound else gap_of(least.solved, bound)
        return replace(
            best, searched=replace(best.searched, solved=least.solved, bound=bound, gap=gap)
        ), whole

    def _fewer(self, graph: Graph, hardware: Hardware, first: "Sequence[_Found]") -> "list[_Found]":
        """The best mapping on machines with fewer groups, each of which is searched once.

        Args:
            graph: With energy blocks.
            hardware: The machine.
            first: The best mapping on the whole machine, or on machines to begin with.
        """
        begun = {msgspec.json.encode(one.machine) for one in first}
        known: dict[bytes, list[_Found]] = {}
        for objective in BY_PRICE:
            tops = [(one.searched.tops[objective], one) for one in first if objective in one.searched.tops]
            least: Top | None = None
            while tops:
                top, best = min(tops, key=lambda pair: pair[0].key)
                if least is not None and top.key >= least.key:
                    break
                least, tops = top, []
                for machine in _smaller(graph, best.machine, top.groups):
                    name = msgspec.json.encode(machine)
                    if name not in known and name not in begun:
                        known[name], _ = self._each(graph, hardware, [machine])
                    found = (one for one in known.get(name, ()) if objective in one.searched.tops)
                    tops += ((one.searched.tops[objective], one) for one in found)
        return [one for found in known.values() for one in found]

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
        known = self._known(graph, machine)
        choosing = known.choosing

        def measure(placed: Graph, options: Sequence[Option], most: AtMost) -> Measured | None:
            return self.measured(placed, hardware, choosing, options, most, machine)

        near, far = partial(measure, graph), partial(measure, replace(graph, scattered=True))
        search = Search(graph, machine, choosing, self.goal, near, far, known.searched)
        searched = search.best()
        return _Found(machine, known.everything, choosing, searched, search.trials.key(searched.found))

    def _known(self, graph: Graph, machine: Hardware) -> OnMachine:
        """What is known on a machine; what each block could be, at least."""
        if self.known is None:
            return self._options(graph, machine)
        key = msgspec.json.encode(machine)
        if key not in self.known:
            self.known[key] = self._options(graph, machine)
        return self.known[key]

    def _options(self, graph: Graph, machine: Hardware) -> OnMachine:
        """What each block could be.

        Raises:
            UsageError: If there are no tiles for some block.
        """
        run = Run(self.batch(graph), self.sweeps)
        tiles, replicas = self.goal.tiles, self.goal.replicas
        everything = choosing_of(graph, machine, run, tiles=tiles, replicas=replicas)
        if not all(any(option.group for option in some.options) for some in everything if some.blocks):
            raise UsageError("no tiles for some block", hint="a machine whose tiles hold its weights")
        return OnMachine(everything, tuple(_not_slow(some, self.goal.slowdown) for some in everything))

    def measured(
        self,
        graph: Graph,
        hardware: Hardware,
        choosing: Sequence[Choosing],
        options: Sequence[Option],
        most: AtMost = UNBOUNDED,
        machine: Hardware | None = None,
    ) -> Measured | None:
        """One inference of a mapping as it is scheduled; the graph stays as it is.

        Args:
            graph: With energy blocks; says whether those that share tiles are far apart.
            hardware: The machine.
            choosing: What each block could be.
            options: What each is.
            most: None is found if a bound says that it takes more.
            machine: Whose digital units run what is digital; the whole machine unless given.
        """
        trial = replace(graph, nodes=[replace(node) for node in graph.nodes], notes=[])
        _apply(trial, hardware, machine or hardware, self.goal, choosing, options)
        Placement(self.goal.tiles, self.goal.area).run(trial, hardware)
        used = {place.tile for place in trial.places.values()}
        area = sum(
            group.area.value * len(used & set(hardware.tile_numbers(group.name))) for group in hardware.analog
        )
        found = self.schedule(trial, hardware, most)
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
        if any(map(group.runs, ops)) and None not in map(fewer.units_for, ops):
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
    if not some.digital or slowdown == math.inf:
        return some
    most = slowdown * min(option.seconds for option in some.digital)
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
    """Blocks on tiles with their parts; every other node in a group of digital units.

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
    _assign(graph, machine, {name: unit for option in options for name, unit in option.units.items()})


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


def _assign(graph: Graph, hardware: Hardware, chosen: Mapping[str, str]) -> None:
    """A group of the machine for every node: its block's, the chosen one, or the first that runs its op.

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
        node.group = chosen.get(node.name, units.name)


# --- saying why --------------------------------------------------------------------------------------


def _say_why(
    graph: Graph, hardware: Hardware, goal: Goal, choosing: Sequence[Choosing], options: Sequence[Option]
) -> None:
    """A reason for the nodes of blocks that become digital, and a note that counts them."""
    members = {block: [node.name for node in nodes] for block, nodes in _members(graph).items()}
    named = {node.name: node for node in graph.nodes}
    free = _free(hardware, goal, boxes_of(choosing, options))
    counts: Counter[str] = Counter()
    for some, option in zip(choosing, options, strict=True):
        if option.group:
            continue
        where = _units_reason(goal, some, option)
        for name in option.units if not some.blocks else ():
            named[name].reason += f"; {where}"
        if some.blocks:
            note, reason = _why_digital(hardware, goal, some, option, free)
            counts[note] += len(some.blocks)
            for name in (name for block in some.blocks for name in members[block.id]):
                named[name].reason = f"{reason}; {where}" if where else reason
    graph.notes += [f"{_blocks(counts[note])} digital {note}" for note in NOTES if counts[note]]


def _why_digital(
    hardware: Hardware, goal: Goal, some: Choosing, option: Option, free: Mapping[str, int]
) -> tuple[str, str]:
    """Why blocks are digital, for the note that counts them and for their nodes."""
    ranked = [_lacking(hardware, some, other, free) for other in some.options if other.group]
    lacking, needs, group = min(ranked)
    slow = len(_not_slow(some, goal.slowdown).options) == len(some.digital)
    if goal.objective != "analog" or slow:
        return PRICED, _price_reason(goal, some, option, fits=not lacking)
    if goal.limited and not lacking:
        return LIMITED, _price_reason(goal, some, option, fits=True)
    return SHORT, f"no tile left: needs {needs}, {free[group]} free"


def _compared(goal: Goal, best: _Found, whole: _Found | None) -> str:
    """What the best mapping takes beside that on the whole machine."""
    if whole is None:
        return "with all groups no mapping was found within the limits"
    unit = {"energy": "J", "edp": "J s"}.get(goal.objective, "s")
    here, there = (engineering(goal.value(one.searched.found.measured), unit) for one in (best, whole))
    room = " on less of the tiles" if here == there else ""
    runs = f" of {goal.runs:,} runs" if goal.runs > 1 else ""
    return f"{goal.objective}{runs} {here}{room}, with all groups {there}"


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


def _units_reason(goal: Goal, some: Choosing, option: Option) -> str:
    """Time and energy on the digital units that were taken, and on those that would take least otherwise."""
    others = [other for other in some.digital if other is not option]
    if not others:
        return ""

    def price(one: Option) -> float:
        figures = {"energy": one.joules, "edp": one.seconds * one.joules}
        return figures.get(goal.objective, one.seconds)

    def text(one: Option) -> str:
        return f"{engineering(one.seconds, 's')}, {engineering(one.joules, 'J')}"

    def units(one: Option) -> str:
        return " and ".join(dict.fromkeys(one.units.values()))

    other = min(others, key=price)
    why = ", no gain for the whole" if price(other) < price(option) else ""
    return f"on {units(option)}: {text(option)} there, {text(other)} on {units(other)}{why}"


def _price_reason(goal: Goal, some: Choosing, digital: Option, *, fits: bool) -> str:
    """Time, or energy, of the digital units and of the best tiles."""
    energy = goal.objective == "energy"

    def price(option: Option) -> float:
        return option.joules if energy else option.seconds

    tiles = min((o for o in some.options if o.group), key=price)
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
    chosen = [
        (some, _mapped(some, option, [node.name for block in some.blocks for node in members[block.id]]))
        for some, option in zip(choosing, options, strict=True)
    ]
    return Mapped(
        objective=goal.objective,
        value=searched.value,
        priced=searched.priced,
        solved=searched.solved,
        bound=searched.bound,
        gap=searched.gap,
        blocks=tuple(one for some, one in chosen if some.blocks),
        digital=tuple(one for some, one in chosen if not some.blocks),
    )


def _mapped(some: Choosing, option: Option, nodes: Sequence[str]) -> MappedBlocks:
    return MappedBlocks(
        nodes=tuple(nodes or option.units),
        options=tuple(_priced(other, several=len(some.digital) > 1) for other in some.options),
        taken=some.options.index(option),
    )


def _priced(option: Option, *, several: bool) -> PricedOption:
    return PricedOption(
        group=option.group,
        layout=option.kind,
        replicas=option.replicas,
        bundles=option.bundles,
        tiles=math.fsum(option.prices[0].tiles.values()),
        seconds=option.seconds,
        joules=option.joules,
        units=tuple(dict.fromkeys(option.units.values())) if several else (),
    )
