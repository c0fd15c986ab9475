import math

import pytest

import ffebm
from ffebm.compiler.options import goal_of
from ffebm.errors import UsageError
from ffebm.plan.schema import Options
from tests.models import Builder


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "objective",
            "speed",
            "objective 'speed'; one of analog, latency, throughput, energy, edp",
        ),
        ("tiles", -1, "tiles -1; a whole number from 0 to 9007199254740992"),
        ("tiles", 2.5, "tiles 2.5; a whole number from 0 to 9007199254740992"),
        ("effort", True, "effort True; a whole number from 0 to 1000000000"),
        ("replicas", 0, "replicas 0; a whole number from 1 to 9007199254740992"),
        ("max_latency", 0, "max_latency 0; a number above 0, in s"),
        ("max_energy", math.nan, "max_energy nan; a number above 0, in J"),
        ("max_area", math.inf, "max_area inf; a number above 0, in mm2"),
        ("slowdown", "2", "slowdown '2'; a number above 0"),
    ],
)
def test_a_setting_out_of_range(name: str, value: object, message: str) -> None:
    b = Builder()
    model = b.model(b.node("Relu", b.node("MatMul", b.input("x", 1, 4), b.weight(4, 4))))
    options: dict[str, object] = {name: value}
    with pytest.raises(UsageError) as error:
        ffebm.compile(model, **options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_limits_that_are_not_given_do_not_bind() -> None:
    goal = goal_of(Options())
    assert (goal.seconds, goal.joules, goal.area, goal.slowdown) == (math.inf,) * 4
    assert goal.replicas == math.inf
    assert goal_of(Options(replicas=3)).replicas == 3
