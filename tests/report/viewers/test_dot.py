"""The graph as DOT, as pydot and networkx read it."""

import html
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import networkx as nx
import pydot
import pytest

from ffebm import Plan
from ffebm import compile as compile_plan
from ffebm.report.viewers.dot import dot
from ffebm.visible import visible
from tests.report.viewers.test_netron import with_control_flow


def parsed(text: str) -> pydot.Dot:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pydot calls pyparsing by its old names
        graphs = pydot.graph_from_dot_data(text)
    assert graphs is not None
    (graph,) = graphs
    return graph


def plain(quoted: str) -> str:
    """What Graphviz shows for a quoted string."""
    assert quoted[0] == quoted[-1] == '"'
    return html.unescape(re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], quoted[1:-1]))


@pytest.mark.parametrize("which", ["digits", "wicked"])
def test_nodes_and_clusters(which: str, request: pytest.FixtureRequest) -> None:
    plan: Plan = request.getfixturevalue(which)
    graph = parsed(dot(plan))
    clusters = {c.get_name(): {n.get_name() for n in c.get_nodes()} for c in graph.get_subgraphs()}
    wanted = {
        f"cluster_block{block.id}": {f"n{i}" for i, n in enumerate(plan.nodes) if n.block == block.id}
        for block in plan.blocks
    }
    assert clusters == wanted
    drawn = {n.get_name(): n for n in graph.get_nodes() if n.get_name().startswith("n")}
    drawn = {name: node for name, node in drawn.items() if name[1:].isdecimal()}
    drawn |= {n.get_name(): n for c in graph.get_subgraphs() for n in c.get_nodes()}
    assert len(drawn) == len(plan.nodes)
    for number, node in enumerate(plan.nodes):
        found = drawn[f"n{number}"]
        assert found.get("shape") == {"tile": "box", "digital": "hexagon"}[node.unit]
        assert plain(found.get("tooltip")) == visible(f"{node.name}: {node.unit}, {node.reason}")
        op, *name, _ = plain(found.get("label")).split("\n")
        assert op == node.op
        whole = visible(node.name)
        text = "".join(name)
        assert text == whole or (text.endswith("…") and whole.startswith(text[:-1]) and len(text) == 96)
        assert max(map(len, name)) <= 32


@pytest.mark.parametrize("which", ["digits", "wicked"])
def test_edges_are_the_values(which: str, request: pytest.FixtureRequest) -> None:
    plan: Plan = request.getfixturevalue(which)
    graph = parsed(dot(plan))
    edges = {(e.get_source(), e.get_destination(), plain(e.get("tooltip"))) for e in graph.get_edges()}
    makers = {v: f"n{i}" for i, n in enumerate(plan.nodes) for v in n.outputs}
    makers |= {port.name: f"in{i}" for i, port in enumerate(plan.inputs)}
    wanted = {
        (makers[v], f"n{i}", visible(v)) for i, n in enumerate(plan.nodes) for v in n.inputs if v in makers
    }
    wanted |= {(makers[port.name], f"out{i}", visible(port.name)) for i, port in enumerate(plan.outputs)}
    assert edges == wanted
    assert nx.is_directed_acyclic_graph(nx.DiGraph((a, b) for a, b, _ in edges))


def test_what_subgraphs_read_is_drawn() -> None:
    plan = compile_plan(with_control_flow(), hardware="reference")
    graph = parsed(dot(plan))
    (loop,) = [f"n{i}" for i, n in enumerate(plan.nodes) if n.op == "Loop"]
    hidden = next(f"n{i}" for i, n in enumerate(plan.nodes) if n.op == "Relu")
    assert [e.get_source() for e in graph.get_edges() if e.get_destination() == loop] == [hidden]


@pytest.mark.parametrize("which", ["digits", "wicked"])
def test_graphviz_draws_it(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    program = shutil.which("dot")
    if program is None:
        pytest.skip("graphviz is not installed")
    plan: Plan = request.getfixturevalue(which)
    (tmp_path / "g.dot").write_text(dot(plan), encoding="utf-8")
    done = subprocess.run(
        [program, "-Tsvg", tmp_path / "g.dot"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    assert "<script" not in done.stdout
    assert done.stdout.count('class="cluster"') == len(plan.blocks)
    assert done.stdout.count('class="node"') == len(plan.nodes) + len(plan.inputs) + len(plan.outputs)
