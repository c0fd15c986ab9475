from math import ceil

import pytest

from ffebm.recipes.paper import RECIPES
from ffebm.recipes.timing import Duration, duration


@pytest.mark.parametrize("name", ["splitting-small-2", "splitting-small-1"])
def test_hours_are_those_of_all_steps(name: str) -> None:
    found = duration(RECIPES[name], 0.01, "cifar-10")
    assert (found.batch, found.measured, found.epochs) == (64, 32, 10)
    assert 0 < found.step < 60
    steps = 10 * ceil(0.9 * 50_000 / 64)
    assert found.hours == pytest.approx(steps * found.step / 3600)


def test_words() -> None:
    whole = Duration(step=0.1234, batch=32, measured=32, epochs=10, hours=1.5)
    assert whole.words() == "0.123 s a step of 32 samples; 1.5 h for 10 epochs"
    part = Duration(step=0.1234, batch=64, measured=32, epochs=10, hours=1.5)
    assert part.words() == "0.123 s a step of 64 samples, from one of 32; 1.5 h for 10 epochs"
