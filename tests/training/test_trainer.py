import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from onnx import ModelProto

from ffebm import EP, Executor, FfebmError, Plan, Settle
from ffebm import compile as compile_plan
from ffebm.errors import PlanError, UsageError
from ffebm.hardware.description import Accumulate, Crossbar, Hardware, Transfer, load_hardware
from ffebm.hardware.devices.update import PulsedBy
from ffebm.training.data import Data
from ffebm.training.devices.ranks import Ranks
from ffebm.training.estimator import estimator
from ffebm.training.runs.checkpoint import load_checkpoint
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer
from tests.machines import ratio, with_tiles
from tests.models import Builder
from tests.runtime.tiles.devices.test_pulses import law

SETTLE = Settle(free_sweeps=4, nudged_sweeps=3)


def tiny_model() -> ModelProto:
    """Batch normalisation, dropout, and two layers that settle together."""
    b = Builder()
    y = b.conv(b.input("x", "N", 1, 4, 4), 1, 2)
    y = b.node("Dropout", b.norm(y, 2), b.constant(0.2))
    y = b.clip(b.node("MatMul", b.node("Flatten", y), b.weight(32, 6)))
    y = b.node("Gemm", y, b.weight(6, 3), b.weight(3))
    return b.model(y)


def tiny(hardware: str | Hardware, block_size: int = 2) -> Plan:
    return compile_plan(tiny_model(), hardware=hardware, block_size=block_size, settle=SETTLE)


def samples(n: int = 40) -> Data:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    x = torch.randn(n, 16, generator=generator) * 0.3
    x[torch.arange(n), y] += 2.0
    return Data("made up", x, y, x[:10], y[:10])


TRAINING = Training(data="made up", epochs=4, batch=8, lr=0.01)


def run_on(plan: Plan, data: Data, training: Training) -> Trainer:
    trainer = Trainer(Executor(plan, gradient=estimator(training)), data, training)
    list(trainer.run())
    return trainer


def run(plan: Plan, training: Training, folder: Path | None = None) -> Trainer:
    trainer = Trainer(Executor(plan, gradient=estimator(training)), samples(), training, folder)
    list(trainer.run())
    return trainer


def final(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {k: v.detach() for k, v in {**trainer.net.weights(), **trainer.net.running_statistics()}.items()}


def test_training_learns() -> None:
    trainer = run(tiny("ideal", 1), replace(TRAINING, epochs=12, lr=0.03))
    first, last = trainer.epochs[0], trainer.epochs[-1]
    assert last.loss < 0.5 * first.loss
    assert last.test_accuracy == trainer.accuracy() > 0.8
    assert [e.epoch for e in trainer.epochs] == list(range(1, 13))


@pytest.mark.parametrize(
    ("hardware", "clip_norm"), [("ideal", None), ("reference", None), ("reference", 0.1)]
)
def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, hardware: str, clip_norm: float | None
) -> None:
    plan = tiny(hardware)
    training = replace(TRAINING, schedule="cosine", clip_norm=clip_norm)
    whole = run(plan, training, tmp_path / "whole")
    part = Trainer(Executor(plan), samples(), training, tmp_path / "part")
    epochs = part.run()
    next(epochs)
    next(epochs)  # interrupted behind the second checkpoint
    resumed = Trainer(Executor(plan), samples(), training, tmp_path / "part")
    resumed.resume()
    assert len(resumed.epochs) == 2
    list(resumed.run())
    for name, tensor in final(whole).items():
        assert torch.equal(final(resumed)[name], tensor), name
    figures = [replace(e, seconds=0) for e in resumed.epochs]
    assert figures == [replace(e, seconds=0) for e in whole.epochs]


def in_place(
    remedy: Accumulate | Transfer | None, base: str = "reference", pulsed_by: PulsedBy = "matrix"
) -> Hardware:
    """A machine whose cells learn by pulses, and which converts and reads well."""
    machine = load_hardware(base)
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    update = law(
        remedy=remedy, pulse=ratio(0.001), asymmetry=ratio(0.1), noise=ratio(0.2), pulsed_by=pulsed_by
    )
    changed = replace(tile, update=update, cell=replace(tile.cell, variation=ratio(0.02)))
    return with_tiles(machine, tile=changed)


REMEDIES = {"plain": None, "accumulate": Accumulate(), "transfer": Transfer(every=3, rate=ratio(0.5))}


@pytest.mark.filterwarnings("ignore::ffebm.errors.SmallStepWarning")  # 18 weights, small first steps
@pytest.mark.parametrize("remedy", REMEDIES)
def test_cells_learn_in_place(remedy: str) -> None:
    plan = tiny(in_place(REMEDIES[remedy]), 1)
    trainer = run(plan, replace(TRAINING, epochs=8, optimizer="SGD", lr=0.2))
    assert trainer.epochs[-1].loss < 0.7 * trainer.epochs[0].loss
    weights = trainer.net.weights()
    for name, held in trainer.net.machine.cells().items():
        if name.endswith("/0.scale"):  # every weight on tiles is the mean of what its copies hold
            weight = weights[name.removesuffix("/0.scale")]
            cells = trainer.net.machine.cells()
            key = name.removesuffix("scale")
            span = 25e-6 - 0.25e-6
            copies = (cells[f"{key}plus"] - cells[f"{key}minus"]) / span * held
            difference = copies.mean(dim=0).flatten()  # one group: the first dimension counts copies
            assert torch.allclose(
                difference.sort().values, weight.detach().flatten().sort().values, atol=1e-6
            )


@pytest.mark.parametrize("pulsed_by", ["states", "differences"])
@pytest.mark.parametrize("remedy", [None, REMEDIES["transfer"]])
def test_cells_learn_by_outer_products(pulsed_by: PulsedBy, remedy: Transfer | None) -> None:
    plan = tiny(in_place(remedy, pulsed_by=pulsed_by), 2)
    training = replace(TRAINING, epochs=6, optimizer="SGD", lr=0.1, beta=0.5, batch=5, accumulate=2)
    trainer = run(plan, training)
    assert trainer.epochs[-1].loss < 0.8 * trainer.epochs[0].loss
    (matrix, *_) = [w for w in trainer.net.weights().values() if w.shape == (32, 6)]
    assert matrix.grad is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"optimizer": "Adam"}, "optimizer Adam"),
        ({"momentum": 0.9, "weight_decay": 1e-4}, "momentum 0.9, weight_decay 0.0001"),
        ({"clip_norm": 1.0}, "clip_norm 1.0"),
        ({"precision": "fp16"}, "precision fp16, which scales gradients"),
    ],
)
def test_outer_products_are_plain_gradient_descent(changes: dict[str, Any], found: str) -> None:
    training = replace(TRAINING, **({"optimizer": "SGD"} | changes))
    net = Executor(tiny(in_place(None, pulsed_by="states")), gradient=estimator(training))
    with pytest.raises(UsageError) as caught:
        Trainer(net, samples(), training)
    assert str(caught.value) == (
        f"{found}, and cells that take outer products: there is no gradient to work on; optimizer "
        "SGD without momentum, weight decay and clipping, in fp32 or bf16\n  hint: --optimizer SGD, or "
        "tile.update.pulsed_by = 'matrix' in the hardware description"
    )


def test_outer_products_need_two_phases() -> None:
    training = replace(TRAINING, optimizer="SGD", gradient="implicit")
    net = Executor(tiny(in_place(None, pulsed_by="states")), gradient=estimator(training))
    with pytest.raises(UsageError, match="cells that take outer products, and gradients by Implicit"):
        Trainer(net, samples(), training)


@pytest.mark.parametrize(
    ("remedy", "pulsed_by"),
    [*((remedy, "matrix") for remedy in REMEDIES), ("plain", "states"), ("transfer", "differences")],
)
def test_a_resumed_run_in_place_ends_with_the_same_bits(
    tmp_path: Path, remedy: str, pulsed_by: PulsedBy
) -> None:
    plan = tiny(in_place(REMEDIES[remedy], pulsed_by=pulsed_by))
    training = replace(TRAINING, epochs=3)
    if pulsed_by != "matrix":
        training = replace(training, optimizer="SGD")
    whole = run(plan, training, tmp_path / "whole")
    part = Trainer(Executor(plan), samples(), training, tmp_path / "part")
    epochs = part.run()
    next(epochs)
    next(epochs)
    resumed = Trainer(Executor(plan), samples(), training, tmp_path / "part")
    resumed.resume()
    list(resumed.run())
    for name, tensor in final(whole).items():
        assert torch.equal(final(resumed)[name], tensor), name
    for name, tensor in whole.net.machine.cells().items():
        assert torch.equal(resumed.net.machine.cells()[name], tensor), name


def test_a_weight_that_is_set_before_the_first_run_is_programmed() -> None:
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))
    net = Executor(compile_plan(model, hardware=in_place(None)))
    (weight,) = net.weights().values()
    with torch.no_grad():
        weight.fill_(0.5)
    assert float(weight.detach().min()) == 0.5
    net(torch.zeros(1, 4))
    (held,) = net.weights().values()
    assert held is weight
    assert float((held.detach() - 0.5).abs().max()) > 0  # cells miss a little
    assert float((held.detach() - 0.5).abs().max()) < 0.1
    before = held.detach().clone()
    with torch.no_grad():
        weight.add_(10.0)  # from now on a change is a step, which pulses limit
    after = next(iter(net.weights().values())).detach()
    assert float((after - before).min()) > 0
    assert float((after - before).max()) < 0.2


OPTIMIZERS = ["SGD", "adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "ASGD", "Rprop"]


def test_an_augmented_run_resumes_with_the_same_bits(tmp_path: Path) -> None:
    plan = tiny("ideal")
    y = torch.arange(40) % 3
    x = torch.randint(0, 256, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    images = Data("bytes", x, y, x[:10], y[:10])
    training = replace(
        TRAINING, flip=True, crop=1, dither=0.05, cost=True, schedule="cosine", min_lr=1e-4, std=(0.3,)
    )
    whole = Trainer(Executor(plan, gradient=estimator(training)), images, training)
    list(whole.run())
    part = Trainer(Executor(plan, gradient=estimator(training)), images, training, tmp_path / "run")
    next(part.run())
    resumed = Trainer(Executor(plan, gradient=estimator(training)), images, training, tmp_path / "run")
    resumed.resume()
    list(resumed.run())
    plain = run_on(plan, images, replace(training, flip=False, crop=0, dither=0))
    for name, tensor in final(whole).items():
        assert torch.equal(final(resumed)[name], tensor), name
    assert any(not torch.equal(final(plain)[name], tensor) for name, tensor in final(whole).items())


def test_the_cosine_ends_above_its_least_rate() -> None:
    training = replace(TRAINING, schedule="cosine", lr=0.01, min_lr=0.002)
    trainer = Trainer(Executor(tiny("ideal", 1)), samples(), training)
    rates = [epoch.lr for epoch in trainer.run()]
    expected = [0.006 + 0.004 * math.cos(math.pi * n / 4) for n in range(4)]
    assert rates == pytest.approx(expected)


def test_the_cost_itself_nudges_if_asked() -> None:
    """Two losses that agree, and gradients that differ at second order in beta only."""
    plan = tiny("ideal")
    found = {}
    for cost in (False, True):
        training = replace(TRAINING, cost=cost, beta=0.2, optimizer="SGD", lr=1e-3, epochs=1, batch=40)
        trainer = run(plan, training)
        found[cost] = final(trainer), trainer.epochs[0].loss, trainer.epochs[0].train_accuracy
    assert found[False][1:] == found[True][1:]
    moved = [name for name, w in found[True][0].items() if not torch.equal(w, found[False][0][name])]
    assert moved
    for name in moved:
        torch.testing.assert_close(found[True][0][name], found[False][0][name], rtol=0, atol=1e-4)


def test_frozen_weights_stay() -> None:
    plan = tiny("ideal")
    names = list(Executor(plan).weights())
    trainer = run(plan, replace(TRAINING, epochs=1, freeze=(names[0], "*" + names[1][-2:])))
    for name, before in Executor(plan).weights().items():
        is_frozen = name == names[0] or name.endswith(names[1][-2:])
        assert torch.equal(before, trainer.net.weights()[name]) == is_frozen, name


def test_long_gradients_are_shortened() -> None:
    """By plain descent at a rate of 1, a step is as long as its gradient."""
    moved = []
    for clip_norm in (None, 100.0, 1e-3):
        settings = replace(TRAINING, optimizer="SGD", lr=1.0, epochs=1, batch=1000, clip_norm=clip_norm)
        net = Executor(tiny("ideal"))
        before = {name: w.detach().clone() for name, w in net.weights().items()}
        list(Trainer(net, samples(), settings).run())
        steps = [(w.detach() - before[name]).flatten() for name, w in net.weights().items()]
        moved.append(torch.cat(steps))
    assert torch.equal(moved[0], moved[1])
    assert moved[2].norm().item() == pytest.approx(1e-3, rel=1e-4)
    assert torch.cosine_similarity(moved[0], moved[2], dim=0).item() == pytest.approx(1)


def test_sweeps_of_an_epoch() -> None:
    trainer = run(tiny("ideal"), replace(TRAINING, epochs=1))
    alone = 1  # the block of one layer is exact after one sweep
    assert [len(b.layers) for b in trainer.net.plan.blocks] == [1, 2]
    assert trainer.epochs[0].sweeps == (alone + SETTLE.free_sweeps) / 2


def test_the_share_of_samples_that_settle_elsewhere_is_recorded() -> None:
    b = Builder(3)
    x = b.input("x", "N", 2)
    # rivals: of two units that hold each other down a sweep lets the first win, a race the stronger
    y = b.clip(b.node("Gemm", x, b.weight(2, 1, gain=0.1), b.constant(np.array([0.6], np.float32))))
    rival = b.constant(np.array([[-3.0]], np.float32))
    y = b.clip(b.node("Gemm", y, rival, b.constant(np.array([0.9], np.float32))))
    model = b.model(b.node("Gemm", y, b.weight(1, 2, gain=0.01)))
    plan = compile_plan(model, hardware="ideal", block_size=(2, 1), settle=SETTLE)
    assert [len(block.layers) for block in plan.blocks] == [2, 1]
    x0 = torch.rand(12, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    data = Data("rivals", x0, torch.arange(12) % 2, x0[:4], torch.arange(4) % 2)
    (epoch,) = run_on(plan, data, replace(TRAINING, epochs=1)).epochs
    assert (epoch.elsewhere, epoch.elsewhere_together, epoch.elsewhere_unknown) == (0.0, 0.5, 0.0)


def test_the_share_of_tied_windows_is_recorded() -> None:
    b = Builder()
    y = b.node("Sigmoid", b.conv(b.input("x", "N", 1, 8, 8), 1, 2))
    y = b.node("Sigmoid", b.node("MaxPool", b.conv(y, 2, 2), kernel_shape=[2, 2], strides=[2, 2]))
    model = b.model(b.node("Gemm", b.node("Flatten", y), b.weight(32, 3), b.weight(3)))
    plan = compile_plan(model, hardware="ideal", block_size=(2, 1), settle=SETTLE)
    x = torch.zeros(12, 1, 8, 8)
    x[:, :, :4] = torch.rand(12, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    data = Data("half empty", x, torch.arange(12) % 3, x[:4], torch.arange(4) % 3)
    plain, dithered = (
        run_on(plan, data, replace(TRAINING, epochs=1, dither=dither)).epochs[0] for dither in (0.0, 0.01)
    )
    # the first map's windows reach two pixels far, so in the lower half one of two rows ties, but at its ends
    assert plain.tied == pytest.approx(0.25 * 0.5)
    assert plain.tied_settled <= plain.tied
    assert (dithered.tied, dithered.tied_settled) == (0.0, 0.0)


def test_padded_images_are_trained_on() -> None:
    small = torch.rand(12, 1, 3, 3)
    data = Data("small", small, torch.arange(12) % 3, small, torch.arange(12) % 3)
    trainer = Trainer(Executor(tiny("ideal")), data, replace(TRAINING, pad=True, epochs=1))
    assert tuple(trainer.data.x_train.shape) == (12, 1, 4, 4)
    assert len(list(trainer.run())) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_resumes(tmp_path: Path, name: str) -> None:
    plan = tiny("ideal", 1)
    momentum = 0.9 if name in {"SGD", "RMSprop"} else None
    training = replace(TRAINING, epochs=2, optimizer=name, momentum=momentum)
    whole = run(plan, training)
    run(plan, replace(training, epochs=1), tmp_path / "run")
    resumed = Trainer(Executor(plan), samples(), training, tmp_path / "run")
    resumed.resume()
    list(resumed.run())
    for weight, tensor in final(whole).items():
        assert torch.equal(final(resumed)[weight], tensor), weight


def test_the_record_of_a_run(tmp_path: Path) -> None:
    trainer = run(tiny("reference"), TRAINING, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "SHA256SUMS",
        "checkpoint.safetensors",
        "record.json",
        "trained.onnx",
    ]
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.record.training == TRAINING
    assert checkpoint.record.epochs == tuple(trainer.epochs)
    assert checkpoint.record.hardware.startswith("reference ")
    again = compile_plan(tmp_path / "run" / "trained.onnx", hardware="reference")
    for name, tensor in final(trainer).items():
        assert torch.equal(checkpoint.weights[name], tensor)
        assert torch.equal(torch.from_numpy(again.weights[name].copy()), tensor)


def test_a_record_that_is_damaged(tmp_path: Path) -> None:
    run(tiny("ideal"), replace(TRAINING, epochs=1), tmp_path / "run")
    path = tmp_path / "run" / "record.json"
    path.write_bytes(path.read_bytes().replace(b"ideal", b"idaal", 1))
    with pytest.raises(PlanError, match=r"record\.json is damaged"):
        load_checkpoint(tmp_path / "run")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("started") / "run"
    run(tiny("ideal"), replace(TRAINING, epochs=1), folder)
    return folder


@pytest.mark.parametrize("other", ["plan", "hardware", "gradient", "options of the compiler", "settings"])
def test_another_run_cannot_be_resumed(started: Path, other: str) -> None:
    if other == "plan":
        b = Builder()
        y = b.node("MatMul", b.node("Flatten", b.input("x", "N", 1, 4, 4)), b.weight(16, 3))
        plan = compile_plan(b.model(y), hardware="ideal", settle=SETTLE)
    else:
        plan = tiny("reference" if other == "hardware" else "ideal", 1 if other.startswith("options") else 2)
    training = replace(TRAINING, lr=0.5) if other == "settings" else TRAINING
    gradient = EP(beta=0.3) if other == "gradient" else None
    trainer = Trainer(Executor(plan, gradient=gradient), samples(), training, started)
    with pytest.raises(UsageError) as caught:
        trainer.resume()
    kind = "other" if other in {"hardware", "settings", "options of the compiler"} else "another"
    head, _, hint = str(caught.value).partition("\n")
    assert head.startswith(f"{started}: the run was started with {kind} {other}: ")
    assert (
        hint == "  hint: resume with the same settings (--epochs may grow unless the schedule ends with it)"
    )
    differs = {
        "settings": ("lr = 0.01", "lr = 0.5"),
        "gradient": ("beta = 0.1", "beta = 0.3"),
        "options of the compiler": ("block_size = 2", "block_size = 1"),
    }
    if other in differs:
        assert head.endswith("{}; now asked for: {}".format(*differs[other]))


@pytest.mark.parametrize(
    ("hardware", "block"), [("resistive", "block1 settles by itself"), ("reference", "")]
)
def test_a_nudge_that_cannot_be_leaves_no_run_behind(hardware: str, block: str, tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Tanh", b.node("MatMul", b.node("Flatten", b.input("x", "N", 1, 4, 4)), b.weight(16, 6)))
    plan = compile_plan(b.model(b.node("MatMul", y, b.weight(6, 3))), hardware=hardware, settle=SETTLE)
    if not block:
        run(plan, replace(TRAINING, epochs=1, cost=True), tmp_path / "run")
        return
    with pytest.raises(UsageError) as caught:
        run(plan, replace(TRAINING, cost=True), tmp_path / "run")
    assert str(caught.value) == (
        f"{block} and cannot be nudged by the cost itself; a constant current: EP(points=2) or EP(points=1)"
        "\n  hint: leave cost=True out: --no-cost, or cost = false in the settings"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_replaced_by_a_new_one(started: Path) -> None:
    before = load_checkpoint(started).record
    with pytest.raises(UsageError) as caught:
        next(Trainer(Executor(tiny("ideal")), samples(), TRAINING, started).run())
    assert str(caught.value) == (
        f"{started}: there is a run in it already\n  hint: `resume` continues it; or train in another folder"
    )
    assert load_checkpoint(started).record == before


def test_no_folder_to_resume_from() -> None:
    with pytest.raises(UsageError, match=r"^there is no run folder to resume from$"):
        Trainer(Executor(tiny("ideal")), samples(), TRAINING).resume()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"epochs": 0}, "epochs is 0; at least 1"),
        ({"batch": 0}, "batch is 0; at least 1"),
        ({"lr": -1.0}, "lr is -1.0; at least 0"),
        ({"lr": float("nan")}, "lr is nan; at least 0"),
        ({"lr": "0.1"}, "lr is '0.1'; at least 0"),
        ({"batch": None}, "batch is None; at least 1"),
        ({"clip_norm": "1"}, "settings of training: Expected `float | null`, got `str` - at `$.clip_norm`"),
        (
            {"schedule": "steps"},
            "schedule 'steps'; constant, cosine, step, multistep, exponential, linear, onecycle, plateau",
        ),
        ({"min_lr": 0.1, "schedule": "cosine"}, "min_lr is 0.1; from 0 to lr, 0.01"),
        (
            {"min_lr": 1e-3},
            "min_lr is 0.001 with schedule 'constant'\n"
            "  hint: leave --min-lr out, or choose --schedule cosine, linear, plateau",
        ),
        *(
            (
                {"clip_norm": norm},
                f"clip_norm is {norm}; a finite number above 0\n  hint: leave it out",
            )
            for norm in (0.0, -1.0, math.inf, math.nan)
        ),
        ({"freeze": ("*",)}, "the model has no trainable weights"),
        ({"momentum": 0.9}, "Adam takes no momentum\n  hint: leave --momentum out"),
        ({"weight_decay": -1.0}, "Adam cannot be used: Invalid weight_decay value: -1.0"),
    ],
)
def test_wrong_settings(change: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny("ideal")), samples(), replace(TRAINING, **change))
    assert str(caught.value) == expected


def test_no_such_optimiser() -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny("ideal")), samples(), replace(TRAINING, optimizer="magic"))
    head, _, names = str(caught.value).partition("; ")
    assert head == "no optimiser is called 'magic'"
    assert {"Adam", "SGD"} <= set(names.split(", "))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("LBFGS", "it computes the loss anew several times a step"),
        ("SparseAdam", "it takes sparse gradients, and those of a plan are dense"),
    ],
)
def test_optimisers_that_need_a_loop_of_ones_own(name: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny("ideal")), samples(), replace(TRAINING, optimizer=name))
    assert str(caught.value) == (
        f"{name} cannot train by command: {reason}\n  hint: write your own loop, or take another optimiser"
    )


def test_no_such_device() -> None:
    with pytest.raises(UsageError, match="device 'abacus' cannot be used: "):
        Trainer(Executor(tiny("ideal")), samples(), TRAINING, device="abacus")


def test_data_of_another_size() -> None:
    data = Data("wide", torch.zeros(4, 5), torch.zeros(4).long(), torch.zeros(4, 5), torch.zeros(4).long())
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny("ideal")), data, TRAINING)
    assert str(caught.value) == (
        "a sample of wide is [5]; the model takes [1, 4, 4]\n"
        "  hint: pad or resize the data, or compile a model for it"
    )


def test_folded_plans_are_not_trained() -> None:
    b = Builder()
    y = b.node("Flatten", b.norm(b.conv(b.input("x", "N", 1, 4, 4), 1, 2), 2))
    plan = compile_plan(b.model(y), hardware="ideal", fold_batch_norm=True)
    with pytest.raises(UsageError, match="the plan's batch normalisations are folded, for inference only"):
        Trainer(Executor(plan), samples(), TRAINING)


def test_a_model_without_weights() -> None:
    b = Builder()
    plan = compile_plan(b.model(b.node("Relu", b.input("x", "N", 16))), hardware="ideal")
    with pytest.raises(UsageError, match="the model has no trainable weights"):
        Trainer(Executor(plan), samples(), TRAINING)


def test_a_loss_that_grows_beyond_all_bounds() -> None:
    trainer = Trainer(Executor(tiny("ideal")), samples(), replace(TRAINING, optimizer="SGD", lr=1e38))
    with pytest.raises(FfebmError) as caught:
        list(trainer.run())
    assert re.fullmatch(
        r"weight 'c\d' reaches \d\.\d+e\+3\d in step 1 of epoch 1; "
        r"at most 1e\+06 times the first loss, and finite weights\n"
        r"  hint: try a smaller --lr, --clip-norm, --warmup or another --beta",
        str(caught.value),
    )


def test_a_rate_that_torch_cannot_multiply_by() -> None:
    with pytest.raises(UsageError) as caught:
        run(tiny("ideal"), replace(TRAINING, lr=1e38))
    assert str(caught.value) == (
        "the optimiser's step overflows: value cannot be converted to type float without overflow\n"
        "  hint: try a smaller --lr"
    )


def test_a_loss_that_explodes_stops_and_keeps_what_was_before(tmp_path: Path) -> None:
    settings = replace(TRAINING, optimizer="SGD", lr=0.01, epochs=2)
    trainer = Trainer(Executor(tiny("ideal", 1)), samples(), settings, tmp_path / "run")
    epochs = trainer.run()
    next(epochs)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 1e9
    with pytest.raises(UsageError) as caught:
        next(epochs)
    found = str(caught.value)
    assert re.match(r"the loss is \d\.\d+e\+\d+ in step \d of epoch 2, \d\.\d+ at first; ", found)
    assert found.endswith("--beta; what epoch 1 has left stays, for --resume")
    assert len(load_checkpoint(tmp_path / "run").record.epochs) == 1


def test_samples_that_cannot_be_learnt() -> None:
    def message(data: Data) -> str:
        with pytest.raises(FfebmError) as caught:
            Trainer(Executor(tiny("ideal")), data, TRAINING)
        return str(caught.value)

    data = samples()
    data.x_train[0] = float("inf")
    assert message(data) == "made up holds a NaN or an infinite number; finite numbers"
    data = samples()
    data.y_test[0] = 100
    output = Executor(tiny("ideal")).plan.outputs[0].name
    assert message(data) == (
        f"output {output!r} is float32[Nx3], labels of made up are class numbers from 0 to 100 [N]; "
        "one score a class, [N, C] with C at least 101\n"
        "  hint: --loss is cross-entropy; others are nll, squared-error, mse, l1, huber, bce, bce-with-logits"
    )


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    run(tiny("ideal"), replace(TRAINING, epochs=1), tmp_path / "run")
    data = samples()
    data.x_train[0] += 1
    trainer = Trainer(Executor(tiny("ideal")), data, replace(TRAINING, epochs=1), tmp_path / "run")
    with pytest.raises(FfebmError) as caught:
        trainer.resume()
    assert "the run was started with other data: " in str(caught.value)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_cells_that_learn_in_place_train_on_one_device(remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny(in_place(REMEDIES[remedy]))), samples(), TRAINING, ranks=Ranks(0, 2))
    assert str(caught.value) == (
        "cells that learn in place, on several devices: each device would hold weights of its own; "
        "one device, or a machine whose weights have a digital master copy"
    )
