import math

import pytest
import torch
from torch import Tensor

from ffebm.runtime.tiles.devices import trains
from ffebm.runtime.tiles.devices.trains import coincidences
from tests.runtime.tiles.bench import random, source

MANY = 20_000
X = torch.tensor([0.9, -0.3, 0.0, 0.5], dtype=torch.float64)
D = torch.tensor([-7.0, 2.0, 4.0], dtype=torch.float64)
"""Pulses for an input of 1: the largest product asks for 6.3 of them."""


def drawn(x: Tensor, d: Tensor, most: int = 31, n: int = MANY) -> Tensor:
    """Coincidences of many equal pairs, [n, n_out, n_in]."""
    found = coincidences(x.expand(n, -1), d.expand(n, -1), most, source())
    return torch.stack(list(found))


def chances(x: Tensor, d: Tensor, most: int) -> tuple[int, Tensor, Tensor]:
    """Slots, and the chance of a pulse in each on either line, as aihwkit computes them.

    PulsedUpdateMetaParameter::performUpdateManagement with update management and that of the length, at a
    granularity and a learning rate of 1.
    """
    x_max, d_max = float(x.abs().max()), float(d.abs().max())
    length = min(most, math.ceil(x_max * d_max))
    scale = math.sqrt(1 / length)
    on_d, on_x = scale * math.sqrt(x_max / d_max), scale * math.sqrt(d_max / x_max)
    return length, (on_x * x.abs()).clamp(max=1), (on_d * d.abs()).clamp(max=1)


@pytest.mark.parametrize("most", [31, 7, 4])
def test_coincidences_are_binomial_with_the_chances_of_aihwkit(most: int) -> None:
    length, on_x, on_d = chances(X, D, most)
    found = drawn(X, D, most)
    both = on_d[:, None] * on_x
    # mean and variance of a binomial, with their own standard errors
    mean, variance = length * both, length * both * (1 - both)
    error = (variance / MANY).sqrt()
    assert bool(((found.abs().mean(0) - mean).abs() <= 5 * error + 1e-12).all())
    assert bool(((found.var(0) - variance).abs() <= 0.05 * variance + 1e-12).all())
    for count in range(length + 1):
        share = math.comb(length, count) * both**count * (1 - both) ** (length - count)
        seen = (found.abs() == count).double().mean(0)
        assert bool(((seen - share).abs() <= 5 * (share * (1 - share) / MANY).sqrt() + 1e-12).all())
    if most >= 7:
        torch.testing.assert_close(length * both, (D[:, None] * X).abs())
    else:  # the train is too short for the largest product
        assert float(mean.max()) == 4.0
        assert float((D[:, None] * X).abs().max()) == pytest.approx(6.3)


def test_the_mean_is_the_outer_product_with_its_sign() -> None:
    torch.testing.assert_close(drawn(X, D).mean(0), D[:, None] * X, rtol=0, atol=0.06)


def test_crossings_of_one_line_share_its_train() -> None:
    length, on_x, on_d = chances(X, D, 31)
    first, second = drawn(X, D)[:, 1, 0].abs(), drawn(X, D)[:, 1, 3].abs()
    found = float(torch.cov(torch.stack([first, second]))[0, 1])
    p, q, r = float(on_d[1]), float(on_x[0]), float(on_x[3])
    assert found == pytest.approx(length * p * (1 - p) * q * r, rel=0.1)


def test_equal_values_are_certain() -> None:
    x, d = torch.tensor([1.0, -1.0]), torch.tensor([5.0, -5.0, 5.0])
    assert torch.equal(drawn(x, d, n=3), (d[:, None] * x).expand(3, 3, 2))


def test_each_pair_and_each_array_has_trains_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    x, d = torch.full((2, 6, 5), 0.5), torch.full((2, 6, 4), 5.0)
    x[0, 3], d[1, 4] = 0.0, 0.0
    whole = torch.stack(list(coincidences(x, d, 31, source())))
    assert whole.shape == (6, 2, 4, 5)
    assert not whole[3, 0].any()
    assert not whole[4, 1].any()
    assert not torch.equal(whole[0, 0], whole[0, 1])
    assert not torch.equal(whole[0], whole[1])
    monkeypatch.setattr(trains, "CHUNK", 1)
    one_by_one = torch.stack(list(coincidences(x, d, 31, source())))
    assert one_by_one.shape == whole.shape
    assert not one_by_one[3, 0].any()


@pytest.mark.parametrize("pairs", [0, 1])
def test_nothing_asked_is_nothing_done(pairs: int) -> None:
    found = list(coincidences(torch.zeros(pairs, 3), random(pairs, 2).float(), 31, source()))
    assert len(found) == pairs
    assert not any(bool(counts.any()) for counts in found)
