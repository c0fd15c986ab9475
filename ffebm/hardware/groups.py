"""Groups of like units that a machine is made of: tiles, digital units, memories; and what joins them."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.exact import Exact
from ffebm.hardware.quantity import (
    Area,
    Bits,
    Capacity,
    Conductance,
    Count,
    Energy,
    Power,
    Rate,
    Ratio,
    Time,
    Voltage,
)

CHIP = "chip"
"""The owner of a memory that all units reach."""


def units_among(names: Iterable[str], kind: str, numbers: range) -> frozenset[str]:
    """Those of some units that are of one kind and have a number of a range.

    Work grows with the names, not with the range: a description may count any number of units.

    Args:
        names: Such as "tile3".
        kind: "tile", "digital" or "network", which names begin with.
        numbers: Of the units that are meant.
    """
    called = re.compile(f"{kind}(0|[1-9][0-9]{{0,18}})")
    found = ((name, called.fullmatch(name)) for name in names)
    return frozenset(name for name, match in found if match and int(match[1]) in numbers)


Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
"""Of a group: a word, which stands in dotted names of constants."""

TileKind = Crossbar | Exact
"""What one tile is; every kind answers the same questions."""

DataType = Literal["fp32", "bf16", "int8"]
"""What digital units compute in."""


class Amplifier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The amplifiers that hold lines at virtual grounds and turn their currents into drives.

    Attributes:
        gain: Open loop, at rest.
        gain_bandwidth: Frequency at which the open-loop gain has fallen to 1, in hertz.
        power: What one takes from its supply all through a phase; None is not counted.
    """

    gain: Ratio
    gain_bandwidth: Rate
    power: Power | None = None


class Relaxation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How a block settles by itself.

    Attributes:
        time_constant: Of the circuit.
        time_constants: How many of them a phase lasts.
        voltage: What stands for 1 in the model; for the power of a block that is not simulated, root mean
            square over a cell.
        conductance: Mean of a cell.
        amplifier: At the virtual grounds; None is an ideal one.
        accuracy: A phase lasts until the state is so close to where it goes, as a share of it by norm, as the
            block's own weights have it; blocks for which that is not known, and all if it is None, last
            `time_constants`.
        neuron: What the buffer of a unit (in a passive array its amplifier) and its bias source take from
            their supply all through a phase; None is not counted.
        response: A nudged phase lasts until what the nudge changes is so close to where it goes, as a share
            of it by norm in each layer, and a free phase before it until what is left is as small beside it;
            if it is None both last as any free phase.
    """

    time_constant: Time
    time_constants: Ratio
    voltage: Voltage
    conductance: Conductance
    amplifier: Amplifier | None = None
    accuracy: Ratio | None = None
    response: Ratio | None = None
    neuron: Power | None = None

    def lasting(self, time_constants: float | None) -> float:
        """Seconds of a phase that takes so many time constants; None is not known."""
        return self.seconds if time_constants is None else self.time_constant.value * time_constants

    @property
    def seconds(self) -> float:
        """Of one phase of a block whose own time is not known."""
        return self.time_constant.value * self.time_constants.value

    @property
    def joules(self) -> float:
        """Of one cell in such a phase: conductance times voltage squared times the time."""
        return float(self.conductance.value * self.voltage.value**2 * self.seconds)


class Core(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tiles that share adders and a port through which products are started.

    Attributes:
        tiles: How many tiles one core has.
        issue: From the start of one product of the core to the start of its next; a product of a matrix that
            lies on several tiles of the core is one, and starts them together.
    """

    tiles: Count
    issue: Time


class AnalogGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Tiles of one kind.

    Attributes:
        name: Of the group.
        count: How many tiles there are.
        settling: "clocked": every sweep reads through the converters. "continuous": a block is one circuit
            that relaxes; converters work at its edge only, once a phase, and noise stays the same during a
            phase.
        tile: What one tile is.
        relaxation: How a block settles by itself, if it does.
        core: Which tiles share adders and a port; None if each tile stands for itself.
        area: Of one tile with its converters.
        leakage: Of one tile as long as it is powered.
    """

    name: Name
    count: Count
    settling: Literal["clocked", "continuous"]
    tile: TileKind
    relaxation: Relaxation | None = None
    core: Core | None = None
    area: Area
    leakage: Power

    def holds(self, cells: int) -> bool:
        """Its arrays hold the weights of circuits with so many cells a weight; single cells have no sign."""
        return not self.tile.has_cells or not self.tile.crossbar().is_single or cells == 1


class Arithmetic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a digital unit does in one data type.

    Attributes:
        value_bits: Size of one value in memory and on the network.
        mac_rate: Multiply-accumulates of one unit.
        op_rate: Other element operations of one unit.
        mac_energy: Of one multiply-accumulate.
        op_energy: Of one other element operation.
    """

    value_bits: Bits
    mac_rate: Rate
    op_rate: Rate
    mac_energy: Energy
    op_energy: Energy


class DigitalGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Digital units of one kind.

    Digital nodes are computed in fp32. The other data types are prices to compare with, and never chosen.

    Attributes:
        name: Of the group.
        count: How many units there are.
        ops: Op names that they run; empty means every op.
        fp32: What a unit does in single precision.
        bf16: In half the bits, if it can.
        int8: In whole numbers of eight bits, if it can.
        place: "apart": each unit has a router of its own. "core": one unit stands in each core of the tiles.
            Then a node without products is shared out evenly over the units of the cores that hold what it
            reads most of, and one with products over all units.
        area: Of one unit.
        leakage: Of one unit as long as it is powered.
    """

    name: Name
    count: Count
    ops: tuple[str, ...] = ()
    fp32: Arithmetic
    bf16: Arithmetic | None = None
    int8: Arithmetic | None = None
    place: Literal["apart", "core"] = "apart"
    area: Area
    leakage: Power

    def runs(self, op: str) -> bool:
        """Its units run an op."""
        return not self.ops or op in self.ops

    def arithmetic(self, dtype: DataType) -> Arithmetic | None:
        """What a unit does in a data type; None if it cannot."""
        found: Arithmetic | None = getattr(self, dtype)
        return found


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A memory.

    Attributes:
        name: Of the memory.
        level: 1 is nearest to the units of its owner.
        owner: Whose it is: the name of a group, each unit of which has one; or "chip", then there is one.
        capacity: Of one.
        bandwidth: Bits a second that one reads or writes.
        bit_energy: Of one bit read or written.
        area: Of one.
        leakage: Of one as long as it is powered.
    """

    name: Name
    level: Annotated[int, Meta(ge=1, le=9)]
    owner: Name
    capacity: Capacity
    bandwidth: Rate
    bit_energy: Energy
    area: Area
    leakage: Power


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What joins the units.

    Attributes:
        topology: "bus": one channel that carries one transfer at a time. "mesh": a router for every core, or
            tile outside of cores, and digital unit on a square grid; transfers of different pairs overlap.
        bit_rate: Bits a second.
        latency: Of one transfer, beside its bits; on a mesh, of one hop.
        bit_energy: Of one bit over one hop.
        hops: Routers that a transfer passes, on average; on a mesh, that partial sums and states inside of a
            block pass, while other transfers take the distance between the units that they join.
        area: Of all of it.
        leakage: Of all of it.
    """

    topology: Literal["bus", "mesh"]
    bit_rate: Rate
    latency: Time
    bit_energy: Energy
    hops: Ratio
    area: Area
    leakage: Power
