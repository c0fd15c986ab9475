"""Values that cross between groups of digital units: where each one lies, and what it takes to carry it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.work import elements
from ffebm.hardware.description import Hardware
from ffebm.mapping.digital_cost import carrying, transfer_cost, work_of
from ffebm.mapping.solver.price import Price


def digital_homes(graph: Graph, hardware: Hardware) -> dict[str, str]:
    """The digital group of each value that a digital unit makes, by name; of any node, were it digital.

    A view lies where its source does. Values of ops that no unit runs are left out.
    """
    homes: dict[str, str] = {}
    for node in graph.nodes:
        units = hardware.units_for(node.op)
        if units is None:
            continue
        read = [value for value in dict.fromkeys(captured(node)) if value not in graph.constants]
        home = units.name
        if len(read) == 1 and not work_of(graph, node).moved:
            home = homes.get(read[0], home)
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


def crossings(graph: Graph, hardware: Hardware, nodes: Sequence[Node]) -> Iterator[Price]:
    """What it takes to carry values between nodes that run on different groups of digital units."""
    homes = {value: group for node in nodes for value, group in _made(hardware, node)}
    seen: set[tuple[str, str]] = set()
    for node in nodes:
        units = hardware.units_for(node.op)
        for value in dict.fromkeys(captured(node)):
            if units is None or homes.get(value, units.name) == units.name or (value, units.name) in seen:
                continue
            seen.add((value, units.name))
            yield carried(graph, hardware, value, (homes[value], units.name)).price


def _made(hardware: Hardware, node: Node) -> Iterator[tuple[str, str]]:
    units = hardware.units_for(node.op)
    if units is not None:
        yield from ((value, units.name) for value in node.outputs if value)
