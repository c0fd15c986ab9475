"""Estimators by their names in the settings of a run."""

import sys
from pathlib import Path

import pytest

import ffebm
from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from tests.packages import installed


def named(name: str, beta: float = 0.1, cost: bool = False) -> Gradient:
    return estimator(Training(data="", gradient=name, beta=beta, cost=cost))


def message(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        named(name)
    return str(caught.value)


def test_our_own_take_what_concerns_them() -> None:
    assert named("ep", beta=0.3, cost=True) == ffebm.EP(0.3, cost=True)
    assert (named("implicit"), named("unrolled")) == (ffebm.Implicit(), ffebm.Unrolled())
    assert message("best") == "gradient 'best'; ep, implicit, unrolled"


def test_those_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from ffebm import Implicit
def tight(training):
    return Implicit(tol=training.beta)
def nothing(training):
    return None
NUMBER = 3
"""
    offers = {name: f"plug_estimator:{name}" for name in ("tight", "nothing", "NUMBER", "ep")}
    installed(tmp_path / "target", "plug-estimator", {plugins.ESTIMATORS: offers}, code)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "target"), *sys.path])
    assert named("tight", beta=1e-3) == ffebm.Implicit(tol=1e-3)
    assert named("ep") == ffebm.EP()
    assert message("NUMBER") == "the estimator 'NUMBER' is 3; a function of the settings of a run"
    assert message("nothing") == (
        "the gradient estimator is None; EP(), Implicit(), Unrolled(), or an object of your own with "
        "gradients(free, current)"
    )
    assert message("best") == "gradient 'best'; ep, implicit, unrolled, NUMBER, nothing, tight"
