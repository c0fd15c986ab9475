"""Hardware descriptions: what tiles, digital unit and network can do, and what each costs.

A description is a TOML file. Every physical constant carries its unit and its source, and says if it is an
assumption. Shipped descriptions lie in `ffebm/hardware/*.toml`; a user's own is given by its path.
"""

import math
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.errors import HardwareError, Location

Count = Annotated[int, Meta(ge=1)]
Bits = Annotated[int, Meta(ge=1, le=32)]
Amount = Annotated[float, Meta(ge=0)]


class Quantity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A physical constant.

    Attributes:
        value: In the unit that the subclass fixes.
        source: Paper, table or file that it comes from.
        assumption: No source measured or derived it for this machine; reports mark it.
    """

    value: Amount
    source: Annotated[str, Meta(min_length=1)]
    assumption: bool = False


class Energy(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An energy in joules."""

    unit: Literal["J"]


class Time(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A time in seconds."""

    unit: Literal["s"]


class Rate(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Events a second."""

    unit: Literal["1/s"]


class Conductance(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A conductance in siemens."""

    unit: Literal["S"]


class Ratio(Quantity, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number without a unit."""

    unit: Literal["1"]


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One memory element of a crossbar; a weight is the difference of two.

    Attributes:
        levels: Conductances that a cell can be programmed to, evenly spaced.
        g_min: Smallest conductance.
        g_max: Largest conductance.
        programming_noise: Standard deviation of a programmed conductance, as a share of g_max - g_min.
        read_noise: Standard deviation of a conductance at each read, as a share of g_max - g_min.
        read_energy: Of one cell in one read.
        write_energy: Of one cell programmed once.
    """

    levels: Annotated[int, Meta(ge=2)]
    g_min: Conductance
    g_max: Conductance
    programming_noise: Ratio
    read_noise: Ratio
    read_energy: Energy
    write_energy: Energy


class Converter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A digital-to-analog or analog-to-digital converter, one a line.

    Attributes:
        bits: Resolution, sign included.
        energy: Of one conversion.
        time: Of one conversion.
    """

    bits: Annotated[int, Meta(ge=2, le=24)]
    energy: Energy
    time: Time


class Crossbar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="crossbar"):
    """A tile with an array of cells and converters on its lines.

    Attributes:
        rows: Word lines; each takes one input.
        cols: Bit-line pairs; each gives one output. A pair holds both cells of its weights.
        cell: The memory element.
        dac: Drives the lines that inputs are on.
        adc: Reads the lines that outputs are on.
        adc_sigmas: The ADC's range, in standard deviations of a column's output for uniform inputs.
        read_time: Of the array in one read, without converters.
        write_time: Of one row programmed once.
    """

    rows: Count
    cols: Count
    cell: Cell
    dac: Converter
    adc: Converter
    adc_sigmas: Ratio
    read_time: Time
    write_time: Time


class Exact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="exact"):
    """A tile that computes exactly, whatever the size of its matrices.

    Attributes:
        read_time: Of one matrix-vector product.
        write_time: Of one update of everything on it.
    """

    read_time: Time
    write_time: Time


class Tiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The analog part.

    Attributes:
        count: How many tiles there are.
        settling: "clocked": every sweep reads through the converters.
        tile: What one tile is.
    """

    count: Count
    settling: Literal["clocked"]
    tile: Crossbar | Exact


class Digital(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The digital units.

    Attributes:
        count: How many there are.
        ops: Op names that they run; empty means every op.
        value_bits: Size of one value in memory and on the network.
        mac_rate: Multiply-accumulates of one unit.
        op_rate: Other element operations of one unit.
        mac_energy: Of one multiply-accumulate.
        op_energy: Of one other element operation.
        memory_energy: Of one bit read from or written to the unit's memory.
    """

    count: Count
    ops: tuple[str, ...] = ()
    value_bits: Bits
    mac_rate: Rate
    op_rate: Rate
    mac_energy: Energy
    op_energy: Energy
    memory_energy: Energy


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What joins the units: one channel that carries one transfer at a time.

    Attributes:
        bit_rate: Bits a second.
        latency: Of one transfer, beside its bits.
        bit_energy: Of one bit over one hop.
        hops: Routers that a transfer passes, on average.
    """

    bit_rate: Rate
    latency: Time
    bit_energy: Energy
    hops: Ratio


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A machine of analog tiles and digital units.

    Attributes:
        schema: Version of this format.
        name: Short name.
        description: One sentence.
        tiles: The analog part.
        digital: The digital units.
        network: What joins them.
    """

    schema: Literal[1]
    name: Annotated[str, Meta(min_length=1)]
    description: str
    tiles: Tiles
    digital: Digital
    network: Network

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Every physical constant with its dotted name, in the order of the description."""
        yield from _quantities("", self)


def _quantities(prefix: str, part: msgspec.Struct) -> Iterator[tuple[str, Quantity]]:
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, Quantity):
            yield prefix + name, value
        elif isinstance(value, msgspec.Struct):
            yield from _quantities(f"{prefix}{name}.", value)


def shipped_hardware() -> list[str]:
    """Names of the shipped descriptions, sorted."""
    folder = resources.files("ffebm") / "hardware"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load_hardware(name: str | Path | Hardware) -> Hardware:
    """Read a hardware description.

    Args:
        name: A shipped name, the path of a TOML file, or a description, which is returned as it is.

    Raises:
        HardwareError: If there is no such description, or it is wrong; with the place.
    """
    if isinstance(name, Hardware):
        return name
    if isinstance(name, str) and name in shipped_hardware():
        text = (resources.files("ffebm") / "hardware" / f"{name}.toml").read_text(encoding="utf-8")
        return _decode(text, f"{name}.toml")
    path = Path(name)
    if not path.is_file():
        raise HardwareError(
            f"there is no hardware description {str(name)!r}",
            allowed=f"shipped are {', '.join(shipped_hardware())}",
            hint="name a shipped one or give the path of a .toml file",
        )
    try:
        return _decode(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise HardwareError(
            "the file is not UTF-8 text", hint=str(error), location=Location(str(path))
        ) from None


def _decode(text: str, source: str) -> Hardware:
    try:
        hardware = msgspec.convert(tomllib.loads(text), Hardware)
    except tomllib.TOMLDecodeError as error:
        raise HardwareError(f"not TOML: {error}", location=Location(source)) from None
    except msgspec.ValidationError as error:
        found, _, where = str(error).partition(" - at `$")
        raise HardwareError(
            found,
            hint="docs/hardware.md lists the keys; every constant is {value, unit, source}",
            location=Location(source, where.strip(".`").replace("`", "")),
        ) from None
    _check(hardware, source)
    return hardware


def _check(hardware: Hardware, source: str) -> None:
    """What single fields cannot say."""
    tile = hardware.tiles.tile
    if isinstance(tile, Crossbar) and tile.cell.g_min.value >= tile.cell.g_max.value:
        raise HardwareError(
            f"g_min {tile.cell.g_min.value:g} S is not below g_max {tile.cell.g_max.value:g} S",
            location=Location(source, "tiles.tile.cell"),
        )
    for name, quantity in hardware.quantities():
        if not math.isfinite(quantity.value):
            raise HardwareError(
                f"a value of {quantity.value}", allowed="a finite number", location=Location(source, name)
            )
        if isinstance(quantity, Rate) and quantity.value == 0:
            raise HardwareError("a rate of 0/s", allowed="more than 0", location=Location(source, name))
