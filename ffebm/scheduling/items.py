"""What a schedule treats as one: digital nodes that are done in one step, mostly one, or a whole block."""

from dataclasses import dataclass, replace

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, captured


@dataclass
class ScheduledItem:
    """Digital nodes, mostly one, or a whole block.

    Attributes:
        nodes: Digital nodes, each but the last read by later ones alone; or the nodes of a block.
        block: The block; None for digital nodes.
        reads: Values that it reads, constants left out.
        makes: Values that it makes.
        position: Among the items.
    """

    nodes: list[Node]
    block: EnergyBlock | None
    reads: list[str]
    makes: list[str]
    position: int = -1

    @property
    def name(self) -> str:
        """Of the block, or of the last node: what steps are named for."""
        return self.nodes[-1].name if self.block is None else self.block.name


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
