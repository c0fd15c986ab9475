"""Blocks that move as circuits: closed forms, a matrix exponential, what the bill simulates, and the end."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.errors import NotSettledError, UsageError
from ffebm.hardware.description import load_hardware
from ffebm.mapping.circuit.dynamics import Dynamics
from ffebm.mapping.circuit.equations import nudges, output_shapes, seeded_currents, seeded_inputs
from ffebm.mapping.circuit.moving import as_circuit
from ffebm.mapping.circuit.needs import SAMPLES, STEPS, equations_of
from ffebm.plan.plan import Plan
from ffebm.runtime.blocks import circuit_time
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.circuit_time import CircuitTime
from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.physics.hopfield import Hopfield
from ffebm.runtime.blocks.settling.settling import Outcome
from ffebm.runtime.executor import Executor
from tests.exporters.spice.models import conv_plan, dense_plan, lasting


def exact(plan: Plan, *, circuit: bool = True) -> Executor:
    """The plan without errors of its tiles, in 64 bits."""
    settle = (
        as_circuit(plan.settle)
        if circuit
        else replace(plan.settle, free_sweeps=3000, nudged_sweeps=3000, tol=1e-12)
    )
    return Executor(plan, settle, tiles=dict.fromkeys(plan.groups_of_weights())).double()


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def states(net: Executor, x: Tensor) -> dict[str, Tensor]:
    """Where the first block is at the end of an inference."""
    net.notices.enabled = False  # cut short, it still moves
    with torch.no_grad():
        net(x)
    return net.equilibria[0].state


def linear() -> Plan:
    return dense_plan([4, 3], [""])


def test_one_neuron_charges_exponentially() -> None:
    plan = linear()
    x = uniform(2, 4)
    (end,) = states(exact(plan, circuit=False), x).values()
    for count in (0.3, 2.0):
        (found,) = states(exact(lasting(plan, count, amplifier=False)), x).values()
        torch.testing.assert_close(found, end * (1 - np.exp(-count)), rtol=1e-12, atol=1e-14)


def test_the_lag_of_a_virtual_ground_is_a_second_pole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_time, "STEPS", 4000)
    plan = lasting(linear(), 0.4)
    group = plan.hardware.analog[0]
    weights = {name: torch.tensor(w) for name, w in plan.weights.items()}
    part = CircuitTime(plan.blocks[0], group).follow(weights, 1e-12)[0, False]
    lag = -1e-12 / torch.log1p(-part.double()) / 10e-9  # in time constants of the neuron
    assert float(lag.min()) > 0.01
    x = uniform(2, 4)
    (end,) = states(exact(plan, circuit=False), x).values()
    (biased,) = states(exact(plan, circuit=False), 0 * x).values()  # a bias is a current, and has no lag
    charged = 1 - (np.exp(-0.4) - lag * torch.exp(-0.4 / lag)) / (1 - lag)
    (found,) = states(exact(plan), x).values()
    expected = biased * (1 - np.exp(-0.4)) + (end - biased) * charged
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_linear_layers_follow_the_matrix_exponential(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = lasting(dense_plan([4, 3, 2], ["", ""], gain=0.7), 1.5, amplifier=False)
    first, second = (interaction.linear for _, interaction in plan.blocks[0].interactions())
    assert first is not None
    assert second is not None
    w1, w2 = (plan.weights[linear.weight].astype(np.float64) for linear in (first, second))
    w1, w2 = (w.T if linear.transposed else w for w, linear in zip((w1, w2), (first, second), strict=True))
    x = np.random.default_rng(0).random((1, 4))
    rest = states(exact(plan, circuit=False), torch.zeros(1, 4, dtype=torch.float64))
    matrix = np.block([[-np.eye(3), w2], [w2.T, -np.eye(2)]])
    # where nothing is driven the biases alone hold the layers
    bias = -np.concatenate([s.numpy()[0] for s in rest.values()]) @ matrix
    drive = bias + np.concatenate([x[0] @ w1, np.zeros(2)])
    expected = np.linalg.solve(
        matrix, (torch.linalg.matrix_exp(torch.from_numpy(1.5 * matrix)).numpy() - np.eye(5)) @ drive
    )
    errors = []
    for steps in (100, 200):
        monkeypatch.setattr(circuit_time, "STEPS", steps)
        found = states(exact(plan), torch.from_numpy(x))
        errors.append(np.abs(np.concatenate([s.numpy()[0] for s in found.values()]) - expected).max())
    assert errors[1] < 2e-3
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.05)  # of first order in the step


class _Kept:
    """Equilibrium propagation that keeps its nudged states."""

    def __init__(self) -> None:
        self.states: list[list[Tensor]] = []

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        nudged = EP(beta=0.1, relative=True).nudge(free, current)
        self.states = nudged.states()
        return nudged.gradients(free), nudged.outcome


CHAIN = partial(dense_plan, [6, 5, 4, 3], ["Clip", "Tanh", ""])


@pytest.mark.parametrize("make", [CHAIN, conv_plan])
def test_a_circuit_goes_where_the_bill_has_seen_it_go(make: Callable[[], Plan]) -> None:
    plan = lasting(make(), 5.0)
    block, group = plan.blocks[0], plan.hardware.analog[0]
    assert group.relaxation is not None
    equations = equations_of(block, plan.weights, group.tile.crossbar())
    dynamics = Dynamics(equations, group.relaxation, group.relaxation.amplifier, STEPS)
    inputs, currents = seeded_inputs(equations.inputs, 2), seeded_currents(output_shapes(block), 2)
    courses = dynamics.relax(inputs, nudges(currents, 0.1), still=0.0, most=5)

    kept = _Kept()
    weights = {name: torch.tensor(plan.weights[name]).double() for name in block.weights()}
    for name, weight in weights.items():
        weight.copy_(_on_levels(plan, name, weight))
        weight.requires_grad_()
    runtime = BlockRuntime(block, time=CircuitTime(block, group))
    clamped = {name: torch.from_numpy(x) for name, x in inputs.items()}
    outputs, free = runtime.run(clamped, weights, as_circuit(plan.settle), kept)
    torch.autograd.backward(list(outputs.values()), [torch.from_numpy(currents[name]) for name in outputs])
    phases = [list(free.state.values()), *kept.states]
    for sample in range(2):
        for course, found in zip(courses[sample], phases, strict=True):
            flat = torch.cat([s[sample].flatten() for s in found])
            np.testing.assert_allclose(flat.numpy(), course.states[-1], rtol=1e-6, atol=1e-7)


def _on_levels(plan: Plan, name: str, weight: Tensor) -> Tensor:
    """A weight as the bill takes it: rounded to the levels of its cells."""
    from ffebm.plan.conductance import from_matrix, range_scale, to_levels, to_matrix, weight_range

    linear = next(
        (i.linear for _, i in plan.blocks[0].interactions() if i.linear and i.linear.weight == name), None
    )
    if linear is None:
        return weight
    tile = plan.tile_of(name).crossbar()
    matrix = to_matrix(linear, plan.weights[name]).astype(np.float64)
    limit = weight_range(matrix, tile, matrix.shape[-1])
    held = to_levels(matrix, limit, tile) / tile.top_level * range_scale(limit, tile)
    return torch.from_numpy(from_matrix(linear, held, tuple(weight.shape)))


@pytest.mark.parametrize("make", [CHAIN, conv_plan])
def test_given_time_a_circuit_ends_where_sweeps_do(make: Callable[[], Plan]) -> None:
    plan = make()
    shape = plan.blocks[0].layers[0].interactions[0].source_shape
    (drawn,) = seeded_inputs({"x": shape}, SAMPLES).values()  # as the bill has drawn them
    x = torch.from_numpy(drawn)
    expected = states(exact(plan, circuit=False), x)
    for name, found in states(exact(lasting(plan, 150.0)), x).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-6, atol=1e-8)
    net = exact(plan)
    billed, target = (_flat(found) for found in (states(net, x), expected))
    assert bool(((billed - target).norm(dim=1) < 0.01 * target.norm(dim=1)).all())
    assert bool(net.equilibria[0].converged.all())
    assert "steps up to" in str(net.equilibria[0])


def _flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([s.flatten(1) for s in found.values()], 1)


@pytest.mark.parametrize("points", [1, 2])
def test_gradients_of_a_circuit_are_those_of_settled_states(points: int) -> None:
    plan = CHAIN()
    x, target = uniform(4, 6), uniform(4, 3)
    found = []
    for circuit in (True, False):
        net = exact(plan, circuit=circuit)
        net.notices.enabled = False
        net.gradient = EP(beta=0.1, points=points, relative=True)  # what the bill makes long enough
        net.loss(x, target, torch.nn.functional.mse_loss).backward()  # type: ignore[no-untyped-call]
        back = net.equilibria[0].backward
        assert back is not None
        assert not circuit or bool(back.converged.all())
        found.append({name: w.grad.flatten() for name, w in net.weights().items() if w.grad is not None})
    for name, settled in found[1].items():
        cosine = torch.nn.functional.cosine_similarity(found[0][name], settled, dim=0)
        assert float(cosine) > 0.999, name


def test_an_inference_is_read_out_before_a_training_step_is_nudged() -> None:
    plan = CHAIN()
    relaxed = plan.blocks[0].relaxed
    assert relaxed is not None
    net, x = exact(plan), uniform(1, 6)
    states(net, x)
    assert int(net.equilibria[0].sweeps) == np.ceil(STEPS * relaxed.lasting("free"))
    net.loss(x, torch.zeros(1, 3), torch.nn.functional.mse_loss).backward()  # type: ignore[no-untyped-call]
    free = net.equilibria[0]
    assert free.backward is not None
    assert int(free.sweeps) == np.ceil(STEPS * relaxed.lasting("before nudge"))
    assert int(free.backward.sweeps) == np.ceil(STEPS * relaxed.lasting("nudged"))


def test_a_circuit_meets_the_errors_of_its_tiles() -> None:
    plan = lasting(dense_plan([6, 5, 3], ["Clip", ""]), 2.0)
    x, target = uniform(4, 6).float(), uniform(4, 3).float()
    found = []
    for seed in (0, 0, 1):
        net = Executor(plan, as_circuit(plan.settle), seed=seed)
        net.notices.enabled = False
        net.loss(x, target, torch.nn.functional.mse_loss).backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([w.grad.flatten() for w in net.weights().values() if w.grad is not None]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert bool(found[0].isfinite().all())


def test_a_circuit_that_still_moves_is_said_to() -> None:
    plan = lasting(CHAIN(), 0.5)
    net = Executor(plan, replace(as_circuit(plan.settle), strict=True))
    with pytest.raises(NotSettledError, match="4 of 4 samples still move at the end of their time"):
        net(uniform(4, 6).float())


@pytest.mark.parametrize("gradient", [EP(cost=True), EP(points=4)])
def test_a_circuit_is_nudged_by_a_constant_current(gradient: EP) -> None:
    net = exact(dense_plan([6, 5, 3], ["Tanh", ""]))
    net.gradient = gradient
    loss = net.loss(uniform(1, 6), torch.zeros(1, 3), torch.nn.functional.mse_loss)
    with pytest.raises(UsageError, match="settles by itself and cannot be nudged by"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_a_physics_of_ones_own_is_no_circuit() -> None:
    plan = CHAIN()
    physics = Hopfield()
    with pytest.raises(UsageError, match="settling='circuit' with a physics of one's own"):
        Executor(plan, as_circuit(plan.settle), physics=physics)


def test_other_machines_have_no_circuits() -> None:
    plan = replace(CHAIN(), hardware=load_hardware("reference"))
    with pytest.raises(UsageError, match="it settles by clocked reads on 'tiles' of machine 'reference'"):
        Executor(plan, as_circuit(plan.settle))
