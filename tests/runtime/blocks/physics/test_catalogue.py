import re

import pytest

import ffebm
from ffebm.errors import UsageError
from ffebm.graph.admission import ADMISSIONS
from ffebm.runtime.blocks.physics.catalogue import METHODS, PHYSICS, physics_of
from ffebm.runtime.blocks.physics.hopfield import Hopfield
from ffebm.runtime.blocks.physics.physics import Physics
from tests.models import Builder


def test_what_runs_is_what_can_be_compiled_for() -> None:
    assert PHYSICS.keys() == ADMISSIONS.keys()
    assert isinstance(physics_of("hopfield"), Hopfield)
    assert {name for name in vars(Physics) if not name.startswith("_")} == {*METHODS}


def test_what_is_no_physics_is_refused() -> None:
    b = Builder()
    plan = ffebm.compile(b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))), hardware="ideal")
    for wrong, lacking in ((Hopfield, ""), ("hopfield", f", which has no {', '.join(METHODS)}")):
        with pytest.raises(UsageError) as caught:
            ffebm.Executor(plan, physics=wrong)  # type: ignore[arg-type] # as a user may
        assert str(caught.value) == (
            f"the physics is {wrong!r}{lacking}; an object with the methods of Physics"
        )
    with pytest.raises(UsageError, match=re.escape("there is no physics 'absent'; hopfield, deep-resistive")):
        physics_of("absent")
