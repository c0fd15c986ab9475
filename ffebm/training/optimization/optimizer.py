"""Makes the optimiser that the settings name."""

import inspect
from fnmatch import fnmatchcase
from typing import Any

import torch

from ffebm.errors import UsageError
from ffebm.runtime.executor import Executor
from ffebm.training.settings import Training

OWN_LOOP = {
    "lbfgs": "it computes the loss anew several times a step",
    "sparseadam": "it takes sparse gradients, and those of a plan are dense",
}
"""Optimisers of torch that need a loop of one's own, and why."""


def make_optimizer(training: Training, net: Executor) -> torch.optim.Optimizer:
    """The optimiser of that name, for the weights that are trained; the others ask for no gradient.

    Raises:
        UsageError: If there is no such optimiser, it takes no such setting, or there is nothing to train.
    """
    kind = _kind(training.optimizer)
    weights = _trained(training, net)
    settings: dict[str, Any] = {"lr": training.lr}
    for name in ("weight_decay", "momentum"):
        value = getattr(training, name)
        if value is not None:
            if name not in inspect.signature(kind).parameters:
                raise UsageError(
                    f"{kind.__name__} takes no {name}", hint=f"leave --{name.replace('_', '-')} out"
                )
            settings[name] = value
    try:
        optimizer: torch.optim.Optimizer = kind(weights, **settings)
    except ValueError as error:
        raise UsageError(f"{kind.__name__} cannot be used: {error}") from None
    return optimizer


def check_products(training: Training, net: Executor) -> None:
    """Refuse what no cell that takes outer products can do: its pulses are plain gradient descent.

    Raises:
        UsageError: If such cells are to follow anything else.
    """
    if not net.machine.forms:
        return
    refused = {
        f"optimizer {training.optimizer}": training.optimizer.lower() != "sgd",
        f"momentum {training.momentum}": bool(training.momentum),
        f"weight_decay {training.weight_decay}": bool(training.weight_decay),
        f"clip_norm {training.clip_norm}": training.clip_norm is not None,
        f"precision {training.precision}, which scales gradients": training.precision == "fp16",
    }
    wrong = ", ".join(what for what, found in refused.items() if found)
    if wrong:
        raise UsageError(
            f"{wrong}, and cells that take outer products: there is no gradient to work on",
            allowed="optimizer SGD without momentum, weight decay and clipping, in fp32 or bf16",
            hint="--optimizer SGD, or tile.update.pulsed_by = 'matrix' in the hardware description",
        )
    with net.outer_products():  # what it refuses, before anything runs
        pass


def _kind(name: str) -> type[torch.optim.Optimizer]:
    reason = OWN_LOOP.get(name.lower())
    if reason is not None:
        raise UsageError(
            f"{name} cannot train by command: {reason}", hint="write your own loop, or take another optimiser"
        )
    kinds = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and name != "Optimizer"
        and name.lower() not in OWN_LOOP
    }
    if name.lower() not in kinds:
        names = ", ".join(sorted(k.__name__ for k in kinds.values()))
        raise UsageError(f"no optimiser is called {name!r}", allowed=names)
    return kinds[name.lower()]


def _trained(training: Training, net: Executor) -> list[torch.nn.Parameter]:
    """The weights that no pattern freezes."""
    weights = net.weights()
    frozen = set()
    for pattern in training.freeze:
        matching = {name for name in weights if fnmatchcase(name, pattern)}
        if not matching:
            raise UsageError(
                f"no weight is called {pattern!r}, so none is frozen", allowed=", ".join(weights)
            )
        frozen |= matching
    for name, weight in weights.items():
        weight.requires_grad_(name not in frozen)
    if weights.keys() == frozen:
        raise UsageError("the model has no trainable weights")
    return [weight for name, weight in weights.items() if name not in frozen]
