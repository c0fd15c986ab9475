"""What an epoch of a benchmark's run has left: norms of couplings, units at their bounds, gradients."""

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import ffebm
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.training.classification import input_dtypes
from ffebm.training.data.preparation import preparations
from ffebm.training.trainer import Trainer

SAMPLES = 64
"""Training samples that are looked at, always the same."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """How blocks stand behind an epoch.

    Attributes:
        norms: Spectral norm of each coupling as a matrix [outputs, inputs x window].
        cosines: Of each matrix of weights: the estimator's gradient with that of the exact adjoint, both in
            64 bits where the run's own free sweeps end.
        at_zero: Share of clipped units at the lower bound.
        at_top: Share of clipped units at the upper bound.
    """

    norms: dict[str, float]
    cosines: dict[str, float]
    at_zero: float
    at_top: float


def probed(trainer: Trainer, gradient: Gradient, samples: int = SAMPLES) -> Probe:
    """Look at a network as it is; nothing changes.

    Args:
        trainer: Its trainer.
        gradient: The estimator of the run.
        samples: How many of the first training samples are looked at.
    """
    plan, weights = trainer.net.plan, trainer.net.weights()
    couplings = [
        interaction.linear.weight
        for block in plan.blocks
        for _, interaction in block.interactions()
        if interaction.linear and interaction.source in {layer.value for layer in block.layers}
    ]
    own, net = _gradients(trainer, gradient, samples)
    exact, _ = _gradients(trainer, ffebm.Implicit(tol=1e-8), samples)
    at_zero, at_top = _bounds(net)
    return Probe(
        norms={name: _rounded(float(_norm(weights[name].detach()))) for name in couplings},
        cosines={
            name: _rounded(float(cosine_similarity(own[name].flatten(), g.flatten(), dim=0)))
            for name, g in exact.items()
            if g.dim() > 1
        },
        at_zero=_rounded(at_zero),
        at_top=_rounded(at_top),
    )


def _rounded(value: float) -> float:
    """As far as it is worth keeping."""
    return round(value, 4)


def _norm(weight: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(weight.flatten(1), 2)


def _gradients(
    trainer: Trainer, gradient: Gradient, samples: int
) -> tuple[dict[str, Tensor], ffebm.Executor]:
    """Gradients of the samples in 64 bits, at the run's own sweeps, and the network that has settled."""
    net = ffebm.Executor(trainer.net.plan, gradient=gradient).double()
    net.notices.enabled = False
    held = {**trainer.net.weights(), **trainer.net.running_statistics()}
    with torch.no_grad():
        for name, tensor in {**net.weights(), **net.running_statistics()}.items():
            tensor.copy_(held[name])
    net.train()
    kinds = input_dtypes(net.plan)
    doubles = tuple(torch.float64 if kind.is_floating_point else kind for kind in kinds)
    prepare = preparations(trainer.training, trainer.data, doubles)
    x = prepare([x[:samples] for x in trainer.data.train])
    net.loss(x, trainer.data.y_train[:samples], trainer.loss).backward()  # type: ignore[no-untyped-call]
    return {name: w.grad for name, w in net.weights().items() if w.grad is not None}, net


def _bounds(net: ffebm.Executor) -> tuple[float, float]:
    """Shares of clipped units at either bound."""
    low = high = units = 0
    for block, settled in zip(net.plan.blocks, net.equilibria, strict=True):
        for layer in block.layers:
            if layer.activation.op == "Clip":
                s = settled.state[layer.value]
                low += int((s <= (layer.activation.low or 0.0)).sum())
                high += int((s >= (layer.activation.high or 0.0)).sum())
                units += s.numel()
    return low / max(units, 1), high / max(units, 1)
