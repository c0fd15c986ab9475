"""An Executor used as torch modules are: checkpointed, compiled, cast, pruned, run in inference mode."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from ffebm import EP, Executor, Settle
from ffebm import compile as compile_plan
from ffebm.errors import UsageError

MACHINES = ("ideal", "reference", "resistive")


def source_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).eval()


def network(hardware: str, model: nn.Module | None = None, *, cost: bool = False) -> Executor:
    dtype = torch.float32 if model is None else next(model.parameters()).dtype
    plan = compile_plan(model or source_model(), (torch.zeros(2, 6, dtype=dtype),), hardware=hardware)
    return Executor(plan, Settle(free_sweeps=3, nudged_sweeps=3), EP(cost=cost))


def samples() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(4, 6, generator=source), torch.randint(0, 3, (4,), generator=source)


@pytest.mark.parametrize("hardware", MACHINES)
def test_a_checkpointed_run_has_the_gradient_of_a_plain_one(hardware: str) -> None:
    x, y = samples()
    found = []
    for run in (lambda net, x: net(x), lambda net, x: checkpoint(net, x, use_reentrant=False)):
        net, given = network("ideal"), x.clone().requires_grad_()
        cross_entropy(run(net, given), y).backward()  # type: ignore[no-untyped-call]
        found.append([given.grad, *(w.grad for w in net.weights().values())])
    for plain, checkpointed in zip(*found, strict=True):
        assert torch.equal(plain, checkpointed)
    net = network(hardware)
    cross_entropy(checkpoint(net, x, use_reentrant=False), y).backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is not None for w in net.weights().values())


def dropping(hardware: str, *, cost: bool = False) -> Executor:
    torch.manual_seed(0)
    layers = (nn.Dropout(0.3), nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 3))
    return network(hardware, nn.Sequential(*layers).eval(), cost=cost).train()


def weighed(x: Tensor) -> Tensor:
    return x * torch.rand(x.shape) + 1  # what torch draws itself, beside what runs draw


@pytest.mark.parametrize(
    ("hardware", "cost"), [("ideal", True), ("reference", True), ("hermes", False), ("resistive", False)]
)
def test_a_checkpoint_draws_the_same_again(hardware: str, cost: bool) -> None:
    """Noise of reads and dropped units; the second run meets cells that the first one has programmed."""
    x, y = samples()
    net, seen = dropping(hardware, cost=cost), []

    def step(x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            seen.append(weighed(x))
        loss = net.loss(weighed(x), y, cross_entropy)
        seen.append(loss.detach())
        seen.extend(state.clone() for e in net.equilibria for state in e.state.values())
        return 2 * loss

    for _ in range(2):  # two runs are kept for one backward pass
        with set_checkpoint_early_stop(False):
            losses = [checkpoint(step, part, y, use_reentrant=False) for part in (x, -x)]
            half = len(seen) // 2
            first, other = seen[:half], seen[half:]
            seen.clear()
            (losses[0] + losses[1]).backward()
        again, repeated = first + other, seen
        assert not torch.equal(first[1], other[1])
        for part in (first, other):  # whichever is repeated first
            matches = [k for k in (0, half) if torch.equal(repeated[k], part[0])]
            assert len(matches) == 1
            for ours, theirs in zip(part, repeated[matches[0] :], strict=False):
                assert torch.equal(ours, theirs)
        assert len(again) == len(repeated)
        seen.clear()
        with torch.no_grad():
            for weight in net.weights().values():
                assert weight.grad is not None
                weight.sub_(0.1 * weight.grad)


def test_the_gradient_of_a_checkpoint_is_that_of_the_units_that_were_kept() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.weight = nn.Dropout(0.5), nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            dropped: Tensor = self.drop(x)
            return dropped * self.weight

    plan = compile_plan(Kept().eval(), (torch.zeros(2, 6),), hardware="ideal")
    net = Executor(plan).train()
    x = torch.ones(8, 6, requires_grad=True)
    out = checkpoint(net, x, use_reentrant=False)
    out.sum().backward()
    assert x.grad is not None
    assert 5 < int((out == 0).sum()) < 43
    assert torch.equal(x.grad, out)  # 2 where a unit was kept
    (weight,) = net.weights().values()
    assert weight.grad is not None
    assert torch.equal(weight.grad, out.sum(0))


@pytest.mark.parametrize("hardware", ["reference", "resistive"])
def test_checkpointed_runs_leave_the_randomness_of_others_alone(hardware: str) -> None:
    x, _ = samples()
    net, twin = network(hardware), network(hardware)
    for each in (net, twin):
        each(x)
    checkpoint(net, x, use_reentrant=False)
    assert torch.equal(net(x), twin(x))
    torch.manual_seed(5)
    first = checkpoint(net, x, use_reentrant=False)
    second = checkpoint(net, x, use_reentrant=False)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(checkpoint(net, x, use_reentrant=False), first)


def test_a_checkpoint_that_repeats_with_other_noise_is_refused() -> None:
    x, _ = samples()
    given = x.clone().requires_grad_()
    for net in (network("ideal"), network("reference"), dropping("ideal")):
        noisy = net.training or net.plan.hardware.name == "reference"
        out = checkpoint(net, given, use_reentrant=True)
        if not noisy:
            out.sum().backward()
            continue
        with pytest.raises(UsageError) as caught:
            out.sum().backward()
        assert str(caught.value) == (
            "a checkpoint repeats a run that draws random numbers, with other ones; "
            "checkpoint(…, use_reentrant=False)"
        )


def test_a_loss_may_run_another_noisy_network() -> None:
    """With the cost itself as nudge it is run in the backward pass, again and again."""
    x, y = samples()
    net, teacher = network("reference", cost=True), network("reference")
    weight = next(iter(teacher.weights().values()))
    loss = net.loss(x, y, lambda out, y: cross_entropy(out, y) + (out - teacher(x)).square().mean())
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert all(w.grad is not None for w in net.weights().values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's compiler
def test_what_is_compiled_around_an_executor_runs_as_it_does() -> None:
    x, y = samples()
    net, twin = network("reference"), network("reference")
    first = nn.Linear(6, 6)
    outer = torch.compile(nn.Sequential(first, net), backend="eager")
    assert torch.equal(outer(x), twin(first(x)))
    assert torch.equal(torch.compile(net, backend="eager")(x), twin(x))

    costly, plain = network("reference", cost=True), network("reference", cost=True)
    step = torch.compile(lambda x, y: costly.loss(x, y, cross_entropy), backend="eager")
    assert torch.equal(step(x, y), plain.loss(x, y, cross_entropy))


@pytest.mark.parametrize("hardware", MACHINES)
def test_a_cast_moves_no_cells(hardware: str) -> None:
    x, _ = samples()
    net = network(hardware)
    net(x)
    before = net.machine.state()
    net.double()
    net(x.double())
    net.float()
    net(x)
    after = net.machine.state()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)


@pytest.mark.parametrize("hardware", MACHINES)
def test_pruned_weights_are_what_runs(hardware: str) -> None:
    x, y = samples()
    net, twin = network(hardware), network(hardware)
    name = "w:0%2Eweight"
    prune.l1_unstructured(net, name, 0.5)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        twin.get_parameter(name).mul_(net.get_buffer(f"{name}_mask"))
    assert torch.equal(net(x), twin(x))
    held = net.weights()["0.weight"][net.get_buffer(f"{name}_mask") == 0].abs().max()
    # where cells learn, weights show what these hold, and they are written with noise
    assert held <= (0.05 if hardware == "resistive" else 0.0)
    cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
    grad = net.get_parameter(f"{name}_orig").grad
    assert grad is not None
    assert bool((grad[net.get_buffer(f"{name}_mask") == 0] == 0).all())
    prune.remove(net, name)  # type: ignore[no-untyped-call]
    assert torch.isfinite(net(x)).all()


@pytest.mark.parametrize("hardware", MACHINES)
def test_what_is_built_in_inference_mode_trains_outside(hardware: str) -> None:
    x, y = samples()
    twin = network(hardware)
    with torch.inference_mode():
        net = network(hardware)
        net.train()
        net(x)
    twin.train()
    twin(x)
    for each in (net, twin):
        optimizer = torch.optim.SGD(each.weights().values(), lr=0.1)
        cross_entropy(each(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        each.calibrate(x)
    with torch.inference_mode():
        found = net(x)
    assert torch.equal(found, twin(x))


@pytest.mark.parametrize("hardware", MACHINES)
def test_an_empty_batch_has_a_gradient_of_zero(hardware: str) -> None:
    for training in (False, True):
        net = network(hardware).train(training)
        x = torch.zeros(0, 6, requires_grad=True)
        out = net(x)
        out.sum().backward()
        assert out.shape == (0, 3)
        assert x.grad is not None
        assert all(w.grad is not None and not w.grad.any() for w in net.weights().values())
        assert torch.isfinite(net.running_statistics()["1.running_mean"]).all()


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("hardware", ["ideal", "reference"])
def test_an_empty_batch_is_nudged_by_no_loss(hardware: str, points: int) -> None:
    plan = compile_plan(source_model(), (torch.zeros(2, 6),), hardware=hardware)
    net = Executor(plan, gradient=EP(points=points, cost=True))
    scale = nn.Parameter(torch.tensor(2.0))

    def loss_fn(outputs: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(outputs, target, reduction="sum") + scale.square()

    net.loss(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), loss_fn).backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is not None and not w.grad.any() for w in net.weights().values())
    assert float(scale.grad) == 4.0  # type: ignore[arg-type]


def test_a_batch_of_one_has_no_variance() -> None:
    net = network("ideal").train()
    with pytest.raises(UsageError) as caught:
        net(samples()[0][:1])
    assert str(caught.value) == (
        "Expected more than 1 value per channel when training, got input size torch.Size([1, 5])\n"
        "  hint: leave out a last batch of one (drop_last=True), or run in eval()"
    )
    with pytest.raises(
        ValueError, match="Expected more than 1 value per channel when training, got input size"
    ):
        source_model().train()(samples()[0][:1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hardware", ["ideal", "reference", "hermes", "isaac", "resistive"])
def test_half_precision_is_as_good_on_tiles_as_single(hardware: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32)).eval()
    x = 30.0 * torch.randn(64, 6)
    with torch.no_grad():
        expected = model(x)
        single = network(hardware, model)(x)
        theirs = model.to(dtype)(x.to(dtype)).float()
        half = network(hardware, model)(x.to(dtype))
    assert half.dtype == dtype
    allowed = 1.5 * (single - expected).norm() + (theirs - expected).norm()  # the type's own rounding
    assert (half.float() - expected).norm() <= 1.05 * allowed


def test_a_block_keeps_its_precision_under_autocast() -> None:
    x, _ = samples()
    net, twin = network("reference"), network("reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(x)
    torch.testing.assert_close(found, twin(x), rtol=1e-2, atol=1e-2)
    assert found.dtype == torch.float32
