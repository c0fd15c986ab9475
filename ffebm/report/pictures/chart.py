"""Line charts as self-contained SVG."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ffebm.visible import visible

WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 220, 62, 34, 26
"""Of a plot, left and above it, and between two; in pixels."""
BELOW, LINE = 44, 18
"""Room for the labels of the horizontal axis; height of a line of the legend; in pixels."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d00", "#000000")
"""Told apart by colour-blind readers too. Source: Okabe & Ito 2002, yellow darkened."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")
STYLE = """
  text { font-family: system-ui, sans-serif; font-size: 12px; fill: #1b1f24; }
  .title { font-size: 15px; font-weight: 600; }
  .name { font-weight: 600; }
  .grid { stroke: #d8dbdf; }
  .frame { stroke: #7a7a72; fill: none; }
  .curve { fill: none; stroke-width: 2; }
  .spread { stroke-width: 1.5; }
"""


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: In the legend; curves of one name look the same in all charts.
        points: (x, y), in any order.
        spreads: Half the length of the bar at each point; empty draws none.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    spreads: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over common axes; values of x stand side by side at equal distances.

    Attributes:
        title: Above the plot.
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        curves: What is drawn.
        low: Lower end of the vertical axis; what lies below is drawn at the end.
        high: Upper end.
    """

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    low: float
    high: float


def draw(title: str, charts: Sequence[Chart], columns: int = 2) -> str:
    """Charts side by side under one title, with one legend, as SVG."""
    names = list(dict.fromkeys(curve.name for chart in charts for curve in chart.curves))
    looks = {name: _look(number) for number, name in enumerate(names)}
    across = min(columns, len(charts)) or 1
    width = across * (LEFT + WIDTH) + GAP
    parts: list[str] = []
    for number, chart in enumerate(charts):
        left = LEFT + (number % across) * (LEFT + WIDTH)
        top = TOP + 30 + (number // across) * (TOP + HEIGHT + BELOW)
        parts.extend(_plot(chart, looks, left, top))
    top = TOP + 10 + -(-len(charts) // across) * (TOP + HEIGHT + BELOW)
    legend = list(_legend(names, looks, width, top))
    height = top + LINE * (1 + len(names) // max(1, width // 200)) + GAP
    body = "\n".join([*parts, *legend])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{_safe(title)}">\n<style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text class="title" x="{GAP}" y="26">{_safe(title)}</text>\n{body}\n</svg>\n'
    )


def _look(number: int) -> str:
    """Colour and dashes of the curve of that number."""
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return f'stroke="{COLOURS[number % len(COLOURS)]}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _plot(chart: Chart, looks: dict[str, str], left: int, top: int) -> Iterator[str]:
    levels = sorted({x for curve in chart.curves for x, _ in curve.points})
    step = WIDTH / max(1, len(levels))
    places = {x: left + (index + 0.5) * step for index, x in enumerate(levels)}

    def height(y: float) -> float:
        share = (min(max(y, chart.low), chart.high) - chart.low) / (chart.high - chart.low)
        return top + HEIGHT * (1 - share)

    yield f'<text class="name" x="{left}" y="{top - 10}">{_safe(chart.title)}</text>'
    for tick in range(6):
        value = chart.low + (chart.high - chart.low) * tick / 5
        y = height(value)
        yield f'<path class="grid" d="M{left} {y:.1f}h{WIDTH}"/>'
        yield f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
    for x, place in places.items():
        yield f'<text x="{place:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{x:g}</text>'
    yield f'<rect class="frame" x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}"/>'
    middle = left + WIDTH // 2
    yield f'<text x="{middle}" y="{top + HEIGHT + 34}" text-anchor="middle">{_safe(chart.x)}</text>'
    at = f"{left - 46} {top + HEIGHT // 2}"
    yield f'<text transform="translate({at}) rotate(-90)" text-anchor="middle">{_safe(chart.y)}</text>'
    for curve in chart.curves:
        look = looks[curve.name]
        drawn = sorted(curve.points)
        line = "L".join(f"{places[x]:.1f} {height(y):.1f}" for x, y in drawn)
        yield f'<path class="curve" {look} d="M{line}"/>'
        for x, y in drawn:
            yield f'<circle class="curve" {look} cx="{places[x]:.1f}" cy="{height(y):.1f}" r="2.5"/>'
        for (x, y), spread in zip(curve.points, curve.spreads, strict=False):
            bar = f"M{places[x]:.1f} {height(y - spread):.1f}V{height(y + spread):.1f}"
            yield f'<path class="spread" {look} d="{bar}"/>'


def _legend(names: Sequence[str], looks: dict[str, str], width: int, top: int) -> Iterator[str]:
    across = max(1, width // 200)
    for number, name in enumerate(names):
        left = GAP + (number % across) * 200
        y = top + LINE * (number // across)
        yield f'<path class="curve" {looks[name]} d="M{left} {y}h28"/>'
        text = name if len(name) <= 24 else name[:23] + "…"
        yield f'<text x="{left + 36}" y="{y + 4}">{_safe(text)}</text>'


def _safe(text: str) -> str:
    """Text as XML that shows it as it is: control characters are not allowed there."""
    return escape(visible(text))
