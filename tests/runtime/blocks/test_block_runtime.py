import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from msgspec.structs import replace
from torch import Tensor

from ffebm.graph.energy_block import Activation
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_run import Tail
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient, Implicit
from tests.runtime.some_blocks import Builder, Case, max_pool, published_chain, smooth_chain

SETTLE = Settle(free_sweeps=100, nudged_sweeps=60)


def leaves(case: Case, dtype: torch.dtype = torch.float64) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return tuple(  # type: ignore[return-value]
        {name: t.to(dtype).clone().requires_grad_() for name, t in given.items()}
        for given in (case.inputs, case.weights)
    )


def test_without_gradients_a_block_runs_and_leaves_no_graph() -> None:
    case = published_chain()
    with torch.no_grad():
        outputs, equilibrium = BlockRuntime(case.block).run(case.inputs, case.weights, SETTLE, EP())
    assert outputs["s4"].grad_fn is None
    assert list(equilibrium.state) == ["s1", "s2", "s3", "s4"]
    assert equilibrium.backward is None


def test_single_precision_comes_close_to_double() -> None:
    case = published_chain()
    _, exact, _ = case.run(Implicit(), SETTLE)
    inputs, weights = leaves(case, torch.float32)
    outputs, equilibrium = BlockRuntime(case.block).run(inputs, weights, SETTLE, EP(0.05))
    assert outputs["s4"].dtype == torch.float32
    case.loss(outputs).backward()  # type: ignore[no-untyped-call]
    assert equilibrium.backward is not None
    for name, t in (inputs | weights).items():
        assert t.grad is not None
        assert float(F.cosine_similarity(t.grad.double().flatten(), exact[name].flatten(), dim=0)) > 0.99, (
            name
        )


def test_one_layer_is_the_feedforward_layer_with_its_exact_gradient() -> None:
    b = Builder(batch=4)
    b.input("x", 2, 6, 6)
    b.conv("s1", "x", 3, Activation("Tanh"), max_pool())
    case = b.case()
    inputs, weights = leaves(case)
    expected = F.max_pool2d(F.conv2d(inputs["x"], weights["s1.w"], weights["s1.b"], 1, 1), 2).tanh()
    case.loss({"s1": expected}).backward()  # type: ignore[no-untyped-call]
    _, grads, equilibrium = case.run(EP(1e-4), SETTLE)
    torch.testing.assert_close(equilibrium.state["s1"], expected.detach())
    for name, t in (inputs | weights).items():
        assert t.grad is not None
        torch.testing.assert_close(grads[name], t.grad, rtol=1e-6, atol=1e-8)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    case = published_chain()
    inputs, weights = leaves(case)
    weights["s2.w"].requires_grad_(False)
    inputs["x"].requires_grad_(False)
    outputs, _ = BlockRuntime(case.block).run(inputs, weights, SETTLE, EP())
    case.loss(outputs).backward()  # type: ignore[no-untyped-call]
    assert weights["s2.w"].grad is None
    assert inputs["x"].grad is None
    assert weights["s2.b"].grad is not None


def test_gradients_accumulate_and_weights_must_not_change_in_between() -> None:
    case = smooth_chain()
    inputs, weights = leaves(case)
    runtime = BlockRuntime(case.block)
    for _ in range(2):
        case.loss(runtime.run(inputs, weights, SETTLE, EP())[0]).backward()  # type: ignore[no-untyped-call]
    _, once, _ = case.run(EP(), SETTLE)
    torch.testing.assert_close(weights["s1.w"].grad, 2 * once["s1.w"])
    loss = case.loss(runtime.run(inputs, weights, SETTLE, EP())[0])
    with torch.no_grad():
        weights["s1.w"].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


def tail_of(case: Case) -> tuple[Tail, Tensor]:
    weight = torch.randn(
        3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ).requires_grad_()
    extra = torch.linspace(-1, 1, 3, dtype=torch.float64).requires_grad_()
    target = torch.tensor([0, 2, 1])

    def cost(outputs: dict[str, Tensor], given: dict[str, Tensor], weights: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(outputs["s3"] @ weights["r"].t() + given["extra"], given["target"])

    return Tail(cost, {"extra": extra, "target": target}, {"r": weight}), target  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gradient", "limit"), [(Implicit(), 1e-8), (EP(1e-3, cost=True), 1e-4), (EP(1e-3, 1, cost=True), 1e-2)]
)
@pytest.mark.parametrize("tol", [None, 1e-10])
def test_the_cost_can_nudge(gradient: Gradient, limit: float, tol: float | None) -> None:
    settle = replace(SETTLE, tol=tol)  # samples that have settled stay: all are nudged by one loss
    case = smooth_chain()
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for through_tail in (True, False):
        inputs, weights = leaves(case)
        tail, _ = tail_of(case)
        runtime = BlockRuntime(case.block)
        if through_tail:
            loss, _ = runtime.run_with_cost(inputs, weights, tail, settle, gradient)
        else:
            outputs, _ = runtime.run(inputs, weights, SETTLE, Implicit(1e-13))
            loss = tail.cost(outputs, tail.inputs, tail.weights)
        (2.0 * loss).backward()  # type: ignore[no-untyped-call]
        named = inputs | weights | {"r": tail.weights["r"], "extra": tail.inputs["extra"]}
        (found if through_tail else expected).extend(t.grad for t in named.values() if t.grad is not None)
    assert len(found) == len(expected)
    for grad, exact in zip(found, expected, strict=True):
        assert float((grad - exact).norm() / exact.norm()) < limit


def test_a_block_starts_from_zero_or_from_its_feedforward_pass() -> None:
    """After one sweep: layers of even position are updated first, from what the others start with."""
    b = Builder()
    b.input("x", 6)
    for name, source in (("s1", "x"), ("s2", "s1"), ("s3", "s2")):
        b.dense(name, source, 5, Activation("Tanh"))
    case = b.case()
    w, bias = ([case.weights[f"s{k}.{kind}"] for k in (1, 2, 3)] for kind in ("w", "b"))
    zero = case.settled(Settle(free_sweeps=1)).state
    torch.testing.assert_close(zero["s1"], (case.inputs["x"] @ w[0].T + bias[0]).tanh())
    torch.testing.assert_close(zero["s3"], bias[2].tanh().expand(3, -1))
    forward = case.settled(Settle(free_sweeps=1, start="feedforward")).state
    # the pass updates each layer once, from what lies before it: nothing lies behind it yet
    first = (case.inputs["x"] @ w[0].T + bias[0]).tanh()
    second = (first @ w[1].T + bias[1]).tanh()
    third = (second @ w[2].T + bias[2]).tanh()
    torch.testing.assert_close(forward["s1"], (case.inputs["x"] @ w[0].T + bias[0] + second @ w[1]).tanh())
    torch.testing.assert_close(forward["s3"], third)


def test_with_one_point_the_tail_has_its_gradient_at_the_free_state() -> None:
    """Exactly, however strong the nudge; with two points it is the mean over both."""
    case = smooth_chain()
    for points, close in ((1, True), (2, False)):
        inputs, weights = leaves(case)
        tail, _ = tail_of(case)
        loss, _ = BlockRuntime(case.block).run_with_cost(
            inputs, weights, tail, SETTLE, EP(2.0, points, cost=True)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        found = [tail.weights["r"].grad, tail.inputs["extra"].grad]
        with torch.no_grad():
            outputs, _ = BlockRuntime(case.block).run(case.inputs, case.weights, SETTLE, EP())
        free = tail.cost(outputs, tail.inputs, tail.weights)
        expected = torch.autograd.grad(free, [tail.weights["r"], tail.inputs["extra"]])
        for grad, exact in zip(found, expected, strict=True):
            assert grad is not None
            assert torch.allclose(grad, exact, rtol=1e-9, atol=1e-12) == close
