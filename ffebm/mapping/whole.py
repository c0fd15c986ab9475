"""The choice of a whole graph: blocks with their options, digital nodes, and values between them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import TopologicalSorter

from ffebm.graph.graph import Graph, Node, captured
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.silicon import watts
from ffebm.mapping.crossings import carried, digital_price, viewed
from ffebm.mapping.options import DIGITAL, Choosing
from ffebm.mapping.solver.price import Price
from ffebm.mapping.solver.problem import Candidate, Decision, Figures, Link, Problem, figures_of

Worker = str | int
"""A digital node by name, or a block by id."""


@dataclass(frozen=True)
class WholeChoice:
    """A problem with what its decisions are about.

    Attributes:
        problem: To be solved.
        where: The decision of each block, by block id.
        choosing: What chooses, each with the position of its first decision.
    """

    problem: Problem
    where: dict[int, int]
    choosing: tuple[tuple[Choosing, int], ...]

    def picked(self, picked: Sequence[int]) -> tuple[int, ...]:
        """The option that each of `choosing` takes, of the candidate of each decision."""
        return tuple(picked[position] for _, position in self.choosing)

    def figures(self, picked: Sequence[int]) -> Figures:
        """What prices add up to if each of `choosing` takes an option.

        Args:
            picked: The option of each.
        """
        taken = {position: number for (_, position), number in zip(self.choosing, picked, strict=True)}
        problem = self.problem
        return figures_of(problem, [taken.get(problem.root(p), 0) for p in range(len(problem.decisions))])

    @cached_property
    def roomy(self) -> "WholeChoice":
        """The same with more of the tiles for each option, so that a choice packs more easily."""
        decisions = list(self.problem.decisions)
        for some, position in self.choosing:
            candidates = zip(some.options, decisions[position].candidates, strict=True)
            decisions[position] = Decision(
                tuple(
                    replace(c, price=replace(c.price, tiles=dict.fromkeys(c.price.tiles, option.roomy)))
                    for option, c in candidates
                )
            )
        return replace(self, problem=replace(self.problem, decisions=tuple(decisions)))


def whole_choice(graph: Graph, hardware: Hardware, choosing: Sequence[Choosing]) -> WholeChoice:
    """The problem of a graph with energy blocks.

    Args:
        graph: The graph.
        hardware: The machine.
        choosing: Its blocks with their options.
    """
    taking = {block.id: (some, number) for some in choosing for number, block in enumerate(some.blocks)}
    homes = node_homes(graph, hardware, choosing)
    parted = _parted(graph, choosing)
    order = _ordered(graph, parted)
    at = {unit: position for position, unit in enumerate(order)}
    first = {id(some): min(at[worker] for worker in _workers(some)) for some in choosing}
    nodes = {node.name: node for node in graph.nodes}
    made = {value: node.name for node in graph.nodes for value in node.outputs if value}
    decisions: list[Decision] = []
    for position, unit in enumerate(order):
        if isinstance(unit, str):
            home = homes[unit]
            own = _of_node(graph, hardware, nodes[unit], home)
        else:
            home = Site(taking[unit][0])
            places = homes[made[graph.blocks[unit].outputs[0]]].places if unit not in parted else None
            own = _of_block(*taking[unit], places)
        root = position if home.some is None else first[id(home.some)]
        decisions.append(Decision(own, None if root == position else root))
    always = _always_on(graph, hardware, choosing)
    groups = sorted({place for home in homes.values() for place in home.places} - {""})
    problem = Problem(
        _with_leakage(hardware, decisions, always),
        tuple(_links(graph, hardware, at, parted, groups if len(groups) > 1 else ())),
        leakage=watts(hardware, [*(unit for units in always.values() for unit in units), "network"]),
    )
    where = {unit: position for unit, position in at.items() if isinstance(unit, int)}
    return WholeChoice(problem, where, tuple((some, first[id(some)]) for some in choosing))


# --- where nodes run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Site:
    """Where a node runs, and what decides it.

    Attributes:
        some: Whose choice it hangs on; None if on none.
        places: By the option that is taken there: a group of digital units; empty on tiles.
    """

    some: Choosing | None = None
    places: tuple[str, ...] = ()


def node_homes(graph: Graph, hardware: Hardware, choosing: Sequence[Choosing]) -> dict[str, Site]:
    """Where each node runs, by name; a view of a digital value lies where that does."""
    owner: dict[Worker, Choosing] = {worker: some for some in choosing for worker in _workers(some)}
    makers = {value: node for node in graph.nodes for value in node.outputs if value}
    several, homes = len(hardware.digital) > 1, dict[str, Site]()
    for node in graph.nodes:
        units = hardware.units_for(node.op)
        usual = units.name if units else DIGITAL
        some = owner.get(_unit(node))
        maker = makers.get(viewed(graph, node) or "") if several else None
        seen = None if maker is None else homes[maker.name]
        if some is not None:
            places = [option.units.get(node.name, "") for option in some.options]
            if seen is not None and seen.some is some:
                places = [here and (there or here) for here, there in zip(places, seen.places, strict=True)]
            elif seen is not None and seen.some is None:
                places = [here and seen.places[0] for here in places]
            homes[node.name] = Site(some, tuple(places))
        elif seen is not None:
            places = [place or usual for place in seen.places]
            alike = len(set(places)) == 1
            homes[node.name] = Site(None, (places[0],)) if alike else Site(seen.some, tuple(places))
        else:
            homes[node.name] = Site(None, (usual,))
    return homes


def _of_node(graph: Graph, hardware: Hardware, node: Node, home: Site) -> tuple[Candidate, ...]:
    """A node's candidates: nothing on tiles, whose block has the price, or where no unit runs its op.

    A node of no unit is refused by the partition.
    """
    found = []
    for number, place in enumerate(home.places):
        runs = hardware.units_for(node.op)
        group = runs.name if runs else ""
        if home.some is not None:
            group = home.some.options[number].units.get(node.name, group)
        price = digital_price(graph, hardware, [node], {node.name: group}) if group and place else Price()
        found.append(Candidate(price, place))
    return tuple(found)


def _of_block(some: Choosing, number: int, places: Sequence[str] | None) -> tuple[Candidate, ...]:
    """A block's candidates; of a parted one a digital candidate takes nothing, since its nodes do.

    Args:
        some: The block's choice.
        number: Which of its blocks.
        places: The one group of digital units that runs all nodes, by option; None if it is parted.
    """
    return tuple(
        Candidate(option.prices[number])
        if option.group
        else Candidate(Price() if places is None else option.prices[number], place)
        for option, place in zip(some.options, places or [""] * len(some.options), strict=True)
    )


def _workers(some: Choosing) -> list[Worker]:
    """What takes part in a choice: blocks by id, or a digital node by name."""
    return [block.id for block in some.blocks] or list(some.options[0].units)


# --- leakage ---------------------------------------------------------------------------------------------


def _always_on(graph: Graph, hardware: Hardware, choosing: Sequence[Choosing]) -> dict[str, list[str]]:
    """Units of each digital group that has something to do whatever is chosen, by group.

    One, or all where they stand in cores and share work.
    """
    free = {worker for some in choosing for worker in _workers(some)}
    groups = [hardware.units_for(node.op) for node in graph.nodes if _unit(node) not in free]
    return {group.name: _working(hardware, group) for group in groups if group is not None}


def _working(hardware: Hardware, group: DigitalGroup) -> list[str]:
    """Units of a group that work at once at least."""
    numbers = hardware.unit_numbers(group.name)
    return [f"digital{number}" for number in (numbers if group.place == "core" else numbers[:1])]


def _with_leakage(
    hardware: Hardware, decisions: Sequence[Decision], always: Collection[str]
) -> tuple[Decision, ...]:
    """Units that not every choice powers leak while they are in use.

    Each tile leaks as long as an inference takes, for which the fastest of all is taken; a digital unit
    at least as long as it works.
    """
    seconds = sum(min(each) for each in Problem(tuple(decisions)).costs("seconds"))
    joules = {group.name: group.leakage.value * seconds for group in hardware.analog}
    least = watts(hardware, [])
    power = {
        group.name: group.count * (watts(hardware, _working(hardware, group)[:1]) - least)
        for group in hardware.digital
        if group.name not in always
    }

    def leaking(price: Price) -> Price:
        more = sum(joules[group] * tiles for group, tiles in price.tiles.items())
        more += sum(power.get(unit, 0.0) * busy for unit, busy in price.busy.items())
        return replace(price, joules=price.joules + more)

    return tuple(
        replace(d, candidates=tuple(replace(c, price=leaking(c.price)) for c in d.candidates))
        for d in decisions
    )


def _parted(graph: Graph, choosing: Sequence[Choosing]) -> dict[int, list[Node]]:
    """Blocks whose nodes run on several groups of digital units, if some option says so, with these nodes.

    Each node of theirs is an item of its own, tied to the block: what crosses between groups is a link then.
    """
    members: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if node.block is not None:
            members.setdefault(node.block, []).append(node)
    ways = {block.id: [option.units for option in some.digital] for some in choosing for block in some.blocks}
    return {
        block: nodes
        for block, nodes in members.items()
        if any(len({units[node.name] for node in nodes}) > 1 for units in ways[block])
    }


def _unit(node: Node) -> Worker:
    return node.name if node.block is None else node.block


def _reads(graph: Graph) -> dict[Worker, list[str]]:
    """The values that each digital node and each block reads, each once."""
    reads: dict[Worker, dict[str, None]] = {}
    for node in graph.nodes:
        if node.block is None:
            reads[node.name] = dict.fromkeys(v for v in captured(node) if v not in graph.constants)
        else:
            reads.setdefault(node.block, dict.fromkeys(graph.blocks[node.block].inputs))
    return {unit: list(values) for unit, values in reads.items()}


def _makers(graph: Graph) -> dict[str, Worker]:
    return {value: _unit(node) for node in graph.nodes for value in node.outputs if value}


def _ordered(graph: Graph, parted: Mapping[int, Sequence[Node]]) -> list[Worker]:
    """Each unit behind those that make what it reads; a block may stand behind its first node.

    The nodes of a parted block stand behind it.
    """
    makers, sorter = _makers(graph), TopologicalSorter[Worker]()
    for unit, values in _reads(graph).items():
        sorter.add(unit, *dict.fromkeys(makers[value] for value in values if value in makers))
    order: list[Worker] = []
    for unit in sorter.static_order():
        order.append(unit)
        if isinstance(unit, int):
            order += [node.name for node in parted.get(unit, ())]
    return order


def _links(
    graph: Graph,
    hardware: Hardware,
    at: dict[Worker, int],
    parted: Mapping[int, Sequence[Node]],
    groups: Sequence[str],
) -> list[Link]:
    """What is handed on, between nodes of parted blocks too, which are on tiles after their block is done.

    Args:
        graph: The graph.
        hardware: The machine.
        at: The position of each unit.
        parted: Blocks that run on several groups of digital units, where they are digital.
        groups: Groups of digital units, if there are several.
    """
    reads, makers = _reads(graph), _makers(graph)
    for nodes in parted.values():
        for node in nodes:
            reads[node.name] = [v for v in dict.fromkeys(captured(node)) if v not in graph.constants]
            makers |= {value: node.name for value in node.outputs if value}
    readers: dict[str, list[int]] = {}
    for unit, values in reads.items():
        for value in values:
            if value in makers:
                readers.setdefault(value, []).append(at[unit])
    links = []
    for value, positions in readers.items():
        found = carried(graph, hardware, value, groups)
        links.append(Link(at[makers[value]], tuple(sorted(set(positions))), found.price, found.from_tiles))
    for block, nodes in parted.items():
        links.append(Link(at[block], tuple(at[node.name] for node in nodes), Price()))
    return links
