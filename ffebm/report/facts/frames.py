"""Frames: a model's nodes as a tree of parts that a reader folds and unfolds.

Energy blocks and digital segments are the inner frames. A model with many of them gets sections: consecutive
runs in topological order, so that folding any frame never makes a cycle. Cuts prefer places where the module
path in the nodes' names changes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import msgspec

from ffebm.plan.plan import Plan
from ffebm.plan.schema import PlanNode
from ffebm.report.sorting import sorted_behind

MOST = 12
"""Members of a section or run: what fits a screen, and what a layered layout places in milliseconds."""
FEW = 20
"""Blocks and segments that need no sections."""
FrameKind = Literal["model", "section", "block", "segment", "run"]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the model that folds into one box.

    Attributes:
        id: Position among the frames; 0 is the whole model.
        kind: `block` and `segment` are the plan's own; a `section` holds several, a `run` is a piece of one.
        name: What stands on it.
        parent: The frame around it; None for the whole model.
        frames: Frames in it.
        nodes: Nodes that lie directly in it, as positions in the plan's nodes.
        n_nodes: Nodes in it and in the frames inside.
        n_tile: How many of them run on tiles.
        macs: Their multiply-accumulates of one inference.
    """

    id: int
    kind: FrameKind
    name: str
    parent: int | None
    frames: tuple[int, ...]
    nodes: tuple[int, ...]
    n_nodes: int
    n_tile: int
    macs: int


@dataclass(frozen=True)
class _Tree:
    """A frame before it has a number: members are trees or positions of nodes."""

    kind: FrameKind
    name: str
    members: tuple["_Tree | int", ...]


def frames(plan: Plan, reads: Sequence[Sequence[str]]) -> tuple[Frame, ...]:
    """The tree of frames, the whole model first.

    Args:
        plan: The plan.
        reads: For each node, the values that it reads, those of its subgraphs too.
    """
    items = [_item(plan, nodes) for nodes in _ordered(plan, reads)]
    if len(items) > FEW:
        items = _sections(plan, items, "section")
    return tuple(_numbered(plan, _Tree("model", plan.source.name, tuple(items))))


def _ordered(plan: Plan, reads: Sequence[Sequence[str]]) -> list[list[int]]:
    """Positions of the nodes of each block and segment, in an order in which none reads a later one."""
    key = [_key(node) for node in plan.nodes]
    maker = {value: index for index, node in enumerate(plan.nodes) for value in node.outputs if value}
    members: dict[tuple[str, int], list[int]] = {}
    for index in range(len(plan.nodes)):
        members.setdefault(key[index], []).append(index)
    sources: dict[tuple[str, int], set[tuple[str, int]]] = {item: set() for item in members}
    for index, values in enumerate(reads):
        for value in values:
            if value in maker and key[maker[value]] != key[index]:
                sources[key[index]].add(key[maker[value]])
    first = {item: nodes[0] for item, nodes in members.items()}
    return [members[item] for item in sorted_behind(sources, first.__getitem__)]


def _key(node: PlanNode) -> tuple[str, int]:
    return ("segment", node.segment or 0) if node.block is None else ("block", node.block)


def _item(plan: Plan, nodes: list[int]) -> "_Tree | int":
    """A block, a segment, or a lone node, which needs no frame."""
    first = plan.nodes[nodes[0]]
    if len(nodes) == 1:
        return nodes[0]
    if first.block is not None:
        members = _sections(plan, list(nodes), "run") if len(nodes) > FEW else nodes
        return _Tree("block", f"block{first.block}", tuple(members))
    members = _sections(plan, list(nodes), "run") if len(nodes) > FEW else nodes
    return _Tree("segment", f"segment{first.segment}", tuple(members))


def _sections(
    plan: Plan, items: Sequence["_Tree | int"], kind: Literal["section", "run"]
) -> list["_Tree | int"]:
    """Consecutive members as at most `MOST` sections, which are cut again while they are too large."""
    if len(items) <= MOST:
        return list(items)
    paths = [_path(plan, item) for item in items]
    starts = _modules(paths) or [(cut, ()) for cut in _even_cuts(paths, min(MOST, -(-len(items) // MOST)))]
    parts: list[_Tree | int] = []
    for (start, path), (end, _) in pairwise([*starts, (len(items), ())]):
        part = items[start:end]
        name = ("/" if plan.source.format == "onnx" else ".").join(path) or _span(plan, part)
        tree = _Tree(kind, name, tuple(_sections(plan, part, kind)))
        parts.append(tree if len(part) > 1 else part[0])
    return parts


def _modules(paths: list[tuple[str, ...]]) -> list[tuple[int, tuple[str, ...]]]:
    """Where each module below the shared path begins; empty if there is one or more than `MOST`."""
    depth = len(_common([path for path in paths if path])) + 1
    starts: list[tuple[int, tuple[str, ...]]] = []
    for position, path in enumerate(paths):
        here = (
            path[:depth] if len(path) >= depth else ()
        )  # what several modules share stays with the one before
        if not starts or (here and here != starts[-1][1]):
            starts.append((position, here))
    return starts if 1 < len(starts) <= MOST else []


def _even_cuts(paths: list[tuple[str, ...]], count: int) -> Iterator[int]:
    """Starts of `count` runs of about equal length: where paths differ earliest, near the even place."""
    even = len(paths) / count
    slack = max(1, int(even / 4))
    yield 0
    for number in range(1, count):
        middle = round(number * even)
        near = range(middle - slack, middle + slack + 1)
        yield min(near, key=lambda at: (len(_common(paths[at - 1 : at + 1])), abs(at - middle), at))


def _path(plan: Plan, item: "_Tree | int") -> tuple[str, ...]:
    """The module path of a node; what the nodes of a frame share."""
    if isinstance(item, _Tree):
        return _common([_path(plan, member) for member in item.members])
    node = plan.nodes[item]
    if plan.source.format == "onnx":
        return tuple(part for part in node.name.split("/")[:-1] if part)
    module = re.match(r"[^:]*:(\S+) \(", node.location)
    return tuple(module[1].split(".")) if module else ()


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)


def _span(plan: Plan, items: Sequence["_Tree | int"]) -> str:
    """From the first node to the last."""
    nodes = [index for item in items for index in _nodes(item)]
    return f"{plan.nodes[min(nodes)].name} … {plan.nodes[max(nodes)].name}"


def _nodes(item: "_Tree | int") -> Iterator[int]:
    if isinstance(item, int):
        yield item
    else:
        for member in item.members:
            yield from _nodes(member)


def _numbered(plan: Plan, tree: _Tree) -> list[Frame]:
    """Frames with ids, each before those inside it."""
    found: list[Callable[[], Frame]] = []

    def walk(part: _Tree, parent: int | None) -> int:
        number = len(found)
        found.append(lambda: made)
        inner = tuple(walk(member, number) for member in part.members if isinstance(member, _Tree))
        nodes = [plan.nodes[index] for index in _nodes(part)]
        made = Frame(
            id=number,
            kind=part.kind,
            name=part.name,
            parent=parent,
            frames=inner,
            nodes=tuple(member for member in part.members if isinstance(member, int)),
            n_nodes=len(nodes),
            n_tile=sum(node.unit == "tile" for node in nodes),
            macs=sum(node.macs for node in nodes),
        )
        return number

    walk(tree, None)
    return [frame() for frame in found]
