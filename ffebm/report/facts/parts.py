"""Parts: a report's model as few boxes in an order of inference, with what each reads from which."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ffebm.plan.schedule import Cost
from ffebm.report.facts.facts import Facts, NodeFacts
from ffebm.report.sorting import sorted_behind

FEW = 24
"""Parts that are shown one by one; a model of more is folded into its sections."""


@dataclass(frozen=True)
class PlanPart:
    """An energy block, a digital segment, or a section of several.

    Attributes:
        kind: Which of them.
        name: What it is called: block0, segment3, section1.
        title: Of a section, the modules or nodes that it spans.
        nodes: Its nodes, in order.
        sources: Names of the parts and model inputs ("input x") that it reads, in order.
        tiles: Tiles that hold its weights.
        seconds: Lengths of the steps of an inference that are done for it, together.
        cost: What they cost.
        blocks: Ids of its energy blocks.
    """

    kind: Literal["block", "segment", "section"]
    name: str
    title: str
    nodes: tuple[NodeFacts, ...]
    sources: tuple[str, ...]
    tiles: tuple[int, ...]
    seconds: float
    cost: Cost
    blocks: tuple[int, ...]


def parts(facts: Facts, *, whole: bool) -> tuple[PlanPart, ...]:
    """The parts of a model.

    Args:
        facts: The report.
        whole: Blocks and segments one by one, however many there are.
    """
    homes = [_home(node) for node in facts.nodes]
    if not whole and len(set(homes)) > FEW:
        sections = _sections(facts)
        homes = [sections.get(index, home) for index, home in enumerate(homes)]
    members: dict[str, list[NodeFacts]] = {}
    for home, node in zip(homes, facts.nodes, strict=True):
        members.setdefault(home, []).append(node)
    makers = {port.name: f"input {port.name}" for port in facts.inputs}
    places = {name: place for place, name in enumerate(makers.values())}
    makers.update(
        (value, home) for home, nodes in members.items() for node in nodes for value in node.outputs if value
    )
    read = {home: _reads(home, nodes, makers) for home, nodes in members.items()}
    order = _ordered(read)
    places |= {name: len(places) + place for place, name in enumerate(order)}
    return tuple(
        _part(facts, home, members[home], sorted(read[home], key=places.__getitem__)) for home in order
    )


def sources_of_outputs(facts: Facts, found: Iterable[PlanPart]) -> dict[str, str]:
    """The part, or model input, that makes each of the model's outputs."""
    makers = {value: part.name for part in found for node in part.nodes for value in node.outputs}
    return {port.name: makers.get(port.name, f"input {port.name}") for port in facts.outputs}


def ops(nodes: Iterable[NodeFacts]) -> str:
    """Their ops with how often each occurs."""
    counts = Counter(node.op for node in nodes)
    return ", ".join(f"{op}×{count}" if count > 1 else op for op, count in counts.items())


def _home(node: NodeFacts) -> str:
    return f"block{node.block}" if node.block is not None else f"segment{node.segment}"


def _sections(facts: Facts) -> dict[int, str]:
    """For nodes in the outermost sections of the page's tree, the section."""
    return {
        node: f"section{number}" for number, frame in _titles(facts).items() for node in _inside(facts, frame)
    }


def _titles(facts: Facts) -> dict[int, int]:
    """The outermost sections, numbered, as ids of their frames."""
    sections = [frame for frame in facts.frames[0].frames if facts.frames[frame].kind == "section"]
    return dict(enumerate(sections))


def _inside(facts: Facts, number: int) -> Iterator[int]:
    frame = facts.frames[number]
    yield from frame.nodes
    for inner in frame.frames:
        yield from _inside(facts, inner)


def _ordered(read: dict[str, set[str]]) -> list[str]:
    """The parts so that none reads a later one, else in the order of their first nodes."""
    first = {home: place for place, home in enumerate(read)}
    return sorted_behind({home: read[home] & read.keys() for home in read}, first.__getitem__)


def _reads(home: str, nodes: list[NodeFacts], makers: dict[str, str]) -> set[str]:
    read = {makers[value] for node in nodes for value in node.reads if value in makers}
    return read - {home}


def _part(facts: Facts, name: str, nodes: list[NodeFacts], sources: list[str]) -> PlanPart:
    homes = {_home(node) for node in nodes}
    rows = [row for row in facts.inference_bill.parts if row.name in homes]
    kind: Literal["block", "segment", "section"] = "section"
    title = ""
    if name in homes:
        kind = "block" if nodes[0].block is not None else "segment"
    else:
        title = facts.frames[_titles(facts)[int(name.removeprefix("section"))]].name
    return PlanPart(
        kind=kind,
        name=name,
        title=title,
        nodes=tuple(nodes),
        sources=tuple(sources),
        tiles=tuple(sorted({tile for node in nodes for tile in node.tiles})),
        seconds=sum(row.seconds for row in rows),
        cost=sum((row.cost for row in rows), Cost()),
        blocks=tuple(sorted({node.block for node in nodes if node.block is not None})),
    )
