"""The option that says how the blocks of a plan are simulated, of the commands that run one."""

from typing import Annotated

from msgspec.structs import replace
from typer import Option

from ffebm.errors import UsageError
from ffebm.mapping.circuit.moving import as_circuit
from ffebm.plan.plan import Plan

SettlingOption = Annotated[
    str | None,
    Option(
        help="How blocks are simulated: by sweeps, or as a circuit in continuous time. [default: as compiled]"
    ),
]


def settled_by(plan: Plan, settling: str | None) -> Plan:
    """A plan whose blocks are simulated so; None leaves it as it was compiled.

    Raises:
        UsageError: If there is no such way.
    """
    if settling is None:
        return plan
    if known_settling(settling) == "circuit":
        return replace(plan, settle=as_circuit(plan.settle))
    return replace(plan, settle=replace(plan.settle, settling="sweeps"))


def known_settling(text: str) -> str:
    """A way as a user writes it.

    Raises:
        UsageError: If there is no such way.
    """
    if text not in {"sweeps", "circuit"}:
        raise UsageError(f"--settling {text}", allowed="sweeps or circuit")
    return text
