from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.nn import functional

import ffebm
from ffebm.errors import HardwareError, UsageError
from ffebm.hardware.description import Accumulate, Hardware, load_hardware
from ffebm.hardware.devices.update import PulsedBy
from ffebm.plan.conductance import from_matrix
from ffebm.plan.plan import Plan
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.tiles.lines.vectors import line_vectors
from tests.machines import ratio, with_tiles
from tests.models import Builder
from tests.runtime.tiles.devices.test_pulses import law

FORMS: tuple[PulsedBy, ...] = ("states", "differences")


def in_situ(pulsed_by: PulsedBy, **changes: Any) -> Hardware:
    """A machine that reads well and whose cells take outer products."""
    machine = load_hardware("reference")
    tile = machine.analog[0].tile.crossbar()
    settings: dict[str, Any] = {"bounds": "hard", "pulse": ratio(1e-6), "pulses": 100_000}
    cell = replace(
        tile.cell,
        levels=2**20,
        programming_noise=ratio(0.0),
        read_noise=ratio(0.0),
        verify=None,
        variation=None,
    )
    fine = replace(
        tile,
        update=law(pulsed_by=pulsed_by, **(settings | changes)),
        cell=cell,
        dac=replace(tile.dac, bits=24),
        adc=replace(tile.adc, bits=24),
        adc_sigmas=ratio(100.0),
    )
    return with_tiles(machine, tile=fine)


class Network(nn.Module):
    """A convolution with pooling, then two layers that settle together."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.hidden, self.out = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(torch.clamp(self.conv(x), 0, 1), 2).flatten(1)
        y: Tensor = self.out(torch.clamp(self.hidden(x), 0, 1))
        return y


SHAPE = (6, 2, 4, 4)


def planned(pulsed_by: PulsedBy, feedback: float = 1.0, **changes: Any) -> Plan:
    x, machine = torch.zeros(SHAPE), in_situ(pulsed_by, **changes)
    return ffebm.compile(Network().eval(), (x,), hardware=machine, block_size=3, feedback=feedback)


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.rand(SHAPE), torch.arange(6) % 5


def network(plan: Plan, gradient: Gradient | None = None) -> ffebm.Executor:
    return ffebm.Executor(plan, gradient=gradient or ffebm.EP(beta=0.5)).train()


def gradients(net: ffebm.Executor) -> dict[str, Tensor]:
    net.zero_grad()
    net.loss(*batch(), functional.cross_entropy).backward()  # type: ignore[no-untyped-call]
    return {name: w.grad.clone() for name, w in net.weights().items() if w.grad is not None}


def left(net: ffebm.Executor, factor: float = 1.0) -> OuterProducts:
    net.zero_grad()
    with net.outer_products() as products:
        (factor * net.loss(*batch(), functional.cross_entropy)).backward()  # type: ignore[no-untyped-call]
    return products


def total(products: OuterProducts, name: str, like: Tensor) -> Tensor:
    """The sum of the outer products of a weight, in its layout."""
    found = torch.zeros_like(like)
    for pairs in products.taken[name]:
        x, d = line_vectors(pairs.linear, pairs.z, pairs.y, like)
        found += from_matrix(pairs.linear, d.mT @ x, tuple(like.shape))
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize(("cost", "feedback"), [(False, 1.0), (True, 1.0), (False, 0.3)])
def test_the_sum_of_what_is_left_is_the_gradient(
    form: PulsedBy, points: int, cost: bool, feedback: float
) -> None:
    net = network(planned(form, feedback), ffebm.EP(beta=0.5, points=points, cost=cost))
    expected = gradients(net)
    products = left(net)
    for name, weight in net.weights().items():
        if weight.dim() == 1:  # biases have gradients as ever
            assert weight.grad is not None
            torch.testing.assert_close(weight.grad, expected[name])
            continue
        assert weight.grad is None
        found = total(products, name, weight)
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-6)
    assert products.taken.keys() == {"conv.weight", "hidden.weight", "out.weight"}
    assert gradients(net).keys() == expected.keys()  # outside all have gradients again


def test_what_is_left_counts_by_the_gradient_of_the_loss() -> None:
    net = network(planned("states"), ffebm.EP(beta=0.5, cost=True))
    weight = net.weights()["out.weight"]
    once, twice = (total(left(net, factor), "out.weight", weight) for factor in (1.0, 2.0))
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("form", FORMS)
def test_small_pulses_follow_the_gradient(form: PulsedBy) -> None:
    net = network(planned(form))
    expected, products = gradients(net), left(net)
    before = {name: w.detach().clone() for name, w in net.weights().items()}
    net.pulse(products, 0.05)
    for name in products.taken:
        moved = net.weights()[name].detach() - before[name]
        cosine = functional.cosine_similarity(moved.flatten(), -expected[name].flatten(), 0)
        assert float(cosine) > 0.99
        assert float(moved.norm()) == pytest.approx(0.05 * float(expected[name].norm()), rel=0.1)


@pytest.mark.parametrize(("form", "times"), [("states", (2, 2)), ("differences", (1, 2))])
def test_as_many_products_are_taken_as_are_billed(form: PulsedBy, times: tuple[int, int]) -> None:
    plan = planned(form)
    products = left(network(plan))
    counted = {}
    for name, pairs in products.taken.items():
        weight = torch.from_numpy(plan.weights[name])
        counted[name] = sum(line_vectors(p.linear, p.z, p.y, weight)[0].shape[1] for p in pairs)
    assert counted == {
        "conv.weight": times[0] * 6 * 16,  # windows
        "hidden.weight": times[0] * 6,
        "out.weight": times[1] * 6,
    }
    cells = {"conv.weight": 36, "hidden.weight": 192, "out.weight": 60}
    copies = {name: 1 + max(p.replica for _, p in plan.pieces() if p.weight == name) for name in cells}
    energy = sum(2 * 11.0 * cells[name] * copies[name] * counted[name] / 6 for name in cells)
    assert plan.batch == 1
    billed = [s.cost.array for s in plan.training.steps if s.kind == "update"]
    assert sum(billed) == pytest.approx(energy)


def test_a_step_of_an_optimiser_is_refused() -> None:
    net = network(planned("differences"))
    x, _ = batch()
    net(x)
    with torch.no_grad():
        net.weights()["out.weight"].add_(1e-3)
    with pytest.raises(UsageError) as caught:
        net(x)
    assert str(caught.value) == (
        "'out.weight' has another value than its cells, which take outer products only; steps by "
        "`Executor.pulse`, of what a backward pass inside `Executor.outer_products` has left\n  hint: leave "
        "these weights out of the optimiser, or set tile.update.pulsed_by = 'matrix' in the hardware "
        "description"
    )


def test_a_matrix_machine_leaves_none() -> None:
    net = network(planned("matrix"))
    assert left(net).taken == {}
    assert all(weight.grad is not None for weight in net.weights().values())


@pytest.mark.parametrize("gradient", [ffebm.Implicit(), ffebm.EP(points=4)])
def test_other_estimators_are_refused(gradient: Gradient) -> None:
    net = network(planned("states"), gradient)
    with pytest.raises(UsageError, match="cells that take outer products, and gradients by") as caught, (
        net.outer_products()
    ):  # fmt: skip
        pass
    assert "EP(points=2) or EP(points=1): two phases, which both lines of an array see" in str(caught.value)


def test_a_weight_that_a_digital_node_reads_too_has_a_gradient() -> None:
    b = Builder()
    w = b.weight(3, 3)
    y = b.node("Mul", b.node("Relu", b.node("MatMul", b.input("x", 3, 3), w)), w)
    net = network(ffebm.compile(b.model(y), hardware=in_situ("states")))
    with net.outer_products() as products:
        net(torch.rand(3, 3)).sum().backward()
    (weight,) = net.weights().values()
    assert weight.grad is not None
    assert products.taken == {}


@pytest.mark.parametrize("rate", [-1, float("nan"), "0.1", None, torch.ones(2)])
def test_a_rate_is_a_number(rate: Any) -> None:
    net = network(planned("states"))
    with pytest.raises(UsageError) as caught:
        net.pulse(left(net), rate)
    assert str(caught.value) == f"lr is {rate!r}; a finite number of at least 0"


def held(net: ffebm.Executor) -> list[Tensor]:
    return [weight.detach().clone() for weight in net.weights().values()]


def test_products_are_taken_once() -> None:
    net = network(planned("states"))
    products = left(net)
    net.pulse(products, torch.tensor(0.05))  # type: ignore[arg-type]
    before = held(net)
    with pytest.raises(UsageError) as caught:
        net.pulse(products, 0.05)
    assert str(caught.value) == (
        "these outer products were taken before; what `Executor.outer_products` gave, once\n"
        "  hint: collect those of the next backward pass anew"
    )
    for one, other in zip(before, held(net), strict=True):
        assert torch.equal(one, other)


def test_products_that_are_still_collected_are_not_taken() -> None:
    net = network(planned("states"))
    with net.outer_products() as products:
        net.loss(*batch(), functional.cross_entropy).backward()  # type: ignore[no-untyped-call]
        with pytest.raises(UsageError) as caught:
            net.pulse(products, 0.05)
    assert str(caught.value) == (
        "these outer products are still collected; what `Executor.outer_products` gave, behind its `with`"
    )
    net.pulse(products, 0.05)


def test_products_are_those_of_the_network() -> None:
    b = Builder()
    y = b.node("MatMul", b.input("x", 3, 3), b.weight(3, 3))
    other = network(ffebm.compile(b.model(y), hardware=in_situ("states")))
    with other.outer_products() as products:
        other.loss(torch.rand(3, 3), torch.arange(3), functional.cross_entropy).backward()  # type: ignore[no-untyped-call]
    (name,) = products.taken
    net = network(planned("states"))
    before = held(net)
    with pytest.raises(UsageError) as caught:
        net.pulse(products, 0.05)
    assert str(caught.value) == (
        f"outer products of {name!r}, which no cells here take; what `Executor.outer_products` gave of the "
        "same network"
    )
    for one, now in zip(before, held(net), strict=True):
        assert torch.equal(one, now)
    with pytest.raises(UsageError, match=r"products are a dict; what `Executor.outer_products` gave$"):
        net.pulse({}, 0.05)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (
            "reference",
            {"remedy": Accumulate()},
            "tile.update.remedy: steps that add up digitally, beside pulses by states; no remedy, a "
            "transfer, or pulsed_by 'matrix'",
        ),
        (
            "resistive-single",
            {},
            "tile.update.pulsed_by: pulses by states in a passive array, whose cells learn by squares of "
            "voltages; 'matrix'",
        ),
    ],
)
def test_contradictions(base: str, changes: dict[str, Any], message: str) -> None:
    machine = load_hardware(base)
    tile = replace(machine.analog[0].tile.crossbar(), update=law(pulsed_by="states", **changes))
    with pytest.raises(HardwareError) as caught:
        ffebm.compile(nn.Linear(4, 4), (torch.rand(2, 4),), hardware=with_tiles(machine, tile=tile))
    assert message in " ".join(str(caught.value).split())
