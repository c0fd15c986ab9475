"""Networks with gradients computed by the published code of Nest & Ernoult 2024.

Each file holds inputs, parameters, logits, the gradients of its equilibrium propagation in single precision
(`grad_ep`), and exact ones in double precision (`grad_exact`). Block k is: digital Conv + pooling + batch
normalisation, whose conv carries its gradient under `synapses.0`; then layers joined by `synapses.1`, ...
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from safetensors import safe_open
from torch import Tensor

from ffebm.graph.energy_block import Activation, EnergyBlock, Interaction, Layer, Linear, Pool, Rearrangement
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_run import Tail
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient
from ffebm.runtime.blocks.settling.settling import Equilibrium

FOLDER = Path(__file__).parent.parent / "golden" / "published"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))
# The published contrast sums each nudged energy in single precision before it subtracts them. Where the
# gradient is a small difference of large sums this leaves up to 2.6 % of rounding in the files; in double
# precision the same loop and these blocks agree to 1e-10 everywhere.
ROUNDED = {
    ("two_blocks_pool_bn", "blocks.0.feedforward.2.bias"),
    ("two_blocks_pool_bn", "blocks.0.feedforward.2.weight"),
}


@dataclass
class Result:
    """One training step: gradients are named as in the files."""

    loss: float
    logits: Tensor
    gradients: dict[str, Tensor]
    equilibria: list[Equilibrium]


class Published:
    """One case."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.case: dict[str, Any] = json.loads(file.metadata()["case"])
            self.tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.dtype = dtype
        self.settle = Settle(free_sweeps=self.case["free_sweeps"], nudged_sweeps=self.case["nudged_sweeps"])
        self.beta: float = self.case["beta"]
        found = re.fullmatch(r"clip\((.*)\*a,0,1\)", self.case["activation"])
        assert found
        self.slope = float(found[1])
        self.weights = {
            key.removeprefix("param."): value.to(dtype)
            for key, value in self.tensors.items()
            if key.startswith("param.")
        }

    def gradients(self, kind: str) -> dict[str, Tensor]:
        prefix = f"grad_{kind}."
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def run(self, gradient: Gradient, settle: Settle | None = None) -> Result:
        """Forward and backward with this package's blocks and torch's autograd between them."""
        leaves = {name: w.clone().requires_grad_() for name, w in self.weights.items()}
        value = self.tensors["x"].to(self.dtype)
        equilibria = []
        blocks = self.case["blocks"]
        for k, spec in enumerate(blocks):
            value = self._feedforward(k, spec, value, leaves)
            runtime = BlockRuntime(self._block(k, spec, tuple(value.shape[1:])))
            output = runtime.block.outputs[0]
            if k + 1 == len(blocks) and isinstance(gradient, EP) and gradient.cost:
                tail = Tail(
                    lambda out, given, w, name=output: _loss(out[name], given["y"], w),  # type: ignore[misc]
                    {"y": self.tensors["y"]},
                    {name: w for name, w in leaves.items() if name.startswith("readout")},
                )
                loss, equilibrium = runtime.run_with_cost(
                    {"x": value}, leaves, tail, settle or self.settle, gradient
                )
                value = equilibrium.state[output]
            else:
                outputs, equilibrium = runtime.run({"x": value}, leaves, settle or self.settle, gradient)
                value = outputs[output]
            equilibria.append(equilibrium)
        if not isinstance(gradient, EP) or not gradient.cost:
            loss = _loss(value, self.tensors["y"], leaves)
        loss.backward()  # type: ignore[no-untyped-call]
        grads = {
            re.sub(r"feedforward\.0", "synapses.0", name): w.grad
            for name, w in leaves.items()
            if w.grad is not None
        }
        return Result(loss.item(), _readout(value, leaves).detach(), grads, equilibria)

    def _feedforward(self, k: int, spec: dict[str, Any], value: Tensor, weights: dict[str, Tensor]) -> Tensor:
        name = f"blocks.{k}.feedforward"
        value = F.conv2d(
            value,
            weights[f"{name}.0.weight"],
            weights.get(f"{name}.0.bias"),
            spec["strides"][0],
            spec["paddings"][0],
        )
        if spec["pools"][0] == "m":
            value = F.max_pool2d(value, 2)
        if spec["norm"] == "b":
            value = F.batch_norm(
                value, None, None, weights[f"{name}.2.weight"], weights[f"{name}.2.bias"], training=True
            )
        return value

    def _block(self, k: int, spec: dict[str, Any], shape: tuple[int, ...]) -> EnergyBlock:
        n_convs = len(spec["kernels"])
        n_layers = sum(1 for key in self.weights if re.match(rf"blocks\.{k}\.synapses\.\d+\.weight", key))
        layers: list[Layer] = []
        drive = Interaction("x", shape, shape)
        for i in range(n_layers):
            if i:
                drive = _synapse(f"blocks.{k}.synapses.{i}", spec, i, layers[-1], self.weights)
                shape = _drive_shape(drive)
            is_linear = i + 1 == n_layers and not spec["clamp_last"]
            activation = (
                Activation("Identity") if is_linear else Activation("Clip", self.slope, low=0.0, high=1.0)
            )
            layers.append(Layer(f"s{i + 1}", shape, activation, (drive,)))
        assert n_layers >= n_convs
        return EnergyBlock(k, ("x",), tuple(layers), (layers[-1].value,))


def _synapse(
    name: str, spec: dict[str, Any], i: int, below: Layer, weights: dict[str, Tensor]
) -> Interaction:
    weight = weights[f"{name}.weight"]
    bias = f"{name}.bias" if f"{name}.bias" in weights else None
    if i >= len(spec["kernels"]):
        flat = 1
        for size in below.shape:
            flat *= size
        linear = Linear("MatMul", f"{name}.weight", bias, transposed=True)
        before = (Rearrangement("Reshape", (flat,)),)
        return Interaction(below.value, below.shape, (weight.shape[0],), before, linear)
    kernel, stride, pad = spec["kernels"][i], spec["strides"][i], spec["paddings"][i]
    sizes = tuple((size + 2 * pad - kernel) // stride + 1 for size in below.shape[1:])
    linear = Linear("Conv", f"{name}.weight", bias, (stride,) * 2, (pad,) * 4, (1, 1))
    pool = Pool("MaxPool", (2, 2), (2, 2), (0,) * 4) if spec["pools"][i] == "m" else None
    return Interaction(below.value, below.shape, (weight.shape[0], *sizes), (), linear, pool)


def _drive_shape(drive: Interaction) -> tuple[int, ...]:
    if drive.pool is None:
        return drive.linear_shape
    return (drive.linear_shape[0], *(size // 2 for size in drive.linear_shape[1:]))


def _readout(value: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return F.linear(value.flatten(1), weights["readout.1.weight"], weights["readout.1.bias"])


def _loss(value: Tensor, target: Tensor, weights: Any) -> Tensor:
    return F.cross_entropy(_readout(value, weights), target)
