"""What longer runs use: accumulation, averages, early stopping, mixed precision."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ffebm import Executor
from ffebm.errors import UsageError
from ffebm.training.classification import all_logits
from ffebm.training.data.samples import split_off
from ffebm.training.estimator import estimator
from ffebm.training.runs.checkpoint import load_checkpoint
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer
from tests.training.test_trainer import final, samples, tiny

SETTINGS = Training(data="made up", epochs=2, batch=8, lr=0.02, gradient="implicit")


def run(training: Training, hardware: str = "ideal", folder: Path | None = None) -> Trainer:
    trainer = Trainer(Executor(tiny(hardware, 1), gradient=estimator(training)), samples(), training, folder)
    list(trainer.run())
    return trainer


def quiet(training: Training, n: int) -> dict[str, torch.Tensor]:
    """A run without batch statistics and dropout, which see each batch for itself."""
    trainer = Trainer(Executor(tiny("ideal", 1), gradient=estimator(training)), samples(n), training)
    trainer.net.train = lambda mode=True: trainer.net  # type: ignore[method-assign]
    list(trainer.run())
    return final(trainer)


@pytest.mark.parametrize("gradient", ["implicit", "ep"])
@pytest.mark.parametrize(
    "more", [{}, {"class_weights": (1.0, 2.0, 0.25)}, {"ignore_label": 1}, {"clip_norm": 0.1}], ids=str
)
def test_accumulated_batches_are_one_larger_batch(gradient: str, more: dict[str, object]) -> None:
    """30 samples: two steps of three batches of 4, and one of a 4 and a 2."""
    training = replace(SETTINGS, optimizer="SGD", lr=0.1, gradient=gradient, beta=0.01, epochs=1, **more)
    whole = quiet(replace(training, batch=12), 30)
    parts = quiet(replace(training, batch=4, accumulate=3), 30)
    alone = quiet(replace(training, batch=4), 30)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=2e-5)
    assert any(not torch.allclose(alone[name], whole[name], rtol=1e-3, atol=1e-3) for name in whole)


def test_the_average_is_torch_s() -> None:
    training = replace(SETTINGS, ema=0.8)
    trainer = Trainer(Executor(tiny("ideal", 1), gradient=estimator(training)), samples(), training)
    model = torch.nn.ParameterDict({str(i): w for i, w in enumerate(trainer.net.weights().values())})
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))  # type: ignore[no-untyped-call]
    assert trainer.average is not None
    update = trainer.average.update

    def both() -> None:
        update()
        theirs.update_parameters(model)

    trainer.average.update = both  # type: ignore[method-assign]
    list(trainer.run())
    expected_weights = [p.detach() for p in theirs.module.parameters()]
    for ours, expected in zip(trainer.average.tensors.values(), expected_weights, strict=True):
        torch.testing.assert_close(ours, expected)
    twin = trainer.average.network(0)
    with torch.no_grad():
        for name, weight in trainer.net.weights().items():
            weight.copy_(trainer.average.tensors[name])
    x = trainer.data.x_test
    assert torch.equal(all_logits(twin, x), all_logits(trainer.net, x))


@pytest.mark.parametrize("hardware", ["hermes", "resistive"])
def test_an_average_leaves_no_trace_in_what_trains(hardware: str) -> None:
    training = replace(SETTINGS, gradient="ep")
    plain, averaged = run(training, hardware), run(replace(training, ema=0.5), hardware)
    for name, tensor in final(plain).items():
        assert torch.equal(final(averaged)[name], tensor), name
    for name, cells in plain.net.machine.cells().items():
        assert torch.equal(averaged.net.machine.cells()[name], cells), name
    for ours, theirs in zip(averaged.epochs, plain.epochs, strict=True):
        assert (ours.loss, ours.test_loss, theirs.average_loss) == (theirs.loss, theirs.test_loss, None)
        assert ours.average_loss is not None


def test_training_stops_when_nothing_gets_better(tmp_path: Path) -> None:
    """At a rate of 0 no epoch is better than the first."""
    settings = replace(SETTINGS, lr=0.0, optimizer="SGD", epochs=9, patience=2, validation=0.25)
    trainer = run(settings, folder=tmp_path / "run")
    assert (len(trainer.epochs), trainer.best_epoch, trainer.has_stopped) == (3, 1, True)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.best.keys() == final(trainer).keys()
    assert (tmp_path / "run" / "best.onnx").is_file() or not trainer.net.plan.model
    again = Trainer(Executor(tiny("ideal", 1)), samples(), settings, tmp_path / "run")
    again.net.gradient = estimator(settings)
    again.resume()
    assert list(again.run()) == []


def test_samples_that_are_held_out() -> None:
    data = samples(40)
    rest, held = split_off(data, 0.25, 3)
    assert held is not None
    assert (len(rest.x_train), len(held[1])) == (30, 10)
    both = torch.cat([rest.x_train, *held[0]])
    assert sorted(both[:, 3].tolist()) == sorted(data.x_train[:, 3].tolist())
    again = split_off(data, 0.25, 3)[1]
    assert again is not None
    assert torch.equal(again[0][0], held[0][0])
    assert split_off(data, 0.0, 3) == (data, None)
    with pytest.raises(UsageError) as caught:
        split_off(data, 0.001, 0)
    assert str(caught.value) == "a share of 0.001 of 40 training samples is 0; 1 to 39"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("hardware", ["ideal", "reference"])
def test_mixed_precision_learns_and_resumes(tmp_path: Path, precision: str, hardware: str) -> None:
    training = replace(SETTINGS, gradient="ep", epochs=3, precision=precision)
    full = run(replace(training, precision="fp32"), hardware)
    whole = run(training, hardware, tmp_path / "whole")
    assert abs(whole.epochs[-1].loss - full.epochs[-1].loss) < 0.1
    assert all(tensor.dtype == torch.float32 for tensor in final(whole).values())
    net = Executor(tiny(hardware, 1), gradient=estimator(training))
    next(Trainer(net, samples(), training, tmp_path / "part").run())
    net = Executor(tiny(hardware, 1), gradient=estimator(training))
    resumed = Trainer(net, samples(), training, tmp_path / "part")
    resumed.resume()
    list(resumed.run())
    for name, tensor in final(whole).items():
        assert torch.equal(final(resumed)[name], tensor), name
    scaler = load_checkpoint(tmp_path / "whole").record.scaler
    assert (scaler == {}) == (precision == "bf16")


def test_the_largest_seed() -> None:
    training = replace(SETTINGS, seed=2**63 - 1, epochs=1)
    trainer = Trainer(Executor(tiny("ideal", 1), gradient=estimator(training)), samples(), training)
    assert [epoch.epoch for epoch in trainer.run()] == [1]


def test_more_batches_together_than_there_are_samples() -> None:
    training = replace(SETTINGS, batch=2**31 - 1, accumulate=2**40, epochs=1)
    trainer = Trainer(Executor(tiny("ideal", 1), gradient=estimator(training)), samples(), training)
    assert [epoch.epoch for epoch in trainer.run()] == [1]
