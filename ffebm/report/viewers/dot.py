"""The graph in Graphviz's DOT: energy blocks as clusters, units by colour and by shape."""

from collections.abc import Iterator

from ffebm.plan.plan import Plan
from ffebm.plan.schema import PlanNode
from ffebm.report.units import ranges
from ffebm.report.viewers.relations import captured, tiles_of_weights
from ffebm.visible import visible

WIDTH, LINES = 32, 3
"""Characters in a line of a label, and lines that one name may take; the tooltip has the rest."""
STYLES = {
    "tile": 'shape=box, style="filled,rounded", fillcolor="#d7ebff", color="#2470b3"',
    "digital": 'shape=hexagon, style="filled,dashed", fillcolor="#f3f3f0", color="#7a7a72"',
    "port": 'shape=oval, style=solid, color="#7a7a72"',
}
"""How nodes of each unit are drawn; they differ without colour too."""


def dot(plan: Plan) -> str:
    """A plan's graph; `dot -Tsvg` draws it."""
    return "\n".join(_lines(plan)) + "\n"


def quoted(text: str) -> str:
    """A DOT string that shows the text as it is, whatever it holds."""
    shown = visible(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{shown}"'


def _lines(plan: Plan) -> Iterator[str]:
    ids = {node.name: f"n{number}" for number, node in enumerate(plan.nodes)}
    yield f"digraph {quoted(plan.source.name)} {{"
    yield f"  label={quoted(f'{plan.source.name} for {plan.hardware.name}')};"
    yield '  labelloc=t; fontname="sans-serif"; rankdir=TB;'
    yield '  node [fontname="sans-serif", fontsize=11]; edge [fontname="sans-serif", fontsize=9];'
    for number, port in enumerate(plan.inputs):
        yield f"  in{number} [{STYLES['port']}, label={_label('input', port.name, str(port.type))}];"
    yield from _clusters(plan, ids)
    yield from (f"  {_node(node, ids)}" for node in plan.nodes if node.block is None)
    for number, port in enumerate(plan.outputs):
        yield f"  out{number} [{STYLES['port']}, label={_label('output', port.name, str(port.type))}];"
    yield from _edges(plan, ids)
    yield "}"


def _clusters(plan: Plan, ids: dict[str, str]) -> Iterator[str]:
    held = tiles_of_weights(plan)
    inside: dict[int, list[PlanNode]] = {}
    for node in plan.nodes:
        if node.block is not None:
            inside.setdefault(node.block, []).append(node)
    for block in plan.blocks:
        tiles = sorted({tile for weight in block.weights() for tile in held.get(weight, ())})
        place = f"{block.name}, tiles {ranges(tiles)}"
        yield f"  subgraph cluster_{block.name} {{"
        yield f'    label={quoted(place)}; style="rounded,filled"; color="#2470b3"; fillcolor="#eef6ff";'
        yield from (f"    {_node(node, ids)}" for node in inside.get(block.id, ()))
        yield "  }"


def _node(node: PlanNode, ids: dict[str, str]) -> str:
    shape = "x".join(map(str, node.shape)) if node.shape is not None else "?"
    about = f"{node.name}: {node.unit}, {node.reason}"
    label = _label(node.op, node.name, shape)
    return f"{ids[node.name]} [{STYLES[node.unit]}, label={label}, tooltip={quoted(about)}];"


def _label(title: str, name: str, last: str) -> str:
    """Lines of a label; a long name is cut where the tooltip goes on."""
    text = visible(name)
    parts = [text[start : start + WIDTH] for start in range(0, len(text), WIDTH)]
    if len(parts) > LINES:
        parts = [*parts[: LINES - 1], parts[LINES - 1][: WIDTH - 1] + "…"]
    lines = [title, *parts, last]
    return '"' + "\\n".join(quoted(line)[1:-1] for line in lines) + '"'


def _edges(plan: Plan, ids: dict[str, str]) -> Iterator[str]:
    makers = {port.name: f"in{number}" for number, port in enumerate(plan.inputs)}
    makers |= {value: ids[node.name] for node in plan.nodes for value in node.outputs if value}
    digital = {i.name: i for segment in plan.segments for i in segment.program.instructions}
    for node in plan.nodes:
        inner = captured(digital[node.name]) if node.name in digital else ()
        for value in dict.fromkeys((*node.inputs, *inner)):
            if value in makers:
                yield f"  {makers[value]} -> {ids[node.name]} [tooltip={quoted(value)}];"
    for number, port in enumerate(plan.outputs):
        if port.name in makers:
            yield f"  {makers[port.name]} -> out{number} [tooltip={quoted(port.name)}];"
