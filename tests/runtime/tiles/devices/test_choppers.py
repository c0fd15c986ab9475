import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Chopper
from ffebm.runtime.tiles.devices.choppers import Choppers
from tests.machines import ratio
from tests.runtime.tiles.bench import random, source

LAW = Chopper(inputs=ratio(0.2))


def started(law: Chopper, *shape: int) -> Choppers:
    choppers = Choppers(law, source())
    choppers.start(torch.zeros(shape))
    return choppers


def flips(law: Chopper, transfers: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Which word lines and bit lines flip at each transfer, as shares."""
    choppers = started(law, *shape)
    found = []
    for _ in range(transfers):
        before = choppers.state()
        choppers.transferred()
        after = choppers.state()
        found.append([(before[k] != after[k]).double().mean() for k in ("inputs", "outputs")])
    inputs, outputs = torch.tensor(found, dtype=torch.float64).T
    return inputs, outputs


def test_lines_flip_with_their_chances() -> None:
    inputs, outputs = flips(replace(LAW, outputs=ratio(0.05)), 400, 60, 80)
    for found, chance, lines in ((inputs, 0.2, 80), (outputs, 0.05, 60)):
        error = (chance * (1 - chance) / (400 * lines)) ** 0.5
        assert abs(float(found.mean()) - chance) < 4 * error
        assert float(found.std()) < 1.2 * (chance * (1 - chance) / lines) ** 0.5  # lines are independent
    assert not flips(LAW, 20, 6, 8)[1].any()


def test_regular_ones_flip_together() -> None:
    for chance, period in ((0.2, 5), (0.3, 4), (1.0, 2)):
        inputs, outputs = flips(Chopper(inputs=ratio(chance), regular=True), 12, 3, 4)
        assert inputs.tolist() == [float((k + 1) % period == 0) for k in range(12)]
        assert not outputs.any()


def test_signs_of_cells_are_those_of_their_lines() -> None:
    choppers = started(replace(LAW, outputs=ratio(0.5)), 2, 6, 8)
    for _ in range(5):
        choppers.transferred()
    signs = choppers.signs.double()
    assert signs.shape == (2, 6, 8)
    assert signs.abs().eq(1).all()
    assert torch.linalg.matrix_rank(signs).tolist() == [1, 1]
    assert not torch.equal(signs[0], signs[1])
    x, d = random(1, 9, 8), random(1, 9, 6, seed=1)  # of arrays that share their inputs
    on_x, on_d = choppers.on_lines(x, d)
    torch.testing.assert_close(on_d.mT @ on_x, (d.mT @ x) * signs)


def test_a_state_goes_on() -> None:
    regular = Chopper(inputs=ratio(0.25), outputs=ratio(0.5), regular=True)
    for law in (LAW, regular):
        one = started(law, 6, 8)
        for _ in range(3):
            one.transferred()
        other = Choppers(law, source(7))
        other.restore({key: tensor.clone() for key, tensor in one.state().items()})
        assert torch.equal(one.signs, other.signs)
        first, second = Choppers(law, source(9)), Choppers(law, source(9))
        for choppers in (first, second):
            choppers.restore(other.state())
            choppers.transferred()
        assert torch.equal(first.signs, second.signs)
    one.transferred()
    assert bool((one.state()["inputs"] == -1).all())  # the fourth
