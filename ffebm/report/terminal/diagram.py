"""Diagram: a model's parts as boxes, one below the other, with what flows into each."""

from collections.abc import Iterator

from rich.box import ASCII, ROUNDED, Box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from ffebm.plan.schema import Port
from ffebm.report.facts.facts import Facts, NodeFacts
from ffebm.report.facts.parts import FEW, PlanPart, ops, parts, sources_of_outputs
from ffebm.report.terminal.marks import Marks
from ffebm.report.units import ranges
from ffebm.visible import visible

DASHED = Box("┌╌╌┐\n╎  ╎\n├╌╌┤\n╎  ╎\n├╌╌┤\n├╌╌┤\n╎  ╎\n└╌╌┘\n")
"""Around what is digital, in a terminal."""
DOTTED = Box("....\n:  :\n:..:\n:  :\n:..:\n:..:\n:  :\n....\n", ascii=True)
"""The same in plain characters."""
INDENT = 2


def diagram(facts: Facts, console: Console, *, whole: bool) -> Iterator[RenderableType]:
    """The model from its inputs to its outputs; blocks in whole lines, digital parts in broken ones.

    Args:
        facts: The report.
        console: Where it is shown: boxes are drawn with plain characters if that is no terminal.
        whole: Blocks and segments one by one, however many there are.
    """
    found = parts(facts, whole=whole)
    marks = Marks(facts)
    texts = [_lines(part, facts, marks) for part in found]
    # boxes of one width: that of the longest line, if the terminal has the room
    longest = max((cell_len(line) for lines in texts for line in lines), default=0)
    width = min(longest + 4, console.width - INDENT)
    for port in facts.inputs:
        yield _port("input", port, facts)
    before = {f"input {port.name}" for port in facts.inputs}
    for part, lines in zip(found, texts, strict=True):
        yield _arrow(part.sources, before, console.is_terminal)
        yield Padding(_box(part, lines, width, console.is_terminal), (0, 0, 0, INDENT), expand=False)
        before = {part.name}
    makers = sources_of_outputs(facts, found)
    yield _arrow(tuple(before & {*makers.values()}), before, console.is_terminal)
    for port in facts.outputs:
        yield _port("output", port, facts, f", from {makers[port.name]}")
    if any(part.kind == "section" for part in found):
        yield Text(f"more than {FEW} parts: folded into sections; --all unfolds them")


def _port(kind: str, port: Port, facts: Facts, tail: str = "") -> Padding:
    known = facts.types.get(port.name, str(port.type))
    text = Text(visible(f"{kind} {port.name}: {known}{tail}"), overflow="fold")
    return Padding(text, (0, 0, 0, INDENT))


def _arrow(sources: tuple[str, ...], before: set[str], terminal: bool) -> RenderableType:
    """A line down from what stands above, if it is read; what comes from elsewhere is named."""
    above = before & {*sources}
    words = ""
    if not above:
        words = f"from {', '.join(sources)}" if sources else "from constants alone"
    elif above != before:
        words = f"from {', '.join(sources)}"
    elif len(sources) > len(above):
        words = f"also from {', '.join(source for source in sources if source not in above)}"
    line = ("│" if terminal else "|") if above else " "
    text = Text.assemble(line, (f" {visible(words)}" if words else "", "dim"), overflow="fold")
    return Padding(text, (0, 0, 0, INDENT + 2))


def _box(part: PlanPart, lines: list[str], width: int, terminal: bool) -> Panel:
    if part.kind == "segment":
        box, style = (DASHED if terminal else DOTTED), "yellow"
    else:
        box, style = (ROUNDED if terminal else ASCII), "cyan"
    text = Text("\n".join(lines), overflow="fold")
    title = Text(part.name)  # a plain string may hold markup, for which all emoji are loaded
    return Panel(
        text, box=box, title=title, title_align="left", width=width, border_style=style, padding=(0, 1)
    )


def _lines(part: PlanPart, facts: Facts, marks: Marks) -> list[str]:
    """What stands in a box."""
    where = "digital"
    if part.tiles:
        where = f"{'tile' if len(part.tiles) == 1 else 'tiles'} {ranges(part.tiles)}"
    busy = marks.seconds(part.seconds, facts.inference.kinds)
    head = f"{where}; {busy}, {marks.joules(part.cost)} an inference"
    if part.kind == "block":
        return [head, *(visible(layer) for layer in facts.blocks[part.blocks[0]].layers)]
    if part.kind == "segment":
        return [head, *_digital(part.nodes)]
    digital = sum(node.unit == "digital" for node in part.nodes)
    blocks = f"{len(part.blocks)} blocks" if len(part.blocks) != 1 else "1 block"
    return [head, visible(part.title), f"{blocks}, {digital} digital nodes", ops(part.nodes)]


def _digital(nodes: tuple[NodeFacts, ...]) -> Iterator[str]:
    """A few nodes by name, many by op."""
    if len(nodes) > 6:
        yield visible(ops(nodes))
        return
    for node in nodes:
        shape = "" if node.shape is None else f" [{'×'.join(map(str, node.shape))}]"
        yield visible(f"{node.name} = {node.op}{shape}")
