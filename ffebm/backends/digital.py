"""Digital backend: digital nodes become programs, one a segment between energy blocks.

A node belongs to the segment of the last block that it depends on, so blocks and segments alternate in one
order and no segment waits for itself.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.tensor import Array
from ffebm.plan.program import Instruction, Number, Program, Segment


def emit_segments(graph: Graph) -> tuple[tuple[Segment, ...], dict[str, int], dict[str, Array]]:
    """The digital programs.

    Args:
        graph: A partitioned graph.

    Returns:
        The segments; the segment of each digital node by its name; and tensors that attributes hold, by the
        name under which the instructions refer to them.
    """
    tensors: dict[str, Array] = {}
    segments: list[Segment] = []
    of_node: dict[str, int] = {}
    groups = _segments(graph)
    for number, nodes in enumerate(groups):
        of_node.update((node.name, number) for node in nodes)
    readers = graph.consumers()
    for number, nodes in enumerate(groups):
        made = {value for node in nodes for value in node.outputs}
        read = dict.fromkeys(v for n in nodes for v in captured(n) if v not in made)
        program = Program(
            inputs=tuple(v for v in read if v not in graph.constants),
            outputs=tuple(
                v
                for n in nodes
                for v in n.outputs
                if v in graph.outputs or any(of_node.get(r.name) != number for r in readers.get(v, []))
            ),
            instructions=tuple(instruction_of(node, tensors) for node in nodes),
        )
        segments.append(Segment(id=number, program=program))
    return tuple(segments), of_node, tensors


def _segments(graph: Graph) -> list[list[Node]]:
    """Digital nodes that hang together and depend on the same last block."""
    latest: dict[str, int] = {}
    depth: dict[str, int] = {}
    for node in graph.nodes:
        index = max((latest.get(v, -1) for v in captured(node)), default=-1)
        if node.block is None:
            depth[node.name] = index
        else:
            index = node.block
        latest.update((value, index) for value in node.outputs if value)
    maker = graph.producers()
    beside: dict[str, list[str]] = {name: [] for name in depth}
    for node in graph.nodes:
        for value in captured(node) if node.block is None else []:
            before = maker.get(value)
            if before is not None and before.block is None and depth[before.name] == depth[node.name]:
                beside[node.name].append(before.name)
                beside[before.name].append(node.name)
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    groups = [sorted(group, key=position.__getitem__) for group in _connected(beside)]
    groups.sort(key=lambda group: (depth[group[0]], position[group[0]]))
    return [[graph.nodes[position[name]] for name in group] for group in groups]


def _connected(beside: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Groups of names that hang together; networkx would do it, and takes longer to import than to run."""
    left = dict.fromkeys(beside)
    while left:
        group = [left.popitem()[0]]
        for name in group:  # which grows meanwhile
            group += [other for other in dict.fromkeys(beside[name]) if other in left]
            for other in beside[name]:
                left.pop(other, None)
        yield group


def instruction_of(
    node: Node, tensors: dict[str, Array], renamed: Mapping[str, str] | None = None
) -> Instruction:
    """A node as an instruction.

    Args:
        node: The node.
        tensors: Takes the tensors of its attributes, by the names under which the instruction refers to them.
        renamed: Constants of subgraphs, by their names in it.
    """
    attrs: dict[str, Number | tuple[Number, ...]] = {}
    held: dict[str, str] = {}
    graphs: dict[str, Program] = {}
    for key, value in sorted(node.attrs.items()):
        if isinstance(value, Graph):
            graphs[key] = _subprogram(value, node.name, tensors, renamed or {})
        elif isinstance(value, np.ndarray) or not _finite(value):
            name = f"{node.name}.{key}"
            tensors[name] = np.asarray(value, None if isinstance(value, np.ndarray) else np.float32)
            held[key] = name
        else:
            attrs[key] = value
    return Instruction(
        op=node.op,
        name=node.name,
        inputs=tuple(node.inputs),
        outputs=tuple(node.outputs),
        attrs=attrs,
        tensors=held,
        graphs=graphs,
    )


def _finite(value: object) -> bool:
    """JSON has no infinity and no NaN."""
    numbers = value if isinstance(value, tuple) else (value,)
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


def _subprogram(graph: Graph, prefix: str, tensors: dict[str, Array], outside: Mapping[str, str]) -> Program:
    """A subgraph; its constants join the plan's tensors under names of their own."""
    own = {name: f"{prefix}.{name}" for name in graph.constants}
    tensors.update((own[name], array) for name, array in graph.constants.items())
    renamed = {**outside, **own}
    instructions = []
    for node in graph.nodes:
        plain = Node(node.op, f"{prefix}.{node.name}", node.inputs, node.outputs, node.attrs, node.location)
        plain.inputs = [renamed.get(value, value) for value in node.inputs]
        instructions.append(instruction_of(plain, tensors, renamed))
    outputs = tuple(renamed.get(value, value) for value in graph.outputs)
    return Program(inputs=tuple(graph.inputs), outputs=outputs, instructions=tuple(instructions))
