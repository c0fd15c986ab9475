"""What follows the width, and what does not."""

import msgspec
import pytest

from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.recipes.recipe import Recipe
from ffebm.training.settings import Training

TRAINED = [name for name, recipe in RECIPES.items() if recipe.trains]


def small(size: int) -> Recipe:
    return RECIPES[SPLITTING_SMALL[size]]


@pytest.mark.parametrize("width", [1.0, 2.0])
@pytest.mark.parametrize("name", RECIPES)
def test_at_the_papers_width_all_is_as_published(name: str, width: float) -> None:
    recipe = RECIPES[name]
    assert recipe.settling(width) == recipe.settle
    published = msgspec.structs.replace(recipe.settings("cifar-10", 0), data=recipe.training.data)
    assert recipe.settings("cifar-10", 0, width) == recipe.settings("cifar-10", 0)
    changed = {
        name
        for name in Training.__struct_fields__
        if getattr(published, name) != getattr(recipe.training, name)
    }
    assert changed == {"mean", "std"}


@pytest.mark.parametrize("name", TRAINED)
def test_what_stays_as_published_at_any_width(name: str) -> None:
    recipe = RECIPES[name]
    published, narrow = (recipe.settings("cifar-10", 5, width) for width in (1.0, 0.1))
    for same in ("optimizer", "weight_decay", "schedule", "cost", "freeze", "flip", "crop", "seed", "mean"):
        assert getattr(published, same) == getattr(narrow, same), same
    assert narrow.clip_norm is None
    assert recipe.network.narrowed(0.1).ladder == ()
    assert recipe.network.narrowed(0.1).slope == recipe.network.slope


@pytest.mark.parametrize(
    ("width", "lr", "beta"), [(1 / 16, 4e-3, 1.0), (1 / 8, 2e-3, 0.5), (1 / 4, 1e-3, 0.5)]
)
def test_rate_and_nudge_follow_the_width(width: float, lr: float, beta: float) -> None:
    training = small(2).settings("fashion-mnist", 0, width)
    assert training.lr == pytest.approx(lr)
    assert training.min_lr == pytest.approx(lr / 100)
    assert training.beta == beta
    assert small(2).settings("fashion-mnist", 0, 0.5).beta == 0.2
    tolerant = RECIPES["splitting-small-2-tol"].settings("fashion-mnist", 0, width)
    assert tolerant.lr == pytest.approx(lr)


@pytest.mark.parametrize(
    ("size", "batch", "sweeps"), [(1, 64, (1, 1)), (2, 64, (8, 4)), (3, 64, (16, 6)), (6, 128, (20, 8))]
)
def test_batch_and_sweeps_follow_the_blocks(size: int, batch: int, sweeps: tuple[int, int]) -> None:
    settle = small(size).settling(0.125)
    assert (settle.free_sweeps, settle.nudged_sweeps) == sweeps
    training = small(size).settings("fashion-mnist", 0, 0.125)
    assert training.batch == batch
    assert training.hold_norm == (None if size == 1 else 0.8)


def test_sweeps_never_exceed_the_published_ones() -> None:
    settle = RECIPES["splitting-large-4"].settling(0.25)
    assert (settle.free_sweeps, settle.nudged_sweeps) == (20, 5)
    tolerant = RECIPES["splitting-large-4-tol"]
    assert tolerant.settling(0.25) == tolerant.settle


def test_a_narrow_run_is_short_validates_and_does_not_tie() -> None:
    training = small(3).settings("fashion-mnist", 0, 0.125)
    assert (training.epochs, training.schedule_by, training.warmup) == (10, "steps", 20)
    assert (training.validation, training.dither) == (0.1, 0.004)
    assert (training.flip, training.crop) == (False, 0)  # small grey images
