"""Narrow recipes on files as users have them: made up, in the formats of the data sets."""

from pathlib import Path

import msgspec
import pytest

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.recipes.paper import RECIPES
from ffebm.recipes.recipe import IMAGES
from ffebm.training.data import load_data
from ffebm.training.estimator import estimator
from ffebm.training.trainer import Trainer
from tests.training.data.test_published_formats import cifar_10, cifar_100, imagenet32

__all__ = ["cifar_10", "cifar_100", "imagenet32"]
WIDTH = 0.01


@pytest.mark.parametrize(
    ("name", "data"),
    [("splitting-small-3", "cifar-10"), ("scaling-small", "cifar-100"), ("scaling-large", "imagenet32")],
)
def test_an_epoch(name: str, data: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(data.replace("-", "_"))
    recipe = RECIPES[name]
    plan = compile_plan(
        recipe.model(WIDTH, data, seed=0),
        hardware="ideal",
        block_size=recipe.block_size,
        boundary=recipe.boundary,
        settle=recipe.settling(WIDTH),
    )
    assert (plan.outputs[0].type.shape or ())[-1] == IMAGES[data].classes
    training = recipe.settings(data, 0, WIDTH)
    assert training.validation == 0.1
    training = msgspec.structs.replace(training, epochs=1, warmup=0, validation=0.4)  # of a few images
    trainer = Trainer(Executor(plan, gradient=estimator(training)), load_data(data, folder), training)
    before = {name: w.detach().clone() for name, w in trainer.net.weights().items()}
    (epoch,) = trainer.run()
    assert trainer.validation is not None
    assert epoch.validation_accuracy is not None
    assert epoch.tied == 0.0
    moved = {name for name, w in trainer.net.weights().items() if not before[name].equal(w)}
    assert moved == {name for name in before if ".norm." not in name}
