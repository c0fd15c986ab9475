"""Activations by name, as the compiler and plans ask for them."""

import sys
from pathlib import Path

import pytest
import torch

import ffebm
from ffebm import plugins
from ffebm.errors import UsageError
from tests.models import Builder
from tests.packages import installed

CODE = """
from ffebm.graph.own_ops import OwnActivation
RIGHT = OwnActivation("plug_activation:FORM", alpha=2.0)
BARE = OwnActivation("plug_activation:NUMBER")
NUMBER = 3
def __getattr__(name):
    if name != "FORM":
        raise AttributeError(name)
    from ffebm.runtime.blocks.physics.activation import ActivationForm
    line = lambda a, u: a.alpha * u
    return ActivationForm(line, lambda a: (float("-inf"), float("inf")), lambda a, s: s * s / (2 * a.alpha))
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with a package of activations, right and wrong ones."""
    folder = tmp_path / "target"
    offers = {"Sinh": "RIGHT", "Erf": "BARE", "Cosh": "NUMBER", "Relu": "RIGHT"}
    groups = {plugins.ACTIVATIONS: {op: f"plug_activation:{name}" for op, name in offers.items()}}
    installed(folder, "plug-activation", groups, CODE)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def plan(op: str, activations: list[str]) -> ffebm.Plan:
    b = Builder()
    y = b.node(op, b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3)))
    return ffebm.compile(b.model(y), hardware="ideal", activations=activations)


def message(activations: list[str]) -> str:
    with pytest.raises(UsageError) as caught:
        plan("Relu", activations)
    return str(caught.value)


@pytest.mark.usefixtures("target")
def test_names() -> None:
    assert message(["Relu"]) == "activation 'Relu' is ffebm's own; one that a package offers"
    assert message(["Tan"]) == (
        "no installed package offers 'Tan' in ffebm.activations; installed are: Cosh, Erf, Relu, Sinh"
    )
    assert message(["Cosh"]) == "package plug-activation offers 3 as activation Cosh; an OwnActivation"
    assert message("Sinh") == (  # type: ignore[arg-type] # as a user may
        "activations='Sinh'; a list of names that packages offer"
    )


@pytest.mark.usefixtures("target")
def test_an_installed_one_changes_nothing_by_itself() -> None:
    found = plan("Sinh", [])
    assert (found.blocks[0].layers[0].activation.op, found.packages) == ("Identity", ())


def test_it_runs_with_its_parameters(target: Path) -> None:
    made = plan("Sinh", ["Sinh"])
    assert (made.blocks[0].layers[0].activation.op, made.packages) == ("Sinh", ("plug-activation",))
    made.save(target / "plan")
    x = torch.randn(5, 4)
    expected = 2 * x @ torch.tensor(next(iter(made.weights.values())))
    torch.testing.assert_close(ffebm.Executor(ffebm.load_plan(target / "plan"))(x), expected)


@pytest.mark.usefixtures("target")
def test_its_form_is_checked_when_it_first_runs() -> None:
    with pytest.raises(UsageError) as caught:
        ffebm.Executor(plan("Erf", ["Erf"]))(torch.ones(1, 4))
    assert str(caught.value) == "the form of activation Erf is 3; an ActivationForm"
