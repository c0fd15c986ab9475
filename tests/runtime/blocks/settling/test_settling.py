import tracemalloc
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

from ffebm.errors import NotSettledError
from ffebm.graph.energy_block import Activation, Layer, Linear
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.coupling import Coupling
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.physics.activation import activate
from ffebm.runtime.blocks.physics.hopfield import Bilinear
from ffebm.runtime.blocks.projection import ExactProjection
from ffebm.runtime.blocks.settling.settling import SETTLED, listed_samples
from ffebm.runtime.tiles.projection import Pooled, PoolProducts
from tests.runtime.some_blocks import IDENTITY, Builder, Case, cases, max_pool, published_chain, smooth_chain

PROPERTY = settings(
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)


def settle(case: Case, **options: Any) -> Any:
    with torch.no_grad():
        return BlockRuntime(case.block).run(case.inputs, case.weights, Settle(**options), EP())[1]


def equation_error(case: Case, state: dict[str, Tensor]) -> float:
    """How far the equations of all layers are from holding, with drives as torch derives them."""
    leaves = {name: s.detach().requires_grad_() for name, s in state.items()}
    values = {**case.inputs, **leaves}
    energy = torch.zeros((), dtype=torch.float64)
    stiff = dict(zip((layer.value for layer in case.block.layers), case.block.stiffness(), strict=True))
    for layer, interaction in case.block.interactions():
        coupling = Coupling(layer, interaction, Bilinear())
        drive = coupling.push(values[interaction.source], case.weights)[0]
        bias = coupling.bias_drive(case.weights)
        term = (leaves[layer.value] * (drive if bias is None else drive + bias)).sum()
        energy = energy + stiff[layer.value] * term
    for layer in case.block.layers:
        for name in layer.biases:
            energy = energy + stiff[layer.value] * (leaves[layer.value] * case.weights[name]).sum()
    drives = torch.autograd.grad(
        energy, [leaves[layer.value] for layer in case.block.layers], materialize_grads=True
    )

    def error(layer: Layer, drive: Tensor) -> float:
        expected = activate(layer.activation, layer.activation.scale * drive / stiff[layer.value])
        return float((expected - state[layer.value]).abs().max())

    return max(error(layer, drive) for layer, drive in zip(case.block.layers, drives, strict=True))


@PROPERTY
@given(cases())
def test_a_settled_state_solves_the_equations_of_the_energy(case: Case) -> None:
    # the drives are torch's derivative of the energy: they share nothing with the top-down path of a sweep
    equilibrium = settle(case, free_sweeps=400, tol=1e-13)
    if bool(equilibrium.converged.all()):
        assert equation_error(case, equilibrium.state) < 1e-11


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tol": 1e-12},
        {"relaxation": 0.6},
        {"relaxation": 1.3, "tol": 1e-12},
        {"relaxation": "auto", "tol": 1e-12},
        {"relaxation": "auto"},
        {"anderson": 4, "tol": 1e-12},
        {"anderson": 3, "relaxation": 0.8},
        {"start": "feedforward"},
    ],
)
def test_all_ways_to_settle_agree_on_a_block_with_one_equilibrium(options: Any) -> None:
    case = smooth_chain()
    expected = settle(case, free_sweeps=500).state
    found = settle(case, **({"free_sweeps": 300} | options))
    assert bool(found.converged.all())
    for name, s in expected.items():
        torch.testing.assert_close(found.state[name], s, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{"anderson": 5}, {"relaxation": "auto"}])
def test_acceleration_takes_fewer_sweeps(options: Any) -> None:
    b = Builder(strength=1.6)
    b.input("x", 6)
    b.dense("s1", "x", 12, Activation("Tanh"))
    b.dense("s2", "s1", 12, Activation("Tanh"))
    b.dense("s3", "s2", 12, Activation("Tanh"))
    case = b.case()
    plain = settle(case, free_sweeps=2000, tol=1e-10)
    mixed = settle(case, free_sweeps=2000, tol=1e-10, **options)
    assert bool(plain.converged.all() & mixed.converged.all())
    assert int(mixed.sweeps.max()) < 0.6 * int(plain.sweeps.max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tol": 1e-9},
        {"tol": 1e-9, "anderson": 3},
        {"relaxation": 0.7, "tol": 1e-9},
        {"relaxation": "auto", "tol": 1e-9},
        {"relaxation": "auto"},
    ],
)
def test_a_sample_settles_alike_in_every_batch(options: Any) -> None:
    case = published_chain(batch=5)
    together = settle(case, free_sweeps=200, **options)
    for i in range(5):
        alone = Case(case.block, case.weights, {"x": case.inputs["x"][i : i + 1]})
        single = settle(alone, free_sweeps=200, **options)
        for name, s in single.state.items():
            torch.testing.assert_close(s[0], together.state[name][i], rtol=0, atol=1e-13)
        if "tol" in options:
            assert int(single.sweeps) == int(together.sweeps[i])


def test_a_block_whose_layers_do_not_interact_settles_in_one_sweep() -> None:
    b = Builder()
    b.input("x", 2, 6, 6)
    b.conv("s1", "x", 3, Activation("Relu"), max_pool())
    equilibrium = settle(b.case())
    assert equilibrium.sweeps.tolist() == [1, 1, 1]
    assert equilibrium.residual.tolist() == [0.0, 0.0, 0.0]
    assert bool(equilibrium.converged.all())


def test_a_block_that_stands_still_stops_early_with_the_same_state() -> None:
    case = published_chain()
    long, longer = settle(case, free_sweeps=400), settle(case, free_sweeps=800)
    assert bool((long.sweeps < 400).all())
    assert all(torch.equal(longer.state[name], s) for name, s in long.state.items())


def test_a_fixed_number_of_sweeps_converges_if_the_residual_is_small() -> None:
    few, many = settle(smooth_chain(), free_sweeps=2), settle(smooth_chain(), free_sweeps=12)
    assert bool((few.residual > SETTLED).all())
    assert not bool(few.converged.any())
    assert few.sweeps.tolist() == [2, 2, 2]
    assert bool(many.converged.all())
    assert bool((many.rate < 1).all())


def test_the_rate_is_that_of_the_linear_iteration() -> None:
    b = Builder(batch=2)
    b.input("x", 3)
    b.dense("s1", "x", 3, IDENTITY)
    b.dense("s2", "s1", 1, IDENTITY)
    case = b.case()
    spectral = float(torch.linalg.matrix_norm(case.weights["s2.w"], 2)) ** 2
    assert settle(case, free_sweeps=10).rate.tolist() == pytest.approx([spectral] * 2, rel=1e-6)


def limit_cycle() -> Case:
    """Two units above push each other's winner out of a maximum; a linear, negative top makes it unstable."""
    b = Builder(batch=2)
    b.input("x", 1, 2, 2)
    b.layer("s1", Activation("Clip", low=0.0, high=1.0), b.drive("x"))
    linear = Linear("Conv", "w", "c", (1, 1), (0, 0, 0, 0), (1, 1))
    b.layer("s2", IDENTITY, b.drive("s1", (1, 1, 1, 1), linear, max_pool()))
    b.weights["w"] = torch.full((1, 1, 1, 1), 0.9, dtype=torch.float64)
    b.weights["c"] = torch.tensor([-1.5], dtype=torch.float64)
    b.inputs["x"] = torch.tensor([[0.80, 0.79, 0.1, 0.0], [3.0, 0.1, 0.0, 0.0]], dtype=torch.float64).view(
        2, 1, 2, 2
    )
    return b.case()


def test_a_limit_cycle_is_recognised_for_the_sample_that_has_one() -> None:
    equilibrium = settle(limit_cycle(), free_sweeps=100)
    assert equilibrium.converged.tolist() == [False, True]
    assert equilibrium.period.tolist() == [2, 0]


def test_a_strict_block_that_does_not_settle_is_an_error() -> None:
    with pytest.raises(NotSettledError) as caught:
        settle(limit_cycle(), free_sweeps=100, strict=True)
    message = str(caught.value)
    assert message.startswith("block0: 1 of 2 samples (50.0%) did not settle in 100 sweeps, residual up to ")
    assert message.endswith(
        "in limit cycles of period 2; residuals of at most 0.0001\n"
        "  hint: try winners='shared' or relaxation=0.5 in Settle"
    )


@pytest.mark.parametrize("options", [{}, {"tol": 1e-3}, {"free_sweeps": 1}, {"anderson": 3}])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_not_finite_has_not_settled(value: float, layers: int, options: Any) -> None:
    b = Builder()
    b.input("x", 4)
    for k in range(layers):
        b.dense(f"s{k}", f"s{k - 1}" if k else "x", 4, IDENTITY)
    case = b.case()
    case.inputs["x"][1, 2] = value
    equilibrium = settle(case, **options)
    assert equilibrium.residual.isinf().tolist() == [False, True, False]
    assert not bool(equilibrium.converged[1])
    settled = layers == 1 or "free_sweeps" not in options
    assert equilibrium.converged[[0, 2]].tolist() == [settled, settled]
    with pytest.raises(NotSettledError) as caught:
        settle(case, strict=True, **options)
    assert str(caught.value) == (
        "block0: the state of 1 of 3 samples is not finite: sample 1; finite numbers\n"
        "  hint: look for NaN and infinite values in inputs and weights; without any the block diverges: "
        "try relaxation=0.5 in Settle, or smaller weights"
    )


def test_many_samples_are_not_all_listed() -> None:
    assert listed_samples([3]) == "sample 3"
    assert listed_samples(range(8)) == "samples 0, 1, 2, 3, 4, 5, 6, 7"
    assert listed_samples(range(30)) == "samples 0, 1, 2, 3, 4, 5, 6, 7 and 22 more"


class Counting:
    """Counts the products of the projection that it stands for."""

    def __init__(self, linear: Linear) -> None:
        self._exact = ExactProjection(linear)
        self.products = self.transposed = self.rows = 0

    def product(self, z: Tensor, weight: Tensor) -> Tensor:
        self.products += 1
        self.rows += len(z)
        return self._exact.product(z, weight)

    def pooled(self, z: Tensor, weight: Tensor, pool: PoolProducts) -> Pooled:
        return pool(self.product(z, weight))

    def product_t(self, y: Tensor, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
        self.transposed += 1
        self.rows += len(y)
        return self._exact.product_t(y, weight, shape)


def counted(case: Case, **options: Any) -> list[Counting]:
    counters = {
        index: Counting(interaction.linear)
        for index, (_, interaction) in enumerate(case.block.interactions())
        if interaction.linear is not None
    }
    case.run(EP(), Settle(**options), counters)
    return list(counters.values())


def test_a_sweep_takes_one_product_and_one_transposed_product_of_each_interaction() -> None:
    case = published_chain()
    few = counted(case, free_sweeps=3, nudged_sweeps=2)
    free = counted(case, free_sweeps=7, nudged_sweeps=2)
    nudged = counted(case, free_sweeps=3, nudged_sweeps=5)
    for a, b, c in zip(few, free, nudged, strict=True):
        assert (b.products - a.products, b.transposed - a.transposed) == (4, 4)
        assert (c.products - a.products, c.transposed - a.transposed) == (3, 3)
        assert c.rows - a.rows == 3 * 2 * (2 * 3)  # both nudges as one batch
        assert a.products <= 3 + 2 + 2
        assert a.transposed <= 3 + 2


def test_the_clamped_input_is_multiplied_once_a_step() -> None:
    case = smooth_chain()
    clamped = counted(case, free_sweeps=9, nudged_sweeps=6)[0]
    assert (clamped.products, clamped.transposed) == (1, 1)


def test_memory_does_not_grow_with_the_number_of_sweeps() -> None:
    case = published_chain()

    def peak(sweeps: int) -> int:
        tracemalloc.start()
        settle(case, free_sweeps=sweeps, relaxation=0.9)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    def tensors_alive(sweeps: int) -> int:
        equilibrium = settle(case, free_sweeps=sweeps, relaxation=0.9)
        assert all(s.grad_fn is None for s in equilibrium.state.values())
        return sum(s.untyped_storage().nbytes() for s in equilibrium.state.values())

    peak(30)
    assert peak(120) < 1.2 * peak(30) + 20_000
    assert tensors_alive(120) == tensors_alive(30)


def test_an_over_relaxed_state_stays_in_the_range_of_its_activation() -> None:
    b = Builder(strength=2.0)
    b.input("x", 6)
    b.dense("s1", "x", 12, Activation("HardSigmoid", alpha=0.2, beta=0.5))
    b.dense("s2", "s1", 12, Activation("Clip", low=-0.25, high=1.0))
    for sweeps in (1, 2, 7):
        state = settle(b.case(), free_sweeps=sweeps, relaxation=1.9).state
        for name, low in (("s1", 0.0), ("s2", -0.25)):
            assert float(state[name].min()) >= low
            assert float(state[name].max()) <= 1.0
            assert bool(((state[name] == low) | (state[name] == 1.0)).any())


@pytest.mark.parametrize(
    "options", [{}, {"tol": 1e-8}, {"tol": 1e-8, "relaxation": 0.7}, {"relaxation": "auto"}]
)
def test_a_state_of_zero_has_settled(options: Any) -> None:
    """Nothing moves, and nothing is what it is measured by."""
    b = Builder()
    b.input("x", 6)
    b.dense("s1", "x", 5, Activation("Tanh"))
    b.dense("s2", "s1", 4, Activation("Relu"))
    case = b.case()
    for name in ("s1.b", "s2.b"):
        case.weights[name].zero_()
    case.inputs["x"].zero_()
    equilibrium = settle(case, free_sweeps=50, **options)
    assert bool(equilibrium.converged.all())
    assert equilibrium.residual.tolist() == [0.0, 0.0, 0.0]


def test_a_state_near_zero_is_measured_by_a_millionth() -> None:
    """By a root mean square of 1e-6 in each layer, where its own is less."""
    b = Builder()
    b.input("x", 6)
    b.dense("s1", "x", 5, Activation("Tanh"))
    b.dense("s2", "s1", 4, IDENTITY)
    case = b.case()
    for name in ("s1.b", "s2.b"):
        case.weights[name].zero_()
    case.inputs["x"].mul_(1e-8)
    before, after = (settle(case, free_sweeps=sweeps) for sweeps in (2, 3))
    shares = [(s - before.state[name]).norm(dim=1) / s[0].numel() ** 0.5 for name, s in after.state.items()]
    torch.testing.assert_close(after.residual, torch.stack(shares).amax(0) / 1e-6)
    assert float(after.residual.max()) > 0
