"""The recipes against the figures of the paper's settings files."""

import itertools
import math

import pytest

from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.recipes.recipe import IMAGES, Recipe
from ffebm.training.data import load_data
from ffebm.training.data.fashion_mnist import FASHION_MNIST

CONV_WEIGHTS = {"splitting-small": 4.43e6, "splitting-large": 10.77e6, "scaling-large": 13.236e6}
"""13.245 million in the published file, with its 258 channels."""


def sizes(recipe: Recipe) -> list[list[int]]:
    return [[layer.size for layer in block] for block in recipe.network.blocks]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("splitting-small-6", [[128, 256, 256, 512, 512, 256]]),
        ("splitting-small-3", [[128, 256, 256], [512, 512, 256]]),
        ("splitting-small-2", [[128, 256], [256, 512], [512, 256]]),
        ("splitting-small-1", [[128], [256], [256], [512], [512], [256]]),
        ("splitting-large-4", [[128] * 4, [256] * 4, [512] * 4]),
        ("splitting-large-3", [[128] * 3, [128, 256, 256], [256, 256, 512], [512] * 3]),
        ("splitting-large-2", [[128] * 2, [128] * 2, [256] * 2, [256] * 2, [512] * 2, [512] * 2]),
        ("scaling-small", [[128] * 2, [128] * 2, [256] * 2, [256] * 2, [512] * 2, [512] * 2]),
        (
            "scaling-large",
            [[64] * 2, [128] * 2, [128] * 2, [256] * 2, [256] * 2, [512] * 2, [512] * 2, [512]],
        ),
        (
            "static-gradients",
            [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 2, [512, 1024, 4096]],
        ),
    ],
)
def test_channels_by_block(name: str, expected: list[list[int]]) -> None:
    assert sizes(RECIPES[name]) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("splitting-small-6", [1, 2, 3, 4]),
        ("splitting-small-3", [1, 2, 3, 4]),
        ("splitting-large-4", [3, 5, 9]),
        ("splitting-large-3", [4, 7, 10]),
        ("splitting-large-2", [3, 5, 9]),
        ("scaling-small", [1, 5, 9]),
        ("scaling-large", [3, 7, 11]),
        ("static-gradients", [3, 5, 8, 11]),
    ],
)
def test_pooled_convolutions(name: str, expected: list[int]) -> None:
    assert [n for n, layer in enumerate(RECIPES[name].network.layers, 1) if layer.has_pool] == expected


@pytest.mark.parametrize(("name", "expected"), CONV_WEIGHTS.items())
def test_number_of_weights_of_convolutions(name: str, expected: float) -> None:
    for recipe in (r for n, r in RECIPES.items() if n.startswith(name)):
        channels = [3, *(layer.size for layer in recipe.network.layers if not layer.is_dense)]
        found = sum(9 * a * b for a, b in itertools.pairwise(channels))
        assert found == pytest.approx(expected, rel=1e-3)


def test_normalised_and_clipped_layers() -> None:
    def marks(name: str) -> list[str]:
        kinds = {(True, True): "N", (True, False): "n", (False, True): "c", (False, False): "l"}
        return [
            "".join(kinds[layer.has_norm, layer.is_clipped] for layer in block)
            for block in RECIPES[name].network.blocks
        ]

    assert marks("splitting-small-6") == ["Nccccl"]
    assert marks("splitting-small-2") == ["Nc", "cc", "cl"]  # the last layers of inner blocks are clipped
    assert marks("splitting-large-3") == ["Ncl"] * 4
    assert marks("scaling-large") == ["Nl"] * 7 + ["n"]


@pytest.mark.parametrize("name", RECIPES)
def test_each_compiles_into_its_blocks(name: str) -> None:
    recipe = RECIPES[name]
    plan = compile_plan(
        recipe.model(1 / 32, "fashion-mnist", 0),
        hardware="ideal",
        block_size=recipe.block_size,
        boundary=recipe.boundary,
        settle=recipe.settle,
    )
    found = [len(block.layers) for block in plan.blocks]
    expected = list(recipe.block_size)
    assert found == (expected[:-1] if name == "scaling-large" else expected)  # its last one has no weights
    assert plan.settle == recipe.settle
    assert recipe.training.freeze == ("*.norm.*",)
    for block in plan.blocks if recipe.boundary == "digital" else ():
        assert [len(layer.interactions) for layer in block.layers] == [1] * len(block.layers)
        assert block.layers[0].interactions[0].linear is None


def test_share_of_weights_inside_blocks() -> None:
    """73 % and 33 % of the convolutions' weights at block sizes 3 and 2, as counted from the files."""
    for size, expected in ((6, 0.999), (3, 0.73), (2, 0.33)):
        blocks = RECIPES[SPLITTING_SMALL[size]].network.blocks
        inside = total = 0
        channels = 3
        for block in blocks:
            for k, layer in enumerate(block):
                if not layer.is_dense:
                    total += 9 * channels * layer.size
                    inside += 9 * channels * layer.size if k else 0
                    channels = layer.size
        assert inside / total == pytest.approx(expected, abs=0.01)


def test_settings_for_some_data() -> None:
    recipe = RECIPES["splitting-small-3"]
    training = recipe.settings("cifar-100", 7)
    assert (training.data, training.seed, training.pad) == ("cifar-100", 7, False)
    assert training.std == pytest.approx((3 * 0.2023, 3 * 0.1994, 3 * 0.2010))
    assert (training.epochs, training.batch, training.lr, training.min_lr) == (200, 128, 1e-4, 1e-6)
    assert (training.beta, training.cost, training.weight_decay) == (0.2, True, 3e-4)
    assert (training.flip, training.crop, training.schedule) == (True, 4, "cosine")
    assert recipe.settings("fashion-mnist", 0).pad
    tolerant = RECIPES["splitting-small-3-tol"]
    assert (tolerant.network.slope, tolerant.settle.tol, tolerant.settle.free_sweeps) == (0.65, 1e-6, 1580)
    assert (tolerant.training.epochs, tolerant.training.lr) == (100, 3e-4)


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_scale_of_fashion_mnist() -> None:
    x = load_data("fashion-mnist").x_train.double() / 255
    images = IMAGES["fashion-mnist"]
    assert images.mean == pytest.approx((float(x.mean()),), abs=1e-4)
    assert images.std == pytest.approx((3 * float(x.std()),), abs=1e-3)


@pytest.mark.parametrize("width", [0.0, -1.0, 5.0, math.nan])
def test_widths_out_of_range(width: float) -> None:
    with pytest.raises(UsageError) as caught:
        RECIPES["splitting-small-6"].model(width, "cifar-10", 0)
    assert str(caught.value) == f"width {width}; a factor above 0 and at most 4"
    with pytest.raises(UsageError, match=r"^width .*; a factor above 0 and at most 4$"):
        RECIPES["splitting-small-6"].settings("cifar-10", 0, width)
    with pytest.raises(UsageError, match=r"^width .*; a factor above 0 and at most 4$"):
        RECIPES["splitting-small-6"].settling(width)


def test_data_that_no_recipe_knows() -> None:
    with pytest.raises(UsageError) as caught:
        RECIPES["splitting-small-6"].settings("digits", 0)
    assert str(caught.value) == f"this recipe does not train on 'digits'; {', '.join(IMAGES)}"
