"""Physics by name, as the compiler and plans ask for them."""

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from numpy.typing import NDArray

import ffebm
from ffebm import plugins
from ffebm.errors import PlanError, UsageError
from ffebm.graph.admission import admission_of, touched
from ffebm.graph.energy_block import Interaction, Linear, Rearrangement
from tests.models import Builder
from tests.packages import installed

CODE = """
from ffebm.graph.admission import HopfieldAdmission, OwnPhysics
RIGHT = OwnPhysics(HopfieldAdmission(), "plug_physics:Energy")
BARE = OwnPhysics(HopfieldAdmission(), "plug_physics:NUMBER")
NUMBER = 3
def energy():
    from ffebm.runtime.blocks.physics.hopfield import Hopfield
    return Hopfield()
class Energy:
    def __new__(cls):
        return energy()
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a package of physics, right and wrong ones."""
    folder = tmp_path / "target"
    offers = {name.lower(): f"plug_physics:{name}" for name in ("RIGHT", "BARE", "NUMBER")}
    installed(folder, "plug-physics", {plugins.PHYSICS: offers}, CODE)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def plan(physics: str) -> ffebm.Plan:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))
    return ffebm.compile(b.model(y), hardware="ideal", physics=physics)


def message(physics: str) -> str:
    with pytest.raises(UsageError) as caught:
        plan(physics)
    return str(caught.value)


@pytest.mark.usefixtures("target")
def test_names() -> None:
    assert admission_of("right") is admission_of("right")
    assert message("absent") == (
        "there is no physics 'absent'; hopfield, deep-resistive, bare, number, right\n"
        "  hint: a package offers others, as docs/extend.md says"
    )
    assert message("number") == "package plug-physics offers 3 as physics number; an OwnPhysics"
    assert message(None) == (  # type: ignore[arg-type] # as a user may
        "physics=None; a name: a plan says by name what it needs\n"
        "  hint: Executor(plan, physics=…) takes an object"
    )


@pytest.mark.usefixtures("target")
def test_what_runs_is_checked_when_it_first_runs() -> None:
    assert ffebm.Executor(plan("right")).blocks
    with pytest.raises(UsageError) as caught:
        ffebm.Executor(plan("bare"))
    assert str(caught.value) == (
        "the physics is 3, which has no terms, potential, update, slope, bounds, is_holomorphic, constrain; "
        "an object with the methods of Physics"
    )


def test_a_plan_needs_its_physics(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan("right")
    assert (made.options.physics, made.packages) == ("right", ("plug-physics",))
    made.save(target / "plan")
    assert ffebm.load_plan(target / "plan") == made
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(target)])
    with pytest.raises(PlanError) as caught:
        ffebm.load_plan(target / "plan")
    assert str(caught.value) == (
        f"{target / 'plan'}: the plan needs package 'plug-physics', which is not installed here as a plug-in "
        "of ffebm; installed are: none\n"
        "  hint: install it if you trust it; a plan by itself makes no package run"
    )


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros with a one here and there."""
    return (rng.random(shape) < 0.2).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_channels_that_a_convolution_touches(
    op: Literal["Conv", "ConvTranspose"], groups: int, seed: int
) -> None:
    """Against products with ones in both directions by torch, away from the border."""
    rng = np.random.default_rng(seed)
    weight = drawn(rng, (4, 6 // groups, 1, 2) if op == "Conv" else (6, 4 // groups, 1, 2))
    sizes = {"Conv": ((6, 3, 3), (4, 3, 2)), "ConvTranspose": ((6, 3, 2), (4, 3, 3))}[op]
    known = Interaction("z", *sizes, linear=Linear(op, "w", groups=groups))
    source, target = touched(known, {"w": weight})
    down, up = (F.conv2d, F.conv_transpose2d) if op == "Conv" else (F.conv_transpose2d, F.conv2d)
    held = torch.from_numpy(weight)
    above = down(torch.ones(1, *sizes[0]), held, groups=groups)[0] > 0
    below = up(torch.ones(1, *sizes[1]), held, groups=groups)[0] > 0
    assert np.array_equal(target.any((1, 2)), above.numpy().any((1, 2)))
    assert np.array_equal(source.any((1, 2)), below.numpy().any((1, 2)))
    assert all((m == m[:, :1, :1]).all() for m in (source, target))


@pytest.mark.parametrize("transposed", [False, True])
def test_nodes_that_a_matrix_touches_in_another_layout(transposed: bool) -> None:
    """[2, 3] -> turned and flattened -> 4 nodes -> [2, 2]."""
    matrix = np.zeros((6, 4), np.float32)
    matrix[2, 1] = 0.5  # of the turned [3, 2], row 1, column 0
    known = Interaction(
        "z",
        (2, 3),
        (4,),
        before=(Rearrangement("Transpose", (0, 2, 1)), Rearrangement("Reshape", (6,))),
        linear=Linear("MatMul", "w", transposed=transposed),
        after=(Rearrangement("Reshape", (2, 2)),),
    )
    source, target = touched(known, {"w": matrix.T if transposed else matrix})
    assert source.tolist() == [[False, True, False], [False, False, False]]
    assert target.tolist() == [[False, True], [False, False]]
