"""What can go wrong, and where.

FfebmError                 one message: where, what was found, what is allowed, a hint
├── ModelError             the model cannot be compiled
├── HardwareError          a hardware description is wrong
├── PlanError              a plan folder is damaged, incomplete or of an unknown version
├── UsageError             an option, an argument or a data file is wrong
├── NotSettledError        a strict energy block did not reach its equilibrium
└── InternalError          a fact that ffebm itself should have kept is broken

NotSettledWarning          an energy block did not reach its equilibrium, and the run goes on
SmallStepWarning           a weight that learns in place asks for less than a pulse
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Location:
    """Where something came from.

    Attributes:
        source: File or module, as the user named it.
        node: Node, key or line inside the source; empty if the whole source is meant.
    """

    source: str
    node: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.node}" if self.node else self.source


class FfebmError(Exception):
    """Base of every error that ffebm raises on purpose.

    Attributes:
        found: What was found.
        allowed: What is allowed instead; may be empty.
        hint: What the user can change; may be empty.
        location: Where it was found, if it has a place.
    """

    def __init__(
        self, found: str, *, allowed: str = "", hint: str = "", location: Location | None = None
    ) -> None:
        self.found = found
        self.allowed = allowed
        self.hint = hint
        self.location = location
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        allowed = f"; {self.allowed}" if self.allowed else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}{self.found}{allowed}{hint}"


class ModelError(FfebmError):
    """The model cannot be compiled."""


class HardwareError(FfebmError):
    """A hardware description is wrong."""


class PlanError(FfebmError):
    """A plan folder is damaged, incomplete or of an unknown version."""


class UsageError(FfebmError):
    """An option, an argument or a data file is wrong."""


class NotSettledError(FfebmError):
    """A strict energy block did not reach its equilibrium."""


class InternalError(FfebmError):
    """A fact that ffebm itself should have kept is broken; a fault of ours."""


def reason_of(error: Exception) -> str:
    """Why reading failed, in words: without a number, and without the path that a message names anyway."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class NotSettledWarning(UserWarning):
    """An energy block did not reach its equilibrium, and the run goes on.

    Attributes:
        block: Its name.
        share: Of samples that did not settle, in (0, 1].
        residual: The largest; infinite if a state is not finite.
    """

    def __init__(self, block: str, share: float, residual: float, hint: str) -> None:
        self.block = block
        self.share = share
        self.residual = residual
        super().__init__(
            f"{block} did not settle in {100 * share:.1f} % of samples (residual up to {residual:.2g}); "
            f"{hint}"
        )


class SmallStepWarning(UserWarning):
    """Cells that learn in place are asked for less than a pulse."""
