"""Which blocks can be asked to move as circuits."""

import pytest

from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from ffebm.mapping.circuit.moving import as_circuit
from ffebm.plan.schema import Settle
from tests.models import Builder


def test_settings_of_sweeps_are_left_out() -> None:
    asked = as_circuit(Settle(tol=1e-6, start="feedforward", relaxation=0.5, anderson=3, strict=True))
    assert asked == Settle(settling="circuit", strict=True)


def model(*, pooled: bool) -> object:
    b = Builder(0)
    x = b.conv(b.input("x", "N", 1, 4, 4), 1, 2)
    return b.model(b.clip(b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]) if pooled else x))


CIRCUITS = (
    "; Hopfield blocks without pooling on a machine with continuous settling\n  hint: settling='sweeps'"
)


@pytest.mark.parametrize(
    ("settle", "machine", "message"),
    [
        (
            Settle(settling="circuit", tol=1e-4),
            "resistive",
            "tol=0.0001 of sweeps, and settling='circuit'; one of them",
        ),
        (
            Settle(settling="circuit"),
            "resistive",
            "settling='circuit', but block0 does not move as a circuit: 'v2': a MaxPool drives it, for which "
            f"there is no circuit here{CIRCUITS}",
        ),
        (
            Settle(settling="circuit"),
            "reference",
            "settling='circuit', but block0 does not move as a circuit: it settles by clocked reads on "
            f"'tiles' of machine 'reference'{CIRCUITS}, or another machine: --hardware resistive",
        ),
    ],
)
def test_what_is_no_circuit_is_refused(settle: Settle, machine: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compile_model(model(pooled=True), hardware=machine, settle=settle)
    assert str(caught.value) == message


def test_a_plan_may_ask_for_circuits() -> None:
    plan = compile_model(model(pooled=False), hardware="resistive", settle=Settle(settling="circuit"))
    assert plan.settle.settling == "circuit"
    assert "simulated as circuits, all layers together, until their time is over" in plan.summary()
