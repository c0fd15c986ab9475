"""When compiled loops are worth their loading."""

from dataclasses import dataclass


@dataclass
class Spent:
    """What plain loops have done in this process, and will do.

    Compiled ones find the same, so nothing but time depends on it. Changing over once as much is done as
    loading them takes is never twice as slow as the better of the two; where more of the same is to come, as
    when a model is compiled, that is foreseen.

    Attributes:
        most: How much plain loops do, in rounds.
        again: How often what is asked for comes again at least.
        done: What has been asked for.
        over: Whether it is the turn of compiled loops, which is so for good.
    """

    most: int
    again: int = 0
    done: int = 0
    over: bool = False

    def is_much(self, rounds: int) -> bool:
        """Whether compiled loops are to do some more."""
        self.done += rounds
        self.over = self.over or self.done + self.again * rounds > self.most
        return self.over

    def foresee(self, rounds: int) -> None:
        """So much is to come."""
        self.over = self.over or self.done + rounds > self.most
