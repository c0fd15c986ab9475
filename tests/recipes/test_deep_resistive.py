"""The published deep resistive network, as a model, a plan and a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from onnx import numpy_helper

import ffebm
from ffebm.commands.recipe import recipe
from ffebm.errors import UsageError
from ffebm.plan.plan import load_plan
from ffebm.recipes.catalogue import ALL
from ffebm.recipes.deep_resistive import AMPLIFICATION, DEEP_RESISTIVE
from ffebm.recipes.timing import duration
from ffebm.training.data.load import load_data
from ffebm.training.estimator import estimator
from ffebm.training.settings import read_settings, training_from
from ffebm.training.trainer import Trainer
from tests.models import oracle

DRN = DEEP_RESISTIVE["deep-resistive-1h"]
FEW_SWEEPS = pytest.mark.filterwarnings("ignore::ffebm.errors.NotSettledWarning")  # four, as published


def test_sizes_and_settings_are_the_published_ones() -> None:
    weights = {w.name: numpy_helper.to_array(w) for w in DRN.model(1.0, "fashion-mnist", 0).graph.initializer}
    assert weights["plus.weight"].shape == weights["minus.weight"].shape == (512, 2 * 784)
    assert weights["readout.plus.weight"].shape == weights["readout.minus.weight"].shape == (10, 512)
    assert float(weights["gain"]) == 300.0
    for name, fan_in in (("plus", 1568), ("readout.minus", 1024)):
        weight = weights[f"{name}.weight"]
        assert 0.0 == weight.min() < weight.max() <= fan_in**-0.5
        assert 0.45 < float((weight == 0).mean()) < 0.55  # half of the drawn ones were negative
    training = DRN.settings("fashion-mnist", 3)
    found = (training.optimizer, training.lr, training.momentum, training.batch, training.epochs)
    assert found == ("SGD", 0.005, 0.9, 32, 100)
    assert (training.beta, training.cost, training.flip, training.seed) == (0.5, True, True, 3)
    assert (DRN.settle.free_sweeps, DRN.settle.nudged_sweeps) == (4, 4)


def test_the_model_amplifies_and_doubles_its_inputs() -> None:
    """The feedforward function of the ONNX file, which no block computes: without loads."""
    made = DRN.model(0.01, "digits", 1)
    w = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    x = np.random.default_rng(0).random((3, 64)).astype(np.float32)
    doubled = AMPLIFICATION["digits"] * np.concatenate([x, -x], 1)
    up, down = doubled @ w["plus.weight"].T, doubled @ w["minus.weight"].T
    expected = up.clip(0) @ w["readout.plus.weight"].T + down.clip(None, 0) @ w["readout.minus.weight"].T
    np.testing.assert_allclose(
        np.asarray(oracle(made, {"image": x})[0], np.float64), expected, rtol=1e-4, atol=1e-4
    )


@FEW_SWEEPS
def test_a_recipe_is_written_and_trained(tmp_path: Path) -> None:
    """One block that holds all conductances; they stay positive, and the loss falls."""
    recipe("deep-resistive-1h", tmp_path / "drn.plan", width=0.03, data="digits")
    plan = load_plan(tmp_path / "drn.plan")
    assert [len(block.layers) for block in plan.blocks] == [3]
    assert plan.blocks[0].physics == "deep-resistive"
    assert [node.op for node in plan.nodes if node.unit == "digital"] == [
        "Flatten",
        "Mul",
        "Neg",
        "Concat",
    ]
    training = training_from({**read_settings(tmp_path / "drn.plan.toml"), "epochs": 2})
    net = ffebm.Executor(plan, gradient=estimator(training))
    data = load_data("digits")
    few = data.of([data.x_train[:400]], [data.x_test[:100]])
    few = ffebm.training.data.Data("few", few.x_train, data.y_train[:400], few.x_test, data.y_test[:100])
    first, second = Trainer(net, few, training).run()
    assert second.loss < 0.9 * first.loss
    weights = [w for name, w in net.weights().items() if name.endswith("weight")]
    assert all(float(w.detach().min()) > 0 for w in weights)


def test_settings_nudge_as_the_machine_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A block that settles by itself takes no nudge by the cost; all else is the recipe's."""
    written = {}
    for hardware in ("ideal", "resistive-single"):
        recipe("deep-resistive-1h", tmp_path / hardware, width=0.01, data="digits", hardware=hardware)
        written[hardware] = training_from(read_settings(tmp_path / f"{hardware}.toml"))
    shown = " ".join(capsys.readouterr().out.split())
    note = "block0 settles by itself, which takes constant nudges: the recipe's cost = true is left out of"
    assert (
        shown.count(f"note: {note} the settings, and beta is 50.0, so that ADCs see the answers train it: ")
        == 1
    )
    assert written["ideal"].cost
    assert written["resistive-single"] == replace(written["ideal"], cost=False, beta=50.0)
    net = ffebm.Executor(
        load_plan(tmp_path / "resistive-single"), gradient=estimator(written["resistive-single"])
    )
    net.check_gradient()
    net.gradient = estimator(written["ideal"])
    with pytest.raises(UsageError) as caught:
        net.check_gradient()
    assert caught.value.hint == "leave cost=True out: --no-cost, or cost = false in the settings"


@FEW_SWEEPS
def test_recipes_have_one_catalogue() -> None:
    assert list(ALL)[-1] == "deep-resistive-1h"
    assert duration(ALL["deep-resistive-1h"], 0.01, "digits").batch == 4


@pytest.mark.parametrize(
    ("width", "data", "found"),
    [
        (1.0, "cifar-10", "this recipe does not train on 'cifar-10'; fashion-mnist, digits"),
        (9.0, "digits", "width 9.0; a factor above 0 and at most 4"),
    ],
)
def test_what_it_is_not_made_for_is_refused(width: float, data: str, found: str) -> None:
    for asked in (lambda: DRN.model(width, data, 0), lambda: DRN.settings(data, 0, width)):
        with pytest.raises(UsageError) as caught:
            asked()
        assert str(caught.value) == found


@FEW_SWEEPS
def test_it_settles_in_the_published_sweeps() -> None:
    plan = ffebm.compile(
        DRN.model(0.05, "digits", 0),
        hardware="ideal",
        block_size=(3,),
        physics="deep-resistive",
        settle=DRN.settle,
    )
    x = torch.rand(8, 64, generator=torch.Generator().manual_seed(0))
    net = ffebm.Executor(plan)
    few = net(x)
    net.settle = ffebm.Settle(free_sweeps=200, tol=1e-7)
    torch.testing.assert_close(few, net(x), rtol=1e-3, atol=1e-3)
