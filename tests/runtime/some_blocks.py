"""Small energy blocks for tests: hand-made ones and random ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from ffebm.graph.energy_block import Activation, EnergyBlock, Interaction, Layer, Linear, Pool, Rearrangement
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.blocks.physics.physics import Physics
from ffebm.runtime.blocks.physics.pooling import Pooling
from ffebm.runtime.blocks.projection import ExactProjection
from ffebm.runtime.blocks.settling.settling import Equilibrium

SMOOTH = (
    Activation("Identity", 0.8),
    Activation("Sigmoid"),
    Activation("Tanh", 0.7),
    Activation("Softplus", 0.5),
)
KINKED = (
    Activation("Relu"),
    Activation("Clip", 0.5, low=0.0, high=1.0),
    Activation("HardSigmoid", alpha=0.2, beta=0.5),
    Activation("LeakyRelu", alpha=0.1),
    Activation("Elu", alpha=0.5),
    Activation("Selu", alpha=1.6732632423543772, beta=1.0507009873554805),
    Activation("Celu", alpha=0.7),
    Activation("Softsign"),
)
IDENTITY = Activation("Identity")


class Case:
    """A block with weights and inputs."""

    def __init__(
        self,
        block: EnergyBlock,
        weights: dict[str, Tensor],
        inputs: dict[str, Tensor],
        physics: Physics | None = None,
    ) -> None:
        self.block = block
        self.weights = weights
        self.inputs = inputs
        self.physics = physics

    def __repr__(self) -> str:
        return repr(self.block)

    def runtime(self, projections: Mapping[int, Any] | None = None) -> BlockRuntime:
        """The block, ready to run."""
        return BlockRuntime(self.block, projections, physics=self.physics)

    def settled(self, settle: Settle) -> Equilibrium:
        """Where the free phase ends."""
        with torch.no_grad():
            return self.runtime().run(self.inputs, self.weights, settle, _ANY)[1]

    def energy(self, state: Mapping[str, Tensor]) -> Tensor:
        """The energy at a state, [batch]."""
        return self.runtime().energy(self.inputs, self.weights, state)

    def run(
        self, gradient: Gradient, settle: Settle, projections: Mapping[int, Any] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Equilibrium]:
        """A loss of all outputs, its gradients by name, and the equilibrium."""
        weights = {name: w.clone().requires_grad_() for name, w in self.weights.items()}
        inputs = {name: x.clone().requires_grad_() for name, x in self.inputs.items()}
        runtime = self.runtime(projections)
        outputs, equilibrium = runtime.run(inputs, weights, settle, gradient)
        loss = self.loss(outputs)
        loss.backward()  # type: ignore[no-untyped-call]
        leaves = weights | inputs
        return loss.detach(), {name: t.grad for name, t in leaves.items() if t.grad is not None}, equilibrium

    def loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Mean over the batch of a smooth function of every output."""
        total = torch.zeros((), dtype=torch.float64)
        for k, s in enumerate(outputs.values()):
            wave = torch.cos(torch.arange(s[0].numel(), dtype=s.dtype) + k).view(s.shape[1:])
            total = total + ((s * wave).flatten(1).sum(1).sin() + 0.1 * s.square().flatten(1).sum(1)).mean()
        return total

    def settled_loss(self, settle: Settle, step: Mapping[str, Tensor], size: float) -> float:
        """The loss with every weight and input moved along a direction."""
        weights = {name: w + size * step[name] for name, w in self.weights.items()}
        inputs = {name: x + size * step[name] for name, x in self.inputs.items()}
        with torch.no_grad():
            outputs, _ = self.runtime().run(inputs, weights, settle, _ANY)
            return float(self.loss(outputs))


def _any_gradient() -> Gradient:
    from ffebm.runtime.blocks.estimators.gradient import EP

    return EP()


_ANY = _any_gradient()


@dataclass
class Builder:
    """Adds layers one by one; weights are random and small enough that the block contracts."""

    seed: int = 0
    batch: int = 3
    strength: float = 0.5
    layers: list[Layer] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator, dtype=torch.float64)

    def input(self, name: str, *shape: int) -> None:
        self.inputs[name] = self.random(self.batch, *shape)
        self.shapes[name] = shape

    def drive(
        self,
        source: str,
        weight_shape: tuple[int, ...] = (),
        linear: Linear | None = None,
        pool: Pool | None = None,
        layouts: tuple[tuple[Rearrangement, ...], tuple[Rearrangement, ...]] = ((), ()),
    ) -> tuple[Interaction, tuple[int, ...]]:
        """An interaction and the shape of its drive."""
        z = torch.empty(1, *self.shapes[source])
        for layout in layouts[0]:
            z = z.permute(layout.sizes) if layout.op == "Transpose" else z.reshape(1, *layout.sizes)
        if linear is not None:
            if linear.weight not in self.weights:
                self.weights[linear.weight] = self._weight(weight_shape, linear)
            z = ExactProjection(linear).product(z, self.weights[linear.weight].to(z.dtype))
            if linear.bias is not None:
                n = z.shape[-1] if linear.op == "MatMul" else z.shape[1]
                self.weights.setdefault(linear.bias, 0.3 * self.random(n))
        linear_shape = tuple(z.shape[1:])
        if pool is not None:
            z = torch.empty(1, *Pooling(pool, linear_shape).shape)
        for layout in layouts[1]:
            z = z.permute(layout.sizes) if layout.op == "Transpose" else z.reshape(1, *layout.sizes)
        shape = self.shapes[source]
        return Interaction(source, shape, linear_shape, layouts[0], linear, pool, layouts[1]), tuple(
            z.shape[1:]
        )

    def layer(
        self,
        name: str,
        activation: Activation,
        *drives: tuple[Interaction, tuple[int, ...]],
        biases: tuple[str, ...] = (),
    ) -> None:
        shape = drives[0][1]
        self.shapes[name] = shape
        self.layers.append(Layer(name, shape, activation, tuple(d for d, _ in drives), biases))

    def conv(
        self, name: str, source: str, channels: int, activation: Activation, pool: Pool | None = None
    ) -> None:
        linear = Linear("Conv", f"{name}.w", f"{name}.b", (1, 1), (1, 1, 1, 1), (1, 1))
        shape = (channels, self.shapes[source][0], 3, 3)
        self.layer(name, activation, self.drive(source, shape, linear, pool))

    def dense(self, name: str, source: str, units: int, activation: Activation) -> None:
        n = 1
        for size in self.shapes[source]:
            n *= size
        flat = (Rearrangement("Reshape", (n,)),) if len(self.shapes[source]) > 1 else ()
        linear = Linear("MatMul", f"{name}.w", f"{name}.b", transposed=True)
        self.layer(name, activation, self.drive(source, (units, n), linear, None, (flat, ())))

    def case(self, *outputs: str, feedback: float = 1.0) -> Case:
        names = outputs or (self.layers[-1].value,)
        block = EnergyBlock(0, tuple(self.inputs), tuple(self.layers), names, feedback=feedback)
        return Case(block, self.weights, self.inputs)

    def _weight(self, shape: tuple[int, ...], linear: Linear) -> Tensor:
        w = self.random(*shape)
        fan = w[0].numel() if linear.op != "MatMul" else max(shape)
        scaled: Tensor = self.strength * w / (fan**0.5 * (1.5 if linear.op == "MatMul" else 2.0))
        return scaled


def max_pool(kernel: int = 2, stride: int = 2, pads: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Pool:
    return Pool("MaxPool", (kernel, kernel), (stride, stride), pads)


def average_pool(kernel: int = 2, stride: int = 2, pads: tuple[int, int, int, int] = (0, 0, 0, 0)) -> Pool:
    return Pool("AveragePool", (kernel, kernel), (stride, stride), pads)


def smooth_chain(seed: int = 0, batch: int = 3) -> Case:
    """Convs, an average pooling and a dense layer, all smooth."""
    b = Builder(seed, batch)
    b.input("x", 2, 6, 6)
    b.conv("s1", "x", 3, Activation("Sigmoid"))
    b.conv("s2", "s1", 4, Activation("Tanh"), average_pool())
    b.dense("s3", "s2", 5, IDENTITY)
    return b.case()


def published_chain(seed: int = 0, batch: int = 3) -> Case:
    """As in the paper: a bare first layer, hard clips, a maximum, a linear top."""
    b = Builder(seed, batch)
    clip = Activation("Clip", 0.5, low=0.0, high=1.0)
    b.input("x", 3, 6, 6)
    b.layer("s1", clip, b.drive("x"))
    b.conv("s2", "s1", 4, clip, max_pool())
    b.conv("s3", "s2", 5, clip)
    b.dense("s4", "s3", 6, IDENTITY)
    return b.case()


@st.composite
def cases(draw: st.DrawFn, smooth: bool = False) -> Case:
    """Random blocks: chains with skips, several inputs and outputs, shared weights, layouts, feedback."""
    b = Builder(draw(st.integers(0, 10**6)), draw(st.integers(1, 3)))
    activations = st.sampled_from(SMOOTH if smooth else SMOOTH + KINKED)
    b.input("x", 2, 5, 6)
    b.input("x2", 3, 5, 6)
    kind = draw(st.sampled_from(["bare", "conv", "both"]))
    if kind == "bare":
        b.layer("s1", draw(activations), b.drive("x2"))
    else:
        linear = Linear("Conv", "w1", "b1", (1, 1), (1, 1, 1, 1), (1, 1))
        drives = [b.drive("x", (3, 2, 3, 3), linear)] + ([b.drive("x2")] if kind == "both" else [])
        b.layer("s1", draw(activations), *drives)
    for k in range(draw(st.integers(0, 2))):
        _add_random(draw, b, f"t{k}", draw(activations), smooth)
    if draw(st.booleans()):
        b.dense("top", b.layers[-1].value, 4, draw(activations))
    last = b.layers[-1].value
    outputs = (last, "s1") if draw(st.booleans()) and last != "s1" else (last,)
    return b.case(*outputs, feedback=draw(st.sampled_from([1.0, 0.3])))


def _add_random(draw: st.DrawFn, b: Builder, name: str, activation: Activation, smooth: bool) -> None:
    below = b.layers[-1].value
    channels, height, width = b.shapes[below]
    choice = draw(st.sampled_from(["conv", "strided", "grouped", "transposed", "skip", "turned"]))
    pools = [None, average_pool(3, 1, (1, 1, 1, 1)), average_pool(2, 2)]
    pools += [] if smooth else [max_pool(), max_pool(3, 2, (1, 1, 0, 1))]
    pool = draw(st.sampled_from(pools)) if min(height, width) >= 4 else None
    if choice == "skip":
        linear = Linear("Conv", "shared", None, (1, 1), (1, 1, 1, 1), (1, 1))
        if channels != 3:
            linear = Linear("Conv", f"{name}.w", f"{name}.b", (1, 1), (1, 1, 1, 1), (1, 1))
        b.weights[f"{name}.bias"] = 0.2 * b.random(channels, 1, 1)
        conv = b.drive(below, (channels, channels, 3, 3), linear)
        b.layer(name, activation, conv, b.drive(below), biases=(f"{name}.bias",))
    elif choice == "turned":
        turn = (Rearrangement("Transpose", (0, 1, 3, 2)),)
        linear = Linear("Conv", f"{name}.w", f"{name}.b", (1, 1), (1, 0, 1, 2), (1, 1))
        b.layer(name, activation, b.drive(below, (3, channels, 3, 3), linear, pool, (turn, turn)))
    elif choice == "transposed":
        linear = Linear("ConvTranspose", f"{name}.w", f"{name}.b", (2, 2), (1, 0, 1, 1), (1, 1), 1, (1, 0))
        b.layer(name, activation, b.drive(below, (channels, 2, 3, 3), linear, pool))
    elif choice == "grouped" and channels == 3:
        linear = Linear("Conv", f"{name}.w", f"{name}.b", (1, 1), (2, 2, 2, 2), (2, 2), 3)
        b.layer(name, activation, b.drive(below, (3, 1, 3, 3), linear, pool))
    else:
        strides = (2, 1) if choice == "strided" else (1, 1)
        linear = Linear("Conv", f"{name}.w", f"{name}.b", strides, (0, 1, 1, 1), (1, 1))
        b.layer(name, activation, b.drive(below, (3, channels, 2, 3), linear, pool))
