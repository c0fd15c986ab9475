"""The loss of a run: what follows from model and data, held against torch's own losses."""

from collections.abc import Callable

import pytest
import torch
from msgspec.structs import replace
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ffebm import Executor, Plan
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.training.classification import fitted
from ffebm.training.data import Data
from ffebm.training.loss import Loss, loss_of
from ffebm.training.settings import Training
from tests.models import Builder

SETTINGS = Training(data="made up")


def dense(end: str = "", outputs: int = 3) -> Plan:
    """One layer, its output behind an op."""
    b = Builder()
    y = b.node("Gemm", b.input("x", "N", 4), b.weight(4, outputs), b.weight(outputs))
    return compile_plan(b.model(b.node(end, y) if end else y), hardware="ideal")


def tokens(channels_first: bool = False) -> Plan:
    """A score of each of 5 classes for each of many tokens."""
    b = Builder()
    ids = b.input("ids", "N", "T", dtype=TensorProto.INT64)
    y = b.node("MatMul", b.node("Gather", b.weight(7, 6), ids), b.weight(6, 5))
    y = b.node("Transpose", y, perm=[0, 2, 1]) if channels_first else y
    return compile_plan(b.model(y), hardware="ideal")


def data(x: Tensor, y: Tensor) -> Data:
    return Data("made up", x, y, x[:4], y[:4])


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


X, Y = numbers(9, 4), torch.arange(9) % 3


def made(plan: Plan, held: Data, **settings: object) -> tuple[Loss, Tensor]:
    """The loss, and its value on the training samples."""
    fit = fitted(plan, held)
    loss = loss_of(plan, fit, replace(SETTINGS, **settings))
    return loss, loss(Executor(plan)(fit.x_train), fit.y_train).detach()


def scores(plan: Plan, x: Tensor = X) -> Tensor:
    """What the layer computes, whatever is behind it."""
    weights = [weight.detach() for weight in Executor(plan).weights().values()]
    return x @ weights[0] + weights[1]


def squares(s: Tensor) -> Tensor:
    """Half the squared distance of each sample's scores from its class's corner."""
    return (s - torch.eye(3)[Y]).square().sum(1) / 2


CASES: dict[str, tuple[str, dict[str, object], Tensor, Callable[[Tensor], Tensor]]] = {
    "class numbers": ("", {}, Y, lambda s: F.cross_entropy(s, Y)),
    "weights": (
        "",
        {"class_weights": (1.0, 2.0, 0.5)},
        Y,
        lambda s: F.cross_entropy(s, Y, torch.tensor([1.0, 2.0, 0.5])),
    ),
    "ignored": ("", {"ignore_label": 1}, Y, lambda s: F.cross_entropy(s, Y, ignore_index=1)),
    "ignored -100": (
        "",
        {"ignore_label": -100},
        torch.where(Y == 1, -100, Y),
        lambda s: F.cross_entropy(s, Y, ignore_index=1),
    ),
    "probabilities": ("Softmax", {}, Y, lambda s: F.cross_entropy(s, Y)),
    "nll of probabilities": ("Softmax", {"loss": "nll"}, Y, lambda s: F.cross_entropy(s, Y)),
    "squares": ("", {"loss": "squared-error"}, Y, lambda s: squares(s).mean()),
    "squares, weighed": (
        "",
        {"loss": "squared-error", "class_weights": (1.0, 2.0, 0.5)},
        Y,
        lambda s: (
            (squares(s) * torch.tensor([1.0, 2.0, 0.5])[Y]).sum() / torch.tensor([1.0, 2.0, 0.5])[Y].sum()
        ),
    ),
    "squares, ignored": (
        "",
        {"loss": "squared-error", "ignore_label": 1},
        Y,
        lambda s: squares(s)[Y != 1].mean(),
    ),
    "nll": ("LogSoftmax", {"loss": "nll"}, Y, lambda s: F.cross_entropy(s, Y)),
    "numbers": ("", {}, numbers(9, 3), lambda s: F.mse_loss(s, numbers(9, 3))),
    "l1": ("", {"loss": "l1"}, numbers(9, 3), lambda s: F.l1_loss(s, numbers(9, 3))),
    "huber": ("", {"loss": "huber"}, numbers(9, 3), lambda s: F.huber_loss(s, numbers(9, 3))),
    "whole numbers": (
        "",
        {"loss": "mse"},
        torch.arange(27).view(9, 3),
        lambda s: F.mse_loss(s, torch.arange(27.0).view(9, 3)),
    ),
    "bce": (
        "Sigmoid",
        {"loss": "bce"},
        numbers(9, 3).sigmoid(),
        lambda s: F.binary_cross_entropy_with_logits(s, numbers(9, 3).sigmoid()),
    ),
    "bce-with-logits": (
        "",
        {"loss": "bce-with-logits"},
        (numbers(9, 3) > 0).long(),
        lambda s: F.binary_cross_entropy_with_logits(s, (numbers(9, 3) > 0).float()),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_torch_s(case: str) -> None:
    end, settings, y, expected = CASES[case]
    plan = dense(end)
    loss, found = made(plan, data(X, y), **settings)
    torch.testing.assert_close(found, expected(scores(plan)))
    labels = y.numel() if "ignore_label" not in settings else int((Y != 1).sum())
    assert loss.labels(y) == labels


def test_balanced_weights() -> None:
    y = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1])
    plan = dense()
    loss, found = made(plan, data(X, y), class_weights="balanced")
    assert loss.weights is not None
    assert loss.weights.tolist() == [9 / (3 * 6), 9 / (3 * 3), 1.0]
    torch.testing.assert_close(found, F.cross_entropy(scores(plan), y, loss.weights.float()))
    assert loss.amount(y) == pytest.approx(6 * 0.5 + 3 * 1.0)


@pytest.mark.parametrize("channels_first", [False, True])
def test_one_label_a_token(channels_first: bool) -> None:
    ids = torch.arange(54).view(9, 6) % 7
    y = (ids * 2) % 5
    y[:, -1] = -1
    plan = tokens(channels_first)
    loss, found = made(plan, data(ids, y), ignore_label=-1)
    out = Executor(plan)(ids).detach()
    first = out if channels_first else out.movedim(-1, 1)
    torch.testing.assert_close(found, F.cross_entropy(first, y, ignore_index=-1))
    assert loss.hits(loss.scores(out), y) == int(((first.argmax(1) == y) & (y >= 0)).sum())
    assert str(loss).endswith(f"classes on axis {1 if channels_first else 2}")


def test_a_batch_of_which_all_is_ignored_costs_nothing() -> None:
    plan = dense()
    loss, _ = made(plan, data(X, Y), ignore_label=1)
    x = X.clone().requires_grad_()
    found = loss(Executor(plan)(x), torch.ones(9, dtype=torch.int64))
    found.backward()  # type: ignore[no-untyped-call]
    assert (float(found.detach()), float(x.grad.abs().max())) == (0.0, 0.0)  # type: ignore[union-attr]


def several() -> Plan:
    b = Builder()
    x = b.input("x", "N", 4)
    hidden = b.node("Gemm", x, b.weight(4, 5), b.weight(5), out="hidden")
    return compile_plan(b.model(hidden, b.node("MatMul", hidden, b.weight(5, 3), out="y")), hardware="ideal")


def test_the_output_is_chosen_by_name() -> None:
    plan = several()
    found = made(plan, data(X, Y), score="y")
    torch.testing.assert_close(found[1], F.cross_entropy(Executor(plan)(X)[1], Y).detach())
    assert str(found[0]) == "cross-entropy of output 'y'"


OTHERS = "others are nll, squared-error, mse, l1, huber, bce, bce-with-logits"
WRONG: dict[str, tuple[Callable[[], Plan], Tensor, dict[str, object], str]] = {
    "no such output": (several, Y, {"score": "z"}, "no output is called 'z'; hidden, y"),
    "no such loss": (
        dense,
        Y,
        {"loss": "l3"},
        "loss 'l3'; cross-entropy, nll, squared-error, mse, l1, huber, bce, bce-with-logits",
    ),
    "too few scores": (
        several,
        torch.arange(9),
        {},
        "output 'hidden' is float32[Nx5], labels of made up are class numbers from 0 to 8 [N]; "
        "one score a class, [N, C] with C at least 9\n"
        f"  hint: --score y chooses another output; --loss is cross-entropy; {OTHERS}",
    ),
    "too few scores by another loss": (
        dense,
        torch.arange(9),
        {"loss": "squared-error"},
        "output 'v0' is float32[Nx3], labels of made up are class numbers from 0 to 8 [N]; "
        "one score a class, [N, C] with C at least 9\n  hint: "
        "--loss is squared-error; others are cross-entropy, nll, mse, l1, huber, bce, bce-with-logits",
    ),
    "other shape": (
        several,
        numbers(9, 2),
        {},
        "output 'hidden' is float32[Nx5], labels of made up are numbers [N, 2]; "
        "targets of the output's shape, [N, 5]\n  hint: --score y chooses another output; "
        "--loss is mse; others are cross-entropy, nll, squared-error, l1, huber, bce, bce-with-logits",
    ),
    "negative": (
        dense,
        Y - 1,
        {},
        "output 'v0' is float32[Nx3], labels of made up are class numbers from -1 to 1 [N]; "
        f"whole class numbers from 0 up\n  hint: --loss is cross-entropy; {OTHERS}",
    ),
    "weights": (dense, Y, {"class_weights": (1.0,)}, "1 class weights; one for each of the 3 classes"),
    "negative weights": (
        dense,
        Y,
        {"class_weights": (1.0, -1.0, 1.0)},
        "class weights [1.0, -1.0, 1.0]; finite numbers from 0 up, not all of them 0",
    ),
    "weights of numbers": (
        dense,
        numbers(9, 3),
        {"class_weights": "balanced"},
        "--class-weights with loss 'mse'; cross-entropy or nll or squared-error",
    ),
    "nll of scores": (
        dense,
        Y,
        {"loss": "nll"},
        "loss 'nll', but output 'v0' holds scores; what ends in LogSoftmax or Softmax\n"
        "  hint: --loss cross-entropy takes any scores",
    ),
    "probabilities": (
        lambda: dense("Sigmoid"),
        numbers(9, 3).sigmoid(),
        {"loss": "bce-with-logits"},
        "loss 'bce-with-logits', but output 'v1' holds probabilities; --loss bce",
    ),
    "all ignored": (dense, Y * 0, {"ignore_label": 0}, "every label of made up is 0, which is ignored"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_go_together(case: str) -> None:
    plan, y, settings, expected = WRONG[case]
    with pytest.raises(UsageError) as caught:
        made(plan(), data(X, y), **settings)
    assert str(caught.value) == expected


def test_a_picture_is_no_class() -> None:
    b = Builder()
    plan = compile_plan(b.model(b.conv(b.input("x", "N", 1, 6, 6), 1, 2)), hardware="ideal")
    with pytest.raises(UsageError) as caught:
        made(plan, data(numbers(9, 1, 6, 6), Y))
    assert str(caught.value) == (
        "output 'v0' is float32[Nx2x6x6], labels of made up are class numbers from 0 to 2 [N]; "
        f"one score a class, [N, C] with C at least 3\n  hint: --loss is cross-entropy; {OTHERS}"
    )
    labels = (torch.arange(9 * 36) % 2).view(9, 6, 6)
    found = made(plan, data(numbers(9, 1, 6, 6), labels))[1]
    torch.testing.assert_close(found, F.cross_entropy(Executor(plan)(numbers(9, 1, 6, 6)), labels).detach())
