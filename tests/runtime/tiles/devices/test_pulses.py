import importlib
import math
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

import ffebm
from ffebm.errors import HardwareError
from ffebm.hardware.description import ExponentialStep, LinearStep, Transfer, Update, load_hardware
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.pulses import pulsed
from tests.machines import joules, ratio, seconds, with_tiles
from tests.runtime.tiles.bench import crossbar, random, source

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


def linear(up: float, down: float, spread: float = 0.0, **changes: Any) -> Update:
    """A device with linear steps."""
    step = LinearStep(up=ratio(up), down=ratio(down), spread=ratio(spread))
    return law(bounds="hard", step=step, **changes)


EXPONENTIAL = ExponentialStep(
    up=0.00081, down=0.36833, exponent_up=12.44625, exponent_down=12.78785, slope=0.244, offset=0.2425
)
"""The fit that ExpStepDevice of aihwkit has by default."""
STEPS = {
    "linear": linear(0.4, 0.7, asymmetry=ratio(0.2)),
    "soft as linear": linear(1.0, 1.0),
    "constant as linear": linear(0.0, 0.0),
    "exponential": law(bounds="hard", step=EXPONENTIAL, asymmetry=ratio(0.1)),
}


def published(w: float, up: bool, device: Update) -> float:
    """One pulse as aihwkit's documents have it: simulator/configs/devices.py."""
    size = 0.02 * (1 + device.asymmetry.value * (1 if up else -1))
    if isinstance(device.step, LinearStep):
        gamma = -device.step.up.value if up else device.step.down.value
        dw = size * (gamma * w + 1)
    else:
        assert device.step is not None
        z = 2 * 0.244 * w / 2 + 0.2425
        y = 1 - 0.00081 * math.exp(12.44625 * z) if up else 1 - 0.36833 * math.exp(-12.78785 * z)
        dw = max(y, 0) * size
    return min(1.0, max(-1.0, w + dw if up else w - dw))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_a_step_is_that_of_its_formula(name: str, up: bool, n: int) -> None:
    device = STEPS[name]
    start = torch.linspace(-1, 1, 41, dtype=torch.float64)
    found = pulsed(start, torch.full_like(start, (n if up else -n) * 0.02 * (1 + 1e-9)), device, source())
    expected = start.tolist()
    for _ in range(n):
        expected = [published(w, up, device) for w in expected]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def compiled_update(device: Any, start: Tensor, pulses: int) -> Tensor:
    """What aihwkit's compiled tile makes of so many pulses, up if positive; skips where it does not run."""
    nn = pytest.importorskip("aihwkit.nn")
    configs = importlib.import_module("aihwkit.simulator.configs")
    count = abs(pulses)
    update = configs.UpdateParameters(desired_bl=count, update_bl_management=False, update_management=False)
    try:
        layer = nn.AnalogLinear(
            start.shape[1], start.shape[0], bias=False,
            rpu_config=configs.SingleRPUConfig(device=device, update=update),
        )  # fmt: skip
        tile = next(iter(layer.analog_tiles()))
        tile.tile.set_weights(start)
    except RuntimeError as error:
        pytest.skip(f"aihwkit's compiled tiles do not run with this torch: {error}")
    tile.set_learning_rate(device.dw_min * count)  # so that every line has a pulse in each of its slots
    tile.update(torch.ones(1, start.shape[1]), torch.full((1, start.shape[0]), -1.0 if pulses > 0 else 1.0))
    found: Tensor = tile.tile.get_weights()
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pulses", [1, -1, 20, -20])
@pytest.mark.parametrize("kind", ["constant", "linear", "soft", "exponential"])
def test_pulses_are_those_of_the_compiled_tile(kind: str, pulses: int) -> None:
    pytest.importorskip("aihwkit")
    devices = importlib.import_module("aihwkit.simulator.configs.devices")
    exact = {
        "dw_min": 0.02, "dw_min_std": 0.0, "dw_min_dtod": 0.0, "up_down": 0.5, "up_down_dtod": 0.0,
        "w_max": 1.0, "w_min": -1.0, "w_max_dtod": 0.0, "w_min_dtod": 0.0,
    }  # fmt: skip
    slopes = {"gamma_up_dtod": 0.0, "gamma_down_dtod": 0.0}
    theirs = {
        "constant": lambda: devices.ConstantStepDevice(**exact),
        "linear": lambda: devices.LinearStepDevice(gamma_up=0.4, gamma_down=0.7, **slopes, **exact),
        "soft": lambda: devices.SoftBoundsDevice(**exact),
        "exponential": lambda: devices.ExpStepDevice(**exact),
    }[kind]()
    # a pulse up is dw_min there and one down half of it: their mean is .75, and up is larger by a third of it
    same: dict[str, Any] = {"pulse": ratio(0.015), "asymmetry": ratio(1 / 3)}
    ours = {
        "constant": law(bounds="hard", **same),
        "linear": linear(0.4, 0.7, **same),
        "soft": law(**same),
        "exponential": law(bounds="hard", step=EXPONENTIAL, **same),
    }[kind]
    start = torch.rand(40, 30, generator=source()) * 1.6 - 0.8
    expected = compiled_update(theirs, start, pulses)
    found = pulsed(start, torch.full_like(start, pulses * 0.015 * (1 + 1e-6)), ours, source())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert not torch.equal(found, start)


def test_slopes_differ_between_cells_for_good() -> None:
    device = linear(0.3, 0.3, spread=0.2, pulses=1)
    tile = CrossbarTile(crossbar_of(device, 200, 300), source(), "m")
    moves = []
    for _ in range(2):
        tile.hold(torch.full((200, 300), 0.8), torch.ones(1, 1))
        before = tile.read().double()
        tile.update(torch.full((200, 300), 0.02 * (1 + 1e-6)))
        moves.append((tile.read().double() - before) / 0.02)
    torch.testing.assert_close(*moves)
    slope = (1 - moves[0]) / 0.8
    normal = torch.randn(10**6, generator=source(5)) * 0.2 + 0.3
    assert float(slope.mean()) == pytest.approx(float(normal.abs().mean()), rel=0.02)
    assert float(slope.std()) == pytest.approx(float(normal.abs().std()), rel=0.02)


def crossbar_of(device: Update, n_out: int, n_in: int) -> Any:
    """A fine crossbar with such cells."""
    return replace(crossbar(levels=2**20, bits=24), rows=n_in, cols=n_out, update=device)


@pytest.mark.parametrize(
    ("device", "point"),
    [
        (law(asymmetry=ratio(0.3)), 0.3),
        (law(bounds="hard", asymmetry=ratio(0.3)), None),
        (linear(1.0, 1.0, asymmetry=ratio(0.3)), 0.3),
        (linear(0.4, 0.7, asymmetry=ratio(0.2)), 0.4 / (1.2 * 0.4 + 0.8 * 0.7)),
        (linear(0.1, 0.1, asymmetry=ratio(0.3)), None),
    ],
)
def test_where_pulses_up_and_down_are_equal(device: Update, point: float | None) -> None:
    assert device.symmetric_point == (None if point is None else pytest.approx(point, abs=1e-12))


def test_the_symmetric_point_of_an_exponential_step_is_where_its_formula_has_it() -> None:
    device = law(bounds="hard", step=EXPONENTIAL)
    point = device.symmetric_point
    assert point is not None
    assert published(point, True, device) - point == pytest.approx(point - published(point, False, device))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            law(step=LinearStep(up=ratio(0.1), down=ratio(0.1), spread=ratio(0.0))),
            "update.step: a step between soft bounds, which are one; hard bounds, or no step",
        ),
        (
            linear(0.1, 0.1, asymmetry=ratio(0.3), remedy=Transfer(every=2, rate=ratio(0.5))),
            "update.remedy: a transfer with such steps, which have no symmetric point; soft bounds, or a "
            "step whose pulses up and down are somewhere equal",
        ),
    ],
)
def test_contradictions(device: Update, message: str) -> None:
    machine = load_hardware("reference")
    tile = replace(machine.analog[0].tile.crossbar(), update=device)
    with pytest.raises(HardwareError) as caught:
        ffebm.compile(torch.nn.Linear(4, 4), (torch.rand(2, 4),), hardware=with_tiles(machine, tile=tile))
    assert f"analog.tiles.tile.{message}" in str(caught.value)
