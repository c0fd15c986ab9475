from dataclasses import dataclass, field

import numpy as np
import pytest

import ffebm
from ffebm.compiler.driver import pass_order
from ffebm.compiler.own_passes import own_passes, with_own
from ffebm.errors import UsageError
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware
from ffebm.plan.schema import Options
from tests.models import Builder


@dataclass(frozen=True)
class Looks:
    """Writes down what it meets."""

    requires: Stage
    name: str = "looks"
    ensures: Stage = Stage.IMPORTED
    seen: list[tuple[Stage, int]] = field(default_factory=list)

    def run(self, graph: Graph, hardware: Hardware) -> None:
        self.seen.append((graph.stage, len(graph.blocks)))


@dataclass(frozen=True)
class Breaks(Looks):
    """Leaves a value that nobody makes."""

    name: str = "breaks"

    def run(self, graph: Graph, hardware: Hardware) -> None:
        graph.nodes[0].inputs[0] = "nothing"


def model() -> object:
    b = Builder()
    x = b.input("x", "N", 4)
    return b.model(b.node("Relu", b.node("MatMul", x, b.constant(np.ones((4, 3), np.float32)))))


@pytest.mark.parametrize(
    ("stage", "before"),
    [
        (Stage.IMPORTED, "canonicalize"),
        (Stage.CANONICAL, "energy-blocks"),
        (Stage.BLOCKED, "tiling"),
        (Stage.TILED, "partition"),
        (Stage.PARTITIONED, "placement"),
        (Stage.PLACED, None),
    ],
)
def test_a_pass_runs_where_its_stage_is_reached(stage: Stage, before: str | None) -> None:
    own = Looks(stage)
    names = [step.name for step in with_own(pass_order(Options()), own_passes([own]))]
    place = names.index("looks")
    assert (names[place + 1] if place + 1 < len(names) else None) == before
    plan = ffebm.compile(model(), passes=[own])
    ((reached, blocks),) = own.seen
    assert reached == stage
    assert blocks == (stage >= Stage.BLOCKED)
    assert plan.options.passes == ("looks",)


def test_passes_of_one_stage_keep_their_order() -> None:
    own = [Looks(Stage.PLACED, "c"), Looks(Stage.TILED, "b"), Looks(Stage.TILED, "a")]
    names = [step.name for step in with_own(pass_order(Options()), own_passes(own))]
    assert [name for name in names if name in {"a", "b", "c"}] == ["b", "a", "c"]


def test_what_is_no_pass_is_refused() -> None:
    allowed = "an object with name, requires, ensures (stages) and run(graph, hardware)"
    for wrong in (3, Looks):
        with pytest.raises(UsageError) as caught:
            ffebm.compile(model(), passes=[wrong])  # type: ignore[list-item]
        assert str(caught.value) == f"a pass of one's own is {wrong!r}; {allowed}"
    with pytest.raises(UsageError) as caught:
        ffebm.compile(model(), passes="leaky")
    assert str(caught.value) == "passes='leaky'; a list of passes, or of names that packages offer"
    with pytest.raises(UsageError) as caught:
        ffebm.compile(model(), passes=["leaky"])
    assert str(caught.value) == "no installed package offers 'leaky' in ffebm.passes; installed are: none"
    with pytest.raises(UsageError) as caught:
        ffebm.compile(model(), passes=[Looks(Stage.CANONICAL, ensures=Stage.BLOCKED)])
    assert str(caught.value) == (
        "pass 'looks' starts from stage CANONICAL and promises BLOCKED; "
        "a pass of one's own keeps the stage: the compiler's passes reach the next one"
    )


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    with pytest.raises(UsageError, match="pass 'breaks' leaves a wrong graph: "):
        ffebm.compile(model(), passes=[Breaks(Stage.CANONICAL)])
