"""Physics by name, as the compiler and plans ask for them."""

import sys
from pathlib import Path

import pytest

import ffebm
from ffebm import plugins
from ffebm.errors import PlanError, UsageError
from ffebm.graph.admission import admission_of
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
