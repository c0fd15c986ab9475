"""Plain fields of a description, as text by dotted name."""

from collections.abc import Iterator

import msgspec

from ffebm.hardware.description import Quantity


def plain_fields(prefix: str, part: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """Fields that are no physical constants, those that are left out as a dash."""
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if isinstance(value, msgspec.Struct):
            if not isinstance(value, Quantity):
                yield from plain_fields(f"{prefix}{name}.", value)
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            for group in value:
                yield from plain_fields(f"{prefix}{name}.{group.name}.", group)
        elif isinstance(value, tuple):
            yield prefix + name, ", ".join(map(str, value)) or "-"
        elif isinstance(value, dict):
            yield prefix + name, ", ".join(f"{key} = {entry}" for key, entry in value.items()) or "-"
        else:
            yield prefix + name, "-" if value is None else str(value)
