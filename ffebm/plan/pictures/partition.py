"""A picture of a partition: the flow of an inference from left to right, digital parts and energy blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from ffebm.graph.energy_block import EnergyBlock
from ffebm.plan.schema import PlanData
from ffebm.plan.summary import engineering, share
from ffebm.visible import visible

WIDTH, LINE, GAP, TOP = 178, 17, 34, 64
"""Of a box, of a line of text, between boxes, and above boxes; in pixels."""
COLUMNS = 5
"""Boxes in a row."""
STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 12px; fill: #1b1f24; }
  .title { font-size: 15px; font-weight: 600; }
  .name { font-weight: 600; }
  .tile { fill: #d7ebff; stroke: #2470b3; stroke-width: 2; }
  .digital { fill: #f3f3f0; stroke: #7a7a72; stroke-width: 1.5; stroke-dasharray: 5 3; }
  .port { fill: #ffffff; stroke: #7a7a72; }
  .flow { stroke: #55606b; stroke-width: 1.5; fill: none; marker-end: url(#arrow); }
"""


@dataclass(frozen=True)
class _Box:
    """A box: how it is drawn, its name, and lines of text."""

    kind: str
    name: str
    lines: tuple[str, ...]

    @property
    def height(self) -> int:
        return 30 + LINE * len(self.lines)


def picture(plan: PlanData) -> str:
    """A plan's partition as a self-contained SVG.

    Solid boxes are energy blocks on tiles, dashed ones run digitally, so it reads without colour too.
    """
    boxes = list(_boxes(plan))
    rows = [boxes[start : start + COLUMNS] for start in range(0, len(boxes), COLUMNS)]
    width = GAP + min(COLUMNS, len(boxes)) * (WIDTH + GAP)
    parts: list[str] = []
    top = TOP
    ends: list[tuple[int, int]] = []
    for row in rows:
        tallest = max(box.height for box in row)
        for column, box in enumerate(row):
            left = GAP + column * (WIDTH + GAP)
            parts.extend(_drawn(box, left, top))
            ends.append((left, top + 20))
        top += tallest + GAP
    flows = [_flow(before, after) for before, after in pairwise(ends)]
    body = "\n".join([*flows, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
        f'role="img" aria-label="{_safe(_title(plan))}">\n<style>{STYLE}</style>\n'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#55606b"/></marker></defs>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text class="title" x="{GAP}" y="30">{_safe(_title(plan))}</text>\n'
        f'<text x="{GAP}" y="48">{_safe(_subtitle(plan))}</text>\n{body}\n</svg>\n'
    )


def _title(plan: PlanData) -> str:
    return f"{plan.source.name} on {plan.hardware.name}: {len(plan.blocks)} energy blocks"


def _subtitle(plan: PlanData) -> str:
    macs = sum(node.macs for node in plan.nodes)
    analog = sum(node.macs for node in plan.nodes if node.unit == "tile")
    inference = plan.inference
    return (
        f"{share(analog, macs)} of multiply-accumulates on {len(plan.tiles)} tiles; one inference "
        f"{engineering(inference.makespan_s, 's')}, {engineering(inference.cost.energy, 'J')}. "
        "Solid: analog tiles. Dashed: digital."
    )


def _boxes(plan: PlanData) -> Iterator[_Box]:
    ops = {node.name: node.op for node in plan.nodes}
    blocks: dict[int | None, EnergyBlock] = {block.id: block for block in plan.blocks}
    yield _Box("port", "input", tuple(f"{port.name} {port.type}" for port in plan.inputs))
    digital: list[str] = []
    for step in plan.inference.runs:
        if step.kind == "digital":
            digital.append(ops[step.name])
        else:
            yield from _digital_box(digital)
            digital = []
            lines = [
                f"{layer.value}: {layer.activation.op} {'x'.join(map(str, layer.shape))}"
                for layer in blocks[step.block].layers
            ]
            tiles = f"{', '.join(step.units[:3])}{' …' if len(step.units) > 3 else ''}"
            yield _Box("tile", f"{step.name} on {tiles}", tuple(lines))
    yield from _digital_box(digital)
    yield _Box("port", "output", tuple(f"{port.name} {port.type}" for port in plan.outputs))


def _digital_box(ops: list[str]) -> Iterator[_Box]:
    if ops:
        more = (f"and {len(ops) - 4} more",) if len(ops) > 4 else ()
        yield _Box("digital", "digital", (*ops[:4], *more))


def _drawn(box: _Box, left: int, top: int) -> Iterator[str]:
    radius = 10 if box.kind == "tile" else 2
    yield (
        f'<rect class="{box.kind}" x="{left}" y="{top}" width="{WIDTH}" height="{box.height}" rx="{radius}"/>'
    )
    yield f'<text class="name" x="{left + 10}" y="{top + 20}">{_short(box.name)}</text>'
    for number, line in enumerate(box.lines):
        y = top + 20 + LINE * (number + 1)
        yield f'<text x="{left + 10}" y="{y}">{_short(line)}</text>'


def _short(text: str) -> str:
    """As much as fits a box, safe to write."""
    shown = visible(text)
    return escape(shown if len(shown) <= 27 else shown[:26] + "…")


def _safe(text: str) -> str:
    """Text as XML that shows it as it is: control characters are not allowed there."""
    return escape(visible(text))


def _flow(before: tuple[int, int], after: tuple[int, int]) -> str:
    (x0, y0), (x1, y1) = before, after
    start = x0 + WIDTH
    if y0 == y1:
        return f'<path class="flow" d="M{start} {y0} L{x1} {y1}"/>'
    middle = y1 - 20 - GAP // 2
    return f'<path class="flow" d="M{start} {y0} h{GAP // 2} V{middle} H{x1 - GAP // 2} V{y1} H{x1}"/>'
