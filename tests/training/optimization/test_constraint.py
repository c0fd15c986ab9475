"""What weights are held to after each step of the optimiser."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from ffebm import Executor, Plan, Settle
from ffebm import compile as compile_plan
from ffebm.errors import PlanError, UsageError
from ffebm.files.folder import read_folder, write_folder
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.runtime.blocks.physics.deep_resistive import LEAST, DeepResistive
from ffebm.training.data import Data
from ffebm.training.estimator import estimator
from ffebm.training.optimization.constraint import LargestNorm, couplings
from ffebm.training.runs.record import RECORD
from ffebm.training.settings import Training, held_norm
from ffebm.training.trainer import Trainer
from tests.models import Builder
from tests.training.runs.test_resuming import FIT, MEND, on_arrays
from tests.training.test_trainer import REMEDIES, TRAINING, final, in_place, samples, tiny

MACHINES = (
    "ideal",
    "hermes",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("reference", "isaac")),
)
HELD = replace(TRAINING, hold_norm=0.5, lr=0.03)


def spectral(weight: Tensor) -> float:
    """The largest singular value of [out, in x window]."""
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


def trained(plan: Plan, training: Training, folder: Path | None = None) -> Trainer:
    trainer = Trainer(Executor(plan, gradient=estimator(training)), samples(), training, folder)
    list(trainer.run())
    return trainer


@pytest.mark.parametrize("hardware", MACHINES)
def test_couplings_inside_a_block_stay_below_the_norm(hardware: str) -> None:
    before = Executor(tiny(hardware))
    held = trained(before.plan, HELD).net
    assert [linear.weight for linear in couplings(held.plan)] == ["c10"]
    assert spectral(before.weights()["c10"]) > 1.0
    assert spectral(held.weights()["c10"]) == pytest.approx(0.5, rel=0.01)
    for name in ("c0", "c7"):  # fed by what is clamped
        assert spectral(held.weights()[name]) > 1.0


@pytest.mark.parametrize(("slopes", "feedback"), [(0.25, 1.0), (1.0, 0.25)])
def test_couplings_are_held_as_their_layers_feel_them(slopes: float, feedback: float) -> None:
    """Between slopes of 0.25 and 1, or with a feedback of 0.25, a map may be twice as strong."""
    recipe = RECIPES["splitting-small-2"].with_feedback(slopes)
    plan = compile_plan(
        recipe.model(0.01, "fashion-mnist", 0),
        hardware="ideal",
        block_size=recipe.block_size,
        boundary=recipe.boundary,
        digital=recipe.digital,
        feedback=feedback,
    )
    net = Executor(plan)
    with torch.no_grad():
        for linear in couplings(plan):
            net.weights()[linear.weight].mul_(100)
    constraint = LargestNorm(0.3, list(couplings(plan)), net)
    constraint.apply()
    for linear in couplings(plan):
        assert spectral(net.weights()[linear.weight]) == pytest.approx(0.6, rel=0.01)


def test_weights_that_are_named_stay_below_the_norm() -> None:
    trainer = trained(tiny("ideal"), replace(HELD, hold_norm=(0.4, "c*"), lr=0.01))
    assert [str(constraint) for constraint in trainer.constraints] == ["largest norm 0.4: c0, c7, c10", ""]
    for name in ("c0", "c7", "c10"):
        assert spectral(trainer.net.weights()[name]) <= 0.4 * 1.01


def test_what_is_below_the_norm_is_left_alone() -> None:
    free, held = (trained(tiny("ideal"), replace(HELD, hold_norm=norm)) for norm in (None, (100.0, "*")))
    assert all(torch.equal(tensor, final(held)[name]) for name, tensor in final(free).items())


def test_frozen_weights_are_not_scaled() -> None:
    before = Executor(tiny("ideal")).weights()["c10"]
    trainer = trained(tiny("ideal"), replace(HELD, hold_norm=(0.4, "*"), freeze=("c10",)))
    assert spectral(before) > 0.4
    assert torch.equal(trainer.net.weights()["c10"], before)


@pytest.mark.parametrize(
    ("layer", "x", "matrices"),
    [
        (nn.Conv2d(6, 6, 3, groups=3), torch.zeros(2, 6, 5, 5), lambda w: w.reshape(3, 2, -1)),
        (nn.Linear(4, 5), torch.zeros(2, 4), lambda w: w),
        (nn.ConvTranspose2d(4, 5, 3), torch.zeros(2, 4, 5, 5), lambda w: w.flatten(1)),
    ],
)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_norm_is_the_largest_singular_value(
    layer: nn.Module, x: Tensor, matrices: Callable[[Tensor], Tensor], size: float
) -> None:
    """Of the groups of a convolution the largest; also where squares leave the numbers of the type."""
    net = Executor(compile_plan(nn.Sequential(layer).eval(), (x,), hardware="ideal"))
    (linear,) = (i.linear for block in net.plan.blocks for _, i in block.interactions())
    assert linear is not None
    held = net.weights()[linear.weight]
    torch.manual_seed(0)
    with torch.no_grad():
        held.normal_().mul_(size)
    expected = torch.linalg.matrix_norm(matrices(held.detach().double()), 2).max()
    constraint = LargestNorm(0.3 * size, [linear], net)
    assert constraint.norms()[linear.weight] == pytest.approx(float(expected), rel=1e-3)
    constraint.apply()
    assert constraint.norms()[linear.weight] == pytest.approx(0.3 * size, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_zeros_and_what_is_not_finite_stay(value: float) -> None:
    net = Executor(tiny("ideal"))
    held = net.weights()["c10"]
    constraint = LargestNorm(0.1, list(couplings(net.plan)), net)
    with torch.no_grad():
        held.fill_(value)
    constraint.apply()
    torch.testing.assert_close(held.detach(), torch.full_like(held, value), rtol=0, atol=0, equal_nan=True)
    with torch.no_grad():
        held.fill_(1.0)
    constraint.apply()  # the vector has not been lost
    assert spectral(held) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.filterwarnings("ignore::ffebm.errors.SmallStepWarning")
@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_run_with_remaps_resumes_with_the_same_bits(tmp_path: Path, remedy: str) -> None:
    plan = tiny(in_place(REMEDIES[remedy]))
    training = replace(TRAINING, remap=7, epochs=3, lr=0.05)  # five steps an epoch
    whole = trained(plan, training)
    assert str(whole.constraints[0]) == (
        "cells are written anew after every 7 steps, in ranges that follow the weights"
    )
    part = Trainer(Executor(plan), samples(), training, tmp_path / "run")
    next(part.run())
    resumed = Trainer(Executor(plan), samples(), training, tmp_path / "run")
    resumed.resume()
    list(resumed.run())
    assert all(torch.equal(tensor, final(resumed)[name]) for name, tensor in final(whole).items())
    ours, theirs = resumed.net.machine.cells(), whole.net.machine.cells()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    before = trained(plan, replace(training, remap=None)).net.machine.cells()
    scales = [name for name in theirs if name.endswith("scale")]
    assert scales
    assert any(not torch.equal(before[name], theirs[name]) for name in scales)


@pytest.mark.parametrize("hardware", ["ideal", "hermes"])
def test_a_held_run_resumes_with_the_same_bits(tmp_path: Path, hardware: str) -> None:
    plan = tiny(hardware)
    whole = trained(plan, HELD)
    part = Trainer(Executor(plan), samples(), HELD, tmp_path / "run")
    next(part.run())
    resumed = Trainer(Executor(plan), samples(), HELD, tmp_path / "run")
    resumed.resume()
    list(resumed.run())
    assert all(torch.equal(tensor, final(resumed)[name]) for name, tensor in final(whole).items())
    ours, theirs = (trainer.constraints[0].state() for trainer in (resumed, whole))
    assert [*ours] == ["norm/c10"]
    assert torch.equal(ours["norm/c10"], theirs["norm/c10"])


def test_a_checkpoint_without_the_vectors_is_refused(tmp_path: Path) -> None:
    next(Trainer(Executor(tiny("ideal")), samples(), HELD, tmp_path / "run").run())
    files = read_folder(tmp_path / "run", RECORD)
    on_arrays(lambda a: a.pop("constraints/norm/c10"))(files)
    write_folder(tmp_path / "run", files, RECORD)
    with pytest.raises(PlanError) as caught:
        Trainer(Executor(tiny("ideal")), samples(), HELD, tmp_path / "run").resume()
    assert str(caught.value) == f"{tmp_path / 'run'}: {FIT}constraint 'norm/c10' is missing{MEND}"


def test_cells_that_learn_in_place_hold_bounds_of_their_own() -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny(in_place(None))), samples(), HELD)
    assert str(caught.value) == (
        "'c10' cannot be held to a norm: it lies on cells that learn in place; "
        "weights with a digital master copy\n"
        "  hint: such cells have bounds of their own: leave hold_norm out"
    )


def test_ranges_that_follow_at_every_step_are_not_remapped() -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny("reference")), samples(), replace(TRAINING, remap=5))
    assert str(caught.value) == (
        "--remap on a machine whose cells do not learn in place\n"
        "  hint: leave it out: their ranges follow the weights at every step"
    )
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny(in_place(None))), samples(), replace(TRAINING, remap=0))
    assert str(caught.value) == "remap is 0; at least 1\n  hint: leave it out"
    with pytest.raises(UsageError) as caught:
        Executor(tiny("reference")).remap()
    assert str(caught.value) == (
        "no cells learn in place, so none are remapped\n"
        "  hint: the ranges of others follow their weights whenever these are programmed"
    )


NAMED = "\n  hint: the norm may be followed by a name: --hold-norm 0.8,NAME, where * stands for anything"


@pytest.mark.parametrize(
    ("hold", "block_size", "message"),
    [
        (0.0, 2, "hold_norm is 0.0; a finite number above 0\n  hint: leave it out"),
        (float("inf"), 2, "hold_norm is inf; a finite number above 0\n  hint: leave it out"),
        ((-1.0, "c10"), 2, "hold_norm is -1.0; a finite number above 0\n  hint: leave it out"),
        (
            0.8,
            1,
            "no weight that trains joins two free layers of a block, so none is held; c0, c7, c10" + NAMED,
        ),
        (
            (0.8, "c1"),
            2,
            "no weight that trains in an energy block is called 'c1', so none is held; c0, c7, c10" + NAMED,
        ),
    ],
)
def test_what_cannot_be_held(hold: float | tuple[float, str], block_size: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Trainer(Executor(tiny("ideal", block_size)), samples(), replace(HELD, hold_norm=hold))
    assert str(caught.value) == message


def test_a_norm_as_a_user_writes_it() -> None:
    assert held_norm("0.8") == 0.8
    assert held_norm("2,layer1.*") == (2.0, "layer1.*")
    assert held_norm("2,a,b") == (2.0, "a,b")
    for text in ("much", "0.8,", ",a", "nan", "0", "-1", "inf", "-0.5,a"):
        with pytest.raises(UsageError) as caught:
            held_norm(text)
        assert str(caught.value) == (
            f"hold_norm is {text}; a finite number above 0, or one and a name: 0.8,layer1.*"
        )


def test_the_couplings_of_a_recipe() -> None:
    """A block of n layers has n - 1 of them: its first linear map is digital."""
    for size in (6, 3, 2):
        recipe = RECIPES[SPLITTING_SMALL[size]]
        model = recipe.network.narrowed(1 / 16).model(10)
        plan = compile_plan(model, hardware="ideal", block_size=recipe.block_size, boundary=recipe.boundary)
        found = [linear.weight for linear in couplings(plan)]
        assert found == [f"layer{i}.weight" for i in range(6) if i % size]


# --- what can be built -------------------------------------------------------------------------------


def resistive_plan() -> Plan:
    """Doubled inputs, a layer of either sign, a linear output; some conductances near the least."""
    b = Builder()
    x = b.input("x", "N", 8)

    def conductances(*shape: int) -> str:
        return b.constant(b.rng.uniform(0.001, 0.2, shape).astype(np.float32))

    up, down, above, below = (conductances(*shape) for shape in ((8, 6), (8, 6), (6, 3), (6, 3)))
    plus = b.node("Relu", b.node("MatMul", x, up))
    minus = b.node("Clip", b.node("MatMul", x, down), "", b.constant(0.0))
    y = b.node("Add", b.node("MatMul", plus, above), b.node("MatMul", minus, below))
    return compile_plan(b.model(y), hardware="ideal", block_size=3, settle=Settle(free_sweeps=20))


def test_weights_stay_where_circuits_can_be_built() -> None:
    plan = resistive_plan()
    assert [len(block.layers) for block in plan.blocks] == [1, 2]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 4, generator=generator)
    x = torch.cat([x, -x], 1)
    y = x[:, :3].argmax(1)
    data = Data("doubled", x, y, x, y)
    training = replace(TRAINING, lr=0.05, epochs=3)
    net = Executor(plan, gradient=estimator(training), physics=DeepResistive())
    trainer = Trainer(net, data, training)
    epochs = list(trainer.run())
    smallest = {name: float(weight.detach().min()) for name, weight in net.weights().items()}
    assert all(value >= LEAST for value in smallest.values())
    assert min(smallest.values()) == pytest.approx(LEAST)  # some were put back
    assert epochs[-1].loss < epochs[0].loss

    free = Trainer(Executor(plan, gradient=estimator(training), physics=DeepResistive()), data, training)
    free.constraints = ()
    with pytest.raises(UsageError, match="has conductances down to -"):
        list(free.run())


def test_a_network_keeps_its_physics() -> None:
    plan = resistive_plan()
    x = torch.rand(4, 8)
    net = Executor(plan, physics=DeepResistive())
    found = net(x)
    assert not torch.equal(found, Executor(plan)(x))
    net.reseed(1)
    assert torch.equal(net(x), found)
    for other in (net.unprogrammed(), copy.deepcopy(net)):
        assert torch.equal(other(x), found)
