"""The tree of foldable parts."""

from pathlib import Path

import networkx as nx
import onnx
import pytest
import torch

from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import Facts, facts
from ffebm.report.facts.frames import FEW, MOST, frames

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


@pytest.fixture(scope="module")
def densenet() -> Facts:
    """Its mapping is not what counts here, so none is looked for long."""
    path = LIGHT / "light_densenet121.onnx"
    return facts(compile_model(path, hardware="ideal", replicas=1, effort=0))


def inside(found: Facts, frame: int) -> list[int]:
    own = found.frames[frame]
    return sorted([*own.nodes, *(node for inner in own.frames for node in inside(found, inner))])


def check(found: Facts) -> None:
    """Every node is in one frame, counts are right, and folding any frame makes no cycle."""
    assert inside(found, 0) == list(range(len(found.nodes)))
    makers = {value: index for index, node in enumerate(found.nodes) for value in node.outputs}
    edges = [(makers[v], i) for i, node in enumerate(found.nodes) for v in node.reads if v in makers]
    for frame in found.frames:
        nodes = inside(found, frame.id)
        assert frame.n_nodes == len(nodes)
        assert frame.n_tile == sum(found.nodes[node].unit == "tile" for node in nodes)
        assert frame.macs == sum(found.nodes[node].macs for node in nodes)
        assert all(found.frames[inner].parent == frame.id > -1 and inner > frame.id for inner in frame.frames)
        assert len(frame.frames) + len(frame.nodes) <= max(MOST, FEW)
        member = {n: (k, number) for k, number in members(frame) for n in held(found, k, number)}
        folded = nx.DiGraph((member[a], member[b]) for a, b in edges if a in member and b in member)
        folded.remove_edges_from(list(nx.selfloop_edges(folded)))
        assert nx.is_directed_acyclic_graph(folded)


def members(frame: object) -> list[tuple[str, int]]:
    return [("f", n) for n in frame.frames] + [("n", n) for n in frame.nodes]  # type: ignore[attr-defined]


def held(found: Facts, kind: str, number: int) -> list[int]:
    return inside(found, number) if kind == "f" else [number]


def test_a_small_model_has_its_blocks_and_segments(digits: Plan) -> None:
    found = facts(digits)
    check(found)
    assert [(frame.kind, frame.name, frame.n_nodes) for frame in found.frames] == [
        ("model", "model", 14),
        ("block", "block0", 2),
        ("block", "block1", 5),
        ("block", "block2", 3),
        ("segment", "segment1", 2),
    ]
    assert [found.nodes[n].name for n in found.frames[0].nodes] == ["norm1", "readout"]


def test_a_deep_model_has_sections(deep: Plan) -> None:
    found = facts(deep)
    check(found)
    assert found.frames[0].frames
    assert {found.frames[inner].kind for inner in found.frames[0].frames} == {"section"}


def test_densenet_is_a_tree_of_small_frames(densenet: Facts) -> None:
    check(densenet)
    assert len(densenet.nodes) > 900
    assert len(densenet.frames[0].frames) <= MOST


def test_a_torch_model_is_cut_where_its_modules_are() -> None:
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    found = facts(compile_model(net, torch.randn(2, 5, 16)))
    check(found)
    sections = [found.frames[inner].name for inner in found.frames[0].frames]
    assert sections == ["layers.0", "layers.1", "layers.2"]


def test_the_same_plan_has_the_same_tree(deep: Plan) -> None:
    reads = [node.inputs for node in deep.nodes]
    assert frames(deep, reads) == frames(deep, reads)
