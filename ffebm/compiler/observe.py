"""Runs passes and notes what each has changed and how long it took."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ffebm.compiler.driver import run_passes
from ffebm.compiler.own_passes import Pass
from ffebm.graph.graph import Graph, node_lines
from ffebm.hardware.description import Hardware


@dataclass(frozen=True)
class Observed:
    """One pass as it ran.

    Attributes:
        name: Of the pass.
        seconds: Processor time, with the checks that follow it.
        added: Nodes that are new, by name.
        removed: Nodes that are gone.
        changed: Nodes that stayed and look different: operands, attributes, types, unit, block or reason.
        constants: Constants more than before; negative if there are fewer.
        blocks: Energy blocks afterwards.
        parts: Parts of weights afterwards.
    """

    name: str
    seconds: float
    added: int
    removed: int
    changed: int
    constants: int
    blocks: int
    parts: int


def observe(
    graph: Graph,
    hardware: Hardware,
    passes: tuple[Pass, ...],
    progress: Callable[[str, Graph], None] | None = None,
) -> list[Observed]:
    """Run passes on a graph, in place.

    Args:
        graph: What they rewrite.
        hardware: The machine that they compile for.
        passes: In order.
        progress: Called with a pass's name and the graph after it.

    Raises:
        FfebmError: As the passes do.
    """
    found = []
    for step in passes:
        before, constants = _nodes(graph), len(graph.constants)
        start = time.process_time()
        run_passes(graph, hardware, (step,), None)
        seconds = time.process_time() - start
        after = _nodes(graph)

        found.append(
            Observed(
                name=step.name,
                seconds=seconds,
                added=len(after.keys() - before.keys()),
                removed=len(before.keys() - after.keys()),
                changed=sum(before[name] != after[name] for name in before.keys() & after.keys()),
                constants=len(graph.constants) - constants,
                blocks=len(graph.blocks),
                parts=sum(map(len, graph.parts.values())),
            )
        )
        if progress is not None:
            progress(step.name, graph)
    return found


def _nodes(graph: Graph) -> dict[str, list[str]]:
    return {node.name: list(node_lines(node, graph)) for node in graph.nodes}
