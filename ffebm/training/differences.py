"""What differs between settings, in words."""

import msgspec


def differing(theirs: msgspec.Struct, ours: msgspec.Struct) -> tuple[str, str]:
    """The fields that differ, with the values of either."""
    names = [name for name in theirs.__struct_fields__ if getattr(theirs, name) != getattr(ours, name)]
    return _fields(theirs, names), _fields(ours, names)


def _fields(settings: msgspec.Struct, names: list[str]) -> str:
    return ", ".join(f"{name} = {getattr(settings, name)!r}" for name in names)
