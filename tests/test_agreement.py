"""Training steps of the published loop, written anew in the benchmarks, and of energy blocks, in 64 bits."""

import json
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TRAINED = """
import itertools, json, torch
from agreement import Margins, steps
from hybrid_step import make

random = torch.Generator().manual_seed(0)
x = torch.zeros(4, 3, 32, 32, dtype=torch.float64)
x[:, :, 10:20, 8:24] = torch.rand(4, 3, 10, 16, generator=random, dtype=torch.float64)
x += 0.05 * torch.randn(x.shape, generator=random, dtype=torch.float64)


def trained(size, count):
    network = make(size, 1 / 16, 4, "cpu").double()
    found = steps(network, size, itertools.repeat((x, torch.arange(4)), count), 0.05)
    return [(s.ours, s.theirs, s.cosine, s.is_certain) for s in found]


y = torch.tensor([[4.0, 1.0, 2.0, 2.0], [3.0, 0.0, 0.5, 0.0], [3.9, 3.8, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
margins = []
for s in ([[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]):
    margins.append(Margins())
    margins[-1](y[None, None], torch.tensor(s)[None, None])
sizes = {size: trained(size, count) for size, count in ((2, 20), (3, 5), (6, 3))}
print(json.dumps({"margins": [m.least for m in margins]} | sizes))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, list[Any]]:
    """Margins; and by block size our loss, theirs, the smallest cosine of a gradient and certainty."""
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, cwd=BENCHMARKS)
    assert done.returncode == 0, done.stderr
    printed: dict[str, list[Any]] = json.loads(done.stdout)
    return printed


def test_twenty_steps_at_block_size_2_agree(found: dict[str, list[Any]]) -> None:
    steps = found["2"]
    assert len(steps) == 20
    assert steps[-1][0] < steps[0][0] - 0.05
    for ours, theirs, cosine, _ in steps:
        assert ours == pytest.approx(theirs, rel=0, abs=1e-9)
        assert cosine == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", ["3", "6"])
def test_losses_agree_while_no_winner_is_in_doubt(size: str, found: dict[str, list[Any]]) -> None:
    certain = list(takewhile(lambda step: step[3], found[size]))
    assert len(certain) >= 3
    for ours, theirs, cosine, _ in certain:
        assert ours == pytest.approx(theirs, rel=0, abs=1e-9)
        assert cosine == pytest.approx(1, abs=1e-7)


def test_margins_that_matter(found: dict[str, list[Any]]) -> None:
    """A share of the largest value, 4; where nothing comes back or bits are equal, none."""
    assert found["margins"] == pytest.approx([0.1 / 4, 1.0 / 4, float("inf")], rel=1e-5)
