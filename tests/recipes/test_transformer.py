"""The transformer, and its gradients, against the same written in torch."""

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- torch's own name for it
from torch.nn.functional import cosine_similarity

import ffebm
from ffebm.recipes.transformer import ATTENTION, SKIPS, TRAINABLE, Transformer
from tests.models import oracle

SMALL = Transformer(layers=2, width=8, heads=2, hidden=12, context=5)
CHARACTERS = 7
IDS = torch.tensor(np.random.default_rng(1).integers(0, CHARACTERS, (3, 5)))
Weights = dict[str, Tensor]


def weights(seed: int = 0) -> Weights:
    return {k: torch.from_numpy(a).double() for k, a in SMALL.weights(CHARACTERS, seed).items()}


def scores(w: Weights, settled: bool) -> Tensor:
    """What the transformer computes; with `settled` feedforward parts rest where their energy does."""

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (SMALL.width,), w[f"{name}.scale"], w[f"{name}.shift"])

    def dense(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def feedforward(name: str, x: Tensor) -> Tensor:
        drive = dense(f"{name}.hidden", norm(f"{name}.norm", x))
        hidden = drive.clamp(0, 1)
        for _ in range(200 if settled else 0):  # a coupling of norm 0.5 forgets where it began
            hidden = (drive + dense(f"{name}.output", hidden) @ w[f"{name}.output.weight"].T).clamp(0, 1)
        return dense(f"{name}.output", hidden)

    x = w["characters"][IDS] + w["positions"]
    for layer in range(SMALL.layers):
        name = f"layer{layer}.attention"
        source = norm(f"{name}.norm", x)
        parts = [dense(f"{name}.{part}", source) for part in ("query", "key", "value")]
        q, k, v = (part.unflatten(2, (SMALL.heads, -1)).transpose(1, 2) for part in parts)  # type: ignore[no-untyped-call]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + dense(f"{name}.output", mixed.transpose(1, 2).flatten(2))
        x = x + feedforward(f"layer{layer}", x)
    return dense("readout", norm("norm", x))


def cost(found: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(found.flatten(0, 1), target.flatten())


@cache
def plan_of(block_size: int) -> ffebm.Plan:
    return ffebm.compile(
        SMALL.model(CHARACTERS),
        hardware="ideal",
        block_size=block_size,
        digital=(*ATTENTION, *SKIPS),
        trainable=TRAINABLE,
        settle=ffebm.Settle(free_sweeps=500, nudged_sweeps=500, tol=1e-12),
    )


def network(block_size: int, gradient: Any = None) -> ffebm.Executor:
    """On exact tiles in 64 bits, settled completely."""
    return ffebm.Executor(plan_of(block_size), gradient=gradient or ffebm.EP()).double()


def held(w: Weights) -> Weights:
    """Couplings with a norm of 0.5: one equilibrium, soon reached."""
    scale = {k: 0.5 / torch.linalg.matrix_norm(a, 2) for k, a in w.items() if k.endswith("output.weight")}
    return {k: a * scale[k] if k in scale and "attention" not in k else a for k, a in w.items()}


def load(net: ffebm.Executor, w: Weights) -> None:
    with torch.no_grad():
        for name, tensor in net.weights().items():
            tensor.copy_(w[name])


def test_the_file_is_that_transformer() -> None:
    model = SMALL.model(CHARACTERS, seed=3)
    onnx.checker.check_model(model, full_check=True)
    expected = scores(weights(3), settled=False).float()
    found = torch.from_numpy(oracle(model, {"ids": IDS.numpy()})[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_feedforward_parts_are_energy_blocks_and_attention_is_digital() -> None:
    net = network(2)
    assert [[layer.value for layer in block.layers] for block in net.plan.blocks] == [
        ["layer0.clip", "layer0.output"],
        ["layer1.clip", "layer1.output"],
        ["readout"],
    ]
    nodes = {node.name: node for node in net.plan.nodes}
    assert nodes["layer1.output.product"].unit == "tile"
    assert nodes["layer1.output.product"].reason == (
        "linear map with a stationary weight, into layer 2 of 2 in block1"
    )
    attention = [node for name, node in nodes.items() if ".attention." in name]
    assert {node.unit for node in attention} == {"digital"}
    assert nodes["layer0.attention.query.product"].reason == "kept digital on request"
    assert nodes["layer0.norm"].reason == (
        "couples the units of a layer, so it is no activation of an energy"
    )
    assert set(net.weights()) == set(weights())


@pytest.mark.parametrize("block_size", [1, 2])
def test_the_runtime_computes_it(block_size: int) -> None:
    net, w = network(block_size), held(weights())
    load(net, w)
    torch.testing.assert_close(net(IDS), scores(w, settled=block_size == 2), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("gradient", "least"), [(ffebm.EP(beta=1e-3), 0.99999), (ffebm.Implicit(), 1 - 1e-10)]
)
def test_gradients_are_those_through_the_equilibrium(gradient: Any, least: float) -> None:
    net, w = network(2, gradient), held(weights())
    load(net, w)
    target = IDS.flip(1)
    net.loss(IDS, target, cost).backward()  # type: ignore[no-untyped-call]
    exact = {name: a.clone().requires_grad_() for name, a in w.items()}
    cost(scores(exact, settled=True), target).backward()  # type: ignore[no-untyped-call]
    for name, tensor in net.weights().items():
        expected = exact[name].grad
        assert expected is not None
        assert tensor.grad is not None
        if float(expected.norm()) > 1e-12:  # a shift of all keys changes no share of attention
            assert float(cosine_similarity(tensor.grad.flatten(), expected.flatten(), dim=0)) > least, name
            assert float(tensor.grad.norm() / expected.norm()) == pytest.approx(1, abs=1e-3), name


def test_gradients_are_finite_differences_of_the_loss() -> None:
    net, w = network(2, ffebm.EP(beta=1e-3)), held(weights())
    target, rng = IDS.flip(1), torch.Generator().manual_seed(5)
    load(net, w)
    net.loss(IDS, target, cost).backward()  # type: ignore[no-untyped-call]
    for name in ("layer0.output.weight", "layer1.hidden.weight", "layer0.attention.key.weight", "characters"):
        way = torch.randn(w[name].shape, generator=rng, dtype=torch.float64)
        losses = []
        for step in (1e-5, -1e-5):
            load(net, {**w, name: w[name] + step * way})
            losses.append(float(cost(net(IDS), target).detach()))
        grad = net.weights()[name].grad
        assert grad is not None
        assert float((grad * way).sum()) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-3), name


class Part(nn.Module):
    """A feedforward part as a torch module, behind attention."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.query = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x).chunk(3, dim=2)
        x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y: Tensor = x + self.down(self.up(self.norm(x)).clamp(0, 1))
        return y


def test_a_torch_module_becomes_the_same_blocks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(CHARACTERS, 8), Part(8, 12), nn.Linear(8, CHARACTERS)).double()
    plan = ffebm.compile(model, (IDS,), hardware="ideal", block_size=2, digital=["*query*", "add*"])
    assert [[layer.activation.op for layer in block.layers] for block in plan.blocks] == [
        ["Clip", "Identity"],
        ["Identity"],
    ]
    assert {node.unit for node in plan.nodes if "attention" in node.op} == {"digital"}
