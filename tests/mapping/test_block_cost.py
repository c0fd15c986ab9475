"""What bands of a layer take beside what their vectors take in any band."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.hardware.description import Hardware
from ffebm.mapping.block_cost import BlockCost, least_pace
from ffebm.mapping.cores import Home
from ffebm.plan.schema import Options
from tests.machines import crossbars
from tests.mapping.test_cores import cored
from tests.models import Builder
from tests.scheduling.graphs import placed

VECTORS = 7


@pytest.mark.parametrize("machine", [crossbars(16, 8, 8), crossbars(3, 16, 16), cored(4, 2.5, count=16)])
@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_no_band_takes_less_than_the_shares_of_its_vectors(machine: Hardware, copies: int) -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, VECTORS, 12), b.weight(12, 8)))
    graph = placed(b.model(y), machine, Options(replicas=copies))
    (block,) = graph.blocks
    cost = BlockCost(graph, machine, block, 1)
    spans = itertools.combinations(range(VECTORS + 1), 2)
    bands = {(a, z): cost.band([(a, z)], (z - a) / VECTORS) for a, z in spans}
    one = bands[0, 1].share
    for (first, behind), band in bands.items():
        assert band.share == pytest.approx((behind - first) * one)
        assert 0 < band.share <= band.seconds * (1 + 1e-9)


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any), min_size=1, max_size=3),
    st.lists(st.integers(0, 6), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_the_pace_holds_however_replicas_share_vectors_out(work: list[list[int]], vectors: list[int]) -> None:
    """Replicas may lie on the same tiles, and take any numbers of vectors."""
    loads: dict[int, dict[Home, float]] = {n: dict(enumerate(map(float, own))) for n, own in enumerate(work)}
    taken = vectors[: len(work)]
    busiest = max(sum(n * own[home] for n, own in zip(taken, work, strict=True)) for home in range(3))
    assert sum(taken) * least_pace(loads) <= busiest * (1 + 1e-9)


def test_replicas_on_tiles_of_their_own_share_out_evenly() -> None:
    assert least_pace({0: {0: 2.0, 1: 4.0}, 1: {2: 4.0, 3: 2.0}}) == 2.0
    assert least_pace({0: {0: 4.0}, 1: {0: 4.0}}) == 4.0
    assert least_pace({}) == 0.0
