"""What memory is planned for: a step of a schedule, or what is to be one."""

from typing import Protocol

from ffebm.plan.memory.held import Rows
from ffebm.plan.schedule import StepKind


class Work(Protocol):
    """A step of a schedule, or what is to be one: times and units do not count for what it reads."""

    @property
    def kind(self) -> StepKind:
        """What is done."""

    @property
    def name(self) -> str:
        """To what."""

    @property
    def after(self) -> tuple[int, ...]:
        """Positions of what it waits for, all of them earlier."""

    @property
    def block(self) -> int | None:
        """Id of the energy block that it works for, if it is one."""

    @property
    def rows(self) -> Rows | None:
        """The band of output rows that it makes or moves; None: all of them."""

    @property
    def sample(self) -> int:
        """Which of several samples in flight it works for."""

    @property
    def begun(self) -> int:
        """Row behind the last one of which it makes a part, where reads go beyond its own rows; else 0."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """What it is done to: the digital nodes that it does, or its name alone."""
