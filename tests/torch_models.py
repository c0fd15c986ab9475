"""Torch models to compile, and what holds a plan against torch."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import ffebm
from ffebm.runtime.blocks.estimators.gradient import Gradient

Example = tuple[Any, ...] | dict[str, Any]


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def run(model: Callable[..., Any], example: Example) -> list[Tensor]:
    """A model's results, leaf by leaf; numbers and missing ones are left out."""
    results = model(**example) if isinstance(example, dict) else model(*example)
    return [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, Tensor)]


def backward(results: list[Tensor]) -> None:
    """Gradients of a random functional, the same for every model."""
    generator = torch.Generator().manual_seed(1)
    wanted = [y for y in results if y.is_floating_point()]
    terms = [(y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in wanted]
    torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]


def same_as_torch(plan: ffebm.Plan, model: nn.Module, example: Example, gradient: Gradient) -> float:
    """Hold a plan against its module, in both modes: results, running statistics, gradients.

    Returns:
        The smallest cosine between the gradients of a parameter.
    """
    smallest = 1.0
    for training in (False, True):
        twin = copy.deepcopy(model).train(training)
        net = ffebm.Executor(plan, gradient=gradient).train(training)
        expected, results = run(twin, example), run(net, example)
        torch.testing.assert_close(results, expected, rtol=1e-5, atol=1e-8)
        buffers = dict(twin.named_buffers())
        for name, value in net.running_statistics().items():
            torch.testing.assert_close(value, buffers[name], msg=name)
        backward(expected)
        backward(results)
        smallest = min(smallest, *(_cosine(p, net, name) for name, p in twin.named_parameters()))
    return smallest


def _cosine(parameter: nn.Parameter, net: ffebm.Executor, name: str) -> float:
    """Cosine of a parameter's two gradients; 1 if neither has any."""
    ours = net.weights()[name].grad if name in net.weights() else None
    norms = [0.0 if grad is None else float(grad.norm()) for grad in (parameter.grad, ours)]
    if max(norms) < 1e-9:
        return 1.0
    assert parameter.grad is not None, name
    assert ours is not None, name
    return float(F.cosine_similarity(parameter.grad.flatten(), ours.flatten(), dim=0))


def without_dropout(model: nn.Module) -> nn.Module:
    """Rates at zero: two random generators draw other masks, so only then can gradients be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


# --- models ------------------------------------------------------------------------------------------


class ConvNet(nn.Module):
    """Convolutions, pooling, a bounded and a smooth activation, a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.hidden, self.out = nn.Linear(8 * 5 * 5, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.hardtanh(self.second(x)).flatten(1)
        y: Tensor = self.out(torch.sigmoid(self.hidden(x)))
        return y


class UNet(nn.Module):
    """Transposed convolutions and a concatenated skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.bottom = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.refine = nn.ConvTranspose2d(8, 4, 3, padding=1, groups=2)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.down(x)
        right = self.up(self.bottom(F.max_pool2d(left, 2)))
        y: Tensor = self.out(torch.relu(self.refine(torch.cat([left, right], 1))))
        return y


class Inverted(nn.Module):
    """MobileNet's inverted bottleneck with squeeze and excitation."""

    def __init__(self, n_in: int, n_out: int, stride: int, activation: type[nn.Module]) -> None:
        super().__init__()
        wide = 2 * n_in
        self.body = nn.Sequential(
            nn.Conv2d(n_in, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            activation(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            activation(),
            nn.Conv2d(wide, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(n_out, 2, 1),
            nn.ReLU(),
            nn.Conv2d(2, n_out, 1),
            nn.Hardsigmoid(),
        )
        self.skips = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        y = y * self.gate(y)
        return x + y if self.skips else y


class Mobile(nn.Module):
    """Depthwise convolutions and hard-swish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.Hardswish(inplace=True)
        )
        self.blocks = nn.Sequential(Inverted(4, 4, 1, nn.Hardswish), Inverted(4, 6, 2, nn.ReLU6))
        self.head = nn.Sequential(nn.Linear(6, 8), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(self.stem(x)).mean([2, 3]))
        return y


class Basic(nn.Module):
    """ResNet's block, with its sum in place."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)])
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        self.skips = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        y += x if self.skips else self.skip(x)
        z: Tensor = self.relu(y)
        return z


class ResNet(nn.Module):
    """A small residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(Basic(4, 4, 1), Basic(4, 8, 2))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1), 1))
        return y


class Tied(nn.Module):
    """An embedding that is the output's weight too, and a matrix that is used both ways round."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight
        self.both = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, index: Tensor) -> Tensor:
        h = torch.tanh(self.hidden(self.embed(index)))
        y: Tensor = self.out(F.linear(torch.tanh(h @ self.both), self.both))
        return y


class Nested(nn.Module):
    """Nested inputs and results, a keyword, numbers and what is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, data: dict[str, Any], scale: float = 1.0, *, extra: Tensor) -> dict[str, Any]:
        a = self.first(data["a"]) * scale
        b = self.second(data["b"][0])
        return {"x": a, "y": (b, [a + b.sum(1, keepdim=True) + extra, None, 3])}


class InPlace(nn.Module):
    """Writes in place: into values, through views, into a buffer."""

    runs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("runs", torch.zeros(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.runs.add_(1)
        y = self.linear(x) * 1.5
        grid = y.view(-1, 2, 3)
        grid[:, 0].mul_(2.0)
        grid[:, 1, 1:] = x[:, :2]
        grid.transpose(1, 2)[:, 0].add_(self.runs)
        grid[:, :, 2] = x[0, 0].float()
        turned = grid.permute(2, 0, 1)
        turned[0].neg_()
        z = torch.zeros_like(x)
        z[:, 1:].add_(3.0)
        z[:, 3:4].zero_()
        z[:, 5].fill_(2.0)
        z.clamp_(max=1.0)
        return y + z, grid.sum(1)


class Mixed(nn.Module):
    """Ops that have no ONNX twin here, and ops that have one only in some calls."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)
        self.conv = nn.Conv1d(3, 3, 3, padding="same", dilation=2)
        self.norm, self.prelu = nn.GroupNorm(1, 3), nn.PReLU(3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.prelu(self.norm(self.conv(x)))
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")[..., ::2]
        y = F.pad(y, (1, 1))[:, :, 1:-1]
        seen = torch.ones(4, 4, dtype=torch.bool, device=x.device).tril()
        y = y.unsqueeze(2).expand(-1, -1, 4, -1).masked_fill(~seen, float("-inf")).softmax(-1)
        y = (y @ torch.ones(4, 1, dtype=x.dtype)).squeeze(-1)
        a, b = self.linear(x).chunk(2, -1)
        return (a * F.gelu(b)).sum(1) + y.mean((1, 2)).unsqueeze(1), torch.where(a > 0, a, 0.0)


class Recurrent(nn.Module):
    """Torch's own recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.recur = nn.LSTM(4, 6, batch_first=True, num_layers=2)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, _) = self.recur(x)
        return self.out(y), h


class Branching(nn.Module):
    """A condition on a value, and a part without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        with torch.no_grad():
            scale = y.abs().mean() * 2
        y = y * scale
        if not torch.compiler.is_exporting():
            return y.relu() if y.sum() > 0 else y * 3
        z: tuple[Tensor] = torch.cond(y.sum() > 0, lambda v: (v.relu(),), lambda v: (v * 3,), (y,))
        return z[0]


def encoder(*, norm_first: bool = False) -> nn.Module:
    """Torch's transformer encoder."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


CATALOGUE: dict[str, tuple[Callable[[], nn.Module], Callable[[], Example]]] = {
    "branching": (Branching, lambda: (normal(3, 4),)),
    "conv net": (ConvNet, lambda: (normal(2, 1, 16, 16),)),
    "in place": (InPlace, lambda: (normal(3, 6),)),
    "mixed": (Mixed, lambda: (normal(2, 3, 4),)),
    "mobile": (Mobile, lambda: (normal(4, 3, 16, 16),)),
    "nested": (
        Nested,
        lambda: {"data": {"a": normal(3, 4), "b": [normal(3, 4)]}, "scale": 2.0, "extra": normal(3, 1)},
    ),
    "recurrent": (Recurrent, lambda: (normal(3, 5, 4),)),
    "resnet": (ResNet, lambda: (normal(4, 3, 8, 8),)),
    "tied": (Tied, lambda: (torch.randint(0, 11, (2, 5)),)),
    "transformer": (encoder, lambda: (normal(3, 5, 16),)),
    "transformer, norm first": (lambda: encoder(norm_first=True), lambda: (normal(3, 5, 16),)),
    "u-net": (UNet, lambda: (normal(2, 1, 8, 8),)),
}
"""Every model with the arguments of a call."""
