"""The loss of a training run: which output it reads, and how that fits what the data says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils import _pytree as pytree

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Port
from ffebm.training.data import Data
from ffebm.training.settings import Training

Difference = Callable[..., Tensor]

ELEMENTWISE: dict[str, Difference] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
    "bce": functional.binary_cross_entropy,
    "bce-with-logits": functional.binary_cross_entropy_with_logits,
}
"""Losses that compare an output with targets of its shape, element by element."""
CLASSES = ("cross-entropy", "nll", "squared-error")
"""Losses of class numbers: of any scores, of log-probabilities (or probabilities, by their log), and half the
squared distance of the output from 1 for the class and 0 for the others."""
LOSSES = (*CLASSES, *ELEMENTWISE)

Ending = Literal["scores", "log-probabilities", "probabilities"]
_ENDINGS: dict[str, Ending] = {
    "Softmax": "probabilities",
    "Sigmoid": "probabilities",
    "LogSoftmax": "log-probabilities",
}
_KEEPS = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Dropout"}
"""Ops behind which an output still is what it was."""


@dataclass(frozen=True)
class Loss:
    """A loss of one output.

    Attributes:
        name: One of `LOSSES`.
        output: Name of the output.
        position: Its place among the leaves of the model's result.
        ending: What the output holds.
        axis: Axis of the classes, the batch being axis 0; None flattens all axes behind the batch.
        weights: Weight of each class, [classes]; None weighs all alike.
        ignore: Class number of what is left out.
    """

    name: str
    output: str
    position: int
    ending: Ending = "scores"
    axis: int | None = None
    weights: Tensor | None = None
    ignore: int | None = None

    def __str__(self) -> str:
        words = [f"{self.name} of output {self.output!r}"]
        if self.of_classes:
            if self.ending == "probabilities" and self.name != "squared-error":
                words.append("by the log of its probabilities")
            if self.axis is not None:
                words.append(f"classes on axis {self.axis}")
        return ", ".join(words)

    @property
    def of_classes(self) -> bool:
        """It compares with class numbers."""
        return self.name in CLASSES

    def __call__(self, outputs: Any, target: Tensor) -> Tensor:
        """The mean loss.

        Args:
            outputs: The model's result.
            target: Class numbers or numbers, [batch, …].
        """
        found = self.scores(outputs)
        if not self.of_classes:
            return ELEMENTWISE[self.name](found, target.reshape(found.shape).to(found.dtype))
        labels = target.reshape(-1)
        weights = None if self.weights is None else self.weights.to(found.device, found.dtype)
        ignored = -100 if self.ignore is None else self.ignore
        if self.name == "squared-error":
            total = self._half_squares(found, labels, weights)
        elif self.ending == "scores":
            total = functional.cross_entropy(found, labels, weights, ignore_index=ignored, reduction="sum")
        else:
            logs = found if self.ending == "log-probabilities" else found.clamp_min(_least(found)).log()
            total = functional.nll_loss(logs, labels, weights, ignore_index=ignored, reduction="sum")
        return total / max(self.amount(target), torch.finfo(torch.float32).tiny)

    def _half_squares(self, found: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Half the squared distances from the classes' corners, summed over labels that count."""
        if self.ignore is not None:
            found, labels = found[labels != self.ignore], labels[labels != self.ignore]
        corners = functional.one_hot(labels, found.shape[1]).to(found.dtype)
        squares = (found - corners).square().sum(1) / 2
        return (squares if weights is None else squares * weights[labels]).sum()

    def amount(self, target: Tensor) -> float:
        """What the mean is taken over: the numbers of a target, or the weights of its classes."""
        if not self.of_classes:
            return float(target.numel())
        kept = self._kept(target.reshape(-1))
        if self.weights is None:
            return float(len(kept))
        return float(self.weights.to(kept.device)[kept].double().sum())

    def scores(self, outputs: Any) -> Tensor:
        """The output; for class numbers as rows, [labels, classes], at least of 32 bits."""
        found = _leaf(outputs, self.position)
        if found.dtype in {torch.float16, torch.bfloat16}:
            found = found.float()
        if not self.of_classes:
            return found
        if self.axis is None:
            return found.flatten(1)
        return found.movedim(self.axis, -1).flatten(0, -2)

    def hits(self, scores: Tensor, target: Tensor) -> int:
        """How many labels are right, of `scores` of a batch; 0 where nothing can be right or wrong."""
        if self.of_classes:
            labels = target.reshape(-1)
            right = scores.argmax(1) == labels
            return int((right if self.ignore is None else right & (labels != self.ignore)).sum())
        if self.counts:
            border = 0.0 if self.name == "bce-with-logits" else 0.5
            return int(((scores > border) == (target.reshape(scores.shape) > 0.5)).sum())
        return 0

    @property
    def counts(self) -> bool:
        """An answer is right or wrong, so that there is an accuracy."""
        return self.of_classes or self.name.startswith("bce")

    def labels(self, target: Tensor) -> int:
        """How many answers a target asks for."""
        return len(self._kept(target.reshape(-1))) if self.of_classes else target.numel()

    def _kept(self, labels: Tensor) -> Tensor:
        return labels if self.ignore is None else labels[labels != self.ignore]


def loss_of(plan: Plan, data: Data, training: Training) -> Loss:
    """The loss that the settings name, or that follows from the data: class numbers or numbers.

    Args:
        plan: The plan.
        data: Samples in the model's shape.
        training: The settings.

    Raises:
        UsageError: If the output, the loss and the data do not go together.
    """
    port = _output(plan, training.score)
    is_classes = not data.y_train.is_floating_point()
    name = training.loss or ("cross-entropy" if is_classes else "mse")
    if name not in LOSSES:
        raise UsageError(f"loss {name!r}", allowed=", ".join(LOSSES))
    found = Loss(name, port.name, _position(plan, port), _ending(plan, port.name))
    if not port.type.dtype.endswith(("float16", "float32", "float64")):
        raise _mismatch(plan, port, data, name, "an output of floating-point numbers")
    if found.of_classes:
        return _of_classes(found, plan, port, data, training)
    _check_elementwise(found, plan, port, data, training)
    return found


def _of_classes(found: Loss, plan: Plan, port: Port, data: Data, training: Training) -> Loss:
    low, high = _range(data, training.ignore_label)
    if data.y_train.is_floating_point() or low < 0:
        raise _mismatch(plan, port, data, found.name, "whole class numbers from 0 up")
    if found.ending == "scores" and found.name == "nll":
        raise UsageError(
            f"loss 'nll', but output {port.name!r} holds scores",
            allowed="what ends in LogSoftmax or Softmax",
            hint="--loss cross-entropy takes any scores",
        )
    if _op_behind(plan, port.name) == "Sigmoid":
        raise _mismatch(plan, port, data, found.name, "scores, or the probabilities of a Softmax")
    axis, classes = _classes(plan, port, data, high, found.name)
    weights = class_weights(training, data.y_train, classes or high + 1)
    return Loss(found.name, found.output, found.position, found.ending, axis, weights, training.ignore_label)


def _classes(plan: Plan, port: Port, data: Data, high: int, loss: str) -> tuple[int | None, int | None]:
    """Axis and number of the classes; None where axes are flattened, or the number is not known."""
    shape, labels = port.type.shape, tuple(data.y_train.shape[1:])
    if shape is None:
        return None, None
    sizes = shape[1:]
    if not labels:
        long = [size for size in sizes if size != 1]
        fits = len(long) == 1 and (not isinstance(long[0], int) or long[0] > high)
        if fits:
            return None, long[0] if isinstance(long[0], int) else None
    places = [-1, 1] if not _takes_floats(plan) else [1, -1]
    for place in places if labels and len(sizes) == len(labels) + 1 else ():
        others = sizes[1:] if place == 1 else sizes[:-1]
        size = sizes[0] if place == 1 else sizes[-1]
        known = size if isinstance(size, int) else None
        if _agree(others, labels) and (known is None or known > high):
            return place % len(shape), known
    several = ["N", *(str(size) for size in labels)]
    allowed = f"one score a class, [{', '.join([*several, 'C'])}] with C at least {high + 1}"
    raise _mismatch(plan, port, data, loss, allowed)


def _check_elementwise(found: Loss, plan: Plan, port: Port, data: Data, training: Training) -> None:
    for name, given in (("class-weights", training.class_weights), ("ignore-label", training.ignore_label)):
        if given not in {None, ()}:
            raise UsageError(f"--{name} with loss {found.name!r}", allowed=" or ".join(CLASSES))
    shape = port.type.shape
    labels = tuple(data.y_train.shape[1:])
    if shape is not None and not (_agree(shape[1:], labels) or _agree(_long(shape[1:]), _long(labels))):
        allowed = f"targets of the output's shape, [{', '.join(map(str, shape))}]"
        raise _mismatch(plan, port, data, found.name, allowed)
    if not found.counts:
        return
    for y in (data.y_train, data.y_test):
        if float(y.min()) < 0 or float(y.max()) > 1:
            raise _mismatch(plan, port, data, found.name, "targets from 0 to 1")
    is_probability = found.ending == "probabilities"
    if is_probability != (found.name == "bce"):
        other = "bce" if is_probability else "bce-with-logits"
        raise UsageError(
            f"loss {found.name!r}, but output {port.name!r} holds {found.ending}",
            allowed=f"--loss {other}",
        )


def class_weights(training: Training, labels: Tensor, classes: int) -> Tensor | None:
    """The weight of each class, [classes].

    "balanced" weighs a class by samples / (classes * samples of the class), one that is absent by 1.

    Raises:
        UsageError: If there are not as many weights as classes, or one is no number from 0 up.
    """
    given = training.class_weights
    if not given:
        return None
    if given == "balanced":
        kept = labels.reshape(-1)
        kept = kept if training.ignore_label is None else kept[kept != training.ignore_label]
        counts = torch.bincount(kept, minlength=classes).double()
        return torch.where(counts > 0, len(kept) / (classes * counts), 1.0)
    if isinstance(given, str):
        raise UsageError(f"class weights {given!r}", allowed="balanced, or a number for each class")
    weights = torch.tensor(given, dtype=torch.float64)
    if len(weights) != classes:
        raise UsageError(f"{len(weights)} class weights", allowed=f"one for each of the {classes} classes")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not float(weights.sum()) > 0:
        raise UsageError(
            f"class weights {list(given)}", allowed="finite numbers from 0 up, not all of them 0"
        )
    return weights


def _output(plan: Plan, name: str) -> Port:
    names = [port.name for port in plan.outputs]
    if name and name not in names:
        raise UsageError(f"no output is called {name!r}", allowed=", ".join(names))
    if not names:
        raise UsageError("the model has no outputs")
    return plan.outputs[names.index(name) if name else 0]


def _position(plan: Plan, port: Port) -> int:
    if plan.structure is None:
        return [other.name for other in plan.outputs].index(port.name)
    return plan.structure.leaves.index(port.name)


def _leaf(outputs: Any, position: int) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    leaf = pytree.tree_leaves(outputs)[position]
    assert isinstance(leaf, Tensor)  # the position is an output's
    return leaf


def _op_behind(plan: Plan, output: str) -> str:
    """The op that decides what an output holds."""
    makers = {value: node for node in plan.nodes for value in node.outputs}
    node = makers.get(output)
    while node is not None and node.op in _KEEPS and node.inputs:
        node = makers.get(node.inputs[0])
    return "" if node is None else node.op


def _ending(plan: Plan, output: str) -> Ending:
    return _ENDINGS.get(_op_behind(plan, output), "scores")


def _takes_floats(plan: Plan) -> bool:
    return any("float" in port.type.dtype for port in plan.inputs)


def _range(data: Data, ignored: int | None) -> tuple[int, int]:
    """Smallest and largest class number that counts."""
    labels = torch.cat([data.y_train.reshape(-1), data.y_test.reshape(-1)])
    kept = labels if ignored is None else labels[labels != ignored]
    if not len(kept):
        raise UsageError(f"every label of {data.name} is {ignored}, which is ignored")
    return int(kept.min()), int(kept.max())


def _agree(sizes: Sequence[int | str], found: Sequence[int | str]) -> bool:
    """Sizes that are known are equal."""
    return len(sizes) == len(found) and all(
        not isinstance(a, int) or a == b for a, b in zip(sizes, found, strict=True)
    )


def _long(sizes: Sequence[int | str]) -> list[int | str]:
    return [size for size in sizes if size != 1]


def _least(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


def _mismatch(plan: Plan, port: Port, data: Data, loss: str, allowed: str) -> UsageError:
    """The message for an output and labels that do not go together."""
    y = data.y_train
    kind = "numbers" if y.is_floating_point() else f"class numbers {_span(data)}"
    labels = f"[{', '.join(['N', *map(str, y.shape[1:])])}]"
    others = [other.name for other in plan.outputs if other.name != port.name]
    hints = [f"--score {others[0]} chooses another output"] if others else []
    hints.append(f"--loss is {loss}; others are {', '.join(name for name in LOSSES if name != loss)}")
    return UsageError(
        f"output {port.name!r} is {port.type}, labels of {data.name} are {kind} {labels}",
        allowed=allowed,
        hint="; ".join(hints),
    )


def _span(data: Data) -> str:
    low = min(int(data.y_train.min()), int(data.y_test.min()))
    high = max(int(data.y_train.max()), int(data.y_test.max()))
    return f"from {low} to {high}"
