"""Machines with some of their constants changed, and a machine as the text of a description."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from ffebm.errors import HardwareError, Location, UsageError
from ffebm.exploration.knobs import OPTIONS, SETTLING, Value, value_text
from ffebm.hardware.description import Hardware, converted
from ffebm.hardware.quantity import Quantity

VARIED = "varied by an exploration"
"""Source of a constant that was changed."""
_FIXED = {"schema", "name", "description", "owner", "level", "ops"}
"""Keys that say what a part is, and are no constants."""


def with_constants(hardware: Hardware, constants: Mapping[str, Value]) -> Hardware:
    """A machine with other constants; those that formulas give follow.

    Args:
        hardware: The machine.
        constants: By dotted name, such as "analog.tiles.tile.adc.bits". None leaves out what may be.

    Returns:
        The machine, in which nothing contradicts its type; `load_hardware` finds contradictions.

    Raises:
        UsageError: If there is no such constant, or it cannot have that value; what is allowed.
    """
    document: dict[str, Any] = msgspec.to_builtins(hardware)
    for key, value in constants.items():
        _put(document, hardware.name, key, value)
        try:
            converted(document, hardware.name)
        except HardwareError as error:
            raise UsageError(
                f"--vary {key}={value_text(value)}: {error.found}",
                allowed=error.allowed,
                hint="docs/hardware.md lists the keys",
            ) from None
    return converted(document, hardware.name)


def _put(document: dict[str, Any], machine: str, key: str, value: Value) -> None:
    """Write one constant into a description."""
    kind, part = _kind_of_machine(), document
    names = key.split(".")
    for place, name in enumerate(names):
        fields = _fields(kind, part)
        if name not in fields or name in _FIXED:
            allowed = [field for field in fields if field not in _FIXED]
            raise _unknown(machine, names[:place], name, allowed)
        kind = fields[name]
        if place == len(names) - 1:
            break
        held = _held(part, name)
        if held is None:
            missing = ".".join(names[: place + 1])
            raise UsageError(
                f"--vary {key}: {machine} has no {missing}", allowed="a machine whose description has it"
            )
        part = held
    quantity = _quantity(kind)
    if quantity is None and _is_table(kind):
        allowed = [field for field in _fields(kind, _held(part, name) or {}) if field not in _FIXED]
        raise _unknown(machine, names, "", allowed)
    if value is None:
        part.pop(name, None)
    elif quantity is None:
        part[name] = value
    else:
        part[name] = {"value": value, "unit": _unit(quantity), "source": VARIED, "assumption": True}


@cache
def _kind_of_machine() -> inspect.Type:
    """What a description can hold, which takes as long to list as a machine to read."""
    return inspect.type_info(Hardware)


def _unknown(machine: str, inside: list[str], name: str, allowed: Sequence[str]) -> UsageError:
    """A name that leads nowhere, or not far enough."""
    place = ".".join(inside)
    listed = ", ".join(allowed) or "nothing"
    what = f"{name!r} is nothing of {place or machine}" if name else f"{place} is a table"
    key = ".".join([*inside, name] if name else inside)
    options = "" if inside else ", or an option of ffebm compile with one value"
    known = [*allowed, *(() if inside else (*OPTIONS, *SETTLING))]
    close = get_close_matches(name.replace("-", "_"), known, 1, 0.7) if name else []
    hint = f"did you mean {'.'.join([*inside, *close])}?" if close else ""
    return UsageError(f"--vary {key}: {what}", allowed=f"allowed are {listed}{options}", hint=hint)


def _held(part: Any, name: str) -> Any:
    """What a table, or a list of groups, holds by a name."""
    if isinstance(part, list | tuple):
        return next((group for group in part if group["name"] == name), None)
    return part.get(name)


def _fields(kind: inspect.Type, part: Any) -> dict[str, inspect.Type]:
    """What a part of a description can hold, by name: fields of a table, or groups."""
    if isinstance(kind, inspect.VarTupleType):
        return {group["name"]: kind.item_type for group in part}
    if isinstance(kind, inspect.UnionType):
        tables = [way for way in kind.types if isinstance(way, inspect.StructType)]
        tagged = [way for way in tables if way.tag is None or way.tag == part.get("type")]
        return _fields(tagged[0], part) if tagged else {}
    if not isinstance(kind, inspect.StructType):
        return {}
    fields = {field.encode_name: field.type for field in kind.fields}
    if not issubclass(kind.cls, Quantity):
        return fields
    given = part.get("formula")
    return {"formula": fields["formula"]} if given else {}


def _is_table(kind: inspect.Type) -> bool:
    ways = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return any(isinstance(way, inspect.StructType | inspect.VarTupleType) for way in ways)


def _quantity(kind: inspect.Type) -> inspect.StructType | None:
    """The kind of a physical constant; None if it is none."""
    ways = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    for way in ways:
        if isinstance(way, inspect.StructType) and issubclass(way.cls, Quantity):
            return way
    return None


def _unit(quantity: inspect.StructType) -> object:
    """The one unit that a kind of constant has."""
    (unit,) = (field.type for field in quantity.fields if field.encode_name == "unit")
    assert isinstance(unit, inspect.LiteralType)
    return unit.values[0]


# --- the text of a description -----------------------------------------------------------------------


def machine_toml(hardware: Hardware) -> str:
    """A machine as a description: `load_hardware` reads the same machine from it."""
    document: dict[str, Any] = msgspec.to_builtins(hardware)
    return "\n".join(_table_lines("", document)) + "\n"


def _table_lines(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Plain values first, then tables, then lists of tables, as TOML wants it."""
    tables = {key: held for key, held in table.items() if isinstance(held, dict) and not _is_leaf(held)}
    lists = {key: held for key, held in table.items() if isinstance(held, list | tuple) and _of_tables(held)}
    for key, held in table.items():
        if key not in tables and key not in lists and held is not None:
            yield f"{key} = {_text(held)}"
    for key, held in tables.items():
        yield f"\n[{name}{key}]"
        yield from _table_lines(f"{name}{key}.", held)
    for key, groups in lists.items():
        for group in groups:
            yield f"\n[[{name}{key}]]"
            yield from _table_lines(f"{name}{key}.", group)


def _is_leaf(table: Mapping[str, Any]) -> bool:
    """A physical constant, which stands on one line."""
    return "unit" in table


def _of_tables(held: Any) -> bool:
    return bool(held) and all(isinstance(entry, dict) for entry in held)


def _text(held: Any) -> str:
    """A value in TOML; a constant with a formula is computed where it is read."""
    if isinstance(held, dict):
        given = {key: entry for key, entry in held.items() if entry is not None}
        if given.get("formula"):
            given = {key: entry for key, entry in given.items() if key not in {"value", "source"}}
        return f"{{ {', '.join(f'{key} = {_text(entry)}' for key, entry in given.items())} }}"
    if isinstance(held, list | tuple):
        return f"[{', '.join(map(_text, held))}]"
    if isinstance(held, str):
        quoted = json.dumps(held, ensure_ascii=False)
        return re.sub("\x7f", r"\\u007f", quoted)
    return json.dumps(held)


def named(hardware: Hardware, name: str, point: Mapping[str, Value]) -> Hardware:
    """A machine with a name of its own that says what was varied in it."""
    said = ", ".join(f"{key} = {value_text(value)}" for key, value in point.items())
    description = f"{hardware.description} Varied: {said}."
    return msgspec.structs.replace(hardware, name=name, description=description)


def located(error: HardwareError, machine: str) -> str:
    """A contradiction of a machine as text, with its place."""
    place = error.location or Location(machine)
    return str(HardwareError(error.found, allowed=error.allowed, location=place))
