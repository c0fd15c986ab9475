"""Transfers beside aihwkit's compiled tile: with pulses that are certain both are the same to rounding."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from ffebm.hardware.description import Chopper, Transfer
from ffebm.runtime.tiles.projection import make_tile
from tests.machines import ratio
from tests.runtime.tiles.bench import random, source
from tests.runtime.tiles.test_products import described, signs, start

PULSE = 0.02


def compiled(device: Any, weight: Tensor, steps: list[Tensor]) -> list[Tensor]:
    """Weights of aihwkit's tile after each update, of one pulse up or down; skips where it does not run."""
    nn = pytest.importorskip("aihwkit.nn")
    configs = importlib.import_module("aihwkit.simulator.configs")
    update = configs.UpdateParameters(desired_bl=1, update_bl_management=False, update_management=False)
    config = configs.UnitCellRPUConfig(device=device, update=update)
    try:
        layer = nn.AnalogLinear(weight.shape[1], weight.shape[0], bias=False, rpu_config=config)
        tile = next(iter(layer.analog_tiles()))
        tile.tile.set_weights(weight.float())
    except RuntimeError as error:
        pytest.skip(f"aihwkit's compiled tiles do not run with this torch: {error}")
    tile.set_learning_rate(PULSE)
    found = []
    for step in steps:
        tile.update(torch.ones(1, weight.shape[1]), -step.float()[None])
        found.append(tile.tile.get_weights().clone())
    return found


def compound(name: str, **settings: Any) -> Any:
    """Two arrays of symmetric soft bounds; the slow one is read out and written without any noise."""
    devices = importlib.import_module("aihwkit.simulator.configs.devices")
    configs = importlib.import_module("aihwkit.simulator.configs")
    exact = {
        "dw_min": PULSE, "dw_min_std": 0.0, "dw_min_dtod": 0.0, "up_down": 0.0, "up_down_dtod": 0.0,
        "w_max": 1.0, "w_min": -1.0, "w_max_dtod": 0.0, "w_min_dtod": 0.0,
    }  # fmt: skip
    cells = [devices.SoftBoundsDevice(**exact) for _ in range(2)]
    once = configs.UpdateParameters(desired_bl=1, update_bl_management=False, update_management=False)
    return getattr(configs, name)(
        unit_cell_devices=cells,
        transfer_forward=configs.IOParameters(is_perfect=True),
        transfer_update=once,
        scale_transfer_lr=False,
        momentum=0.0,
        forget_buffer=False,
        **settings,
    )


def ours(remedy: Transfer, weight: Tensor, steps: list[Tensor]) -> list[Tensor]:
    """Weights of a tile after each update."""
    tile = make_tile(described(*weight.shape, pulses=1, remedy=remedy), source(), "tile")
    tile.program(weight)
    found = []
    for step in steps:
        tile.update((step[:, None] * PULSE * (1 + 1e-6)).expand_as(weight))
        found.append(tile.read())
    return found


def pulses(count: int, n_out: int) -> list[Tensor]:
    """Pulses of each output: some go up mostly, some down."""
    return [(random(n_out, seed=k) + 0.7 * signs(n_out, seed=999)).sign() for k in range(count)]


def same(found: list[Tensor], expected: list[Tensor], weight: Tensor) -> None:
    """Equal, but for the few pulses within a thousandth of the threshold, a transfer earlier here."""
    apart = (torch.stack(found).float() - torch.stack(expected)).abs()
    assert float((apart > 2e-5).double().mean()) < 0.01
    assert float(apart.max()) < 1.05 * PULSE
    assert float((expected[-1] - weight).abs().median()) > 2 * PULSE


@pytest.mark.filterwarnings("ignore")
def test_a_buffered_transfer_is_that_of_the_compiled_tile() -> None:
    pytest.importorskip("aihwkit")
    weight, steps = start(6, 8), pulses(60, 6)
    settings = {
        "transfer_every": 3.0,
        "units_in_mbatch": True,
        "n_reads_per_transfer": 8,
        "transfer_lr": 0.37,
    }
    expected = compiled(compound("BufferedTransferCompound", **settings), weight, steps)
    same(ours(Transfer(every=3, rate=ratio(0.37), buffered=True), weight, steps), expected, weight)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chance", [0.2, 0.06])
@pytest.mark.parametrize("every", [1, 2])
def test_a_regularly_chopped_transfer_is_that_of_the_compiled_tile(chance: float, every: int) -> None:
    """Of one word line, as the compiled tile reads a line at a time."""
    pytest.importorskip("aihwkit")
    weight, steps = start(12, 1), pulses(80, 12)
    expected = compiled(
        compound(
            "ChoppedTransferCompound", transfer_every=float(every), units_in_mbatch=False, transfer_lr=0.37,
            in_chop_prob=chance, in_chop_random=False,
        ),
        weight,
        steps,
    )  # fmt: skip
    chopper = Chopper(inputs=ratio(chance), regular=True)
    found = ours(Transfer(every=every, rate=ratio(0.37), buffered=True, chopper=chopper), weight, steps)
    same(found, expected, weight)
    plain = ours(Transfer(every=every, rate=ratio(0.37), buffered=True), weight, steps)
    assert float((plain[-1] - found[-1]).abs().max()) > PULSE  # the signs matter


@pytest.mark.filterwarnings("ignore")
def test_a_randomly_chopped_transfer_is_in_the_mean_that_of_the_compiled_tile() -> None:
    """Signs of word and bit lines flip at random: means over many cells, within five standard errors."""
    pytest.importorskip("aihwkit")
    n_out, runs, count = 40, 30, 60
    weight, steps = torch.zeros(n_out, 1, dtype=torch.float64), [torch.ones(n_out)] * count
    weight[0] = 0.5
    theirs, mine = [], []
    chopper = Chopper(inputs=ratio(0.1), outputs=ratio(0.05))
    remedy = Transfer(every=1, rate=ratio(0.1), buffered=True, chopper=chopper)
    for run in range(runs):
        device = compound(
            "ChoppedTransferCompound", transfer_every=1.0, units_in_mbatch=False, transfer_lr=0.1,
            in_chop_prob=0.1, out_chop_prob=0.05,
        )  # fmt: skip
        theirs.append(torch.stack(compiled(device, weight, steps))[:, 1:, 0])
        tile = make_tile(described(n_out, 1, pulses=1, remedy=remedy), source(run), f"tile {run}")
        tile.program(weight)
        path = []
        for _ in steps:
            tile.update(torch.full_like(weight, PULSE * (1 + 1e-6)))
            path.append(tile.read()[1:, 0])
        mine.append(torch.stack(path))
    means = [torch.stack(found).double().mean(-1) for found in (theirs, mine)]  # of the cells, [runs, count]
    error = sum((m.var(0) / runs for m in means), torch.zeros(count, dtype=torch.float64)).sqrt()
    apart = (means[0].mean(0) - means[1].mean(0)).abs()
    assert bool((apart <= 5 * error + 1e-3 * PULSE).all())
    assert float(means[1].mean(0)[-1]) > 2 * PULSE
    assert float(error[-1]) < 0.2 * float(means[1].mean(0)[-1])
