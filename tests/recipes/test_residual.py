"""The residual network, and its gradients, against the same written in torch."""

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
from ffebm.recipes.residual import BLOCK_SIZES, DIGITAL, Residual
from tests.models import oracle

SMALL = Residual(side=8, channels=3)
IMAGES = torch.from_numpy(np.random.default_rng(2).random((4, 1, 8, 8)))
CLASSES = torch.tensor([0, 1, 2, 1])
COUPLINGS = ("a2.weight", "b2.weight", "b3.weight", "inside.weight")
Weights = dict[str, Tensor]


def weights() -> Weights:
    """Couplings with norms of 0.4, so that blocks settle soon."""
    w = {k: torch.from_numpy(a).double() for k, a in SMALL.weights(3, 0).items()}
    for name in COUPLINGS:
        w[name] = w[name] * 0.4 / torch.linalg.matrix_norm(w[name].flatten(1), 2)
    return w


def scores(w: Weights, images: Tensor, settled: bool) -> Tensor:
    """What the network computes in evaluation; with `settled` both blocks rest where their energy does."""

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
        a1 = (drive + back("a2", a2)).clamp(0, 1)
        a2 = (conv("a2", a1) + below).clamp(0, 1)
    first, across = conv("b1", a2, 2), conv("across", a2, 2)
    b1 = first.clamp(0, 1)
    b2 = conv("b2", b1).clamp(0, 1)
    b3 = (conv("b3", b2) + conv("inside", b1) + across).clamp(0, 1)
    for _ in range(200 if settled else 0):
        b1 = (first + back("b2", b2) + back("inside", b3)).clamp(0, 1)
        b2 = (conv("b2", b1) + back("b3", b3)).clamp(0, 1)
        b3 = (conv("b3", b2) + conv("inside", b1) + across).clamp(0, 1)
    mean = F.avg_pool2d(b3, SMALL.side // SMALL.stride // 4).flatten(1)
    return mean @ w["readout.weight"].T + w["readout.bias"]


@cache
def plan_of(*sizes: int) -> ffebm.Plan:
    return ffebm.compile(
        SMALL.model(3),
        hardware="ideal",
        block_size=sizes,
        digital=DIGITAL,
        settle=ffebm.Settle(free_sweeps=500, nudged_sweeps=500, tol=1e-12),
    )


def network(sizes: tuple[int, ...], gradient: Any = None) -> ffebm.Executor:
    """On exact tiles in 64 bits, settled completely, in evaluation mode."""
    net = ffebm.Executor(plan_of(*sizes), gradient=gradient or ffebm.EP()).double().eval()
    load(net, weights())
    return net


def load(net: ffebm.Executor, w: Weights) -> None:
    with torch.no_grad():
        for name, tensor in net.weights().items():
            tensor.copy_(w[name])


def test_the_file_is_that_network() -> None:
    model = SMALL.model(3)
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


@pytest.mark.parametrize("sizes", [BLOCK_SIZES, (1, 1, 1, 1)])
def test_the_runtime_computes_it(sizes: tuple[int, ...]) -> None:
    expected = scores(weights(), IMAGES, settled=sizes == BLOCK_SIZES)
    torch.testing.assert_close(network(sizes)(IMAGES), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("gradient", "least"), [(ffebm.EP(beta=1e-4), 0.9999), (ffebm.Implicit(), 1 - 1e-10)]
)
def test_gradients_are_those_through_the_equilibrium(gradient: Any, least: float) -> None:
    net = network(BLOCK_SIZES, gradient)
    net.loss(IMAGES, CLASSES, cross_entropy).backward()  # type: ignore[no-untyped-call]
    exact = {name: a.clone().requires_grad_(name in net.weights()) for name, a in weights().items()}
    cross_entropy(scores(exact, IMAGES, settled=True), CLASSES).backward()  # type: ignore[no-untyped-call]
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
