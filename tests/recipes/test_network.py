import itertools
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it

import ffebm
from ffebm.errors import UsageError
from ffebm.recipes.network import PaperLayer, PaperNetwork, goe
from ffebm.recipes.nodes import rungs
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.training.optimization.constraint import felt
from tests.models import oracle

NETWORK = PaperNetwork(
    (
        (PaperLayer(8, has_pool=True, has_norm=True), PaperLayer(12, has_pool=True)),
        (PaperLayer(12, has_pool=True), PaperLayer(9, is_dense=True, is_clipped=False)),
    ),
    variance=0.02,
    slope=0.7,
)


def test_the_layers_compute_what_they_say() -> None:
    model = NETWORK.model(5, seed=3)
    onnx.checker.check_model(model, full_check=True)
    w = {name: torch.from_numpy(array) for name, array in NETWORK.weights(5, 3).items()}
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    value = F.max_pool2d(F.conv2d(torch.from_numpy(x), w["layer0.weight"], padding=1), 2)
    value = (0.7 * value / (1 + 1e-5) ** 0.5).clamp(0, 1)
    for name in ("layer1", "layer2"):
        value = F.max_pool2d(F.conv2d(value, w[f"{name}.weight"], w[f"{name}.bias"], padding=1), 2)
        value = (0.7 * value).clamp(0, 1)
    value = F.linear(value.flatten(1), w["layer3.weight"], w["layer3.bias"])
    expected = F.linear(value, w["readout.weight"], w["readout.bias"])
    torch.testing.assert_close(torch.from_numpy(oracle(model, {"image": x})[0]), expected)


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (NETWORK.model(5, seed).SerializeToString(deterministic=True) for seed in (1, 1, 2))
    assert first == again != other


def test_kernels_are_symmetric_and_of_the_papers_variance() -> None:
    kernels = goe(np.random.default_rng(0), 200, 100, 0.03)
    assert np.array_equal(kernels, kernels.swapaxes(2, 3))
    variance = kernels.var(axis=(0, 1))
    expected = np.where(np.eye(3, dtype=bool), 8, 1) * 0.03 / 3
    assert variance == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_another_width_keeps_the_couplings_as_strong(width: float) -> None:
    wide = PaperNetwork(((PaperLayer(64, has_norm=True), PaperLayer(64)),), variance=0.01)
    narrow = wide.narrowed(width)
    assert [layer.size for layer in narrow.layers] == [round(64 * width)] * 2

    def norm(network: PaperNetwork) -> float:
        """Largest singular value of the kernels' sum over positions, the gain of a constant image."""
        kernels = network.weights(2, 0)["layer1.weight"]
        return float(np.linalg.norm(kernels.sum(axis=(2, 3)), 2))

    assert norm(narrow) == pytest.approx(norm(wide), rel=0.1)


def test_a_narrow_network_keeps_a_few_channels() -> None:
    assert [layer.size for layer in NETWORK.narrowed(1e-3).layers] == [8] * 4


def test_a_ladder_of_slopes_leaves_a_feedforward_network_without_biases_as_it_is() -> None:
    ladder = replace(NETWORK, ladder=(1.0, 0.5, 0.1))
    assert ladder.ranges == (1.0, 0.5, 0.05, 0.05)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    plain, weaker = (
        torch.from_numpy(oracle(network.model(5, seed=3), {"image": x})[0]) for network in (NETWORK, ladder)
    )
    torch.testing.assert_close(weaker, plain, rtol=1e-4, atol=1e-6)
    graph = ladder.model(5).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    tops = [float(constants[node.input[2]]) for node in graph.node if node.op_type == "Clip"]
    assert tops == pytest.approx([1.0, 0.5, 0.05])


@pytest.mark.parametrize("last", [1.0, 0.2])
@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_weaker_feedback_leaves_the_way_up_as_it_is(layers: int, last: float) -> None:
    found = rungs(layers, 0.2, last)
    assert len(found) == layers
    assert (found[-1].slope, found[-1].top) == (last, 1.0)
    for rung in found:  # what drives it from outside arrives as it is
        assert rung.slope * rung.gain / rung.top == pytest.approx(1)
    for below, above in itertools.pairwise(found):
        assert above.slope * below.top / above.top == pytest.approx(1)
        assert below.slope * above.top / below.top == pytest.approx(0.2)
        assert math.sqrt(below.slope * above.slope) == pytest.approx(math.sqrt(0.2))


def test_a_map_that_skips_a_layer_is_as_strong_where_all_slopes_follow_the_feedback() -> None:
    below, _, above = rungs(3, 0.2, last=0.2)
    assert above.slope * below.top / above.top == pytest.approx(1)
    assert below.slope * above.top / below.top == pytest.approx(0.2**2)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_a_block_with_weaker_feedback_is_the_same_feedforward_network(size: int) -> None:
    whole = RECIPES[SPLITTING_SMALL[size]]
    weaker = whole.with_feedback(0.2)
    assert weaker.digital == ("*.gain",)
    assert whole.digital == ()
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    plain, found = (
        torch.from_numpy(oracle(recipe.model(1 / 16, "fashion-mnist", 3), {"image": x})[0])
        for recipe in (whole, weaker)
    )
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)


def test_layers_feel_those_above_weaker() -> None:
    """Slopes, ranges and gains are those of the plan, and only what comes back is weaker."""
    recipe = RECIPES["splitting-small-3"].with_feedback(0.25)
    plan = ffebm.compile(
        recipe.model(1 / 16, "fashion-mnist", 3),
        hardware="ideal",
        block_size=recipe.block_size,
        boundary=recipe.boundary,
        digital=recipe.digital,
    )
    first = plan.blocks[0]
    assert [layer.activation.scale for layer in first.layers] == [1.0, 0.25, 1.0]
    assert [layer.activation.high for layer in first.layers] == [4.0, 1.0, 1.0]
    assert [i.source for i in first.layers[0].interactions] == ["layer0.gain"]
    assert felt(plan) == {f"layer{n}.weight": 0.5 for n in (1, 2, 4, 5)}


@pytest.mark.parametrize("size", [2, 3])
def test_slopes_ranges_and_gains_are_a_feedback(size: int) -> None:
    """Without biases the network of a recipe is the published one that is compiled with this feedback."""
    recipe, settle = RECIPES[f"splitting-small-{size}"], ffebm.Settle(free_sweeps=400, tol=1e-11)
    x, y = torch.rand(2, 3, 32, 32, dtype=torch.float64), torch.arange(2)
    losses = []
    for made, feedback in ((recipe, 0.25), (recipe.with_feedback(0.25), 1.0)):
        plan = ffebm.compile(
            made.model(1 / 32, "fashion-mnist", 3),
            hardware="ideal",
            block_size=made.block_size,
            boundary=made.boundary,
            digital=made.digital,
            settle=settle,
            feedback=feedback,
        )
        net = ffebm.Executor(plan).double()
        losses.append(float(net.loss(x, y, F.cross_entropy).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_published_feedback_changes_no_recipe(name: str) -> None:
    assert RECIPES[name].with_feedback(1.0) == RECIPES[name]


def test_a_feedback_that_nothing_feels_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        RECIPES["splitting-small-1"].with_feedback(0.05)
    assert str(caught.value) == (
        "feedback 0.05 of blocks with one layer each, which feel no other; recipes with larger blocks"
    )


@pytest.mark.parametrize("feedback", [0.0, -0.1, 1.1, float("nan")])
def test_a_feedback_out_of_range_is_refused(feedback: float) -> None:
    with pytest.raises(UsageError) as caught:
        RECIPES["splitting-small-2"].with_feedback(feedback)
    assert str(caught.value) == f"feedback {feedback}; at least 0.001, and at most 1"
