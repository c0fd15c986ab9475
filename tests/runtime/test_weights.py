"""What tiles hold follows the values of weights, whoever changes them."""

import copy
import inspect
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from ffebm import Executor, Plan, Settle
from ffebm import compile as compile_plan

MACHINES = ("ideal", "reference", "hermes", "isaac", "resistive")


def plan_for(hardware: str) -> Plan:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    return compile_plan(model, (torch.zeros(2, 6),), hardware=hardware)


def network(hardware: str) -> Executor:
    return Executor(plan_for(hardware), Settle(free_sweeps=2, nudged_sweeps=2))


def samples() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(4, 6, generator=source), torch.randint(0, 3, (4,), generator=source)


def optimisers() -> Iterator[tuple[str, dict[str, bool]]]:
    for name in sorted(set(torch.optim.__all__) - {"Optimizer"} - set(dir(nn))):
        kind = getattr(torch.optim, name)
        if not isinstance(kind, type):
            continue
        known = inspect.signature(kind).parameters
        yield name, {}
        for option in ("fused", "foreach"):
            if option in known:
                yield name, {option: True}


def gradients(weights: list[nn.Parameter], *, sparse: bool = False) -> Tensor:
    """Set those of a loss that is the sum of 1 - cos of all weights, and return it."""
    with torch.no_grad():
        for weight in weights:
            weight.grad = weight.sin().to_sparse() if sparse else weight.sin()
        return torch.stack([(1 - weight.cos()).sum() for weight in weights]).sum()


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ideal", "hermes", "isaac")]


@pytest.mark.filterwarnings("ignore::ffebm.SmallStepWarning")  # some optimisers begin with tiny steps
@pytest.mark.parametrize("hardware", ["reference", "resistive", *SLOW])
def test_every_optimiser_reaches_the_tiles(hardware: str) -> None:
    x, _ = samples()
    fresh = network(hardware)
    for name, options in optimisers():
        net, plain = copy.deepcopy(fresh), copy.deepcopy(fresh)
        weights = [w for w in net.weights().values() if name != "Muon" or w.ndim == 2]
        optimizer = getattr(torch.optim, name)(weights, lr=0.05, **options)
        equal = _follower(net, plain, x)

        def closure() -> float:
            assert equal(), (name, options)  # noqa: B023 - it is called in the same turn
            return float(gradients(weights, sparse=name == "SparseAdam"))  # noqa: B023

        for _ in range(10):
            if name == "LBFGS":  # runs the network as often as it likes in one step
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
        assert equal(), (name, options)
        same_state(net, plain)


def _follower(net: Executor, plain: Executor, x: Tensor) -> Callable[[], bool]:
    """Gives `plain` the weights of `net`, copied by hand, and says whether both then compute the same."""

    def equal() -> bool:
        with torch.no_grad():
            for theirs, ours in zip(plain.parameters(), net.parameters(), strict=True):
                theirs.copy_(ours)
            return torch.equal(net(x), plain(x))

    return equal


def test_dense_gradients_are_refused_by_what_takes_sparse_ones() -> None:
    weights = list(network("ideal").weights().values())
    gradients(weights)
    with pytest.raises(RuntimeError) as caught:
        torch.optim.SparseAdam(weights).step()  # type: ignore[no-untyped-call]
    assert str(caught.value) == "SparseAdam does not support dense gradients, please consider Adam instead"


def same_state(net: Executor, other: Executor) -> None:
    """Weights, cells, calibration and randomness."""
    found, expected = net.state_dict(), other.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def _step(weight: nn.Parameter, change: Tensor, option: dict[str, bool]) -> None:
    weight.grad = -change
    torch.optim.SGD([weight], lr=1.0, **option).step()
    weight.grad = None


def _by_numpy(weight: nn.Parameter, change: Tensor) -> None:
    weight.detach().numpy()[...] += change.numpy()


WAYS: dict[str, Callable[[nn.Parameter, Tensor], object]] = {
    "fused": lambda w, d: _step(w, d, {"fused": True}),
    "foreach": lambda w, d: _step(w, d, {"foreach": True}),
    "data copy": lambda w, d: w.data.copy_(w.data + d),
    "data swap": lambda w, d: setattr(w, "data", w.data + d),
    "data add": lambda w, d: w.data.add_(d),
    "numpy": _by_numpy,
    "detached": lambda w, d: w.detach().add_(d),
    "view": lambda w, d: w.data.view(-1)[:].add_(d.view(-1)),
    "clamp": lambda w, d: w.data.add_(d).clamp_(-1e3, 1e3),
}


@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    hardware=st.sampled_from(MACHINES),
    changes=st.lists(
        st.tuples(st.sampled_from(sorted(WAYS)), st.integers(0, 3), st.booleans()), min_size=1, max_size=5
    ),
)
def test_a_change_is_seen_whoever_makes_it(hardware: str, changes: list[tuple[str, int, bool]]) -> None:
    x, _ = samples()
    net, plain = network(hardware), network(hardware)
    for way, which, runs in changes:
        ours, theirs = list(net.parameters())[which], list(plain.parameters())[which]
        change = torch.full_like(ours, 0.1).detach()
        WAYS[way](ours, change)
        with torch.no_grad():
            theirs.add_(change)
        if runs:
            assert torch.equal(net(x), plain(x)), way
    assert torch.equal(net(x), plain(x))
    same_state(net, plain)


@pytest.mark.parametrize("hardware", MACHINES)
def test_a_functional_call_runs_with_the_weights_it_gets(hardware: str) -> None:
    x, _ = samples()
    net, changed = network(hardware), network(hardware)
    with torch.no_grad():
        for weight in changed.parameters():
            weight.mul_(-0.5)
    values = {name: w.detach() * -0.5 for name, w in net.named_parameters()}
    kept = {name: value.clone() for name, value in values.items()}
    found = torch.func.functional_call(net, values, (x,))
    assert torch.equal(found, changed(x))
    assert all(torch.equal(values[name], kept[name]) for name in values)  # the caller's stay the caller's


@pytest.mark.parametrize("hardware", ["reference", "resistive"])
def test_a_parametrised_weight_is_what_is_programmed(hardware: str) -> None:
    x, _ = samples()
    net, twin = network(hardware), network(hardware)
    parametrizations.weight_norm(net, "w:0%2Eweight")
    before = net(x)
    torch.testing.assert_close(before, twin(x), atol=1e-5, rtol=1e-4)  # a norm is not exact
    assert isinstance(net.parametrizations, nn.ModuleDict)
    inner = net.parametrizations["w:0%2Eweight"]
    held = net.machine.state()
    with torch.no_grad():
        inner.original0.mul_(2.0)  # type: ignore[operator]
    net(x)
    now = net.machine.state()
    moved = {name for name, tensor in now.items() if not torch.equal(tensor, held[name])}
    # where cells learn, a step goes to the fast array first
    assert any(name.startswith("0.weight/") and name.endswith("plus") for name in moved)
    parametrize.remove_parametrizations(net, "w:0%2Eweight")
    assert torch.isfinite(net(x)).all()
