"""Certificates of small plans, held against closed forms and against each other."""

import math
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP, Implicit
from ffebm.studies.gradcheck.bench import Bench
from ffebm.studies.gradcheck.certificate import BetaPoint, Certificate
from ffebm.studies.gradcheck.check import BETAS, CheckSettings, check, slope
from ffebm.studies.gradcheck.probe import Probe, random
from tests.machines import crossbars
from tests.models import Builder


def model(activation: str = "Tanh") -> onnx.ModelProto:
    b = Builder(seed=1)
    x = b.input("x", "N", 6)
    for n_in, n_out in ((6, 8), (8, 8), (8, 4)):
        x = b.node(activation, b.node("Gemm", x, b.weight(n_in, n_out, gain=0.6), b.weight(n_out, gain=0.3)))
    return b.model(x)


def plan(hardware: str | Hardware = "ideal", block_size: int = 3, **settle: Any) -> Plan:
    return compile_model(model(), hardware=hardware, block_size=block_size, settle=Settle(**settle))


def certificate(made: Plan, samples: int = 4, **effort: Any) -> Certificate:
    gradient = effort.pop("gradient", EP())
    return check(Bench(made, random(made, samples, 0)), CheckSettings(gradient, **effort))


def test_a_smooth_block_has_slope_2_and_curves_that_agree() -> None:
    told: list[tuple[str, int, int]] = []
    made = plan()
    bench = Bench(made, random(made, 4, 0))
    found = check(bench, CheckSettings(EP(0.001)), lambda *what: told.append(what))
    assert found.slope == pytest.approx(2, abs=0.15)
    assert found.worst is not None
    assert found.worst.cosine is not None
    assert found.worst.cosine > 0.9999
    assert [row.weight for row in found.fidelity] == list(made.trainable)
    for row in found.truncations:
        assert row.nudged == pytest.approx(row.unrolled, abs=1e-4)
        assert row.nudged[-1] == pytest.approx(1, abs=1e-2)
    assert {row.settled for row in found.settling} == {1.0}
    assert {row.elsewhere for row in found.settling} == {0.0}
    curve = found.settling[0].curve
    assert [n for n, _ in curve] == [1, 2, 4, 8, 16, 32]
    assert [r for _, r in curve[1:]] == sorted((r for _, r in curve[1:]), reverse=True)
    assert curve[-1][1] < 1e-3 < curve[0][1]
    assert [done for _, done, _ in told] == list(range(1, told[-1][2] + 1))


def test_the_strength_that_was_found_is_said() -> None:
    found = certificate(plan(block_size=1), gradient=EP("auto"), sweeps=False)
    (note,) = (note for note in found.notes if note.startswith("beta"))
    assert note == "beta found from the noise: block0 0.001, block1 0.001, block2 0.001"
    assert not any(note.startswith("beta") for note in certificate(plan(), sweeps=False).notes)


def test_windows_that_only_rounding_decides_are_said() -> None:
    b = Builder(seed=1)
    y = b.node("Sigmoid", b.conv(b.input("x", "N", 1, 8, 8), 1, 2))
    y = b.node("Sigmoid", b.node("MaxPool", b.conv(y, 2, 2), kernel_shape=[2, 2], strides=[2, 2]))
    made = compile_model(b.model(y), hardware="ideal", block_size=2)
    flat = Probe("flat", (torch.zeros(2, 1, 8, 8),))
    found = check(Bench(made, flat), CheckSettings(EP(0.1), sweeps=False))
    # all windows but the four in the corners: along an edge padding is alike
    assert found.settling[0].tied == pytest.approx(12 / 16)
    (note,) = (note for note in found.notes if "rounding" in note)
    assert note.startswith(
        "block0: rounding chooses the winner in 75.0% of the windows of maxima in a feedforward pass, in "
    )
    assert found.settling[0].tied_settled <= found.settling[0].tied
    noisy = Probe("noisy", (torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)),))
    assert check(Bench(made, noisy), CheckSettings(EP(0.1), sweeps=False)).settling[0].tied == 0


def test_machines_are_compared_under_the_same_dropout() -> None:
    b = Builder(seed=1)
    hidden = b.node("Tanh", b.node("Gemm", b.input("x", "N", 6), b.weight(6, 64), b.weight(64)))
    y = b.node("Gemm", b.node("Dropout", hidden, b.constant(0.5)), b.weight(64, 4), b.weight(4))
    made = compile_model(b.model(y), hardware=crossbars(16, 64, 64))
    found = certificate(made, samples=64, gradient=EP(0.1), sweeps=False)
    assert found.worst is not None
    assert found.worst.cosine is not None
    assert found.worst.cosine > 0.98


def test_a_nudge_to_one_side_has_slope_1() -> None:
    assert certificate(plan(), gradient=EP(0.001, points=1)).slope == pytest.approx(1, abs=0.15)


def test_the_exact_adjoint_is_exact() -> None:
    made = plan(free_sweeps=400, tol=1e-12)
    found = certificate(made, gradient=Implicit(), sweeps=False)
    assert found.betas == ()
    assert found.truncations == ()
    assert max(row.error or 0.0 for row in found.fidelity) < 1e-7
    assert all(row.norm == pytest.approx(1, abs=1e-7) for row in found.fidelity)


def test_single_precision_is_told_and_shows() -> None:
    made = plan(free_sweeps=400, nudged_sweeps=200)
    double = certificate(made, gradient=EP(1e-4), sweeps=False)
    single = certificate(made, gradient=EP(1e-4), sweeps=False, single=True)
    assert (double.precision, single.precision) == ("64 bits", "32 bits")
    errors = [max(row.error or 0.0 for row in c.fidelity) for c in (double, single)]
    assert errors[1] > 100 * errors[0]


def test_a_digital_layer_has_no_block_and_zero_gradients_have_no_cosine() -> None:
    b = Builder()
    y = b.node("Relu", b.node("Gemm", b.input("x", "N", 4), b.weight(4, 5, name="w"), b.weight(5, name="b")))
    # the softmax of one unit is constant, so nothing below it has a gradient
    top = b.node("Softmax", b.node("MatMul", y, b.weight(5, 1, name="top")))
    made = compile_model(b.model(top), hardware="ideal")
    found = certificate(made, sweeps=False)
    assert all((row.cosine, row.norm, row.error) == (None, None, None) for row in found.fidelity)
    assert found.worst is None


def test_a_gradient_that_is_lost_has_a_cosine_of_zero_and_a_note() -> None:
    b = Builder(seed=1)
    x, names = b.input("x", "N", 6), [f"w{k}" for k in range(6)]
    for name in names:
        x = b.node("Tanh", b.node("MatMul", x, b.weight(6, 6, gain=0.6, name=name)))
    made = compile_model(b.model(x), hardware="ideal", block_size=6, settle=Settle(nudged_sweeps=2))
    found = certificate(made, sweeps=False)
    cosines = {row.weight: row.cosine for row in found.fidelity}
    assert (cosines["w0"], cosines["w1"]) == (0.0, 0.0)
    assert min(cosines[name] or 0.0 for name in names[2:]) > 0.5
    assert found.worst is not None
    assert found.worst.weight == "w0"
    assert [note for note in found.notes if "zero" in note] == [
        f"the gradient of {name} is zero, the exact one is not: more nudged sweeps, a larger beta"
        for name in names[:2]
    ]
    (row,) = found.settling
    assert row.nudged_residual is not None
    assert row.nudged_residual >= 1.0


def test_converters_that_a_cosine_takes() -> None:
    machine = crossbars(8, 16, 16)
    found = certificate(plan(machine, 2), samples=16, target=0.5, sweeps=False)
    assert found.needs
    best = found.needs[-1]
    assert best.cosine >= 0.5 or best.adc_bits == 14
    assert best.beta in BETAS
    assert [need.adc_bits for need in found.needs] == sorted(need.adc_bits for need in found.needs)
    exact = certificate(plan(), target=0.999, sweeps=False)
    assert [need.adc_bits for need in exact.needs] == [0]
    assert exact.needs[0].cosine > 0.999


def test_noise_shows_in_the_certificate() -> None:
    quiet, loud = (certificate(plan(m, 2), sweeps=False) for m in ("ideal", "reference"))
    assert quiet.worst is not None
    assert loud.worst is not None
    assert (loud.worst.cosine or 0) < (quiet.worst.cosine or 0) - 0.001
    assert loud.hardware == load_hardware("reference").name


def test_samples_that_settle_elsewhere_are_counted() -> None:
    b = Builder(3)
    x = b.input("x", "N", 2)
    rivals = b.constant(np.array([[-3.0, -3.0], [-3.0, -3.0]], np.float32))
    y = b.clip(b.node("Gemm", x, b.weight(2, 2, gain=0.1), b.constant(np.array([0.6, 0.7], np.float32))))
    y = b.clip(b.node("Gemm", y, rivals, b.constant(np.array([1.0, 0.9], np.float32))))
    made = compile_model(b.model(y), hardware="ideal", block_size=2)
    found = check(Bench(made, random(made, 4, 0)), CheckSettings(EP(0.1), sweeps=False))
    (row,) = found.settling
    assert (row.elsewhere, row.together, row.unknown) == (0.0, 1.0, 0.0)
    assert any("100% when all layers move together" in note for note in found.notes)


def test_the_slope_is_that_of_the_points_above_the_floor() -> None:
    points = [BetaPoint(beta=b, error=max(1e-6, b**3), cosine=1.0, errors={}) for b in (0.5, 0.2, 0.1, 0.01)]
    assert slope(points) == pytest.approx(3)
    assert slope(points[:1]) is None


@pytest.mark.parametrize("target", [0.0, 1.0, math.nan])
def test_a_target_is_a_cosine(target: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        CheckSettings(EP(), target=target)


def test_a_plan_without_blocks_has_no_certificate() -> None:
    b = Builder()
    made = compile_model(b.model(b.node("Relu", b.input("x", "N", 3))), hardware="ideal")
    with pytest.raises(UsageError) as caught:
        certificate(made)
    assert "0 energy blocks and 0 weights that train; at least one of each" in str(caught.value)


def test_integers_cannot_be_drawn() -> None:
    b = Builder()
    table = b.weight(7, 3)
    ids = b.input("ids", "N", 2, dtype=onnx.TensorProto.INT64)
    made = compile_model(b.model(b.node("Gather", table, ids)), hardware="ideal")
    with pytest.raises(UsageError, match="give samples with --data or --input"):
        random(made, 4, 0)


def test_the_made_up_loss_has_a_closed_form() -> None:
    s = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
    cosines = np.cos(np.arange(2.0) ** 2)
    expected = np.mean((cosines * s.numpy() + 0.5 * s.numpy() ** 2).sum(1)) / 2
    found = Probe("x", (s,)).loss(s, s)
    assert float(found) == pytest.approx(expected)


def test_a_block_that_runs_away_has_no_certificate() -> None:
    b = Builder(seed=1)
    x = b.input("x", "N", 6)
    for name in ("first", "second"):
        x = b.node("Relu", b.node("MatMul", x, b.constant(np.full((6, 6), 3.0, np.float32), name)))
    made = compile_model(b.model(x), hardware="ideal", block_size=2)
    with pytest.raises(UsageError) as caught:
        certificate(made)
    assert "a gradient that is not finite; blocks that settle\n  hint: compile with" in str(caught.value)
