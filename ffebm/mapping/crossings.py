"""Groups of digital units: which of them may run what, where values lie, and what it takes to carry these."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.work import elements
from ffebm.hardware.description import Hardware
from ffebm.mapping.digital_cost import carrying, digital_cost, transfer_cost, work_of
from ffebm.mapping.solver.price import Price

MOST_WAYS = 8
"""Ways to share the nodes of blocks out over groups of digital units that are all looked at."""


def digital_ways(graph: Graph, hardware: Hardware, nodes: Sequence[Node]) -> Iterator[dict[str, str]]:
    """All ways to share nodes out over the groups of digital units that run them.

    Where these are too many: as many nodes as possible on each of the groups.

    Args:
        graph: With the nodes.
        hardware: The machine.
        nodes: In graph order.

    Yields:
        The group of each node, by name, first the first one that runs it; nothing where no unit runs one.
    """
    runs: dict[str, list[str]] = {}
    for node in nodes:
        names = [group.name for group in hardware.all_units_for(node.op)]
        runs[node.name] = names[:1] if len(names) > 1 and viewed(graph, node) else names
    if math.prod(map(len, runs.values())) <= MOST_WAYS:
        ways = dict.fromkeys(product(*runs.values()))
    else:
        wanted = ("", *(group.name for group in hardware.digital))
        ways = dict.fromkeys(tuple(g if g in some else some[0] for some in runs.values()) for g in wanted)
    yield from (dict(zip(runs, way, strict=True)) for way in ways)


def viewed(graph: Graph, node: Node) -> str | None:
    """The value that a node is a view of, whose place it shares; None if it is no view."""
    read = [value for value in dict.fromkeys(captured(node)) if value not in graph.constants]
    return read[0] if len(read) == 1 and not work_of(graph, node).moved else None


def homes_of(graph: Graph, nodes: Iterable[Node], units: Mapping[str, str]) -> dict[str, str]:
    """The digital group of each value that some nodes make on digital units, by name.

    A view lies where its source does.

    Args:
        graph: The graph.
        nodes: In an order in which each reads only what earlier ones made.
        units: The group of each node by name; others are left out.
    """
    homes: dict[str, str] = {}
    for node in nodes:
        if node.name in units:
            home = homes.get(viewed(graph, node) or "", units[node.name])
            homes.update((value, home) for value in node.outputs if value)
    return homes


@dataclass(frozen=True)
class Carried:
    """What carrying a value takes.

    Attributes:
        price: From one group of digital units to another, where some value crosses between any; else from
            tiles to digital units.
        from_tiles: Joules more from tiles, which the first group of digital units bills.
    """

    price: Price
    from_tiles: float = 0.0


def carried(graph: Graph, hardware: Hardware, value: str, groups: Sequence[str] = ()) -> Carried:
    """What carrying a value to a digital group takes.

    Args:
        graph: With the value.
        hardware: The machine.
        value: Its name.
        groups: Groups of digital units that values cross between; none if there is one group.
    """
    count = elements(graph, value)
    out = transfer_cost(hardware, count)
    over = transfer_cost(hardware, count, groups=groups) if groups else out
    if over.cost.energy > out.cost.energy:  # two memories, which both bill it
        over = out
    price = Price(over.seconds, over.cost.energy, busy=carrying(hardware, over.seconds))
    return Carried(price, out.cost.energy - over.cost.energy)


def crossings(
    graph: Graph, hardware: Hardware, nodes: Sequence[Node], units: Mapping[str, str]
) -> Iterator[Price]:
    """What it takes to carry values between nodes that run on different groups of digital units.

    Args:
        graph: With the nodes.
        hardware: The machine.
        nodes: In an order in which each reads only what earlier ones made.
        units: The group of each node, by name.
    """
    if len(set(units.values())) == 1:
        return
    homes = homes_of(graph, nodes, units)
    seen: set[tuple[str, str]] = set()
    for node in nodes:
        here = homes.get(next(filter(None, node.outputs), ""), units[node.name])
        for value in dict.fromkeys(captured(node)):
            if homes.get(value, here) != here and (value, here) not in seen:
                seen.add((value, here))
                yield carried(graph, hardware, value, (homes[value], here)).price


def digital_price(graph: Graph, hardware: Hardware, nodes: Sequence[Node], units: Mapping[str, str]) -> Price:
    """Of nodes one after the other on digital units, with what crosses between groups of these.

    Args:
        graph: With the nodes.
        hardware: The machine.
        nodes: In graph order.
        units: The group of digital units of each, by name.
    """
    seconds, joules = 0.0, 0.0
    busy: dict[str, float] = defaultdict(float)
    for node in nodes:
        group = hardware.digital_group(units[node.name])
        cost = digital_cost(hardware, group, work_of(graph, node))
        together = group.count if group.place == "core" else 1
        seconds, joules = seconds + cost.seconds / together, joules + cost.cost.energy
        busy[group.name] += cost.seconds / group.count
    for crossing in crossings(graph, hardware, nodes, units):
        seconds, joules = seconds + crossing.seconds, joules + crossing.joules
        for unit, carrying_s in crossing.busy.items():
            busy[unit] += carrying_s
    return Price(seconds, joules, busy=dict(busy))
