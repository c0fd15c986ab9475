"""What digital units have to do at least, found before tasks are listed, which takes ten times as long."""

from collections import defaultdict

from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.mapping.digital_cost import digital_cost, work_of


def digital_seconds(graph: Graph, hardware: Hardware) -> float:
    """Seconds that the busiest digital unit works in an inference at least, however its nodes are cut.

    Bands of a node, and nodes that are done in one step, add up to what the nodes take. Units of a group
    share the work out, so one of them has its share of it or more.

    Args:
        graph: A placed graph.
        hardware: The machine.
    """
    seconds: dict[str, float] = defaultdict(float)
    for node in graph.nodes:
        if node.block is None:
            group = hardware.digital_group(node.group)
            seconds[group.name] += digital_cost(hardware, group, work_of(graph, node)).seconds
    return max((total / len(hardware.unit_numbers(name)) for name, total in seconds.items()), default=0.0)
