"""Copies, pickles and state dictionaries go on as their source does."""

import copy
import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffebm import Executor, Plan, Settle
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from tests.runtime.test_weights import MACHINES, same_state

SETTLE = Settle(free_sweeps=3, nudged_sweeps=3)


def plan_for(hardware: str) -> Plan:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 6),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(6, 4),
    )
    return compile_plan(model.eval(), (torch.zeros(2, 1, 4, 4),), hardware=hardware)


def samples() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    return torch.randn(6, 1, 4, 4, generator=source), torch.randint(0, 4, (6,), generator=source)


def step(net: Executor) -> Tensor:
    """One step in training; the outputs before it."""
    x, y = samples()
    optimizer = torch.optim.SGD(net.weights().values(), lr=0.05)
    net.train()
    optimizer.zero_grad()
    out: Tensor = net(x)
    nn.functional.cross_entropy(out, y).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return out.detach()


def used(hardware: str) -> Executor:
    """One that has trained, was calibrated, and whose weights have changed since its last run."""
    net = Executor(plan_for(hardware), SETTLE, seed=3)
    step(net)
    net.calibrate(samples()[0])
    step(net)
    return net


def _saved(net: Executor) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    found: dict[str, Any] = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    return found


def _whole(net: Executor) -> Any:
    file = io.BytesIO()
    torch.save(net, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def _into_fresh(net: Executor) -> Executor:
    fresh = Executor(net.plan, SETTLE)
    fresh.load_state_dict(_saved(net))
    return fresh


def _into_used(net: Executor) -> Executor:
    other = Executor(net.plan, SETTLE, seed=5)
    step(other)
    other.load_state_dict(_saved(net))
    return other


COPIES: dict[str, Callable[[Executor], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "torch.save": _whole,
    "fresh": _into_fresh,
    "used": _into_used,
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("hardware", MACHINES)
def test_a_copy_goes_on_as_its_source(hardware: str, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        net = used(hardware)
        copies = {name: make(net) for name, make in COPIES.items()}
        for other in copies.values():
            same_state(other, net)
        expected = [step(net), step(net)]
        for name, other in copies.items():
            assert all(torch.equal(step(other), out) for out in expected), name  # each by itself
            same_state(other, net)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("hardware", ["reference", "resistive"])
def test_what_has_not_run_is_restored_too(hardware: str) -> None:
    fresh, other = Executor(plan_for(hardware), SETTLE), used(hardware)
    other.load_state_dict(_saved(fresh))
    same_state(other, fresh)
    assert torch.equal(step(other), step(fresh))


def test_a_state_is_found_inside_another_module() -> None:
    net = used("resistive")
    outer = nn.Sequential(net, nn.Linear(4, 2))
    other = nn.Sequential(Executor(net.plan, SETTLE), nn.Linear(4, 2))
    other.load_state_dict(outer.state_dict())
    x, _ = samples()
    assert torch.equal(other.train()(x), outer.train()(x))


def test_a_load_of_weights_alone_is_no_step_of_the_cells() -> None:
    net = used("resistive")
    x, _ = samples()
    net.eval()
    net(x)
    weights = {name: -0.5 * w.detach() for name, w in net.named_parameters()}
    found = net.load_state_dict(weights, strict=False)
    assert "machine" in found.missing_keys
    held = net.weights()["4.weight"].detach()  # a pulsed step would be far off
    wanted = weights["w:4%2Eweight"]
    # `resistive` programs with an error of a few parts in a hundred of its range
    assert (held - wanted).norm() < 0.1 * wanted.norm()


def test_what_a_state_lacks_is_said() -> None:
    net = used("reference")
    state = net.state_dict()
    name = next(key for key in state if key.endswith(".plus"))
    partial = {key: tensor for key, tensor in state.items() if key not in {name, "random:tiles"}}
    with pytest.raises(
        RuntimeError, match=re.escape(f'Missing key(s) in state_dict: "{name}", "random:tiles". ')
    ):
        Executor(net.plan).load_state_dict(partial)
    found = Executor(net.plan).load_state_dict(partial, strict=False)
    assert found.missing_keys == [name, "random:tiles"]
    with pytest.raises(RuntimeError, match=re.escape('Missing key(s) in state_dict: "machine". ')):
        Executor(net.plan).load_state_dict({k: t for k, t in state.items() if k.startswith("w:")})
    cut = {**state, name: state[name][..., 1:]}
    with pytest.raises(RuntimeError, match=f"size mismatch for {re.escape(name)}: copying "):
        Executor(net.plan).load_state_dict(cut)
    with pytest.raises(RuntimeError, match="the state is that of other tiles"):
        Executor(plan_for("hermes")).load_state_dict(state)
    with pytest.raises(RuntimeError, match="machine is not the origin of a state dictionary"):
        Executor(net.plan).load_state_dict({**state, "machine": torch.zeros(3)})


def test_a_copy_is_independent() -> None:
    net = used("reference")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    other = copy.deepcopy(net)
    step(other)
    other.calibrate(samples()[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_module_goes_on_from_what_was_learnt() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(32, 1, 4, 4) + 3.0, torch.randn(32, 1, 4, 4) - 3.0])
    y = torch.arange(64) // 32
    norm = nn.BatchNorm2d(3)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))
    model(x)  # its counter is not at 0
    net = Executor(compile_plan(model, (x[:2],), hardware="ideal"))
    optimizer = torch.optim.Adam(net.weights().values(), lr=0.02)
    net.train()
    for _ in range(20):
        optimizer.zero_grad()
        net.loss(x, y, nn.functional.cross_entropy).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval()
    model.load_state_dict(net.torch_state(model))
    model.eval()
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 21
    with torch.no_grad():
        assert (model(x).argmax(1) == y).all()
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-4)


def test_a_tied_weight_goes_back_under_all_its_names() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)).eval()
    model[2].weight = model[0].weight
    x = torch.randn(3, 5)
    net = Executor(compile_plan(model, (x,), hardware="ideal"))
    with torch.no_grad():
        for weight in net.weights().values():
            weight.mul_(-2.0)
    model.load_state_dict(net.torch_state(model))
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x))


def test_a_module_of_another_kind() -> None:
    net = Executor(plan_for("ideal"))
    with pytest.raises(UsageError) as caught:
        net.torch_state(nn.Linear(2, 2))
    assert str(caught.value) == (
        "the module holds no '0.weight'; a module like the one that the plan was compiled from\n"
        "  hint: a plan from ONNX gives its model back with save_onnx"
    )
