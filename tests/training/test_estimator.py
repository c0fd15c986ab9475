"""Estimators by their names in the settings of a run."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import ffebm
from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.settling.settling import Outcome
from ffebm.training.estimator import as_known_to, estimator, recorded
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


@dataclass(frozen=True)
class OwnEstimator:
    """One with a field that JSON has, and one that it has not."""

    rounds: int = 3
    shape: object = complex(1, 2)

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        raise NotImplementedError


class Loose:
    """An estimator that is no dataclass."""

    def __repr__(self) -> str:
        return "Loose()"

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        raise NotImplementedError


def test_what_a_record_holds_of_an_estimator() -> None:
    ep = {"type": "EP", "beta": "auto", "points": 1, "cost": False, "relative": None}
    assert recorded(ffebm.EP("auto", 1)) == ep
    assert recorded(OwnEstimator()) == {"type": "OwnEstimator", "rounds": 3, "shape": "(1+2j)"}
    assert recorded(Loose()) == {"type": "Loose", "repr": "Loose()"}


def test_fields_that_came_later_stand_at_their_defaults() -> None:
    before = {"type": "OwnEstimator", "shape": "(1+2j)"}
    assert as_known_to(before, OwnEstimator()) == before
    assert as_known_to(before, OwnEstimator(rounds=4)) == {**before, "rounds": 4}
    assert as_known_to(recorded(Loose()), Loose()) == recorded(Loose())
