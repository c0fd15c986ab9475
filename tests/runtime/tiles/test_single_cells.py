"""Arrays of single cells: one conductance a weight, never negative, one range for a circuit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

import ffebm
from ffebm.errors import UsageError
from ffebm.graph.admission import ADMISSIONS
from ffebm.hardware.description import Accumulate, Crossbar, Hardware, Transfer, load_hardware
from ffebm.plan.plan import Plan
from ffebm.runtime.tiles.crossbar import CommonRange, CrossbarTile
from ffebm.runtime.tiles.projection import make_tile
from tests.exporters.spice.test_passive import network
from tests.machines import ratio, with_tiles
from tests.runtime.tiles.bench import random, source, with_cell
from tests.runtime.tiles.devices.test_pulses import law

MACHINE = load_hardware("resistive-single")


def exact() -> Crossbar:
    """The shipped cells without noise, variation and a law of learning."""
    tile = with_cell(MACHINE.analog[0].tile.crossbar(), variation=None, verify=None)
    cell = replace(tile.cell, programming_noise=ratio(0.0), read_noise=ratio(0.0), levels=1025)
    return replace(tile, cell=cell, update=None)


def machine(**changes: object) -> Hardware:
    return with_tiles(MACHINE, tile=replace(exact(), **changes))


def weights(*shape: int, seed: int = 0) -> Tensor:
    return random(*shape, seed=seed).abs()


def test_cells_hold_weights_from_g_min_to_g_max() -> None:
    tile = CrossbarTile(exact(), source())
    weight = weights(2, 5, 4)
    weight[0, 0, 0] = 0.0
    tile.program(weight)
    limit = weight.amax((1, 2), keepdim=True)
    step = limit * (1 - 0.01) / 1024
    held = tile.read()
    assert ((held - weight.clamp(min=0.01 * limit)).abs() <= step * (0.5 + 1e-6)).all()
    assert float(held[0, 0, 0]) == pytest.approx(0.01 * float(limit[0]))
    x, y = random(2, 3, 4, seed=1), random(2, 3, 5, seed=2)
    still = CrossbarTile(exact(), source(), frozen=None)
    still.program(weight)
    torch.testing.assert_close(tile._product(transposed=False).of(x.mT, source())[1].mT, x @ held.mT)
    torch.testing.assert_close(tile._product(transposed=True).of(y.mT, source())[1].mT, y @ held)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8), st.sampled_from(["soft", "hard"]))
def test_no_update_leads_out_of_the_range(steps: list[float], bounds: str) -> None:
    device = law(bounds=bounds, noise=ratio(0.5), asymmetry=ratio(0.3), range=ratio(1.0))
    tile = CrossbarTile(replace(exact(), update=device), source())
    weight = weights(1, 6, 5)
    tile.program(weight)
    limit = max(float(weight.max()), 5**-0.5)
    for step in steps:
        tile.update(torch.full_like(weight, step))
        held = tile.read()
        assert float(held.min()) >= 0.01 * limit * (1 - 1e-5)
        assert float(held.max()) <= limit * (1 + 1e-5)


def test_a_pulse_is_a_share_of_half_the_range_of_a_cell() -> None:
    device = law(bounds="hard", range=ratio(1.0))
    tile = CrossbarTile(replace(exact(), update=device), source())
    weight = torch.full((1, 4, 3), 1.0, dtype=torch.float64)
    weight[0, 0, 0] = 2.0
    tile.program(weight)
    before = tile.read()
    pulse = 0.02 * (2.0 - 0.02) / 2
    tile.update(torch.full_like(weight, -3 * pulse * (1 + 1e-9)))
    torch.testing.assert_close(tile.read(), before - 3 * pulse)
    assert tile.health().steps.clipped == 0


@pytest.mark.parametrize("remedy", [Accumulate(), Transfer(every=1, rate=ratio(1.0))])
def test_remedies_carry_steps_to_single_cells(remedy: Accumulate | Transfer) -> None:
    """Small steps, up and down, arrive; at the symmetric point the fast cells hold nothing."""
    device = law(remedy=remedy, asymmetry=ratio(0.2), pulse=ratio(0.002), range=ratio(2.0))
    tile = make_tile(replace(exact(), update=device, adc=replace(exact().adc, bits=16)), source(), "t")
    weight = torch.full((1, 4, 3), 1.0, dtype=torch.float64)
    tile.program(weight)
    torch.testing.assert_close(tile.read(), weight, atol=2e-3, rtol=0)
    for _ in range(200):
        tile.update(torch.tensor([[[0.001], [-0.001], [0.0], [0.0]]], dtype=torch.float64).expand(1, 4, 3))
    moved = (tile.read() - weight)[0].mean(1)
    assert 0.05 < float(moved[0]) < 1.0
    assert -1.0 < float(moved[1]) < -0.05
    assert abs(float(moved[2])) < 0.05


def test_a_common_range_is_that_of_the_circuit() -> None:
    common = CommonRange()
    common.limit = 5.0
    tile = CrossbarTile(exact(), source(), common=common)
    weight = weights(1, 4, 3).clamp(max=5.0)
    weight[0, 0, 0] = 0.0
    tile.program(weight)
    assert float(tile.read().min()) == pytest.approx(0.05)
    again = CrossbarTile(exact(), source(), common=(other := CommonRange()))
    again.restore(tile.state())
    assert other.limit == pytest.approx(5.0)


# --- runs ---------------------------------------------------------------------------------------------


def plan_on(hardware: Hardware) -> Plan:
    return network((6, 5, 3), 2.0, hardware=hardware)


def held(net: ffebm.Executor) -> dict[str, Tensor]:
    """What single cells hold, by weight."""
    return {name: array.value(net.weights()[name]).detach() for name, array in net.machine._arrays.items()}


def same(net: ffebm.Executor, plan: Plan) -> ffebm.Executor:
    """The same network with exact products of what the cells of another hold."""
    exactly = ffebm.Executor(plan, tiles=dict.fromkeys(held(net)))
    with torch.no_grad():
        for name, value in held(net).items():
            exactly.weights()[name].copy_(value)
    return exactly


def test_a_block_settles_where_its_cells_say() -> None:
    plan = plan_on(machine(dac=replace(exact().dac, bits=20), adc=replace(exact().adc, bits=20)))
    net, x = ffebm.Executor(plan), torch.rand(3, 6)
    with torch.no_grad():
        y = net(x)
        torch.testing.assert_close(y, same(net, plan)(x), rtol=1e-3, atol=1e-4)
    (common,) = net.machine._circuits.values()
    assert common.limit == pytest.approx(max(float(plan.weights[name].max()) for name in held(net)))


def test_ranges_follow_weights_that_are_programmed() -> None:
    """Without a law of learning cells are written when a weight changes, all of a circuit in one range."""
    plan = plan_on(machine())
    net, x = ffebm.Executor(plan), torch.rand(3, 6)
    net(x)
    first = next(iter(held(net)))
    with torch.no_grad():
        net.weights()[first].mul_(10.0)
    net(x)
    for name, value in held(net).items():
        low = 0.01 * 10 * float(plan.weights[first].max())
        wanted = net.weights()[name].detach().clamp(min=low)
        torch.testing.assert_close(value, wanted, rtol=0, atol=low * 100 / 1024)


def trained(net: ffebm.Executor, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(net.weights().values(), lr=0.1)
    x = torch.rand(16, 6, generator=torch.Generator().manual_seed(0))
    target = 0.5 * x[:, :3] + 0.1
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = net.loss(x, target, torch.nn.functional.mse_loss)
        torch.autograd.backward(loss)
        optimizer.step()
        net.constrain()
        losses.append(float(loss.detach()))
    return losses


def test_single_cells_learn_in_place() -> None:
    net = ffebm.Executor(plan_on(MACHINE), seed=1, gradient=ffebm.EP(beta=0.5))
    losses = trained(net, 80)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3])
    limits = [common.limit for common in net.machine._circuits.values()]
    for name, value in held(net).items():
        assert float(value.min()) >= 0.0
        torch.testing.assert_close(net.weights()[name].detach(), value)
    assert len(limits) == 1


@pytest.mark.filterwarnings("ignore::ffebm.errors.SmallStepWarning")
def test_a_state_goes_on_in_the_same_range() -> None:
    plan = plan_on(MACHINE)
    net = ffebm.Executor(plan, seed=1, gradient=ffebm.EP(beta=0.5))
    trained(net, 3)
    other = ffebm.Executor(plan, seed=7, gradient=ffebm.EP(beta=0.5))
    other.load_state_dict(net.state_dict())
    assert trained(net, 3) == trained(other, 3)
    (mine,), (theirs,) = (list(n.machine._circuits.values()) for n in (net, other))
    assert mine.limit == pytest.approx(theirs.limit)


@pytest.mark.filterwarnings("ignore::ffebm.errors.SmallStepWarning")
def test_cells_are_remapped_in_one_range() -> None:
    net = ffebm.Executor(plan_on(MACHINE), seed=1, gradient=ffebm.EP(beta=0.5))
    trained(net, 3)
    before = held(net)
    net.remap()
    (common,) = net.machine._circuits.values()
    assert common.limit == pytest.approx(2 * max(float(value.max()) for value in before.values()), rel=0.1)
    for name, value in held(net).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0.1 * common.limit)


def test_a_tile_of_single_cells_is_for_plans_of_such() -> None:
    plan = network((6, 5, 3), 2.0, hardware="reference")
    name = next(iter(plan.groups_of_weights()))
    with pytest.raises(UsageError) as raised:
        ffebm.Executor(plan, tiles={name: "resistive-single"})
    assert str(raised.value) == (
        f"a tile of single cells for {name!r}, which the plan has not placed on such; tiles whose weights "
        "have a sign\n  hint: compile for a machine of single cells: hardware='resistive-single'"
    )


def test_only_conductances_take_one_cell() -> None:
    assert {name: found.cells_a_weight for name, found in ADMISSIONS.items()} == {
        "hopfield": 2,
        "deep-resistive": 1,
    }
