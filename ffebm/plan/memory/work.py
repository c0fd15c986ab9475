"""What memory is planned for: a step of a schedule, or what is to be one."""

from typing import Protocol

from ffebm.plan.memory.held import Rows
from ffebm.plan.schedule import StepKind


class Banded(Protocol):
    """What makes or moves a band of rows."""

    @property
    def kind(self) -> StepKind:
        """What is done."""

    @property
    def name(self) -> str:
        """To what."""

    @property
    def rows(self) -> Rows | None:
        """The band of output rows that it makes or moves; None: all of them."""

    @property
    def sample(self) -> int:
        """Which of several samples in flight it works for."""


class Work(Banded, Protocol):
    """A step of a schedule, or what is to be one: times and units do not count for what it reads."""

    @property
    def after(self) -> tuple[int, ...]:
        """Positions of what it waits for, all of them earlier."""

    @property
    def block(self) -> int | None:
        """Id of the energy block that it works for, if it is one."""

    @property
    def begun(self) -> int:
        """Row behind the last one of which it makes a part, where reads go beyond its own rows; else 0."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """What it is done to: the digital nodes that it does, or its name alone."""


class Timed(Banded, Protocol):
    """The same with how long it takes."""

    @property
    def seconds(self) -> float:
        """Until what it makes is there."""

    @property
    def lag(self) -> float:
        """Seconds at its end in which its units are free already."""


def waits_for_units(step: Timed, before: Timed) -> bool:
    """Whether something that waits for something else may start when the units of that are free.

    The next band of a layer may, unless it is done with so soon, as where earlier bands have read all that it
    needs, that its rows would be there before those of the other one.
    """
    if not before.lag or step.seconds < before.lag or step.rows is None or before.rows is None:
        return False
    alike = (step.kind, step.name, step.sample) == (before.kind, before.name, before.sample)
    return alike and step.rows[0] == before.rows[1]
