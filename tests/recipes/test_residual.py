"""The residual network, and its gradients, against the same written in torch."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it
from torch.nn.functional import cosine_similarity, cross_entropy

import ffebm
from ffebm.recipes.residual import BLOCK_SIZES, Residual
from tests.models import oracle

SMALL = Residual(side=8, channels=3)
FEEDBACK = 0.25
IMAGES = torch.from_numpy(np.random.default_rng(2).random((4, 1, 8, 8)))
CLASSES = torch.tensor([0, 1, 2, 1])
COUPLINGS = ("a2.weight", "b2.weight", "b3.weight", "inside.weight")
GAINS = {"a2": 1, "b1": 2, "b2": 1, "b3": 1}
"""Powers of 1 / feedback by which drives of layers are multiplied."""
Weights = dict[str, Tensor]


def weights(feedback: float = 1.0) -> Weights:
    """Couplings that layers feel with norms of at most 0.4, so that blocks settle soon; biases all over."""
    w = {k: torch.from_numpy(a).double() for k, a in SMALL.weights(3, 0).items()}
    for name in COUPLINGS:
        w[name] = w[name] * 0.4 / feedback**0.5 / torch.linalg.matrix_norm(w[name].flatten(1), 2)
    rng = torch.Generator().manual_seed(1)
    for name in GAINS:
        w[f"{name}.bias"] = 0.2 * torch.randn(w[f"{name}.bias"].shape, generator=rng, dtype=torch.float64)
    return w


def scores(w: Weights, images: Tensor, settled: bool, feedback: float = 1.0) -> Tensor:
    """What the network computes in evaluation; with `settled` both blocks rest where their energy does.

    Layers feel those above by `feedback`, and by its square through the skip inside. Biases behind gains are
    as much weaker as these are strong.
    """
    w = {**w, **{f"{name}.bias": w[f"{name}.bias"] * feedback**n for name, n in GAINS.items()}}

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        padding = w[f"{name}.weight"].shape[-1] // 2
        return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride, padding)

    def back(name: str, x: Tensor) -> Tensor:
        weight = w[f"{name}.weight"]
        return F.conv_transpose2d(x, weight, padding=weight.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (w[f"{name}.norm.{part}"] for part in ("mean", "var", "scale", "shift"))
        return F.batch_norm(x, mean, var, scale, shift)

    below = norm("stem", conv("stem", images)).clamp(0, 1)
    drive = norm("a1", conv("a1", below))
    a1 = drive.clamp(0, 1)
    a2 = (conv("a2", a1) + below).clamp(0, 1)
    for _ in range(100 if settled else 0):
        a1 = (drive + feedback * back("a2", a2)).clamp(0, 1)
        a2 = (conv("a2", a1) + below).clamp(0, 1)
    first, across = conv("b1", a2, 2), conv("across", a2, 2)
    b1 = first.clamp(0, 1)
    b2 = conv("b2", b1).clamp(0, 1)
    b3 = (conv("b3", b2) + conv("inside", b1) + across).clamp(0, 1)
    for _ in range(200 if settled else 0):
        b1 = (first + feedback * back("b2", b2) + feedback**2 * back("inside", b3)).clamp(0, 1)
        b2 = (conv("b2", b1) + feedback * back("b3", b3)).clamp(0, 1)
        b3 = (conv("b3", b2) + conv("inside", b1) + across).clamp(0, 1)
    mean = F.avg_pool2d(b3, SMALL.side // SMALL.stride // 4).flatten(1)
    return mean @ w["readout.weight"].T + w["readout.bias"]


@cache
def plan_of(*sizes: int, feedback: float = 1.0) -> ffebm.Plan:
    network = replace(SMALL, feedback=feedback)
    return ffebm.compile(
        network.model(3),
        hardware="ideal",
        block_size=sizes,
        digital=network.digital,
        settle=ffebm.Settle(free_sweeps=500, nudged_sweeps=500, tol=1e-12),
    )


def network(sizes: tuple[int, ...], gradient: Any = None, feedback: float = 1.0) -> ffebm.Executor:
    """On exact tiles in 64 bits, settled completely, in evaluation mode."""
    plan = plan_of(*sizes, feedback=feedback)
    net = ffebm.Executor(plan, gradient=gradient or ffebm.EP()).double().eval()
    load(net, weights(feedback))
    return net


def load(net: ffebm.Executor, w: Weights) -> None:
    with torch.no_grad():
        for name, tensor in net.weights().items():
            tensor.copy_(w[name])


@pytest.mark.parametrize("feedback", [1.0, FEEDBACK])
def test_the_file_is_that_network(feedback: float) -> None:
    model = replace(SMALL, feedback=feedback).model(3)
    onnx.checker.check_model(model, full_check=True)
    w = {name: torch.from_numpy(array).double() for name, array in SMALL.weights(3, 0).items()}
    found = torch.from_numpy(oracle(model, {"image": IMAGES.float().numpy()})[0])
    torch.testing.assert_close(found, scores(w, IMAGES, settled=False).float(), rtol=1e-4, atol=1e-5)


def test_skips_are_inside_a_block_and_across() -> None:
    first, second = plan_of(*BLOCK_SIZES).blocks
    assert [layer.value for layer in first.layers] == ["a1", "a2"]
    assert [layer.value for layer in second.layers] == ["b1", "b2", "b3"]
    # the stem passes by into the second layer; b1 and the block below into the third
    assert [i.source for i in first.layers[1].interactions] == ["a1", "stem"]
    assert [i.source for i in second.layers[2].interactions] == ["b2", "b1", "a2"]


@pytest.mark.parametrize("feedback", [1.0, FEEDBACK])
@pytest.mark.parametrize("sizes", [BLOCK_SIZES, (1, 1, 1, 1)])
def test_the_runtime_computes_it(sizes: tuple[int, ...], feedback: float) -> None:
    expected = scores(weights(feedback), IMAGES, sizes == BLOCK_SIZES, feedback)
    torch.testing.assert_close(network(sizes, feedback=feedback)(IMAGES), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("feedback", [1.0, FEEDBACK])
@pytest.mark.parametrize(
    ("gradient", "least"), [(ffebm.EP(beta=1e-4), 0.9999), (ffebm.Implicit(), 1 - 1e-10)]
)
def test_gradients_are_those_through_the_equilibrium(gradient: Any, least: float, feedback: float) -> None:
    net = network(BLOCK_SIZES, gradient, feedback)
    net.loss(IMAGES, CLASSES, cross_entropy).backward()  # type: ignore[no-untyped-call]
    exact = {name: a.clone().requires_grad_(name in net.weights()) for name, a in weights(feedback).items()}
    found = scores(exact, IMAGES, True, feedback)
    cross_entropy(found, CLASSES).backward()  # type: ignore[no-untyped-call]
    for name, tensor in net.weights().items():
        expected = exact[name].grad
        assert expected is not None
        assert tensor.grad is not None
        assert float(cosine_similarity(tensor.grad.flatten(), expected.flatten(), dim=0)) > least, name


def test_gradients_are_finite_differences_of_the_loss() -> None:
    net, w = network(BLOCK_SIZES, ffebm.EP(beta=1e-4)), weights()
    rng = torch.Generator().manual_seed(5)
    net.loss(IMAGES, CLASSES, cross_entropy).backward()  # type: ignore[no-untyped-call]
    for name in ("a1.weight", *COUPLINGS, "across.weight"):
        way = torch.randn(w[name].shape, generator=rng, dtype=torch.float64)
        losses = []
        for step in (1e-6, -1e-6):
            load(net, {**w, name: w[name] + step * way})
            losses.append(float(cross_entropy(net(IMAGES), CLASSES).detach()))
        grad = net.weights()[name].grad
        assert grad is not None
        assert float((grad * way).sum()) == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-2), name
