"""Hardware descriptions: what tiles, digital units, memories and network can do, and what each costs.

A description is a TOML file. Every physical constant carries its unit and its source, and says if it is an
assumption. Shipped descriptions lie in `ffebm/hardware/*.toml`; a user's own is given by its path.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, inspect

from ffebm import plugins
from ffebm.errors import HardwareError, InternalError, Location, UsageError
from ffebm.hardware.contradictions import machine_problems
from ffebm.hardware.crossbar import Adc, Converter, Crossbar, Dac, Wires
from ffebm.hardware.derived import with_derived
from ffebm.hardware.devices.cell import Cell, Drift, Statistics, Stuck, Verify
from ffebm.hardware.devices.update import (
    Accumulate,
    Chopper,
    ExponentialStep,
    LinearStep,
    Transfer,
    Update,
)
from ffebm.hardware.exact import Exact
from ffebm.hardware.groups import (
    CHIP,
    Amplifier,
    AnalogGroup,
    Arithmetic,
    Core,
    DataType,
    DigitalGroup,
    Memory,
    Network,
    Relaxation,
    TileKind,
)
from ffebm.hardware.quantity import (
    Area,
    Bits,
    Capacity,
    Conductance,
    Count,
    Derived,
    Energy,
    Power,
    Quantity,
    Rate,
    Ratio,
    Resistance,
    Time,
    Voltage,
)
from ffebm.hardware.table import constants_html
from ffebm.visible import visible

__all__ = [
    "Accumulate",
    "Adc",
    "Amplifier",
    "AnalogGroup",
    "Area",
    "Arithmetic",
    "Bits",
    "Capacity",
    "Cell",
    "Chopper",
    "Conductance",
    "Converter",
    "Core",
    "Count",
    "Crossbar",
    "Dac",
    "DataType",
    "Derived",
    "DigitalGroup",
    "Drift",
    "Energy",
    "Exact",
    "ExponentialStep",
    "Hardware",
    "LinearStep",
    "Memory",
    "Network",
    "Power",
    "Quantity",
    "Rate",
    "Ratio",
    "Relaxation",
    "Resistance",
    "Statistics",
    "Stuck",
    "TileKind",
    "Time",
    "Transfer",
    "Update",
    "Verify",
    "Voltage",
    "Wires",
    "load_hardware",
    "shipped_hardware",
]


SCHEMA = 2
"""Version of the format; another version is refused."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Bounds of a constant in its unit: far outside of physics, and sums of their quotients stay finite."""


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A machine: groups of analog tiles, digital units and memories, and a network.

    Tiles are numbered through all groups in the order of the description, and so are digital units.

    Attributes:
        schema: Version of this format.
        name: Short name.
        description: One sentence.
        analog: The groups of tiles.
        digital: The groups of digital units.
        memory: The memories.
        network: What joins the units.
    """

    schema: Literal[2]
    name: Annotated[str, Meta(min_length=1)]
    description: str
    analog: Annotated[tuple[AnalogGroup, ...], Meta(min_length=1)]
    digital: Annotated[tuple[DigitalGroup, ...], Meta(min_length=1)]
    memory: Annotated[tuple[Memory, ...], Meta(min_length=1)]
    network: Network

    def __repr__(self) -> str:
        return f"<Hardware {self._headline()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of all constants."""
        return constants_html(f"{self._headline()}. {self.description}", self.quantities())

    def _headline(self) -> str:
        """The machine in one line."""
        constants = [quantity for _, quantity in self.quantities()]
        assumed = sum(quantity.assumption for quantity in constants)
        return visible(
            f"{self.name}: {', '.join(map(_tiles, self.analog))}; "
            f"{_counted(self.unit_count, 'digital unit')}; "
            f"{len(constants)} constants, {assumed} of them assumptions"
        )

    def analog_group(self, name: str) -> AnalogGroup:
        """The group of tiles of a name.

        Raises:
            InternalError: If there is none.
        """
        return _named(self.analog, name, f"{self.name} has no group of tiles")

    def digital_group(self, name: str) -> DigitalGroup:
        """The group of digital units of a name.

        Raises:
            InternalError: If there is none.
        """
        return _named(self.digital, name, f"{self.name} has no group of digital units")

    @property
    def tile_count(self) -> int:
        """How many tiles there are, all groups together."""
        return sum(group.count for group in self.analog)

    @property
    def unit_count(self) -> int:
        """How many digital units there are, all groups together."""
        return sum(group.count for group in self.digital)

    def tile_numbers(self, name: str) -> range:
        """The numbers of the tiles of a group."""
        return _numbers(self.analog, self.analog_group(name))

    def unit_numbers(self, name: str) -> range:
        """The numbers of the digital units of a group."""
        return _numbers(self.digital, self.digital_group(name))

    def group_of_tile(self, number: int) -> AnalogGroup | None:
        """The group that a tile belongs to; None if there is no such tile."""
        return next((group for group in self.analog if number in self.tile_numbers(group.name)), None)

    def core_of_tile(self, number: int) -> int | None:
        """The core that a tile belongs to, counted through all groups; None if it stands for itself."""
        first = 0
        for group in self.analog:
            tiles = self.tile_numbers(group.name)
            if group.core is None:
                continue
            if number in tiles:
                return first + (number - tiles.start) // group.core.tiles
            first += -(-group.count // group.core.tiles)
        return None

    @property
    def core_count(self) -> int:
        """How many cores there are, all groups of tiles together."""
        return sum(-(-group.count // group.core.tiles) for group in self.analog if group.core is not None)

    @property
    def has_units_in_cores(self) -> bool:
        """Some digital units stand in the cores of the tiles."""
        return any(group.place == "core" for group in self.digital)

    def memory_of(self, name: str) -> Memory:
        """The nearest memory of a group of digital units or tiles: of its own, else of the chip.

        Raises:
            InternalError: If there is none.
        """
        for owner in (name, CHIP):
            owned = [memory for memory in self.memory if memory.owner == owner]
            if owned:
                return min(owned, key=lambda memory: memory.level)
        raise InternalError(f"{self.name} has no memory for {name!r}")

    @property
    def host(self) -> DigitalGroup:
        """The digital units that do what belongs to no node: losses, contrasts, steps of an optimiser."""
        return self.digital[0]

    def units_for(self, op: str) -> DigitalGroup | None:
        """The first group of digital units that run an op; None if none do."""
        return next(iter(self.all_units_for(op)), None)

    def all_units_for(self, op: str) -> tuple[DigitalGroup, ...]:
        """The groups of digital units that run an op."""
        return tuple(group for group in self.digital if group.runs(op))

    @property
    def has_cells(self) -> bool:
        """Some tiles hold weights as conductances of cells on lines with converters."""
        return any(group.tile.has_cells for group in self.analog)

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Every physical constant with its dotted name, in the order of the description."""
        yield from _quantities("", self)


_Group = TypeVar("_Group", AnalogGroup, DigitalGroup)


def _named(groups: tuple[_Group, ...], name: str, missing: str) -> _Group:
    for group in groups:
        if group.name == name:
            return group
    raise InternalError(f"{missing} {name!r}")


def _numbers(groups: tuple[_Group, ...], wanted: _Group) -> range:
    """The numbers of the units of a group."""
    start = 0
    for group in groups:
        if group.name == wanted.name:
            break
        start += group.count
    return range(start, start + wanted.count)


def _tiles(group: AnalogGroup) -> str:
    """A group of tiles in words."""
    size = group.tile.size
    count = _counted(group.count, f"{group.tile.kind} tile")
    return f"{count}{f' of {size[0]} x {size[1]}' if size else ''}, {group.settling}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _quantities(prefix: str, part: msgspec.Struct) -> Iterator[tuple[str, Quantity]]:
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, Quantity):
            yield prefix + name, value
        elif isinstance(value, msgspec.Struct):
            yield from _quantities(f"{prefix}{name}.", value)
        elif isinstance(value, tuple):
            for group in value:
                if isinstance(group, msgspec.Struct):
                    yield from _quantities(f"{prefix}{name}.{group.name}.", group)  # type: ignore[attr-defined]


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
        UsageError: If a package offers that name, and cannot be loaded, or if what is given is neither.

    >>> load_hardware("reference").analog_group("tiles").count
    64
    """
    if isinstance(name, Hardware):
        return _checked(name, str(name.name))
    if not isinstance(name, str | PathLike):
        raise UsageError(f"hardware is a {type(name).__name__}", allowed="a name, a path, or a description")
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
    if path.is_dir():
        raise HardwareError(
            "a folder; a hardware description is a .toml file",
            hint="name the file in it, or a shipped description",
            location=Location(str(path)),
        )
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
    """A description made in Python, held to what a file may say; msgspec itself checks where it decodes.

    What formulas give is computed again: the fields that they read may have been replaced.
    """
    try:
        found = converted(msgspec.to_builtins(hardware), source)
    except (TypeError, NotImplementedError, OverflowError) as error:
        raise HardwareError(
            f"a part of it is no part of a description: {error}", location=Location(source)
        ) from None
    right = dict(found.quantities())
    for name, quantity in hardware.quantities():
        if quantity.formula is not None and quantity.source == right[name].source:
            _check_derived(quantity, right[name], Location(source, name))
    hardware = hardware if found == hardware else found
    check_hardware(hardware, source)
    return hardware


def _decode(text: str, source: str) -> Hardware:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise HardwareError(f"not TOML: {error}", location=Location(source)) from None
    hardware = converted(document, source)
    check_hardware(hardware, source)
    return hardware


def converted(document: object, source: str) -> Hardware:
    """A description from plain data, as TOML gives it: every part of its type, formulas computed.

    Args:
        document: What was read.
        source: Where it comes from, for messages.

    Raises:
        HardwareError: If a part is missing, unknown or of another type; contradictions are not looked for.
    """
    _check_version(document, source)
    derived, problem = with_derived(document)
    try:
        hardware = msgspec.convert(derived, Hardware)
    except msgspec.ValidationError as error:
        found, _, place = str(error).partition(" - at `$")
        where = place.strip(".`").replace("`", "")
        raise HardwareError(
            found,
            allowed=_allowed(_NUMBERED.sub("", where)) if found.startswith("Invalid ") else "",
            hint="docs/hardware.md lists the keys; every constant is {value, unit, source}",
            location=Location(source, _by_name(where, document)),
        ) from None
    if problem is not None:
        raise HardwareError(
            problem.found,
            allowed=problem.allowed,
            hint="docs/hardware.md lists the formulas and what each takes",
            location=Location(source, problem.where),
        )
    return hardware


_NUMBERED = re.compile(r"\[(\d+)\]")


def _check_version(document: object, source: str) -> None:
    """An older format is refused with what to change in it.

    Raises:
        HardwareError: If it is not of this version.
    """
    found = document.get("schema") if isinstance(document, dict) else None
    if found != 1 or isinstance(found, bool):
        return
    raise HardwareError(
        "a description of schema 1",
        allowed=f"schema {SCHEMA}",
        hint='[tiles] becomes [[analog]] with name = "tiles", [digital] becomes [[digital]] with a name and '
        "its rates and energies in [digital.fp32], digital.memory_energy becomes bit_energy of a [[memory]] "
        'with owner = that name, [network] takes topology = "bus", and each takes area and leakage: '
        "docs/hardware.md shows both side by side",
        location=Location(source, "schema"),
    )


def _by_name(where: str, document: object) -> str:
    """A place in a document, groups by their names: `analog.tiles.count` for `analog[0].count`."""
    for match in _NUMBERED.finditer(where):
        groups = document.get(where[: match.start()]) if isinstance(document, dict) else None
        index = int(match[1])
        group = groups[index] if isinstance(groups, list | tuple) and index < len(groups) else None
        name = group.get("name") if isinstance(group, dict) else None
        if isinstance(name, str):
            where = where.replace(match[0], f".{name}", 1)
        break  # what a group holds is in no group again
    return where


def _allowed(key: str) -> str:
    """The values that a key takes, by its dotted name."""
    values = _literals(inspect.type_info(Hardware), key.split("."))
    return ", ".join(dict.fromkeys(map(repr, values)))


def _literals(kind: inspect.Type, names: Sequence[str]) -> Iterator[object]:
    """The literals at the end of the way that these names lead; each kind of tile or remedy is a fork."""
    if isinstance(kind, inspect.UnionType):
        for way in kind.types:
            yield from _literals(way, names)
    elif isinstance(kind, inspect.VarTupleType):
        yield from _literals(kind.item_type, names)
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
    for problem in machine_problems(hardware.analog, hardware.digital, hardware.memory):
        raise HardwareError(
            problem.found,
            allowed=problem.allowed,
            hint=problem.hint,
            location=Location(source, problem.where),
        )
    _check_formulas(hardware, source)


def _check_formulas(hardware: Hardware, source: str) -> None:
    """Constants that formulas give are what they give."""
    if all(quantity.formula is None for _, quantity in hardware.quantities()):
        return
    right = dict(converted(msgspec.to_builtins(hardware), source).quantities())
    for name, quantity in hardware.quantities():
        _check_derived(quantity, right[name], Location(source, name))


def _check_derived(found: Quantity, right: Quantity, where: Location) -> None:
    """A constant is what its formula gives; other machines round logarithms otherwise.

    Raises:
        HardwareError: If it is not.
    """
    if found.source == right.source and math.isclose(found.value, right.value, rel_tol=1e-9):
        return
    raise HardwareError(
        f"a value of {found.value:g}, where its formula gives {right.value:g}",
        allowed="what the formula gives",
        hint="a value of your own stands without a formula: replace(quantity, value=…, formula=None)",
        location=where,
    )
