import warnings
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper
from torch import Tensor, nn

import ffebm
from ffebm import EP, Executor, Implicit, Plan, Settle, Unrolled
from ffebm import compile as compile_plan
from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from tests.models import Builder, as_tuple, oracle, random_feeds, random_models, relative_error, tensors


def two_inputs() -> Plan:
    b = Builder()
    x, z = b.input("x", "N", 3), b.input("z", "N", 2)
    y = b.node("MatMul", x, b.weight(3, 2))
    return compile_plan(b.model(b.node("Add", y, z), b.node("Neg", z)), hardware="ideal")


def test_inputs_by_order_and_by_name() -> None:
    net = Executor(two_inputs())
    x, z = torch.randn(4, 3), torch.randn(4, 2)
    expected = net(x, z)
    assert isinstance(expected, tuple)
    assert torch.equal(expected[1], -z)
    for found in (net(x, z=z), net(z=z, x=x)):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("shapes", "named", "expected"),
    [
        ([(4, 3)], {}, "input 'z' is missing; the model takes ['x', 'z']"),
        ([(4, 3), (4, 2), (1,)], {}, "3 inputs; the model takes ['x', 'z']"),
        ([(4, 3)], {"x": (4, 3)}, "input 'x' is unknown or given twice; the model takes ['x', 'z']"),
        ([(4, 3)], {"y": (4, 3)}, "input 'y' is unknown or given twice; the model takes ['x', 'z']"),
        ([(4, 3), (4, 5)], {}, "input 'z' is [4, 5]; ['N', 2], the batch of any size"),
        ([(3,), (4, 2)], {}, "input 'x' is [3]; ['N', 3], the batch of any size"),
    ],
)
def test_wrong_inputs(
    shapes: list[tuple[int, ...]], named: dict[str, tuple[int, ...]], expected: str
) -> None:
    net = Executor(two_inputs())
    with pytest.raises(UsageError) as caught:
        net(*map(torch.zeros, shapes), **{name: torch.zeros(shape) for name, shape in named.items()})
    assert str(caught.value) == expected


def test_an_input_of_another_type() -> None:
    net = Executor(two_inputs())
    with pytest.raises(UsageError) as caught:
        net(torch.zeros(4, 3, dtype=torch.float64), torch.zeros(4, 2))
    assert str(caught.value) == "input 'x' is float64; float32"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"plan": "plan"}, "plan is a str; what `ffebm.compile` or `ffebm.load_plan` gave"),
        ({"settle": {"tol": 0.1}}, "settle is a dict; Settle(…), or None: the plan's own"),
        (
            {"settle": ffebm.Settle(free_sweeps=1.5)},  # type: ignore[arg-type]
            "settings of settling: Expected `int`, got `float` - at `$.free_sweeps`",
        ),
        (
            {"settle": ffebm.Settle(tol=float("inf"))},
            "settings of settling: tol inf; a finite number, or None: all sweeps run",
        ),
        ({"seed": "1"}, "seed is '1'; a whole number"),
        ({"seed": 1.5}, "seed is 1.5; a whole number"),
    ],
)
def test_arguments_of_another_type(arguments: dict[str, Any], expected: str) -> None:
    arguments = {"plan": two_inputs(), **arguments}
    with pytest.raises(UsageError) as caught:
        Executor(**arguments)
    assert str(caught.value) == expected


def test_settings_of_settling_may_be_numpy_s() -> None:
    given = ffebm.Settle(free_sweeps=np.int64(3), tol=np.float32(0.5))  # type: ignore[arg-type]
    assert Executor(two_inputs(), given).settle == Settle(free_sweeps=3, tol=0.5)


@pytest.mark.parametrize("count", ["2", 1.5, True, None])
def test_points_and_unrolled_sweeps_are_whole_numbers(count: Any) -> None:
    for make, what in (
        (lambda: EP(points=count), "nudging points"),
        (lambda: Unrolled(sweeps=count), "sweeps to unroll"),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert str(caught.value) == f"{count!r} {what}; a whole number of at least 1"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tol": "x"}, "tol 'x' of a solve; a finite number of at least 0"),
        ({"tol": -1.0}, "tol -1.0 of a solve; a finite number of at least 0"),
        ({"max_iterations": "3"}, "'3' iterations of a solve; a whole number of at least 1"),
        ({"max_iterations": 0}, "0 iterations of a solve; a whole number of at least 1"),
    ],
)
def test_settings_of_a_solve_of_another_type(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        Implicit(**settings)
    assert str(caught.value) == expected


def test_any_batch_runs_even_where_the_model_names_one() -> None:
    b = Builder()
    plan = compile_plan(b.model(b.node("MatMul", b.input("x", 2, 3), b.weight(3, 2))), hardware="ideal")
    assert Executor(plan)(torch.zeros(7, 3)).shape == (7, 2)


def test_inputs_and_weights_can_be_outputs() -> None:
    b = Builder()
    x = b.input("x", "N", 3)
    w = b.weight(3, 3)
    b.node("MatMul", x, w, out="y")
    model = b.model("y")
    model.graph.output.add().CopyFrom(model.graph.input[0])
    net = Executor(compile_plan(model, hardware="ideal"))
    value = torch.randn(2, 3)
    assert torch.equal(net(value)[1], value)


# --- weights and modes -------------------------------------------------------------------------------


def test_weights_have_their_source_names() -> None:
    b = Builder()
    names = ["layer.0.weight", "50%", "a/b:c", "w"]
    y = b.input("x", "N", 2)
    for name in names:
        y = b.node("MatMul", y, b.weight(2, 2, name=name))
    plan = compile_plan(b.model(y), hardware="ideal")
    net = Executor(plan)
    assert list(net.weights()) == names
    assert len(list(net.parameters())) == 4
    other = Executor(plan)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.weights()["50%"], net.weights()["50%"])
    net.weights()["w"].data.zero_()
    assert plan.weights["w"].any()  # a network has weights of its own


def normed() -> tuple[Plan, nn.Module]:
    b = Builder()
    y = b.norm(b.conv(b.input("x", "N", 1, 6, 6), 1, 3), 3)
    b.nodes[-1].attribute.append(helper.make_attribute("momentum", 0.8))
    plan = compile_plan(b.model(b.node("Relu", y)), hardware="ideal")
    twin = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3, momentum=0.2), nn.ReLU())
    values = [torch.from_numpy(plan.weights[f"c{i}"].copy()) for i in range(6)]
    weight, bias, gamma, beta, mean, var = values
    names = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    state = dict(zip(names, (weight, bias, gamma, beta, mean, var), strict=True))
    twin.load_state_dict({**state, "1.num_batches_tracked": torch.tensor(0)})
    return plan, twin


def test_batch_normalisation_as_in_torch() -> None:
    plan, twin = normed()
    net = Executor(plan)
    assert not net.training
    assert plan.buffers == ("c4", "c5")
    x = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), twin.eval()(x))
    torch.testing.assert_close(net.train()(x), twin.train()(x))
    statistics = net.running_statistics()
    assert isinstance(twin[1], nn.BatchNorm2d)  # type: ignore[index]
    torch.testing.assert_close(statistics["c4"], twin[1].running_mean)  # type: ignore[index]
    # ONNX's running variance is the population's, torch's is the sample's; both are close at 180 values.
    torch.testing.assert_close(statistics["c5"], twin[1].running_var, rtol=2e-3, atol=2e-3)  # type: ignore[index]
    net(x).square().sum().backward()
    twin(x).square().sum().backward()
    torch.testing.assert_close(net.weights()["c0"].grad, twin[0].weight.grad, rtol=1e-3, atol=1e-3)  # type: ignore[index]


def test_dropout_drops_in_training_only() -> None:
    b = Builder()
    y = b.node("Dropout", b.input("x", "N", 1000), b.constant(0.25))
    plan = compile_plan(b.model(y), hardware="ideal")
    net = Executor(plan, seed=3)
    x = torch.ones(2, 1000)
    assert torch.equal(net(x), x)
    dropped = net.train()(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    assert torch.equal(Executor(plan, seed=3).train()(x), dropped)
    assert not torch.equal(Executor(plan, seed=4).train()(x), dropped)
    net.reseed(3)
    assert torch.equal(net(x), dropped)


@pytest.mark.parametrize("hardware", ["reference", "resistive"])
def test_every_machine_sees_the_same_dropout(hardware: str) -> None:
    b = Builder()
    y = b.node("Dropout", b.node("MatMul", b.input("x", "N", 8), b.weight(8, 200)), b.constant(0.5))
    model, x = b.model(y), torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    exact, noisy = (Executor(compile_plan(model, hardware=h), seed=3).train() for h in ("ideal", hardware))
    for net in (exact, noisy):
        net.calibrate(x)  # runs on the noisy machine alone
    for _ in range(2):
        first, second = exact(x), noisy(x)
        assert not torch.equal(first, second)
        assert 0.4 < float((first == 0).float().mean()) < 0.6
        assert (second[first == 0] == 0).all()
        assert float((second[first != 0] == 0).float().mean()) < 0.1  # codes of 0 that were kept


def test_noise_follows_the_seed() -> None:
    b = Builder()
    plan = compile_plan(b.model(b.node("MatMul", b.input("x", "N", 8), b.weight(8, 8))), hardware="reference")
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    first = Executor(plan, seed=1)(x)
    assert torch.equal(Executor(plan, seed=1)(x), first)
    assert not torch.equal(Executor(plan, seed=2)(x), first)
    assert relative_error((Executor(plan, seed=2)(x),), [first.detach().numpy()]) < 0.1


def test_equilibria_are_kept_in_order() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4)), out="s0")
    y = b.node("Relu", b.node("MatMul", y, b.weight(4, 4)), out="s1")
    y = b.node("Relu", b.node("MatMul", y, b.weight(4, 4)), out="s2")
    net = Executor(compile_plan(b.model(y), hardware="ideal", block_size=2), settle=Settle(free_sweeps=9))
    with pytest.warns(ffebm.NotSettledWarning, match=r"block0 did not settle in \d+\.\d % of samples"):
        net(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert [sorted(e.state) for e in net.equilibria] == [["s0", "s1"], ["s2"]]
    assert all(e.converged.shape == (5,) for e in net.equilibria)


def test_a_loss_of_several_inputs() -> None:
    net = Executor(two_inputs(), gradient=EP(beta=0.5))
    x, z = torch.randn(4, 3), torch.randn(4, 2)

    def loss_fn(outputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        return (outputs[0] - target).square().mean()

    loss = net.loss((x, z), torch.zeros(4, 2), loss_fn)
    loss.backward()  # type: ignore[no-untyped-call]
    (weight,) = net.weights().values()
    expected = 2 * x.T @ (x @ weight.detach() + z) / 8
    torch.testing.assert_close(weight.grad, expected)


# --- the plan's own steps ----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")  # three sweeps are too few
@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(model=random_models(), block_size=st.integers(1, 3))
def test_a_run_follows_the_schedule(model: ModelProto, block_size: int) -> None:
    settle = Settle(free_sweeps=3, nudged_sweeps=3)
    plan = compile_model(model, hardware="ideal", block_size=block_size, settle=settle)
    net = Executor(plan)
    with net.record() as trace:
        outputs = as_tuple(net(**tensors(random_feeds(model))))
        forward = list(trace.steps)
        loss = torch.stack([y.square().mean() for y in outputs]).sum()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    assert net.trace is None
    assert forward == [(step.kind, step.name) for step in plan.inference.runs]
    follows_training(plan, trace.steps[len(forward) :])


def follows_training(plan: Plan, backward: list[tuple[str, str]]) -> None:
    """Each backward step of the schedule once, and none before what it waits for."""
    assert len(set(backward)) == len(backward)
    scheduled = nx.DiGraph()
    for step in plan.training.steps:
        scheduled.add_node(step.id, key=(step.kind, step.name.removesuffix(" +beta").removesuffix(" -beta")))
        scheduled.add_edges_from((before, step.id) for before in step.after)
    position = {step: index for index, step in enumerate(backward)}
    keys = {n: position[k] for n, k in scheduled.nodes(data="key") if k in position}
    wanted = {k for _, k in scheduled.nodes(data="key") if k[0] in {"nudged", "digital_backward"}}
    assert wanted == set(backward)
    for node, index in keys.items():
        behind = [keys[later] for later in nx.descendants(scheduled, node) if later in keys]
        assert all(index <= later for later in behind)


@pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")  # three sweeps are too few
@settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(model=random_models(), block_size=st.integers(1, 3), points=st.integers(1, 2))
def test_a_run_nudged_by_its_loss_follows_the_schedule(
    model: ModelProto, block_size: int, points: int
) -> None:
    settle = Settle(free_sweeps=3, nudged_sweeps=3)
    plan = compile_model(model, hardware="ideal", block_size=block_size, settle=settle)
    net = Executor(plan, gradient=EP(points=points, cost=True))
    feeds = tensors(random_feeds(model))
    inputs = tuple(feeds[port.name] for port in plan.inputs)

    def squares(outputs: Tensor | tuple[Tensor, ...], _: Tensor) -> Tensor:
        return torch.stack([y.square().mean() for y in as_tuple(outputs)]).sum()

    with net.record() as trace:
        loss = net.loss(inputs, torch.zeros(()), squares)
        forward = list(trace.steps)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    assert forward == [(step.kind, step.name) for step in plan.inference.runs]
    follows_training(plan, trace.steps[len(forward) :])


def deep(hardware: str = "ideal", **options: Any) -> Executor:
    """A block of three layers and a digital softmax."""
    b = Builder(seed=2)
    y = b.input("x", "N", 4)
    for k in range(3):
        y = b.node("Tanh", b.node("MatMul", y, b.weight(4, 4, gain=0.4, name=f"w{k}")))
    plan = compile_plan(b.model(b.node("Softmax", y)), hardware=hardware, block_size=3)
    return Executor(plan, **options)


def test_a_block_that_does_not_settle_warns_once() -> None:
    net = deep(settle=Settle(free_sweeps=2, nudged_sweeps=1))
    x = torch.randn(5, 4)

    def run_twice() -> None:
        for _ in range(2):
            net(x).square().sum().backward()

    with pytest.warns(ffebm.NotSettledWarning) as caught:
        run_twice()
    found = [w.message for w in caught]
    assert all(isinstance(w, ffebm.NotSettledWarning) and w.block == "block0" for w in found)
    (free,) = (w for w in found if "free_sweeps" in str(w))
    (nudged,) = (w for w in found if "nudged_sweeps" in str(w))
    assert isinstance(free, ffebm.NotSettledWarning)
    (equilibrium,) = net.equilibria
    assert free.share == float((~equilibrium.converged).double().mean())
    assert free.residual == float(equilibrium.residual.max())
    assert str(free) == (
        f"block0 did not settle in {100 * free.share:.1f} % of samples (residual up to {free.residual:.2g}); "
        "try more free_sweeps, anderson=5, or relaxation=0.5 in Settle"
    )
    assert str(nudged).endswith("the nudge has not reached every layer: more nudged_sweeps in Settle")
    net.reseed(0)
    with pytest.warns(ffebm.NotSettledWarning):
        net(x)
    net.reseed(0)
    net.notices.enabled = False
    net(x)


@pytest.mark.parametrize("tol", [None, 1e-3])
@pytest.mark.parametrize("hardware", ["reference", "hermes"])
def test_noise_of_reads_is_no_failure_to_settle(hardware: str, tol: float | None) -> None:
    """The residual of a settled state is what two reads differ by; looking for it changes no run."""
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    settle = Settle(free_sweeps=15, nudged_sweeps=15, tol=tol)
    net, plain = deep(hardware, settle=settle), deep(hardware, settle=settle)
    plain.notices.enabled = False
    for each in (net, plain):
        each.reseed(5)  # at about one in a hundred a sample is beyond twice the noise of four sweeps
    for block in plain.blocks.values():
        block.measures_noise(None)
    for _ in range(2):
        found = []
        for each in (net, plain):
            each.zero_grad()
            y = each(x)
            y.square().sum().backward()
            found.append([y, *(w.grad for w in each.weights().values())])
        assert all(map(torch.equal, *found))
    (equilibrium,), (unmeasured,) = net.equilibria, plain.equilibria
    assert bool(equilibrium.converged.all())
    assert torch.equal(equilibrium.residual, unmeasured.residual)
    assert not bool(unmeasured.converged.any())
    assert 0 < float(equilibrium.residual.max()) < 2.0 * equilibrium.noise


@pytest.mark.parametrize("hardware", ["reference", "hermes"])
def test_noise_is_measured_as_residuals_are_distributed(hardware: str) -> None:
    """The noise is the largest of four like draws, so the residual is beyond it in one run of five."""
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    net, runs = deep(hardware, settle=Settle(free_sweeps=15)), 40
    beyond, lost = 0, 0
    for seed in range(runs):
        net.reseed(seed)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ffebm.NotSettledWarning)
            net(x)
        (equilibrium,) = net.equilibria
        beyond += float(equilibrium.residual.max()) > equilibrium.noise
        lost += not bool(equilibrium.converged.all())
    deviation = (runs * 0.2 * 0.8) ** 0.5
    assert abs(beyond - 0.2 * runs) < 3 * deviation
    assert lost <= 2


def test_what_moves_by_more_than_noise_has_not_settled() -> None:
    net = deep("reference", settle=Settle(free_sweeps=2))
    with pytest.warns(ffebm.NotSettledWarning, match="block0 did not settle in 100.0 % of samples"):
        net(torch.randn(5, 4))
    (equilibrium,) = net.equilibria
    assert 0 < 2.0 * equilibrium.noise < float(equilibrium.residual.max())


def test_a_block_that_settles_does_not_warn() -> None:
    for tol in (None, 1e-3):
        net = deep(settle=Settle(tol=tol))
        net(torch.randn(5, 4)).square().sum().backward()


@pytest.mark.parametrize("cost", [False, True])
def test_a_second_derivative_is_refused(cost: bool) -> None:
    net = deep(gradient=EP(cost=cost))
    x = torch.randn(5, 4, requires_grad=True)

    def gradient(create_graph: bool) -> Tensor:
        loss = net.loss(x, torch.zeros(5, 4), nn.functional.mse_loss)
        return torch.autograd.grad(loss, x, create_graph=create_graph)[0]

    torch.testing.assert_close(gradient(create_graph=True).detach(), gradient(create_graph=False))
    for inputs in (None, list(net.weights().values()), [x]):
        penalty = gradient(create_graph=True).square().sum()
        with pytest.raises(UsageError) as caught:
            penalty.backward(inputs=inputs)  # type: ignore[no-untyped-call]
        assert str(caught.value) == (
            "the gradient of block0 is differentiated again; first derivatives: an estimate of a gradient "
            "has none of its own\n  hint: leave gradient penalties to digital layers, or take differences of "
            "outputs"
        )


@pytest.mark.parametrize("points", [1, 2])
def test_what_only_the_loss_reads_gets_its_gradient(points: int) -> None:
    """A penalty of weights, a temperature, a loss module, and a target from another network."""
    x, target = torch.randn(6, 4), torch.arange(6) % 4
    found = []
    for gradient in (Implicit(), EP(1e-3, points, cost=True)):
        torch.manual_seed(0)
        net = deep(gradient=gradient, settle=Settle(free_sweeps=200, nudged_sweeps=100))
        temperature, head = torch.tensor(0.7, requires_grad=True), nn.Linear(4, 4)
        teacher = nn.Linear(4, 4)
        soft = teacher(x)  # made before the loss is called
        penalty = sum((w.square().sum() for w in net.weights().values()), torch.zeros(()))

        def loss_fn(
            y: Tensor,
            classes: Tensor,
            temperature: Tensor = temperature,
            head: nn.Module = head,
            soft: Tensor = soft,
            penalty: Tensor = penalty,
        ) -> Tensor:
            likelihood = nn.functional.cross_entropy(head(y) / temperature, classes)
            return likelihood + nn.functional.mse_loss(y, soft) + 0.3 * penalty

        loss = net.loss(x, target, loss_fn)
        (2.0 * loss).backward()  # type: ignore[no-untyped-call]
        leaves = [*net.weights().values(), temperature, *head.parameters(), *teacher.parameters()]
        found.append((loss.detach(), [leaf.grad for leaf in leaves]))
    (loss, exact), (ours, grads) = found
    torch.testing.assert_close(ours, loss)
    for grad, expected in zip(grads, exact, strict=True):
        assert grad is not None
        assert expected is not None
        torch.testing.assert_close(grad, expected, rtol=2e-2, atol=2e-4)
    # where the state does not come between, at the free state: no error of the nudge
    for grad, expected in zip(grads[3:], exact[3:], strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-7)


def test_a_loss_under_no_grad_records_nothing() -> None:
    net = deep(gradient=EP(cost=True))
    weight = net.weights()["w0"]
    with torch.no_grad():
        loss = net.loss(
            torch.randn(2, 4), torch.zeros(2, 4), lambda y, t: (y - t).square().mean() + weight.sum()
        )
    assert not loss.requires_grad


def test_a_network_can_be_cast() -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 4)))
    model = b.model(b.node("Softmax", y))
    feeds = random_feeds(model)
    net = Executor(compile_plan(model, hardware="ideal")).double()
    found = net(torch.from_numpy(feeds["x"]).double())
    assert found.dtype == torch.float64
    assert relative_error((found.float(),), oracle(model, feeds)) < 1e-6


def test_a_network_says_what_it_is_and_how_it_runs() -> None:
    b = Builder()
    hidden = b.node("Relu", b.node("MatMul", b.input("x", "N", 3), b.weight(3, 4)), out="s1")
    plan = compile_plan(b.model(b.node("MatMul", hidden, b.weight(4, 2), out="y")), hardware="ideal")
    net = Executor(plan, Settle(free_sweeps=7, nudged_sweeps=5), Implicit(), seed=3)
    assert repr(net.train()) == (
        "Executor(\n"
        f"  {plan!r}\n"
        "  gradient Implicit(tol=1e-10, max_iterations=500)\n"
        "  settling: up to 7 free, 5 nudged sweeps\n"
        "  2 weights of 20 numbers train; training mode, seed 3\n"
        ")"
    )
    shown = ElementTree.fromstring(net._repr_html_())
    assert [element.tag for element in shown.iter()] == ["div", "img", "pre"]
    assert shown[1].text == f"{net!r}\n\n{plan.summary()}".rstrip("\n")

    net.gradient = EP(beta=0.5)
    net(torch.ones(5, 3)).sum().backward()
    settled = "5 of 5 samples settled (sweeps up to 1, residual up to 0)"
    assert [repr(found) for found in net.equilibria] == [
        f"<Equilibrium of {layer}: {settled}; backward {settled}, nudged by 0.5>" for layer in ("s1", "y")
    ]
    assert repr(net.equilibria[0].backward) == f"<Outcome {settled}, nudged by 0.5>"
    net(torch.ones(0, 3))
    assert repr(net.equilibria[0]) == "<Equilibrium of s1: 0 of 0 samples settled>"


def test_energies_are_those_of_the_blocks_at_their_equilibria() -> None:
    b = Builder()
    y = b.node("Relu", b.node("Gemm", b.input("x", "N", 6), b.weight(6, 5), b.weight(5)), out="h")
    y = b.node("Softmax", b.node("Gemm", y, b.weight(5, 4), b.weight(4), out="u"), out="p")
    y = b.node("Tanh", b.node("MatMul", y, b.weight(4, 3)), out="y")
    net = Executor(ffebm.compile(b.model(y), hardware="ideal", block_size=2))
    assert net.energies() == []
    with torch.no_grad():
        for weight in net.weights().values():
            weight.mul_(0.3)
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    net(x)
    first, second = net.energies()
    w, c, u, d, v = (t.detach() for t in net.weights().values())
    h, top = net.equilibria[0].state["h"], net.equilibria[0].state["u"]
    linear = (h * (x @ w + c)).sum(1) + (top * (h @ u + d)).sum(1)
    torch.testing.assert_close(first, (h.square().sum(1) + top.square().sum(1)) / 2 - linear)
    s, p = net.equilibria[1].state["y"], net.equilibria[1].inputs["p"]
    potential = ((1 + s) * (1 + s).log() + (1 - s) * (1 - s).log()).sum(1) / 2
    torch.testing.assert_close(second, potential - (s * (p @ v)).sum(1))
    assert not first.requires_grad

    # away from the equilibrium of a convex block the energy is higher
    moved = {name: state + 0.1 for name, state in net.equilibria[1].state.items()}
    assert bool((net.blocks[1].energy({"p": p}, net.weights(), moved) > second).all())


@pytest.mark.parametrize("gradient", ["ep", EP, 0.1])
def test_what_is_no_estimator_is_refused(gradient: Any) -> None:
    plan = ffebm.compile(torch.nn.Linear(3, 2), (torch.ones(2, 3),))
    with pytest.raises(UsageError) as caught:
        Executor(plan, gradient=gradient)
    assert str(caught.value) == (
        f"the gradient estimator is {gradient!r}; EP(), Implicit(), Unrolled(), or an object of your own "
        "with gradients(free, current)"
    )
