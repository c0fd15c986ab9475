from graphlib import CycleError

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffebm.report.sorting import sorted_behind

Reads = dict[int, set[int]]


@st.composite
def reads(draw: st.DrawFn) -> Reads:
    """Items in any order, each of which reads from some that stand behind it in another one."""
    order = draw(st.permutations(range(draw(st.integers(0, 8)))))
    found = {
        item: draw(st.sets(st.sampled_from(order[:at]))) if at else set() for at, item in enumerate(order)
    }
    return {item: found[item] for item in draw(st.permutations(order))}


@given(reads())
def test_the_order_is_that_of_networkx(sources: Reads) -> None:
    graph = nx.DiGraph()
    graph.add_nodes_from(sources)
    graph.add_edges_from((source, item) for item, read in sources.items() for source in read)
    assert sorted_behind(sources, lambda item: item) == list(nx.lexicographical_topological_sort(graph))


def test_a_circle_is_an_error() -> None:
    with pytest.raises(CycleError):
        sorted_behind({1: [2], 2: [1]}, lambda item: item)
