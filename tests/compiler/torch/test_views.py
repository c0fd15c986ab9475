"""Torch models that write in place or into an `out`: values, shapes and element types are torch's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ffebm.compiler.driver import compile_model
from ffebm.errors import ModelError
from ffebm.runtime.executor import Executor


class Written(nn.Module):
    """A dense layer, and something that writes into what it makes."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.dense = nn.Linear(6, 6)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.dense(x).detach())


def through(y: Tensor, *writes: Callable[[Tensor], Any]) -> Tensor:
    for write in writes:
        write(y)
    return y


WRITES: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda y: functional.dropout(y, 0.2, training=False, inplace=True),
    "dropout2d": lambda y: functional.dropout2d(y[None, None], 0.2, training=False, inplace=True) + 1,
    "alpha dropout": lambda y: functional.alpha_dropout(y, 0.2, training=False, inplace=True) + 1,
    "feature alpha dropout": lambda y: functional.feature_alpha_dropout(y, 0.2, False, True) + 1,
    "sum with a wider type": lambda y: through(y, lambda y: y.add_(torch.ones(6, dtype=torch.float64))),
    "comparison": lambda y: y.gt_(0) * 1.5,
    "negation": lambda y: y.logical_not_(),
    "power by a number": lambda y: y.pow_(2),
    "power by a tensor": lambda y: y.abs_().pow_(torch.full_like(y, 2)),
    "arguments in another order": lambda y: y.abs_().add_(1).polygamma_(1),
    "another overload": lambda y: y.ldexp_(torch.tensor(2)),
    "a default of its own": lambda y: y.bernoulli_().clamp_(0, 0),
    "operator of Python": lambda y: through(y.to(torch.int32), lambda i: i.__ilshift__(2)),
    "out": lambda y: torch.add(y, 1, out=torch.empty_like(y)),
    "out that is read": lambda y: through(torch.zeros_like(y), lambda o: torch.mul(y, 2, out=o)) + 1,
    "out of a wider type": lambda y: torch.add(y, 1, out=torch.empty(y.shape, dtype=torch.float64)),
    "out that grows": lambda y: torch.add(y, 1, out=torch.empty(0)),
    "two outs": lambda y: torch.max(y, 1, out=(torch.empty(4), torch.empty(4, dtype=torch.long)))[0],
    "turned view": lambda y: through(y[:, :], lambda v: v.t_()) + 1,
    "view of what is turned": lambda y: (lambda v: through(y, lambda y: y.t_())[:4] + v.sum())(y[:2]),
    "write through a turned view": lambda y: (lambda v: through(y, lambda _: v.t_().add_(1)))(y[:3]),
    "type of what a view is written": lambda y: (lambda v: through(y, lambda _: v.eq_(0)))(y[:2]),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_what_is_written_is_what_torch_writes(name: str) -> None:
    torch.manual_seed(0)
    model, x = Written(WRITES[name]).eval(), torch.randn(4, 6)
    expected = model(x.clone()).detach()
    found = Executor(compile_model(model, (x,), hardware="ideal"))(x)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


DROPOUTS: dict[str, Callable[[], nn.Module]] = {
    "last": lambda: nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5, inplace=True)),
    "alpha": lambda: nn.Sequential(nn.Linear(6, 40), nn.AlphaDropout(0.5, inplace=True), nn.ReLU()),
    "channels": lambda: nn.Sequential(
        nn.Linear(6, 200),
        nn.Unflatten(1, (50, 2, 2)),
        nn.Dropout2d(0.5, inplace=True),
        nn.Flatten(),
        nn.ReLU(),
    ),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_in_place_drops_in_training_alone(name: str) -> None:
    torch.manual_seed(0)
    model, x = DROPOUTS[name]().eval(), torch.randn(5, 6)
    net = Executor(compile_model(model, (x,), hardware="ideal"))
    expected = model(x).detach()
    torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-6)

    dropped = net.train()(x)
    assert dropped.shape == expected.shape
    kept = torch.isclose(dropped, expected if name == "alpha" else 2 * expected, rtol=1e-5, atol=1e-6)
    changed = 1.0 - float(kept[expected != 0].float().mean())
    assert changed > 0.9 if name == "alpha" else 0.3 < changed < 0.7


@pytest.mark.filterwarnings("ignore")
def test_a_write_that_torch_cannot_take_apart_is_one_message() -> None:
    model = Written(lambda y: y[:2, :2].fill_diagonal_(3.0)).eval()
    with pytest.raises(ModelError) as caught:
        compile_model(model, (torch.randn(4, 6),), hardware="ideal")
    message = str(caught.value)
    assert message.startswith("Written: torch cannot take its writes in place apart: ")
    assert message.endswith("\n  hint: write it with ops that make new tensors")
