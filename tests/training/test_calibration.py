"""Plans whose ADC ranges are calibrated on samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from ffebm import EP, Executor, Hardware, Implicit, Plan, Settle, load_hardware
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.hardware.description import Crossbar
from ffebm.hardware.loading_factor import loading_factor
from ffebm.studies.gradcheck.bench import Bench
from ffebm.studies.gradcheck.check import CheckSettings, check
from ffebm.studies.gradcheck.probe import from_file, labelled, random
from ffebm.studies.sensitivity.meter import cosine
from ffebm.training.calibration import SAMPLES, calibrated_on, calibration_batch, follows_data
from ffebm.training.data import Data
from ffebm.training.runs.checkpoint import load_checkpoint, save_checkpoint
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer
from tests.machines import ratio, with_tiles
from tests.models import Builder

SIGMAS = loading_factor(10)


def machine(calibration: str = "data", bits: int = 10) -> Hardware:
    """`reference` without noise."""
    hardware = load_hardware("reference")
    tile = hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    quiet = replace(tile.cell, programming_noise=ratio(0.0), read_noise=ratio(0.0), levels=512)
    adc, dac = replace(tile.adc, bits=bits, calibration=calibration), replace(tile.dac, bits=bits)
    return with_tiles(hardware, tile=replace(tile, cell=quiet, adc=adc, dac=dac))


def plan(hardware: str | Hardware, block_size: int = 1, digital: tuple[str, ...] = ()) -> Plan:
    """Batch normalisation and two layers, whose columns all point where the data points."""
    b = Builder(seed=3)
    y = b.norm(b.conv(b.input("x", "N", 1, 6, 6), 1, 2), 2)
    w = b.constant((torch.rand(72, 20, generator=torch.Generator().manual_seed(1)) * 0.02).numpy(), "hidden")
    y = b.clip(b.node("MatMul", b.node("Flatten", b.clip(y)), w))
    out = b.constant((torch.rand(20, 3, generator=torch.Generator().manual_seed(2)) * 0.5).numpy(), "readout")
    y = b.node("MatMul", y, out)
    settle = Settle(free_sweeps=6, nudged_sweeps=6)
    model = b.model(y)
    return compile_plan(model, hardware=hardware, block_size=block_size, settle=settle, digital=digital)


def samples(n: int = 60) -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 6, 6, generator=generator) + 1.0
    y = x[:, 0, 0, :3].argmax(1)
    return Data("made up", x, y, x[:20], y[:20])


def clipped(net: Executor) -> float:
    """Share of the readings that were clipped."""
    readings = list(net.machine.readings().values())
    return sum(r.clipped for r in readings) / sum(r.total for r in readings)


def gradient(net: Executor, data: Data) -> list[Tensor]:
    loss = net.loss(data.x_train, data.y_train, functional.cross_entropy)
    return list(torch.autograd.grad(loss, [net.weights()["hidden"], net.weights()["readout"]]))


@pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")  # reads are noisy
@pytest.mark.parametrize("block_size", [1, 2])
def test_calibration_ends_clipping_and_saves_the_gradient(block_size: int) -> None:
    data = samples()
    made = plan(machine(), block_size)
    exact = gradient(Executor(plan("ideal", block_size), gradient=Implicit()), data)
    net = Executor(made, gradient=EP(beta=0.1))
    before = cosine(gradient(net, data), exact)
    assert clipped(net) > 0.03
    net.reseed(0)
    net.calibrate(data.x_train, data.y_train, functional.cross_entropy)
    after = cosine(gradient(net, data), exact)
    assert clipped(net) <= 1 / SIGMAS**2
    assert clipped(net) < 0.001
    assert before < 0.97 < 0.99 < after


def test_nothing_else_changes() -> None:
    data = samples()
    net = Executor(plan(machine()))
    net.train()
    weights = {name: w.detach().clone() for name, w in net.weights().items()}
    statistics = {name: s.clone() for name, s in net.running_statistics().items()}
    gradient(net, data)
    assert any(not torch.equal(s, statistics[n]) for n, s in net.running_statistics().items())
    net = Executor(plan(machine()))
    net.train()
    net.calibrate(data.x_train, data.y_train, functional.cross_entropy)
    assert net.training
    assert all(torch.equal(w, weights[n]) and w.grad is None for n, w in net.weights().items())
    assert all(torch.equal(s, statistics[n]) for n, s in net.running_statistics().items())


def test_the_same_samples_set_the_same_ranges() -> None:
    data = samples()
    first, second = (Executor(plan("reference"), seed=1) for _ in range(2))
    for net in (first, second):
        net.calibrate(data.x_train)
    assert torch.equal(first(data.x_test), second(data.x_test))
    second.reseed(1)
    assert not torch.equal(first(data.x_test), second(data.x_test))


def test_machines_without_such_ranges_run_as_before() -> None:
    data = samples()
    everything = tuple({piece.weight for _, piece in plan("reference").pieces()})
    exact = (plan("ideal"), plan("reference", digital=everything))
    for made in (plan(machine("uniform")), plan("resistive"), *exact):
        assert not follows_data(made)
        assert calibrated_on(made, 10) == ""
        calibrated, plain = Executor(made), Executor(made)
        calibrated.calibrate(data.x_train, data.y_train, functional.cross_entropy)
        assert not calibrated.machine.follows_data
        assert torch.equal(calibrated(data.x_test), plain(data.x_test))
    # nor does a calibration draw random numbers
    for net in (*map(Executor, exact), Executor(plan("reference"), tiles=dict.fromkeys(everything))):
        before = net.machine._generator.get_state()
        net.calibrate(data.x_train, data.y_train, functional.cross_entropy)
        assert torch.equal(net.machine._generator.get_state(), before)
    # one that follows data is like "uniform" before it has seen any
    assert torch.equal(
        Executor(plan(machine("data")))(data.x_test), Executor(plan(machine("uniform")))(data.x_test)
    )


LOSS = functional.cross_entropy
WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "no loss": (
        (samples().x_train, samples().y_train),
        "a target without a loss_fn; both, or neither for a pass forward only",
    ),
    "no target": (
        (samples().x_train, None, LOSS),
        "a loss_fn without a target; both, or neither for a pass forward only",
    ),
    "no samples": ((torch.zeros(0, 1, 6, 6),), "input 'x' holds no samples; at least one"),
    "NaN": ((torch.full((4, 1, 6, 6), torch.nan),), "input 'x' holds a NaN; numbers"),
    "infinite": (
        ((torch.full((4, 1, 6, 6), torch.inf),), samples().y_train[:4], LOSS),
        "a line carried a NaN or an infinite number while ADC ranges were calibrated\n"
        "  hint: look for them in the samples and the weights",
    ),
    "shape": ((torch.zeros(2, 3),), "input 'x' is [2, 3]; ['N', 1, 6, 6], the batch of any size"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_nothing_can_be_calibrated_on(case: str) -> None:
    arguments, expected = WRONG[case]
    net, untouched = Executor(plan(machine())), Executor(plan(machine()))
    with pytest.raises(UsageError) as caught:
        net.calibrate(*arguments)
    assert str(caught.value) == expected
    assert torch.equal(net(samples().x_test), untouched(samples().x_test))


def test_a_refused_calibration_leaves_every_tile_as_it_was() -> None:
    """Also the later pieces of a weight that lies on several tiles, and what was seen before the error."""
    b = Builder(seed=3)
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 301), b.weight(301, 20)))
    made = compile_plan(b.model(b.node("MatMul", y, b.weight(20, 3))), hardware=machine())
    net, untouched = Executor(made), Executor(made)
    x = torch.rand(8, 301, generator=torch.Generator().manual_seed(0))
    wrong = x.clone()
    wrong[2, 3] = torch.inf

    def fails(output: Tensor, target: Tensor) -> Tensor:
        raise RuntimeError(f"{len(output)} of {len(target)}")

    with pytest.raises(UsageError, match="a line carried a NaN or an infinite number"):
        net.calibrate(wrong)
    with pytest.raises(RuntimeError, match="8 of 8"):
        net.calibrate(x, torch.zeros(8), fails)
    assert torch.equal(net(x), untouched(x))
    net.reseed(0)
    untouched.reseed(0)
    assert torch.equal(net(x), untouched(x))
    assert [r.total for r in net.machine.readings().values()] == [
        r.total for r in untouched.machine.readings().values()
    ]


def test_a_calibration_without_autograd_sets_both_directions() -> None:
    data, nets = samples(), [Executor(plan(machine())) for _ in range(2)]
    nets[0].calibrate(data.x_train, data.y_train, LOSS)
    with torch.no_grad():
        nets[1].calibrate(data.x_train, data.y_train, LOSS)
    first, second = (gradient(net, data) for net in nets)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_whole_numbers_calibrate_too() -> None:
    b = Builder(seed=3)
    y = b.node("Gather", b.weight(5, 40), b.input("ids", "N", dtype=TensorProto.INT64))
    made = compile_plan(b.model(b.node("MatMul", y, b.weight(40, 3))), hardware=machine())
    net, ids = Executor(made), torch.arange(5)
    before = net(ids)
    net.calibrate(ids)
    assert not torch.equal(net(ids), before)


def test_the_noise_that_beta_is_chosen_for_is_not_that_of_a_calibration() -> None:
    data, net = samples(), Executor(plan("reference"), gradient=EP(beta="auto"))
    net.calibrate(data.x_train, data.y_train, functional.cross_entropy)
    assert net.gradient == EP(beta="auto")
    during = [e.backward.beta for e in net.equilibria if e.backward is not None]
    assert during == [EP().beta] * len(net.blocks)
    gradient(net, data)
    chosen = [e.backward.beta for e in net.equilibria if e.backward is not None]
    assert chosen != during


def test_words() -> None:
    made = plan("reference")
    assert (
        calibrated_on(made, 0)
        == "ADC ranges: 3.92 standard deviations of what lines carry for uniform inputs"
    )
    assert calibrated_on(made, 60) == "ADC ranges: 3.92 standard deviations of what lines carry on 60 samples"


def test_a_batch_is_drawn_from_the_training_samples() -> None:
    x = torch.arange(1000.0)[:, None]
    data = Data("numbers", x, x[:, 0].long(), x[:1], x[:1, 0].long())
    (picked,), classes = calibration_batch(data)
    assert len(picked) == len(classes) == SAMPLES
    assert torch.equal(picked[:, 0].long(), classes)
    assert torch.equal(calibration_batch(data)[0][0], picked)
    assert len(set(classes.tolist())) == SAMPLES
    assert 300 < float(classes.double().mean()) < 700


def test_training_is_calibrated_and_says_so(tmp_path: Path) -> None:
    training = Training(data="made up", epochs=2, batch=20, lr=0.001)
    trainer = Trainer(Executor(plan(machine())), samples(), training, tmp_path / "run")
    list(trainer.run())
    words = "ADC ranges: 4.49 standard deviations of what lines carry on 60 samples"
    assert trainer.calibration == load_checkpoint(tmp_path / "run").record.calibration == words
    trainer.accuracy()
    assert clipped(trainer.net) < 0.001
    other = Trainer(Executor(plan(machine("uniform"))), samples(), training)
    list(other.run())
    assert other.calibration == ""
    assert clipped(other.net) > 0.01


class Counting(Executor):
    """Notes on how many samples, and whether backward too, it was calibrated."""

    def __init__(self, made: Plan) -> None:
        super().__init__(made)
        self.noted: list[tuple[int, bool]] = []

    def calibrate(
        self,
        x: Tensor | tuple[Tensor, ...],
        target: Tensor | None = None,
        loss_fn: Callable[..., Tensor] | None = None,
    ) -> None:
        first = x[0] if isinstance(x, tuple) else x
        self.noted.append((len(first), loss_fn is not None))
        super().calibrate(x, target, loss_fn)


def test_calibrations_become_rarer_in_an_epoch() -> None:
    net = Counting(plan(machine()))
    list(Trainer(net, samples(), Training(data="made up", epochs=2, batch=6), None).run())
    # ten steps: after 0, 1, 2, 4 and 8 of them, and before the test
    assert net.noted == [*[(60, True)] * 5, (60, False)] * 2


def test_a_run_with_another_calibration_is_not_resumed(tmp_path: Path) -> None:
    training, folder = Training(data="made up", epochs=2, batch=20), tmp_path / "run"
    trainer = Trainer(Executor(plan(machine())), samples(), training, folder)
    next(trainer.run())
    kept = load_checkpoint(folder)
    save_checkpoint(folder, replace(kept, record=replace(kept.record, calibration="")), {})
    again = Trainer(Executor(plan(machine())), samples(), training, folder)
    with pytest.raises(UsageError, match=r"run: the run was started with another calibration: none; now"):
        again.resume()


def test_a_certificate_is_calibrated_on_data(tmp_path: Path) -> None:
    made, data = plan(machine()), samples()
    worst = {}
    for probe in (labelled(made, data, Training(data="made up"), 8), random(made, 8, 0)):
        found = check(Bench(made, probe, trains=False), CheckSettings(EP(), sweeps=False))
        worst[found.calibration] = found.worst
    assert list(worst) == [calibrated_on(made, 60), calibrated_on(made, 0)]
    np.savez(tmp_path / "x.npz", x=data.x_train.numpy())
    probe = from_file(made, tmp_path / "x.npz", 8)
    found = check(Bench(made, probe, trains=False), CheckSettings(EP(), sweeps=False))
    assert found.calibration == calibrated_on(made, 60)
    assert found.worst is not None
    assert found.worst.cosine is not None
    assert found.worst.cosine > 0.99
