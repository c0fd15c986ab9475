import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ffebm.hardware.description import Update
from ffebm.runtime.tiles.devices.pulses import pulsed
from tests.machines import joules, ratio, seconds
from tests.runtime.tiles.bench import random, source

MANY = 200_000


def law(**changes: Any) -> Update:
    """A device of 50 pulses from 0 to its bound."""
    settings: dict[str, Any] = {
        "bounds": "soft",
        "pulse": ratio(0.02),
        "pulses": 100,
        "asymmetry": ratio(0.0),
        "noise": ratio(0.0),
        "range": ratio(2.0),
        "time": seconds(7.0),
        "energy": joules(11.0),
    }
    return Update(**(settings | changes))


def after(weight: float, change: float, device: Update, n: int = 1, seed: int = 0) -> Tensor:
    start = torch.full((n,), weight, dtype=torch.float64)
    return pulsed(start, torch.full_like(start, change), device, source(seed))


@pytest.mark.parametrize("a", [0.0, 0.3])
@pytest.mark.parametrize("weight", [-0.8, 0.0, 0.5])
def test_soft_bounds_shrink_each_pulse(a: float, weight: float) -> None:
    device = law(asymmetry=ratio(a))
    up, down = float(after(weight, 0.02, device)), float(after(weight, -0.02, device))
    assert up - weight == pytest.approx(0.02 * (1 + a) * (1 - weight))
    assert down - weight == pytest.approx(-0.02 * (1 - a) * (1 + weight))
    # n pulses at once are n pulses one by one
    one_by_one = torch.tensor([weight], dtype=torch.float64)
    for _ in range(5):
        one_by_one = pulsed(one_by_one, torch.tensor([0.02], dtype=torch.float64), device, source())
    assert float(after(weight, 0.1, device)) == pytest.approx(float(one_by_one))


def test_hard_bounds_keep_the_pulse() -> None:
    device = law(bounds="hard", asymmetry=ratio(0.25))
    assert float(after(0.5, 0.1, device)) == pytest.approx(0.5 + 5 * 0.02 * 1.25)
    assert float(after(0.5, -0.1, device)) == pytest.approx(0.5 - 5 * 0.02 * 0.75)
    assert float(after(0.97, 0.1, device)) == 1.0
    assert float(after(-0.97, -0.1, device)) == -1.0


def test_no_pulse_no_change() -> None:
    weight = random(1000).clamp(-1, 1)
    assert torch.equal(pulsed(weight, torch.zeros_like(weight), law(noise=ratio(0.3)), source()), weight)


@pytest.mark.parametrize("change", [0.004, 0.05, -0.013])
def test_a_part_of_a_pulse_is_a_pulse_now_and_then(change: float) -> None:
    found = after(0.0, change, law(bounds="hard"), MANY)
    share = abs(change) / 0.02 % 1
    deviation = 0.02 * math.sqrt(share * (1 - share))
    assert float(found.mean()) == pytest.approx(change, abs=4 * deviation / MANY**0.5)
    assert len(set(found.tolist())) == 2


def test_an_update_has_so_many_pulses_at_most() -> None:
    device = law(bounds="hard", pulses=3)
    assert float(after(0.0, 0.5, device)) == pytest.approx(0.06)
    assert float(after(0.0, -0.5, device)) == pytest.approx(-0.06)


@pytest.mark.parametrize("n", [1, 4, 25])
def test_pulses_vary_from_cycle_to_cycle(n: int) -> None:
    found = after(0.0, n * 0.02, law(bounds="hard", noise=ratio(0.3)), MANY)
    assert float(found.mean()) == pytest.approx(n * 0.02, rel=0.01)
    assert float(found.std()) == pytest.approx(0.3 * 0.02 * math.sqrt(n), rel=0.01)
    halves = torch.corrcoef(found.view(2, -1))
    assert abs(float(halves[0, 1])) < 4 / (MANY / 2) ** 0.5


def test_random_steps_lead_to_the_symmetric_point() -> None:
    """What spoils plain learning on asymmetric devices: pulses without a mean have one."""
    a = 0.3
    weight = torch.zeros(2000, dtype=torch.float64)
    for step in range(600):
        change = random(2000, seed=step).sign() * 0.02
        weight = pulsed(weight, change, law(asymmetry=ratio(a)), source(step))
    assert float(weight.mean()) == pytest.approx(a, abs=0.02)


def test_devices_differ_in_their_pulses() -> None:
    factor = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    found = pulsed(zero, zero + 0.02, law(bounds="hard"), source(), factor)
    torch.testing.assert_close(found, 0.02 * factor)
