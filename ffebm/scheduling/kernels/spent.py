"""When compiled loops are worth their loading."""

from dataclasses import dataclass


@dataclass
class Spent:
    """What plain loops have done in this process.

    Compiled ones find the same, so nothing but time depends on it. Changing over once as much is done as
    loading them takes is never twice as slow as the better of the two.

    Attributes:
        most: How much plain loops do, in rounds.
        done: What they have done.
    """

    most: int
    done: int = 0

    def is_much(self, rounds: int) -> bool:
        """Whether compiled loops are to do some more."""
        self.done += rounds
        return self.done > self.most
