"""The learning rate over a run, by the schedules of torch."""

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from ffebm.errors import UsageError
from ffebm.training.settings import Training

TAKES: dict[str, tuple[str, ...]] = {
    "constant": ("warmup",),
    "cosine": ("warmup", "min_lr"),
    "step": ("warmup", "drop_every", "drop_factor"),
    "multistep": ("warmup", "milestones", "drop_factor"),
    "exponential": ("warmup", "drop_factor"),
    "linear": ("warmup", "min_lr"),
    "onecycle": (),
    "plateau": ("drop_every", "drop_factor", "min_lr"),
}
"""The schedules, with the settings that each takes."""
NEEDS: dict[str, tuple[str, ...]] = {
    "step": ("drop_every",),
    "multistep": ("milestones",),
    "exponential": ("drop_factor",),
}
TO_THE_END = ("cosine", "linear", "onecycle")
"""Schedules that depend on how long the run is."""
SMALL = 0.01
"""What a warm-up starts with, of the rate."""


def checked_schedule(training: Training) -> None:
    """Refuse settings that the schedule does not take, or lacks.

    Raises:
        UsageError: If there are any.
    """
    kind = training.schedule
    if kind not in TAKES:
        raise UsageError(f"schedule {kind!r}", allowed=", ".join(TAKES))
    if training.schedule_by not in {"epochs", "steps"}:
        raise UsageError(f"schedule_by {training.schedule_by!r}", allowed="epochs or steps")
    if training.schedule_by == "steps" and (
        kind == "plateau" or (kind == "constant" and not training.warmup)
    ):
        raise UsageError(f"schedule {kind!r} by steps", allowed="by epochs", hint="leave --schedule-by out")
    for name in ("warmup", "min_lr", "drop_every", "milestones", "drop_factor"):
        value = getattr(training, name)
        option = f"--{name.replace('_', '-')}"
        if value and name not in TAKES[kind]:
            others = ", ".join(other for other, taken in TAKES.items() if name in taken)
            raise UsageError(
                f"{name} is {value} with schedule {kind!r}",
                hint=f"leave {option} out, or choose --schedule {others}",
            )
        if not value and name in NEEDS.get(kind, ()):
            raise UsageError(f"schedule {kind!r} without {option}", hint=f"give {option}")
    _check_numbers(training)


def _check_numbers(training: Training) -> None:
    if not 0 <= training.min_lr <= training.lr:
        raise UsageError(f"min_lr is {training.min_lr}", allowed=f"from 0 to lr, {training.lr:g}")
    if training.warmup < 0:
        raise UsageError(f"warmup is {training.warmup}", allowed="0 or more")
    if training.drop_every is not None and training.drop_every < 1:
        raise UsageError(f"drop_every is {training.drop_every}", allowed="at least 1")
    if training.drop_factor is not None and not 0 < training.drop_factor <= 1:
        raise UsageError(f"drop_factor is {training.drop_factor}", allowed="above 0, at most 1")
    ordered = list(training.milestones) == sorted(set(training.milestones))
    if not ordered or any(milestone < 1 for milestone in training.milestones):
        raise UsageError(
            f"milestones are {list(training.milestones)}", allowed="numbers from 1 up, each above the last"
        )


class Rates:
    """Sets an optimiser's learning rate.

    Args:
        training: The settings.
        optimizer: Whose rate is set; it has not stepped yet.
        steps: Steps of an epoch.

    Raises:
        UsageError: If the warm-up is as long as the run.
    """

    def __init__(self, training: Training, optimizer: Optimizer, steps: int) -> None:
        self._by_steps = training.schedule_by == "steps"
        self._steps = steps
        total = training.epochs * (steps if self._by_steps else 1)
        if training.warmup >= total and training.schedule in TO_THE_END:
            raise UsageError(
                f"warmup is {training.warmup} of {total} {training.schedule_by}", allowed="less than the run"
            )
        with _quiet():
            self._schedule = _made(training, optimizer, total)

    def stepped(self) -> None:
        """The optimiser has made a step."""
        if self._by_steps:
            self._advance(None)

    def ended(self, figure: float) -> None:
        """An epoch has ended.

        Args:
            figure: What "plateau" waits for to grow.
        """
        if not self._by_steps:
            self._advance(figure)

    def replay(self, figures: Sequence[float]) -> None:
        """Go where the rate was after epochs with these figures."""
        for figure in figures:
            for _ in range(self._steps if self._by_steps else 0):
                self.stepped()
            self.ended(figure)

    def _advance(self, figure: float | None) -> None:
        with _quiet():
            if isinstance(self._schedule, ReduceLROnPlateau):
                assert figure is not None  # it is never advanced by steps
                self._schedule.step(figure)
            elif self._schedule is not None:
                self._schedule.step()


def _quiet() -> AbstractContextManager[object]:
    """Without torch's word that a schedule goes on before the optimiser has stepped, as in a replay."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


def _made(training: Training, optimizer: Optimizer, total: int) -> LRScheduler | None:
    if training.schedule == "onecycle":
        return OneCycleLR(optimizer, training.lr, total_steps=total, cycle_momentum=False)
    if training.schedule == "plateau":
        return ReduceLROnPlateau(
            optimizer,
            "max",
            factor=training.drop_factor or 0.1,
            patience=training.drop_every or 10,
            threshold=0.0,
            threshold_mode="abs",
            min_lr=training.min_lr,
        )
    if not training.warmup:
        return _main(training, optimizer, total)
    first = LinearLR(optimizer, SMALL, total_iters=training.warmup)
    main = _main(training, optimizer, total - training.warmup)
    return first if main is None else SequentialLR(optimizer, [first, main], [training.warmup])


def _main(training: Training, optimizer: Optimizer, total: int) -> LRScheduler | None:
    """The schedule behind a warm-up."""
    factor = training.drop_factor or 0.1
    if training.schedule == "cosine":
        return CosineAnnealingLR(optimizer, total, training.min_lr)
    if training.schedule == "step":
        return StepLR(optimizer, training.drop_every or 1, factor)
    if training.schedule == "multistep":
        behind = [m - training.warmup for m in training.milestones if m > training.warmup]
        return MultiStepLR(optimizer, behind, factor)
    if training.schedule == "exponential":
        return ExponentialLR(optimizer, factor)
    if training.schedule == "linear":
        end = training.min_lr / training.lr if training.lr else 1.0
        return LinearLR(optimizer, 1.0, end, total)
    return None
