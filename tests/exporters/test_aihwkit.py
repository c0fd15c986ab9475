"""The aihwkit export, and our crossbar beside aihwkit's torch tile at equal settings."""

import importlib.util
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import safetensors.torch
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from ffebm.compiler.driver import compile_model
from ffebm.exporters.aihwkit import export_aihwkit
from ffebm.hardware.description import Crossbar, Hardware, load_hardware
from ffebm.plan.conductance import adc_range, to_levels, weight_range
from ffebm.plan.plan import Plan
from ffebm.runtime.executor import Executor
from ffebm.runtime.tiles.crossbar import CrossbarTile
from tests.backends.exported import adc_limit, changed, dense_plan, image_plan, quiet, written
from tests.machines import crossbars, ratio, with_tiles
from tests.runtime.tiles.devices.test_pulses import law

needs_aihwkit = pytest.mark.skipif(
    importlib.util.find_spec("aihwkit") is None, reason="aihwkit is not installed: pip install aihwkit"
)
Module = dict[str, Any]


class Network(nn.Module):
    """A convolution, dense layers on one and on several tiles, and a digital layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.LayerNorm(6 * 36)
        self.wide = nn.Linear(6 * 36, 40)
        self.tail = nn.Sequential(nn.Linear(40, 12), nn.ReLU(), nn.Linear(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(torch.relu(self.conv(x)).flatten(1))
        found: Tensor = self.tail(torch.relu(self.wide(hidden)))
        return found


def noisy(machine: Hardware, *, programming: float, reading: float) -> Hardware:
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    cell = replace(
        tile.cell,
        programming_noise=ratio(programming),
        read_noise=ratio(reading),
    )
    return with_tiles(machine, tile=replace(tile, cell=cell))


def network(machine: Hardware) -> tuple[Network, Plan]:
    torch.manual_seed(0)
    model = Network().eval()
    return model, compile_model(model, (torch.randn(2, 2, 6, 6),), hardware=machine, replicas=1)


def loaded(plan: Plan, folder: Path) -> Module:
    return runpy.run_path(str(written(export_aihwkit, plan, folder) / "rpu.py"))


def converted(model: nn.Module, module: Module, folder: Path) -> nn.Module:
    """As the module's own text says to do."""
    from aihwkit.nn.conversion import convert_to_analog

    held = safetensors.torch.load_file(folder / "weights.safetensors")
    assert not model.load_state_dict(held, strict=False).unexpected_keys
    analog: nn.Module = convert_to_analog(
        model,
        module["BASE"],
        specific_rpu_config_fun=module["config_of"],
        exclude_modules=module["EXCLUDE"],
    )
    return analog


def tile_pair(machine: Hardware, weight: Tensor, make: Callable[[float], Any]) -> tuple[CrossbarTile, Any]:
    """Our tile and aihwkit's torch tile with the same weights, ranges and converters."""
    from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile

    assert isinstance(machine.analog[0].tile, Crossbar)
    ours = CrossbarTile(machine.analog[0].tile, torch.Generator().manual_seed(0))
    ours.program(weight)
    calm = quiet(machine).analog[0].tile
    assert isinstance(calm, Crossbar)
    exact = CrossbarTile(calm, torch.Generator())
    exact.program(weight)
    theirs = TorchInferenceTile(*weight.shape, make(adc_limit(machine, weight)))
    theirs.set_weights(exact.read())
    return ours, theirs


@needs_aihwkit
@pytest.mark.parametrize("scale", ["piece", "column"])
@pytest.mark.parametrize("omega", [1.0, 51 / 127])
def test_weights_are_scaled_as_aihwkit_scales_them(
    scale: Literal["piece", "column"], omega: float, tmp_path: Path
) -> None:
    from aihwkit.nn import AnalogLinear

    machine = changed(quiet(crossbars(4, 64, 64)), scale=scale, omega=omega)
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    module = loaded(dense_plan(machine), tmp_path / "x")
    torch.manual_seed(0)
    weight, x = torch.randn(30, 50) * torch.logspace(-2, 1, 30)[:, None], torch.randn(64, 50)
    ours = CrossbarTile(tile, torch.Generator())
    ours.program(weight)
    reach = weight_range(weight, tile, 50)
    limit = adc_range(to_levels(weight, reach, tile), tile)
    layer = AnalogLinear(50, 30, bias=False, rpu_config=module["_config"](float(limit), omega))
    layer.set_weights(ours.read())
    theirs = layer.analog_module.get_mapping_scales()
    assert torch.allclose(ours.reach[:, 0].expand(30), theirs.expand(30), rtol=1e-5)
    found, expected = ours.mvm(x), layer.eval()(x).detach()
    code = reach[:, 0] * float(limit) / 127 * x.abs().amax(1, keepdim=True)
    steps = (found - expected).abs() / code
    assert float(steps.max()) < 1.01
    assert float((steps > 0.5).float().mean()) < 0.002


@needs_aihwkit
def test_a_plan_with_scales_says_so_to_aihwkit(tmp_path: Path) -> None:
    machine = changed(quiet(crossbars(16, 12, 8)), scale="column", omega=0.4)
    plan = dense_plan(machine)
    for config in loaded(plan, tmp_path / "x")["RPU"].values():
        assert config.mapping.weight_scaling_omega == 0.4
        assert config.mapping.weight_scaling_columnwise
    learning = changed(machine, scale="piece", omega=1.0, update=law(range=ratio(2.0), spread=0.0))
    for config in loaded(dense_plan(learning), tmp_path / "y")["RPU"].values():
        assert config.mapping.weight_scaling_omega == pytest.approx(0.5)


@needs_aihwkit
@pytest.mark.parametrize(("n_out", "n_in"), [(1, 1), (100, 200), (256, 256), (3, 250)])
def test_quantised_products_are_equal_to_one_adc_step(n_out: int, n_in: int, tmp_path: Path) -> None:
    machine = quiet(crossbars(4, 256, 256))
    config = loaded(dense_plan(machine), tmp_path / "x")["_config"]
    torch.manual_seed(0)
    weight, x = torch.randn(n_out, n_in), torch.randn(64, n_in)
    ours, theirs = tile_pair(machine, weight, config)
    found, expected = ours.mvm(x), theirs.eval()(x).detach()
    code = float(weight.abs().max()) * adc_limit(machine, weight) / 127
    steps = (found - expected).abs() / (code * x.abs().amax(1, keepdim=True))
    assert steps.max() < 1.001
    assert (steps > 0.001).float().mean() < 0.01  # but for ties, the same code
    assert expected.unique().numel() > 20


@needs_aihwkit
@pytest.mark.parametrize("mapping", ["differential", "offset"])
def test_read_noise_has_the_variance_of_theirs(mapping: str, tmp_path: Path) -> None:
    machine = changed(noisy(crossbars(4, 256, 256), programming=0.0, reading=0.05), mapping=mapping)
    config = loaded(dense_plan(machine), tmp_path / "x")["_config"]
    torch.manual_seed(0)
    weight, x = torch.randn(200, 150) / 10, torch.randn(1, 150)
    ours, theirs = tile_pair(machine, weight, config)
    # lines share the noise of an offset column: half of the variance is averaged over samples alone
    n_samples, n_independent = (4000, 2 * 4000) if mapping == "offset" else (400, 400 * 200)
    batch = x.expand(n_samples, -1)
    found, expected = ours.mvm(batch), theirs.train()(batch).detach()
    assert found.var(0).mean() == pytest.approx(float(expected.var(0).mean()), rel=0.02)
    off = float(found.std(0).mean()) / n_independent**0.5
    assert found.mean() == pytest.approx(float(expected.mean()), abs=4 * off)


@needs_aihwkit
def test_output_noise_has_the_variance_of_theirs(tmp_path: Path) -> None:
    """With inputs of one magnitude, read noise is output noise of one size, which their eval mode knows."""
    reading, n_in = 0.05, 128
    machine = noisy(crossbars(4, 256, 256), programming=0.0, reading=reading)
    config = loaded(dense_plan(machine), tmp_path / "x")["_config"]

    def with_output_noise(limit: float) -> Any:
        made = config(limit)
        made.forward.out_noise = (2 * n_in) ** 0.5 * reading
        return made

    torch.manual_seed(0)
    weight, x = torch.randn(200, n_in) / 10, torch.randn(1, n_in).sign().expand(400, -1)
    ours, theirs = tile_pair(machine, weight, with_output_noise)
    found, expected = ours.mvm(x), theirs.eval()(x).detach()
    assert found.var(0).mean() == pytest.approx(float(expected.var(0).mean()), rel=0.02)


@needs_aihwkit
def test_noise_of_adcs_has_the_variance_of_theirs(tmp_path: Path) -> None:
    machine = noisy(crossbars(4, 256, 256), programming=0.0, reading=0.0)
    adc = replace(machine.analog[0].tile.crossbar().adc, noise=ratio(0.02))
    machine = changed(machine, adc=adc)
    plan = dense_plan(machine)
    assert not [note for note in export_aihwkit(plan).notes if "noise of ADCs" in note]
    config = loaded(plan, tmp_path / "x")["_config"]
    torch.manual_seed(0)
    weight, x = torch.randn(200, 150) / 10, torch.randn(1, 150).expand(400, -1)
    ours, theirs = tile_pair(machine, weight, config)
    found, expected = ours.mvm(x), theirs.eval()(x).detach()
    assert found.var(0).mean() == pytest.approx(float(expected.var(0).mean()), rel=0.03)


@needs_aihwkit
def test_programming_noise_has_the_variance_of_theirs(tmp_path: Path) -> None:
    """Far from 0 S, where neither is clipped: both cells of a pair near the middle of their range."""
    machine = noisy(crossbars(4, 256, 256), programming=0.002, reading=0.0)
    config = loaded(dense_plan(machine), tmp_path / "x")["_config"]
    torch.manual_seed(0)
    weight = torch.rand(250, 250) - 0.5
    ours, theirs = tile_pair(machine, weight, config)
    target = theirs.tile.get_weights().clone()
    scale = weight.abs().max()
    theirs.eval().program_weights(noise_model=config(1.0).noise_model)
    found = (ours.read() / scale - target).var()
    expected = (theirs.tile.get_weights() - target).var()
    assert found == pytest.approx(float(expected), rel=0.02)
    assert found == pytest.approx(2 * 0.002**2, rel=0.02)


@needs_aihwkit
def test_the_module_converts_a_network_that_computes_what_the_plan_does(tmp_path: Path) -> None:
    model, plan = network(quiet(crossbars(64, 64, 64)))
    module = loaded(plan, tmp_path / "x")
    assert list(module["RPU"]) == ["conv", "wide", "tail.0", "tail.2"]
    x = torch.randn(16, 2, 6, 6)
    exact, ours = model(x), Executor(plan)(x)
    analog = converted(model, module, tmp_path / "x").eval()
    found = analog(x)
    assert type(analog.get_submodule("wide")).__name__ == "AnalogLinear"
    tiles = [t for t in analog.modules() if type(t).__name__ == "TorchInferenceTile"]
    assert len(tiles) == sum(1 for _ in plan.pieces()) == 7
    assert (found - ours).norm() < 0.5 * (ours - exact).norm() + 0.02 * exact.norm()
    assert (found - exact).norm() < 0.1 * exact.norm()


@needs_aihwkit
def test_noisy_modules_train(tmp_path: Path) -> None:
    model, plan = network(crossbars(64, 64, 64))
    analog = converted(model, loaded(plan, tmp_path / "x"), tmp_path / "x").train()
    x = torch.randn(8, 2, 6, 6)
    first, second = analog(x), analog(x)
    assert not torch.equal(first, second)
    first.square().mean().backward()
    learnt = {n: p for n, p in analog.named_parameters() if not n.endswith("analog_ctx")}
    assert len(learnt) == 13
    assert [n for n, p in learnt.items() if p.grad is None or p.grad.abs().sum() == 0] == []
    analog.eval()
    before = analog(x)
    analog.program_analog_weights()  # type: ignore[operator]
    assert not torch.equal(analog(x), before)


@needs_aihwkit
def test_exact_tiles_are_perfect(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Network().eval()
    plan = compile_model(model, (torch.randn(2, 2, 6, 6),), hardware="ideal")
    x = torch.randn(4, 2, 6, 6)
    expected = model(x)
    found = converted(model, loaded(plan, tmp_path / "x"), tmp_path / "x").eval()(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@needs_aihwkit
def test_a_layer_that_the_plan_does_not_know_is_an_error(tmp_path: Path) -> None:
    module = loaded(dense_plan(), tmp_path / "x")
    with pytest.raises(KeyError, match="layer 'other' is in neither RPU nor EXCLUDE"):
        module["config_of"]("other", nn.Linear(2, 2), module["BASE"])
    assert module["config_of"]("", nn.Sequential(), module["BASE"]) == module["BASE"]


def test_what_cannot_be_expressed_is_said_in_the_file() -> None:
    exported = export_aihwkit(image_plan(block_size=2))
    text = exported.files["rpu.py"].decode()
    assert "'conv2' stays torch: aihwkit converts no grouped convolutions" in exported.notes
    assert any(note.startswith("block0: the layers settle together") for note in exported.notes)
    assert any(note.startswith("'readout' lies on tiles with ADC ranges") for note in exported.notes)
    plain = re.sub(r"\n  ", " ", text)
    assert all(f"- {note}" in plain for note in exported.notes)
    assert "EXCLUDE = [\n    'conv2',\n]" in text
    held = safetensors.torch.load(exported.files["weights.safetensors"])
    assert {name: tuple(value.shape) for name, value in held.items()} == {
        "conv1.weight": (6, 2, 3, 3),
        "readout.weight": (4, 96),
    }


def test_effects_that_are_left_out_are_named() -> None:
    ratio = load_hardware("reference").analog[0].tile.cell.read_noise  # type: ignore[union-attr]
    plan = dense_plan(changed(crossbars(16, 12, 8), mismatch=ratio, slices=2, mapping="offset"))
    assert (
        "left out of what the hardware description asks for: weights in slices, offset columns, "
        "mismatch of the two directions"
    ) in export_aihwkit(plan).notes


@needs_aihwkit
def test_an_offset_column_changes_no_quantised_product(tmp_path: Path) -> None:
    machine = changed(quiet(crossbars(4, 64, 64)), mapping="offset")
    model, plan = network(machine)
    analog = converted(model, loaded(plan, tmp_path / "x"), tmp_path / "x").eval()
    (piece,) = (piece for _, piece in plan.pieces() if piece.weight == "tail.2.weight")
    x = torch.randn(32, 12)
    assert isinstance(machine.analog[0].tile, Crossbar)
    ours = CrossbarTile(machine.analog[0].tile, torch.Generator())
    ours.program(torch.from_numpy(plan.weights["tail.2.weight"].copy()))
    module = analog.get_submodule("tail.2").analog_module
    assert isinstance(module, nn.Module)
    found = module(x).detach()
    bias = torch.from_numpy(plan.weights["tail.2.bias"].copy())
    step = piece.scale * piece.adc_range / 127 * x.abs().amax(1, keepdim=True)
    steps = (found - bias - ours.mvm(x)).abs() / step
    assert steps.max() < 1.001
    assert steps.median() < 0.001


def test_weights_are_on_levels_in_torchs_layout() -> None:
    plan = dense_plan()
    held = safetensors.torch.load(export_aihwkit(plan).files["weights.safetensors"])
    for name, source in (
        ("fc1.weight", plan.weights["fc1.weight"].T),
        ("fc2.weight", plan.weights["fc2.weight"]),
    ):
        largest = max(p.scale for _, p in plan.pieces() if p.weight == name)
        assert np.abs(held[name].numpy() - source).max() <= 0.5001 * largest / 127
        assert not np.array_equal(held[name].numpy(), source)
