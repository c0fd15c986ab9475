"""Hardware descriptions: what tiles, digital unit and network can do, and what each costs.

A description is a TOML file. Every physical constant carries its unit and its source, and says if it is an
assumption. Shipped descriptions lie in `ffebm/hardware/*.toml`; a user's own is given by its path.
"""

import math
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, inspect

from ffebm import plugins
from ffebm.errors import HardwareError, Location
from ffebm.hardware.crossbar import (
    Accumulate,
    Adc,
    Cell,
    Converter,
    Crossbar,
    Dac,
    Drift,
    Stuck,
    Transfer,
    Update,
    Verify,
    Wires,
)
from ffebm.hardware.exact import Exact
from ffebm.hardware.quantity import (
    Bits,
    Conductance,
    Count,
    Energy,
    Quantity,
    Rate,
    Ratio,
    Resistance,
    Time,
    Voltage,
)
from ffebm.hardware.table import constants_html
from ffebm.limits import ARRAY_LINES, DIGITAL_UNITS
from ffebm.visible import visible

__all__ = [
    "Accumulate",
    "Adc",
    "Bits",
    "Cell",
    "Conductance",
    "Converter",
    "Count",
    "Crossbar",
    "Dac",
    "Digital",
    "Drift",
    "Energy",
    "Exact",
    "Hardware",
    "Network",
    "Quantity",
    "Rate",
    "Ratio",
    "Relaxation",
    "Resistance",
    "Stuck",
    "TileKind",
    "Tiles",
    "Time",
    "Transfer",
    "Update",
    "Verify",
    "Voltage",
    "Wires",
    "load_hardware",
    "shipped_hardware",
]


MOST_LEVELS = 2**52
"""Whole numbers above it are not exact in a float of double precision."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Bounds of a constant in its unit: far outside of physics, and sums of their quotients stay finite."""


TileKind = Crossbar | Exact
"""What one tile is; every kind answers the same questions."""


class Relaxation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a block settles by itself.

    Attributes:
        time_constant: Of the circuit.
        time_constants: How many of them a phase lasts.
        voltage: Root mean square over a cell while the circuit settles.
        conductance: Mean of a cell.
    """

    time_constant: Time
    time_constants: Ratio
    voltage: Voltage
    conductance: Conductance

    @property
    def seconds(self) -> float:
        """Of one phase."""
        return self.time_constant.value * self.time_constants.value

    @property
    def joules(self) -> float:
        """Of one cell in one phase: conductance times voltage squared times the time."""
        return float(self.conductance.value * self.voltage.value**2 * self.seconds)


class Tiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The analog part.

    Attributes:
        count: How many tiles there are.
        settling: "clocked": every sweep reads through the converters. "continuous": a block is one circuit
            that relaxes; converters work at its edge only, once a phase, and noise stays the same during a
            phase.
        tile: What one tile is.
        relaxation: How a block settles by itself, if it does.
    """

    count: Count
    settling: Literal["clocked", "continuous"]
    tile: TileKind
    relaxation: Relaxation | None = None


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

    def __repr__(self) -> str:
        return f"<Hardware {self._headline()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of all constants."""
        return constants_html(f"{self._headline()}. {self.description}", self.quantities())

    def _headline(self) -> str:
        """The machine in one line."""
        kind, size = self.tiles.tile.kind, self.tiles.tile.size
        tiles = f"{_counted(self.tiles.count, f'{kind} tile')}{f' of {size[0]} x {size[1]}' if size else ''}"
        constants = [quantity for _, quantity in self.quantities()]
        assumed = sum(quantity.assumption for quantity in constants)
        return visible(
            f"{self.name}: {tiles}, {self.tiles.settling}; {_counted(self.digital.count, 'digital unit')}; "
            f"{len(constants)} constants, {assumed} of them assumptions"
        )

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Every physical constant with its dotted name, in the order of the description."""
        yield from _quantities("", self)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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
        name: A shipped name or that of an installed package's, the path of a TOML file, or a description,
            which is checked as a file is, and returned as it is.

    Raises:
        HardwareError: If there is no such description, or it is wrong; with the place.
        UsageError: If a package offers that name, and cannot be loaded.

    >>> load_hardware("reference").tiles.count
    64
    """
    if isinstance(name, Hardware):
        return _checked(name, str(name.name))
    if isinstance(name, str) and name in shipped_hardware():
        text = (resources.files("ffebm") / "hardware" / f"{name}.toml").read_text(encoding="utf-8")
        return _decode(text, f"{name}.toml")
    if isinstance(name, str) and plugins.package_of(plugins.HARDWARE, name) is not None:
        return _installed(name)
    return _of_file(name)


def _installed(name: str) -> Hardware:
    """The description that a package offers by a name."""
    offered = plugins.load(plugins.HARDWARE, name)
    if isinstance(offered, Hardware):
        return _checked(offered, name)
    if not isinstance(offered, str | Path):
        raise HardwareError(
            f"package {plugins.package_of(plugins.HARDWARE, name)} offers {offered!r}",
            allowed="a Hardware, or the path of a .toml file",
            location=Location(name),
        )
    return _of_file(offered)


def _of_file(name: str | Path) -> Hardware:
    path = Path(name)
    if not path.is_file():
        installed = plugins.names(plugins.HARDWARE)
        more = f"; packages offer {', '.join(installed)}" if installed else ""
        raise HardwareError(
            f"there is no hardware description {str(name)!r}",
            allowed=f"shipped are {', '.join(shipped_hardware())}{more}",
            hint="name a shipped one or give the path of a .toml file",
        )
    try:
        return _decode(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise HardwareError(
            "the file is not UTF-8 text", hint=str(error), location=Location(str(path))
        ) from None


def _checked(hardware: Hardware, source: str) -> Hardware:
    """A description made in Python, held to what a file may say; msgspec itself checks where it decodes."""
    try:
        _converted(msgspec.to_builtins(hardware), source)
    except (TypeError, NotImplementedError, OverflowError) as error:
        raise HardwareError(
            f"a part of it is no part of a description: {error}", location=Location(source)
        ) from None
    check_hardware(hardware, source)
    return hardware


def _decode(text: str, source: str) -> Hardware:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HardwareError(f"not TOML: {error}", location=Location(source)) from None
    hardware = _converted(document, source)
    check_hardware(hardware, source)
    return hardware


def _converted(document: object, source: str) -> Hardware:
    try:
        return msgspec.convert(document, Hardware)
    except msgspec.ValidationError as error:
        found, _, place = str(error).partition(" - at `$")
        where = place.strip(".`").replace("`", "")
        raise HardwareError(
            found,
            allowed=_allowed(where) if found.startswith("Invalid ") else "",
            hint="docs/hardware.md lists the keys; every constant is {value, unit, source}",
            location=Location(source, where),
        ) from None


def _allowed(key: str) -> str:
    """The values that a key takes, by its dotted name."""
    values = _literals(inspect.type_info(Hardware), key.split("."))
    return ", ".join(dict.fromkeys(map(repr, values)))


def _literals(kind: inspect.Type, names: Sequence[str]) -> Iterator[object]:
    """The literals at the end of the way that these names lead; each kind of tile or remedy is a fork."""
    if isinstance(kind, inspect.UnionType):
        for way in kind.types:
            yield from _literals(way, names)
    elif isinstance(kind, inspect.StructType) and names == [kind.tag_field]:
        yield kind.tag
    elif isinstance(kind, inspect.StructType) and names:
        for field in kind.fields:
            if field.encode_name == names[0]:
                yield from _literals(field.type, names[1:])
    elif isinstance(kind, inspect.LiteralType):
        yield from kind.values


def check_hardware(hardware: Hardware, source: str) -> None:
    """What single fields cannot say.

    Args:
        hardware: A description.
        source: Where it comes from, for messages.

    Raises:
        HardwareError: If it contradicts itself, or a constant is outside of its bounds.
    """
    for name, quantity in hardware.quantities():
        if not math.isfinite(quantity.value):
            raise HardwareError(
                f"a value of {quantity.value}", allowed="a finite number", location=Location(source, name)
            )
        if quantity.value and not SMALLEST <= quantity.value <= LARGEST:
            raise HardwareError(
                f"a value of {quantity.value:g} {quantity.unit}",  # type: ignore[attr-defined] # each kind has one
                allowed=f"0, or {SMALLEST:g} to {LARGEST:g}",
                location=Location(source, name),
            )
        if isinstance(quantity, Rate) and quantity.value == 0:
            raise HardwareError("a rate of 0/s", allowed="more than 0", location=Location(source, name))
    tile = hardware.tiles.tile
    lines = max(tile.size or (0,))
    if lines > ARRAY_LINES.value:
        raise HardwareError(
            f"an array of {lines:,} lines",
            allowed=ARRAY_LINES.allowed,
            hint=ARRAY_LINES.hint,
            location=Location(source, "tiles.tile"),
        )
    units = hardware.digital.count
    if units > DIGITAL_UNITS.value:
        raise HardwareError(
            f"{units:,} digital units",
            allowed=DIGITAL_UNITS.allowed,
            hint=DIGITAL_UNITS.hint,
            location=Location(source, "digital.count"),
        )
    for name, found, allowed in _tiles_problems(hardware.tiles):
        raise HardwareError(found, allowed=allowed, location=Location(source, f"tiles{name}"))


def _tiles_problems(tiles: Tiles) -> Iterator[tuple[str, str, str]]:
    """Contradictions: where, what was found, what is allowed."""
    if (tiles.relaxation is None) != (tiles.settling == "clocked"):
        found = "no relaxation" if tiles.relaxation is None else "a relaxation"
        yield ".settling", f"{tiles.settling!r} with {found}", "continuous settling has one, clocked none"
    if not tiles.tile.has_cells:
        if tiles.settling == "continuous":
            yield ".settling", "continuous settling of exact tiles", "of crossbars"
        return
    tile = tiles.tile.crossbar()
    for name, found, allowed in _crossbar_problems(tile):
        yield f".tile{name}", found, allowed
    if tiles.settling == "clocked":
        return
    if tile.slices > 1 or tile.dac.slices > 1:
        yield ".settling", "continuous settling of slices, which are added digitally", "one slice"
    elif tile.adc.range not in {"calibrated", "maximal"}:
        found = f"{tile.adc.range!r} with continuous settling"
        yield ".tile.adc.range", found, "'calibrated' or 'maximal'"
    elif tile.dac.range != "vector":
        found = f"{tile.dac.range!r} with continuous settling"
        yield ".tile.dac.range", found, "'vector': each sample sets its own range"
    elif tile.adc.calibration == "uniform":
        found = "calibration 'uniform' with continuous settling"
        yield ".tile.adc.calibration", found, "none: each sample sets its own range"


def _cell_problems(cell: Cell) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a cell."""
    if cell.g_min.value >= cell.g_max.value:
        yield ".cell", f"g_min {cell.g_min.value:g} S is not below g_max {cell.g_max.value:g} S", ""
    if cell.verify is not None and cell.verify.tolerance.value == 0:
        yield ".cell.verify.tolerance", "a tolerance of 0", "more than 0"
    if cell.stuck is not None and cell.stuck.at_min.value + cell.stuck.at_max.value > 1:
        share = cell.stuck.at_min.value + cell.stuck.at_max.value
        yield ".cell.stuck", f"a share of {share:g} of all cells is stuck", "at most 1"
    if cell.drift is not None and cell.drift.elapsed.value < cell.drift.start.value:
        yield (
            ".cell.drift.elapsed",
            f"{cell.drift.elapsed.value:g} s after programming",
            f"at least the start of drift, {cell.drift.start.value:g} s",
        )
    if cell.drift is not None and cell.drift.start.value == 0:
        yield ".cell.drift.start", "drift from 0 s on", "more than 0"


def _crossbar_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a tile: where, what was found, what is allowed."""
    yield from _cell_problems(tile.cell)
    calibrated = tile.adc.range in {"calibrated", "column"}
    if tile.adc_sigmas is not None and not calibrated:
        found = f"range {tile.adc.range!r} with adc_sigmas"
        yield ".adc_sigmas", found, "'calibrated' and 'column' take adc_sigmas, others do not"
    if tile.adc_sigmas is not None and tile.adc_sigmas.value == 0:
        yield ".adc_sigmas", "a range of 0", "more than 0"
    if tile.adc.calibration == "uniform" and not calibrated:
        found = f"calibration 'uniform' with range {tile.adc.range!r}"
        yield ".adc.calibration", found, "only 'calibrated' and 'column' are calibrated"
    if tile.top_level < 1:
        yield ".cell.levels", f"{tile.cell.levels} levels with an offset column", "at least 3, or more slices"
    if tile.top_level >= MOST_LEVELS:
        yield (
            ".slices",
            f"{tile.slices} slices of {tile.cell.levels} levels",
            f"fewer than {MOST_LEVELS} steps of a weight",
        )
    if tile.omega != 1.0 and tile.update is not None:
        found = f"omega {tile.omega:g} beside an update with a range"
        yield ".omega", found, "omega is for tiles that are programmed; tile.update.range says the same"
    if tile.update is not None:
        yield from _update_problems(tile, tile.update)
    yield from _dac_problems(tile.dac)


def _dac_problems(dac: Dac) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a DAC."""
    if (dac.limit is None) == (dac.range == "fixed"):
        found = "no limit" if dac.limit is None else f"limit {dac.limit:g}"
        yield ".dac.limit", f"range {dac.range!r} with {found}", "a fixed range has a limit, others none"
    if dac.sigmas is not None and dac.range != "data":
        yield ".dac.sigmas", f"range {dac.range!r} with sigmas", "only a range by 'data' takes sigmas"
    if dac.range == "data" and dac.slice_bits is not None:
        yield ".dac.range", "range 'data' with input slices", "'vector' or 'fixed'"
    if dac.slice_bits is not None and dac.slice_bits >= dac.bits:
        yield (
            ".dac.slice_bits",
            f"slices of {dac.slice_bits} bits",
            f"at most the {dac.bits - 1} of a magnitude",
        )


def _update_problems(tile: Crossbar, update: Update) -> Iterator[tuple[str, str, str]]:
    """Contradictions of learning in place."""
    if tile.slices > 1:
        yield ".update", f"learning in place on {tile.slices} slices, which carry digits", "one slice"
    if not 0 < update.pulse.value * (1 + update.asymmetry.value) < 1:
        yield ".update.pulse", f"a pulse of {update.pulse.value:g} of the range", "more than 0, less than 1"
    if update.asymmetry.value >= 1:
        yield ".update.asymmetry", f"an asymmetry of {update.asymmetry.value:g}", "less than 1"
    if update.range.value < 1:
        yield ".update.range", f"a range of {update.range.value:g}", "at least 1"
    if isinstance(update.remedy, Transfer) and update.bounds == "hard":
        yield ".update.remedy", "a transfer between hard bounds, which have no symmetric point", "soft bounds"
