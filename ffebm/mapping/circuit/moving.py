"""Whether the blocks of a plan can move as circuits, as settings of settling ask for."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from ffebm.errors import UsageError
from ffebm.graph.energy_block import DEFAULT_PHYSICS, EnergyBlock
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Hardware
from ffebm.mapping.circuit.needs import unknown
from ffebm.plan.schema import Settle
from ffebm.visible import visible

SWEEPING = ("tol", "start", "relaxation", "anderson")
"""Settings of sweeps that a circuit has nothing to do with."""


def as_circuit(settle: Settle) -> Settle:
    """Settings with which blocks move as circuits; what is said about sweeps is left out."""
    usual = Settle()
    return replace(settle, settling="circuit", **{name: getattr(usual, name) for name in SWEEPING})


def require_circuits(
    settle: Settle, blocks: Iterable[EnergyBlock], weights: Mapping[str, Array], hardware: Hardware
) -> None:
    """Refuse settings that ask for circuits where there are none.

    Args:
        settle: The settings; nothing is refused where blocks settle by sweeps.
        blocks: The blocks.
        weights: Theirs, by source name.
        hardware: The machine.

    Raises:
        UsageError: With the first block that is none, and why.
    """
    if settle.settling == "sweeps":
        return
    usual = Settle()
    for name in SWEEPING:
        if getattr(settle, name) != getattr(usual, name):
            raise UsageError(
                f"{name}={getattr(settle, name)!r} of sweeps, and settling='circuit'", allowed="one of them"
            )
    for block in blocks:
        group = hardware.analog_group(block.group)
        instead = ""
        if group.relaxation is None:
            instead = ", or another machine: --hardware resistive"
            why = f"it settles by clocked reads on {group.name!r} of machine {hardware.name!r}"
        elif block.physics != DEFAULT_PHYSICS:
            why = f"its physics is {block.physics!r}"
        else:
            why = unknown(block, weights, group)
        if why:
            raise UsageError(
                f"settling='circuit', but {block.name} does not move as a circuit: {visible(why)}",
                allowed="Hopfield blocks without pooling on a machine with continuous settling",
                hint=f"settling='sweeps'{instead}",
            )
