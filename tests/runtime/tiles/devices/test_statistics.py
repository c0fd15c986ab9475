"""Noise and drift that depend on the conductance, against aihwkit's models and against moments."""

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

import ffebm
from ffebm.errors import HardwareError
from ffebm.hardware.description import Crossbar, Hardware, Statistics, load_hardware
from ffebm.hardware.devices.cell import CHARACTERISED
from ffebm.plan.conductance import adc_range, to_levels, weight_range
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.cell_array import CellArray
from ffebm.runtime.tiles.devices.statistics import STATISTICS, DeviceStatistics
from ffebm.runtime.tiles.projection import make_tile
from tests.machines import ratio, seconds, with_tiles
from tests.runtime.tiles.bench import crossbar, random, source, with_cell

needs_aihwkit = pytest.mark.skipif(
    importlib.util.find_spec("aihwkit") is None, reason="aihwkit is not installed: pip install aihwkit"
)
DAY = 86400.0
DEVICES = {"pcm": ("pcm", {}), "hermes-1": ("hermes", {"num_devices": 1}), "hermes-2": ("hermes", {})}
SHARES = torch.linspace(0.0, 1.0, 201)[1:]


def measured(name: Any = "hermes-2", elapsed: float = 3600.0, *, compensated: bool = False) -> Crossbar:
    """A crossbar of 8 x 6 of such cells, from 0 S to what they are measured up to, converters exact."""
    fine = crossbar(levels=2**24, bits=24)
    largest = CHARACTERISED[name] or 25e-6
    kind = Statistics(name=name, elapsed=seconds(elapsed), compensation="global" if compensated else "none")
    cell = fine.cell
    return with_cell(
        fine,
        g_min=replace(cell.g_min, value=0.0),
        g_max=replace(cell.g_max, value=largest),
        programming_noise=None,
        read_noise=None,
        statistics=kind,
    )


def theirs(name: str, monkeypatch: pytest.MonkeyPatch, drawn: float) -> tuple[Any, float]:
    """aihwkit's model with the same number for every random one, and its g_max in microsiemens."""
    module, settings = DEVICES[name]
    noise = importlib.import_module(f"aihwkit.inference.noise.{module}")
    monkeypatch.setattr(noise, "randn_like", lambda like: torch.full_like(like, drawn))
    model = (noise.PCMLikeNoiseModel if module == "pcm" else noise.HermesNoiseModel)(
        **({"g_max": 25.0} if module == "pcm" else settings)
    )
    return model, float(model.g_max)


@needs_aihwkit
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("name", DEVICES)
def test_each_curve_is_that_of_aihwkit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, (model, g_max) = STATISTICS[name], theirs(name, monkeypatch, 1.0)
    siemens, micro = SHARES * g_max * 1e-6, SHARES * g_max
    programmed = siemens + ours.programmed(siemens, g_max * 1e-6)
    assert torch.allclose(programmed * 1e6, model.apply_programming_noise_to_conductance(micro), rtol=1e-5)
    nu = ours.exponents(siemens, g_max * 1e-6, torch.ones(200))
    assert torch.allclose(nu, model.generate_drift_coefficients(micro), rtol=1e-5)
    for after in (20.0, 3600.0, 30 * DAY):
        # it counts from `t_0` on
        expected = model.apply_drift_noise_to_conductance(micro, nu, after - model.t_0)
        found = siemens * ours.decay(nu, after) * (1 + ours.read_noise(siemens, g_max * 1e-6, after))
        assert torch.allclose(found * 1e6, expected, rtol=1e-5)


def ours_at(tile: Crossbar, weight: Tensor, inputs: Tensor, times: tuple[float, ...]) -> list[float]:
    """Relative errors of products so long after programming, 0 standing for the start of drift."""
    made = make_tile(tile, source(99), "m")
    made.program(weight)
    found = []
    for after in times:
        made.at(after)
        found.append(float((made.mvm(inputs) - inputs @ weight.T).norm() / (inputs @ weight.T).norm()))
    return found


def aihwkit_at(tile: Crossbar, weight: Tensor, inputs: Tensor, times: tuple[float, ...]) -> list[float]:
    """The same of aihwkit's tile with the same converters, and its HERMES model."""
    nn, configs, parameters, noise, compensation = (
        importlib.import_module(f"aihwkit.{name}")
        for name in (
            "nn",
            "simulator.configs",
            "simulator.parameters",
            "inference.noise.hermes",
            "inference.compensation.drift",
        )
    )
    levels = to_levels(weight, weight_range(weight, tile, 256), tile)
    config = configs.TorchInferenceRPUConfig(
        mapping=parameters.MappingParameter(weight_scaling_omega=1.0, max_input_size=0, max_output_size=0),
        forward=parameters.IOParameters(
            inp_res=1.0 / (2 * tile.dac.top),
            inp_noise=0.0,
            out_bound=float(adc_range(levels, tile)),
            out_res=1.0 / (2 * tile.adc.top),
            out_noise=0.0,
            bound_management=parameters.enums.BoundManagementType.NONE,
        ),
        noise_model=noise.HermesNoiseModel(num_devices=2),
        drift_compensation=compensation.GlobalDriftCompensation(),
    )
    layer = nn.AnalogLinear(256, 256, bias=False, rpu_config=config)
    layer.set_weights(weight)
    layer.eval()
    layer.program_analog_weights()
    found = []
    for after in times:
        layer.drift_analog_weights(after - 300.0)
        found.append(float((layer(inputs) - inputs @ weight.T).norm() / (inputs @ weight.T).norm()))
    return found


@needs_aihwkit
@pytest.mark.filterwarnings("ignore")
def test_products_of_hermes_err_as_those_of_aihwkit() -> None:
    tile = load_hardware("hermes").analog[0].tile.crossbar()
    times = (20.0, 3600.0, 30 * DAY, 320.0, 3900.0)  # aihwkit's own times begin 300 s after programming
    ours, theirs = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        weight, inputs = torch.randn(256, 256), torch.rand(256, 256) * 2 - 1
        ours.append(torch.tensor(ours_at(tile, weight, inputs, times)))
        theirs.append(torch.tensor(aihwkit_at(tile, weight, inputs, times)))
    mean, expected = torch.stack(ours).mean(0), torch.stack(theirs).mean(0)
    assert torch.all((mean / expected - 1).abs() < 0.05), (mean, expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", DEVICES)
def test_cells_are_written_with_the_deviation_of_their_target(name: str, share: float) -> None:
    tile = measured(name)
    g_max = tile.cell.g_max.value
    cells = CellArray(tile.cell, source(), "m")
    cells.write(torch.full((300, 300), share * g_max))
    sigma = float(STATISTICS[name].programmed(torch.tensor([share * g_max]), g_max))
    error = cells.conductance.double() - share * g_max
    if share == 0:  # no conductance is negative: half of the normal numbers become 0
        assert float(error.mean()) == pytest.approx(sigma / math.sqrt(2 * math.pi), rel=0.02)
        return
    assert float(error.std()) == pytest.approx(sigma, rel=0.02)
    assert abs(float(error.mean())) < 4 * sigma / 300


def test_drift_belongs_to_the_cell_and_follows_its_target() -> None:
    tile = measured("pcm")
    cells = CellArray(tile.cell, source(), "m")
    target = torch.tensor([0.02, 0.2, 1.0]).repeat_interleave(40_000).view(3, -1) * 25e-6
    exponents = []
    for _ in range(2):  # written twice, each cell keeps its place in the distribution
        cells.write(target)
        cells.elapsed = 20.0
        assert torch.equal(cells.seen(), cells.conductance)
        cells.elapsed = 20.0 * math.e
        exponents.append(-(cells.seen() / cells.conductance.clamp(min=1e-12)).log())
    kept = (cells.conductance[1:] > 1e-7).all(0)
    assert torch.allclose(exponents[0][1:, kept], exponents[1][1:, kept], atol=1e-4)
    # the formulas of aihwkit at .2 and 1: .0155 ln 5 + .0244 is below .049 + 1e-3, spreads are .0142 and .008
    assert exponents[0][1:].mean(1).tolist() == pytest.approx([0.04935, 0.049], abs=2e-4)
    assert exponents[0][1:].std(1).tolist() == pytest.approx([0.01422, 0.008], rel=0.02)


@pytest.mark.parametrize("mapping", ["differential", "offset"])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_noise_of_a_line_is_that_of_all_its_cells(mapping: Any, transposed: bool) -> None:
    tile = replace(measured(), mapping=mapping)
    made = CrossbarTile(tile, source(), "m")
    made.program(random(6, 8, dtype=torch.float64))
    vector = random(6 if transposed else 8, seed=1)
    many = vector.expand(40_000, -1)
    reads = made.mvm_t(many) if transposed else made.mvm(many)

    cells, scale = made._cells, float(made._programmed()[0, 0])
    up, down = cells._up, cells._down
    span = tile.cell.g_max.value
    deviation = [
        c.seen() * STATISTICS["hermes-2"].read_noise(c.conductance, span, 3600.0) / span * scale
        for c in (up, down)
    ]
    drawn = [
        d * torch.randn(4000, *d.shape, generator=source(2), dtype=torch.float64) for d in deviation
    ]  # every cell, not every line
    noise = drawn[0] - drawn[1]
    expected = (noise.mT if transposed else noise) @ vector
    assert torch.allclose(reads.std(0), expected.std(0), rtol=0.06)
    exact = (made.read().mT if transposed else made.read()) @ vector
    assert torch.all((reads.mean(0) - exact).abs() < 5 * reads.std(0) / 200 + 1e-5)
    if mapping == "offset":
        found, drawn_alike = torch.corrcoef(reads.mT), torch.corrcoef(expected.mT)
        assert torch.allclose(found, drawn_alike, atol=0.06)


def test_a_state_knows_what_cells_were_to_be() -> None:
    tile = measured(compensated=True)
    first, second = (CrossbarTile(tile, source(seed), "m") for seed in (0, 1))
    first.program(random(6, 8))
    second.program(random(6, 8, seed=3))
    second.restore(first.state())
    for after in (20.0, 1e4, 1e7):
        first.at(after)
        second.at(after)
        assert torch.equal(first.read(), second.read())


def test_without_noise_cells_only_drift() -> None:
    quiet = measured()
    assert quiet.cell.statistics is not None
    quiet = with_cell(quiet, statistics=replace(quiet.cell.statistics, noise=0.0))
    made = CrossbarTile(quiet, source(), "m")
    weight = random(6, 8)
    made.program(weight)
    made.at(300.0)
    assert torch.allclose(made.mvm(torch.eye(8, dtype=torch.float64)), weight.mT, atol=1e-5)
    made.at(1e6)
    assert float((made.read() - weight).norm() / weight.norm()) > 0.2


def test_a_plan_runs_on_measured_cells_and_is_another_after_a_month() -> None:
    plan = ffebm.compile(torch.nn.Sequential(torch.nn.Linear(24, 8)), (torch.rand(2, 24),), hardware="hermes")
    net = ffebm.Executor(plan, seed=0)
    x = torch.rand(64, 24)
    with net.at(3600.0):
        hour = net(x)
    with net.at(30 * DAY):
        month = net(x)
    exact = torch.nn.functional.linear(x, net.weights()["0.weight"], net.weights()["0.bias"])
    assert float((hour - exact).norm()) < float((month - exact).norm())


Change = Callable[[Crossbar], Crossbar]


def statistics_of(tile: Crossbar) -> Statistics:
    return cast("Statistics", tile.cell.statistics)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: with_cell(t, programming_noise=ratio(0.1)),
            "cell.programming_noise: statistics 'hermes-2' beside it; one of them: statistics are those "
            "behind write-and-verify",
        ),
        (
            lambda t: with_cell(t, g_max=replace(t.cell.g_max, value=25e-6)),
            "cell.g_max: 2.5e-05 S, where 'hermes-2' is measured up to 2.07e-05 S; at most 2.07e-05 S",
        ),
        (
            lambda t: with_cell(t, statistics=replace(statistics_of(t), elapsed=seconds(0.0))),
            "cell.statistics.elapsed: 0 s after programming; more than 0",
        ),
        (
            lambda t: with_cell(t, statistics=None),
            "cell.programming_noise: no noise; a quantity (0 is without), or cell.statistics",
        ),
    ],
)
def test_contradictions(change: Change, message: str) -> None:
    machine: Hardware = load_hardware("hermes")
    tile = change(machine.analog[0].tile.crossbar())
    with pytest.raises(HardwareError) as caught:
        ffebm.compile(torch.nn.Linear(4, 4), (torch.rand(2, 4),), hardware=with_tiles(machine, tile=tile))
    assert f"analog.tiles.tile.{message}" in str(caught.value)


def test_a_polynomial_is_a_polynomial() -> None:
    curve = DeviceStatistics((1.0, 2.0, 3.0), 2.0, torch.abs, torch.abs, torch.abs, 1.0, 1.0)
    assert curve.programmed(torch.tensor([0.5]), 1.0).tolist() == [(1 + 2 * 0.5 + 3 * 0.25) / 2]
