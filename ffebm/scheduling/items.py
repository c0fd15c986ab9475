"""What a schedule treats as one: a digital node, or a whole energy block."""

from dataclasses import dataclass, replace

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, captured


@dataclass
class ScheduledItem:
    """A node or a whole block.

    Attributes:
        nodes: A digital node, or the nodes of a block.
        block: The block; None for a node.
        reads: Values that it reads, constants left out.
        makes: Values that it makes.
        position: Among the items.
    """

    nodes: list[Node]
    block: EnergyBlock | None
    reads: list[str]
    makes: list[str]
    position: int = -1


def items_of(graph: Graph) -> list[ScheduledItem]:
    """Digital nodes and whole blocks in an order that respects what each reads."""
    items: list[ScheduledItem] = []
    blocks: dict[int, ScheduledItem] = {}
    for node in graph.nodes:
        if node.block is None:
            fed = [v for v in dict.fromkeys(captured(node)) if v not in graph.constants]
            items.append(ScheduledItem([node], None, fed, [o for o in node.outputs if o]))
        elif node.block not in blocks:
            block = graph.blocks[node.block]
            item = ScheduledItem([node], block, list(block.inputs), list(block.outputs))
            blocks[node.block] = item
            items.append(item)
        else:
            blocks[node.block].nodes.append(node)
    return [replace(item, position=n) for n, item in enumerate(_in_order(items))]


def _in_order(items: list[ScheduledItem]) -> list[ScheduledItem]:
    """Topological order; a block stands where its last input is made, which may be behind its first node."""
    maker = {value: index for index, item in enumerate(items) for value in item.makes}
    order: list[ScheduledItem] = []
    done: set[int] = set()
    for start in range(len(items)):
        stack = [start]
        while stack:
            index = stack[-1]
            missing = [maker[v] for v in items[index].reads if v in maker and maker[v] not in done]
            if index in done or not missing:
                stack.pop()
                if index not in done:
                    done.add(index)
                    order.append(items[index])
            else:
                stack.extend(missing)
    return order
