"""Offsets: no two buffers that live together overlap, the peak is near the bound, small cases are optimal."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.plan.memory.demand import Demand, bound_of, demand
from ffebm.scheduling.kernels.gaps import placed_by_gap
from ffebm.scheduling.memory.offsets import FAR, NOWHERE, _greedy, _orders, most_between, placed

LARGE = 10**12
lives = st.tuples(st.integers(0, 20), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))
buffers = st.lists(st.tuples(st.integers(1, 50), lives), max_size=40)


def clashes(wanted: Demand, at: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of placed buffers that share a byte of a memory at some moment; by brute force."""
    found = []
    for one, other in itertools.combinations(np.flatnonzero(at != NOWHERE), 2):
        apart = (
            wanted.ends[one] < wanted.begins[other]
            or wanted.ends[other] < wanted.begins[one]
            or at[one] + wanted.sizes[one] <= at[other]
            or at[other] + wanted.sizes[other] <= at[one]
        )
        if not apart and wanted.meets[wanted.homes[one], wanted.homes[other]]:
            found.append((int(one), int(other)))
    return found


def most_alive(wanted: list[tuple[int, tuple[int, int]]]) -> int:
    return max((sum(s for s, (b, e) in wanted if b <= t <= e) for t in range(30)), default=0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_the_largest_of_ranges(values: list[int], data: st.DataObject) -> None:
    ends = st.tuples(st.integers(0, len(values)), st.integers(0, len(values)))
    ranges = data.draw(st.lists(ends.filter(lambda both: both[0] != both[1]).map(sorted)))
    firsts, behinds = (np.array([both[n] for both in ranges], dtype=np.int64) for n in (0, 1))
    found = most_between(np.array(values), firsts, behinds)
    assert found.tolist() == [max(values[first:behind]) for first, behind in ranges]


@settings(max_examples=50)
@given(buffers)
def test_no_overlap_and_a_bound_that_holds(wanted: list[tuple[int, tuple[int, int]]]) -> None:
    asked = demand((size for size, _ in wanted), (life for _, life in wanted))
    bound = bound_of(asked)
    assert bound == most_alive(wanted)
    found = placed(asked, LARGE, bound)
    assert clashes(asked, found.at) == []
    assert NOWHERE not in found.at
    ends = found.at + asked.sizes
    assert found.peak == max(ends, default=0) >= bound


@settings(max_examples=30)
@given(buffers, st.integers(1, 120))
def test_capacity_is_honoured(wanted: list[tuple[int, tuple[int, int]]], capacity: int) -> None:
    asked = demand((size for size, _ in wanted), (life for _, life in wanted))
    found = placed(asked, capacity, bound_of(asked))
    assert clashes(asked, found.at) == []
    inside = found.at != NOWHERE
    assert all((found.at + asked.sizes)[inside] <= capacity)
    assert all(inside[asked.sizes > capacity] == 0)
    if len(wanted) == 1:
        assert inside[0] == (wanted[0][0] <= capacity)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 50), lives, st.frozensets(st.sampled_from("abcd"), min_size=1))))
def test_memories_side_by_side(wanted: list[tuple[int, tuple[int, int], frozenset[str]]]) -> None:
    """A buffer lies at one offset in each of its memories; what shares none is not in its way."""
    asked = demand(
        (s for s, _, _ in wanted), (life for _, life, _ in wanted), [home for _, _, home in wanted]
    )
    for one, other in itertools.product(range(len(wanted)), repeat=2):
        meets = asked.meets[asked.homes[one], asked.homes[other]]
        assert meets == bool(wanted[one][2] & wanted[other][2])
    bound = bound_of(asked)
    assert bound == max(
        most_alive([(s, life) for s, life, home in wanted if name in home]) for name in "abcd"
    )
    found = placed(asked, LARGE, bound)
    assert clashes(asked, found.at) == []


def optimum(wanted: Demand) -> int:
    """The lowest peak: buffers fall onto those below them in the order of some permutation."""
    best = LARGE
    for order in itertools.permutations(range(len(wanted.sizes))):
        at: dict[int, int] = {}
        for one in order:
            below = [
                at[other] + wanted.sizes[other]
                for other in at
                if wanted.begins[other] <= wanted.ends[one] and wanted.ends[other] >= wanted.begins[one]
            ]
            at[one] = max(below, default=0)
        best = min(best, max(at[one] + wanted.sizes[one] for one in at))
    return int(best)


@pytest.mark.parametrize("seed", range(12))
def test_near_the_optimum_of_small_cases(seed: int) -> None:
    rng = np.random.default_rng(seed)
    begins = rng.integers(0, 8, 6)
    asked = demand(rng.integers(1, 20, 6), zip(begins, begins + rng.integers(0, 4, 6), strict=True))
    best = optimum(asked)
    found = placed(asked, LARGE, bound_of(asked))
    assert bound_of(asked) <= best <= found.peak <= 1.15 * best


def test_a_chain_alternates_between_two_places() -> None:
    """Each value lives from its own step to the next one: input and output of a step, no more."""
    asked = demand([8] * 10, [(2 * n, 2 * n + 3) for n in range(10)])
    found = placed(asked, LARGE, bound_of(asked))
    assert found.peak == bound_of(asked) == 16
    assert sorted(set(found.at.tolist())) == [0, 8]


def test_the_smallest_gap_that_fits_is_taken() -> None:
    """Largest first: 10 lies at 0, 6 and 5 behind it; when 6 has gone, the gaps are 6 and what is behind."""
    asked = demand([10, 6, 5, 3], [(0, 9), (0, 4), (0, 9), (5, 9)])
    found = placed(asked, LARGE, bound_of(asked))
    assert found.at.tolist() == [0, 10, 16, 10]
    assert found.peak == bound_of(asked) == 21


def test_where_the_peak_stays_far_above_the_lowest_gap_is_taken() -> None:
    """All smallest gaps leave this one at more than 1.08 times its bound; no peak is higher than before."""
    rng = np.random.default_rng(390)
    begins = rng.integers(0, 60, 60)
    sizes = rng.integers(1, 40, 60) ** 2
    asked = demand(sizes, zip(begins, begins + rng.integers(1, 20, 60), strict=True))
    bound = bound_of(asked)
    smallest = min(found.peak for found in itertools.islice(_orders(asked, LARGE, bound), 64))
    found = placed(asked, LARGE, bound)
    assert found.peak < smallest
    assert smallest > FAR * bound
    assert clashes_by_time(asked, found.at) == 0


@pytest.mark.parametrize("lowest", [False, True])
@given(buffers=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 9)), min_size=1))
def test_compiled_loops_place_as_plain_ones(lowest: bool, buffers: list[tuple[int, int, int]]) -> None:
    asked = demand([size for size, *_ in buffers], [(begin, begin + more) for _, begin, more in buffers])
    order = np.arange(len(buffers))
    plain = _greedy(asked, order, 100, lowest=lowest)
    at, peak = placed_by_gap(asked, order, 100, lowest=lowest)
    assert (at.tolist(), peak) == (plain.at.tolist(), plain.peak)


def test_nothing_to_place() -> None:
    found = placed(demand([], []), 0, 0)
    assert (found.at.tolist(), found.peak) == ([], 0)


def test_the_same_demand_gives_the_same_offsets() -> None:
    rng = np.random.default_rng(0)
    begins = rng.integers(0, 400, 200)
    asked = demand(rng.integers(1, 10**6, 200), zip(begins, begins + rng.integers(1, 40, 200), strict=True))
    first, second = (placed(asked, LARGE, bound_of(asked)) for _ in range(2))
    assert first.at.tolist() == second.at.tolist()
    assert first.peak <= 1.1 * bound_of(asked)


def test_orders_are_tried_while_the_peak_is_far_above_the_bound() -> None:
    """Four orders, all that thousands of buffers once had, leave this one at 1.092 times its bound."""
    rng = np.random.default_rng(5)
    begins = rng.integers(0, 4000, 2500)
    sizes = rng.integers(1, 10**6, 2500) ** 2 // 10**6 + 1
    lives = zip(begins, begins + rng.integers(1, 60, 2500) ** 2 // 20 + 1, strict=True)
    asked = demand(sizes, lives)
    found = placed(asked, LARGE, bound_of(asked))
    assert clashes_by_time(asked, found.at) == 0
    assert found.peak <= 1.08 * bound_of(asked)


def clashes_by_time(wanted: Demand, at: np.ndarray) -> int:
    """How many buffers share a byte with one that is alive when their life begins."""
    found = 0
    for one in range(len(at)):
        alive = (wanted.begins <= wanted.begins[one]) & (wanted.ends >= wanted.begins[one])
        alive[one] = False
        found += bool((alive & (at < at[one] + wanted.sizes[one]) & (at + wanted.sizes > at[one])).any())
    return found
