"""Schedules of the learning rate: those of torch, and what each takes."""

from collections.abc import Callable

import pytest
import torch
from msgspec.structs import replace
from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_s

from ffebm.errors import UsageError
from ffebm.training.optimization.rates import TAKES, Rates, checked_schedule
from ffebm.training.settings import Training

SETTINGS = Training(data="made up", lr=0.1, epochs=6)


def optimizer() -> Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=SETTINGS.lr)


CASES: dict[str, tuple[dict[str, object], Callable[[Optimizer], torch_s.LRScheduler]]] = {
    "cosine": ({"min_lr": 0.01}, lambda o: torch_s.CosineAnnealingLR(o, 6, 0.01)),
    "step": ({"drop_every": 2, "drop_factor": 0.5}, lambda o: torch_s.StepLR(o, 2, 0.5)),
    "multistep": ({"milestones": (1, 4)}, lambda o: torch_s.MultiStepLR(o, [1, 4], 0.1)),
    "exponential": ({"drop_factor": 0.9}, lambda o: torch_s.ExponentialLR(o, 0.9)),
    "linear": ({"min_lr": 0.02}, lambda o: torch_s.LinearLR(o, 1.0, 0.2, 6)),
    "onecycle": ({}, lambda o: torch_s.OneCycleLR(o, 0.1, total_steps=6, cycle_momentum=False)),
}


def rates_of(training: Training, figures: list[float], steps: int = 1, replayed: int = 0) -> list[float]:
    """The rate of each epoch, the first ones replayed."""
    made = optimizer()
    rates = Rates(training, made, steps)
    rates.replay(figures[:replayed])
    found = []
    for figure in figures[replayed:]:
        found.append(made.param_groups[0]["lr"])
        for _ in range(steps):
            made.step()
            rates.stepped()
        rates.ended(figure)
    return found


@pytest.mark.parametrize("kind", CASES)
def test_schedules_are_torch_s(kind: str) -> None:
    settings, make = CASES[kind]
    training = replace(SETTINGS, schedule=kind, **settings)
    checked_schedule(training)
    made = optimizer()
    theirs = make(made)
    expected = []
    for _ in range(6):
        expected.append(made.param_groups[0]["lr"])
        made.step()
        theirs.step()
    found = rates_of(training, [0.0] * 6)
    assert found == expected
    assert len(set(found)) > 1
    assert rates_of(training, [0.0] * 6, replayed=2) == expected[2:]


def test_a_plateau_waits_for_a_better_figure() -> None:
    training = replace(SETTINGS, schedule="plateau", drop_every=1, drop_factor=0.5, min_lr=0.03)
    figures = [0.5, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7]
    expected = [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.03]
    found = rates_of(training, figures)
    assert found == pytest.approx(expected)
    assert rates_of(training, figures, replayed=4) == found[4:]
    assert rates_of(training, [-f for f in figures])[-1] == pytest.approx(0.03)  # losses count as less


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_steps_and_a_warm_up(kind: str) -> None:
    training = replace(SETTINGS, schedule=kind, schedule_by="steps", warmup=10)
    found = rates_of(training, [0.0] * 6, steps=5)
    assert found[0] == pytest.approx(0.001)
    assert found[1] == pytest.approx(0.1 * (0.01 + 0.99 * 5 / 10))
    assert found[2] == pytest.approx(0.1)
    assert (found[5] < 0.099) == (kind == "cosine")
    assert rates_of(training, [0.0] * 6, steps=5, replayed=3) == found[3:]


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "unknown": ({"schedule": "x"}, f"schedule 'x'; {', '.join(TAKES)}"),
    "by": ({"schedule_by": "days"}, "schedule_by 'days'; epochs or steps"),
    "constant by steps": (
        {"schedule_by": "steps"},
        "schedule 'constant' by steps; by epochs\n  hint: leave --schedule-by out",
    ),
    "step without": ({"schedule": "step"}, "schedule 'step' without --drop-every\n  hint: give --drop-every"),
    "not taken": (
        {"schedule": "cosine", "milestones": (3,)},
        "milestones is (3,) with schedule 'cosine'\n"
        "  hint: leave --milestones out, or choose --schedule multistep",
    ),
    "milestones": (
        {"schedule": "multistep", "milestones": (3, 2)},
        "milestones are [3, 2]; numbers from 1 up, each above the last",
    ),
    "factor": (
        {"schedule": "exponential", "drop_factor": 2.0},
        "drop_factor is 2.0; above 0, at most 1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_schedule_does_not_take(case: str) -> None:
    settings, expected = WRONG[case]
    with pytest.raises(UsageError) as caught:
        checked_schedule(replace(SETTINGS, **settings))
    assert str(caught.value) == expected


def test_a_warm_up_as_long_as_the_run() -> None:
    with pytest.raises(UsageError) as caught:
        Rates(replace(SETTINGS, schedule="cosine", warmup=6), optimizer(), 5)
    assert str(caught.value) == "warmup is 6 of 6 epochs; less than the run"
