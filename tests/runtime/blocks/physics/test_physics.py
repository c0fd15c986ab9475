"""What every physics of ffebm's own keeps."""

import pytest
import torch

from ffebm.graph.energy_block import Activation, Layer
from ffebm.runtime.blocks.physics.catalogue import PHYSICS, physics_of
from tests.runtime.some_blocks import IDENTITY, Builder

CLIP = Activation("Clip", 4.0, low=-0.5, high=0.5)


@pytest.mark.parametrize("name", PHYSICS)
@pytest.mark.parametrize("activation", [IDENTITY, Activation("Relu", 2.0), CLIP], ids=lambda a: a.op)
def test_slopes_are_those_of_updates(name: str, activation: Activation) -> None:
    """By central differences to 1e-9, and updates stay within the bounds; the drive carries the scale."""
    physics, layer = physics_of(name), Layer("h", (40,), activation, ())
    drives = torch.linspace(-9.9, 9.9, 40, dtype=torch.float64)[None]
    load, step = torch.linspace(0.3, 3.0, 40, dtype=torch.float64)[None], 1e-4
    ends = [physics.update(layer, activation.scale * (drives + h), load) for h in (step, -step)]
    found = physics.slope(layer, activation.scale * drives, load)
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-9, atol=1e-9)
    low, high = physics.bounds(layer)
    assert all(bool(((s >= low) & (s <= high)).all()) for s in ends)
    assert bool(physics.potential(layer, ends[0]).isfinite().all())


@pytest.mark.parametrize("name", PHYSICS)
def test_each_interaction_has_a_term(name: str) -> None:
    b = Builder()
    b.input("x", 4)
    b.dense("h", "x", 3, Activation("Relu"))
    b.dense("y", "h", 2, IDENTITY)
    assert len(physics_of(name).terms(b.case().block)) == 2
