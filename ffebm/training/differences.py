"""What differs between settings, in words."""

from collections.abc import Mapping

import msgspec


def differing(theirs: msgspec.Struct, ours: msgspec.Struct) -> tuple[str, str]:
    """The fields that differ, with the values of either."""
    return differing_values(msgspec.structs.asdict(theirs), msgspec.structs.asdict(ours))


def differing_values(theirs: Mapping[str, object], ours: Mapping[str, object]) -> tuple[str, str]:
    """The same of values by name; a name that one side does not have is left out there."""
    names = dict.fromkeys([*theirs, *ours])
    apart = [n for n in names if n not in theirs or n not in ours or theirs[n] != ours[n]]
    return _words(theirs, apart), _words(ours, apart)


def _words(settings: Mapping[str, object], names: list[str]) -> str:
    return ", ".join(f"{name} = {settings[name]!r}" for name in names if name in settings)
