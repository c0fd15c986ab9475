import itertools
import math
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffebm.studies.sensitivity.superposition import RIVALS, CloseCalls, Superposition, close_of

SAMPLES, CLASSES = 40, 4


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def calls(seed: int = 0) -> CloseCalls:
    logits = normals(SAMPLES, CLASSES, seed=seed)
    return CloseCalls(logits, logits.argmax(1))


def moved(found: CloseCalls, size: float, seed: int, seeds: int = 1) -> Tensor:
    """Logits of close samples with one unit on tiles."""
    return found.exact + size * normals(seeds, *found.exact.shape, seed=seed)


def test_close_samples_have_the_smallest_margins() -> None:
    logits = torch.tensor([[0.0, 9.0], [5.0, 4.0], [1.0, 3.0], [0.0, 0.5], [9.0, 3.0]])
    found = CloseCalls(logits, torch.tensor([1, 0, 1, 0, 1]))
    assert found.places.tolist() == [3, 1]
    assert found.rivals.tolist() == [[1, 0], [0, 1]]
    assert found.labels.tolist() == [1, 0]
    assert found.exact.tolist() == [[0.5, 0.0], [5.0, 4.0]]
    assert found.margins.tolist() == [2.0, 9.0]  # the last sample is wrong anyway
    assert found.of(logits[None]).tolist() == [found.exact.tolist()]


def test_a_label_that_is_no_rival_is_never_right() -> None:
    logits = torch.arange(RIVALS + 2.0).repeat(3, 1)
    found = CloseCalls(logits, torch.tensor([0, 0, 0]))
    assert found.labels.tolist() == [-1]
    nothing = Superposition(found, {"u": found.exact[None]}).accuracies([frozenset("u")])[0]
    assert nothing.tolist() == [0.0]


def test_one_class() -> None:
    found = CloseCalls(torch.zeros(8, 1), torch.zeros(8, dtype=torch.long))
    right = Superposition(found, {"u": torch.ones(1, 2, 1)})
    assert right.accuracies([frozenset(), frozenset("u")])[0].tolist() == [1.0, 1.0]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 30))
def test_where_changes_add_up_the_accuracy_on_close_samples_is_predicted_exactly(seed: int) -> None:
    """Two units, each of whose changes turns some; and the others are far."""
    logits = normals(SAMPLES, CLASSES, seed=seed)
    labels = logits.argmax(1)
    far = CloseCalls(logits, labels).places
    logits[[i for i in range(SAMPLES) if i not in far.tolist()]] *= 1e3
    found = CloseCalls(logits, logits.argmax(1))
    assert found.places.tolist() == far.tolist()
    alone = {name: moved(found, 0.3, seed=place, seeds=2) for place, name in enumerate("abc")}
    ours = Superposition(found, alone)
    for count in range(4):
        for names in itertools.combinations("abc", count):
            both = found.exact + sum((alone[n] - found.exact for n in names), torch.zeros(2, 1, 1))
            right = (both.argmax(-1) == found.labels).float().sum(-1).mean()
            expected = (float(right) + SAMPLES - close_of(SAMPLES)) / SAMPLES
            assert float(ours.accuracies([frozenset(names)])[0]) == pytest.approx(expected, abs=1e-6)


def test_what_has_run_is_predicted_as_it_ran_and_its_neighbours_from_it() -> None:
    """In truth two units undo each other, which no sum of them alone tells."""
    found = calls()
    alone = {"a": moved(found, 3.0, 1), "b": moved(found, 3.0, 2), "c": moved(found, 1e-6, 3)}
    ours = Superposition(found, alone)
    both = [frozenset("ab"), frozenset("abc")]
    before = ours.accuracies(both)[0]
    assert float(before.max()) < 0.95
    ours.learn(frozenset("ab"), found.exact[None], 1.0)
    assert ours.accuracies(both)[0].tolist() == pytest.approx([1.0, 1.0], abs=1e-4)
    assert min(ours.chances(both, 0.95)) > 0.99


def test_the_other_samples_turn_as_often_as_their_margins_say() -> None:
    """Margins m spread evenly up to 8, changed by sigma = sqrt(10): the mean of Phi(m / sigma)."""
    logits = torch.zeros(4000, 2)
    logits[:, 0] = torch.linspace(0.0, 8.0, 4000)
    found = CloseCalls(logits, torch.zeros(4000, dtype=torch.long))
    alone = {"a": moved(found, 1.0, 1), "b": moved(found, 2.0, 2)}
    ours = Superposition(found, alone)
    end, normal = 8.0 / math.sqrt(10.0), NormalDist()
    mean = (end * normal.cdf(end) + normal.pdf(end) - normal.pdf(0.0)) / end
    assert float(ours.accuracies([frozenset("ab")])[0]) == pytest.approx(mean, abs=0.01)
    assert ours.damage == pytest.approx({"a": 2.0, "b": 8.0}, rel=0.1)


def test_chances_are_those_of_a_normal_distribution() -> None:
    found = calls()
    ours = Superposition(found, {"a": moved(found, 0.5, 1, seeds=4)})
    sets = [frozenset("a")]
    accuracy, deviation = ours.accuracies(sets)
    step = 0.5 / (SAMPLES * 4)
    assert ours.chances(sets, float(accuracy) + step) == pytest.approx([0.5], abs=1e-3)
    assert ours.chances(sets, float(accuracy + deviation) + step) == pytest.approx([0.1587], abs=1e-3)
    assert ours.chances([], 0.5) == []


def test_tiles_that_overflow_are_predicted_to_be_wrong() -> None:
    found = calls()
    ours = Superposition(found, {"a": torch.full((1, *found.exact.shape), torch.nan)})
    ours.learn(frozenset("a"), torch.full((1, *found.exact.shape), torch.inf), 0.25)
    accuracy = ours.accuracies([frozenset("a")])[0]
    assert bool(torch.isfinite(accuracy).all())
