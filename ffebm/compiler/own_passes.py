"""Passes of one's own among the compiler's: checked, and put where their stage is reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from ffebm import plugins
from ffebm.errors import InternalError, UsageError
from ffebm.graph.graph import Graph, Stage
from ffebm.graph.verify import verify
from ffebm.hardware.description import Hardware


class Pass(Protocol):
    """What every pass is: a frozen dataclass whose other fields are its options."""

    @property
    def name(self) -> str:
        """Stable name, as printed."""

    @property
    def requires(self) -> Stage:
        """Stage that the graph must have reached."""

    @property
    def ensures(self) -> Stage:
        """Stage that the graph has reached afterwards."""

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Rewrite the graph in place."""


@dataclass(frozen=True)
class OwnPass:
    """A pass of one's own, whose faults are told from the compiler's.

    Attributes:
        name: As it says.
        requires: As it says.
        ensures: As it says.
        step: The pass.
    """

    name: str
    requires: Stage
    ensures: Stage
    step: Pass

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Rewrite the graph in place.

        Raises:
            UsageError: If it does not hold what its stage says afterwards.
        """
        self.step.run(graph, hardware)
        try:
            verify(graph)
        except InternalError as error:
            raise UsageError(
                f"pass {self.name!r} leaves a wrong graph: {error.found}", location=error.location
            ) from error


def own_passes(passes: Sequence[Pass | str]) -> tuple[Pass, ...]:
    """The passes that are meant: given ones, and those of installed packages by name.

    Raises:
        UsageError: If one is no pass, promises a stage that it does not start from, or cannot be loaded.
    """
    if isinstance(passes, str) or not isinstance(passes, Sequence):
        raise UsageError(f"passes={passes!r}", allowed="a list of passes, or of names that packages offer")
    return tuple(_checked(_installed(step) if isinstance(step, str) else step) for step in passes)


def _installed(name: str) -> object:
    found = plugins.load(plugins.PASSES, name)
    return found() if isinstance(found, type) else found


def _checked(step: object) -> Pass:
    name, run = getattr(step, "name", None), getattr(step, "run", None)
    requires, ensures = getattr(step, "requires", None), getattr(step, "ensures", None)
    named = isinstance(name, str) and bool(name) and callable(run) and not isinstance(step, type)
    if not (named and isinstance(requires, Stage) and isinstance(ensures, Stage)):
        raise UsageError(
            f"a pass of one's own is {step!r}",
            allowed="an object with name, requires, ensures (stages) and run(graph, hardware)",
        )
    if ensures > requires:
        raise UsageError(
            f"pass {name!r} starts from stage {requires.name} and promises {ensures.name}",
            allowed="a pass of one's own keeps the stage: the compiler's passes reach the next one",
        )
    return OwnPass(str(name), requires, ensures, cast("Pass", step))


def with_own(order: Sequence[Pass], own: Sequence[Pass]) -> tuple[Pass, ...]:
    """The compiler's passes with one's own, each behind the last one that keeps the stage that it needs.

    A pass that needs the imported graph comes behind everything before the canonical form; one that needs
    `CANONICAL` just before blocks are formed; one that needs `PLACED` at the end.
    """
    merged: list[Pass] = []
    waiting = list(own)
    stage = Stage.IMPORTED
    for step in order:
        if step.ensures > stage:
            merged += [other for other in waiting if other.requires < step.ensures]
            waiting = [other for other in waiting if other.requires >= step.ensures]
            stage = step.ensures
        merged.append(step)
    return (*merged, *waiting)
