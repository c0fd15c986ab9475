"""Names and patterns of names: `*` stands for anything, `?` for one character, all else for itself."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


class Patterns:
    """Names that are asked for, some by pattern.

    Args:
        asked: Names and patterns.

    >>> names = Patterns(["fc.*", "a[0]"])
    >>> [name for name in ("fc.weight", "a[0]", "a0", "b") if name in names]
    ['fc.weight', 'a[0]']
    """

    def __init__(self, asked: Iterable[str]) -> None:
        self.names = frozenset(asked)
        # torch and ONNX give names with brackets, which would be classes of characters
        self.open = [name.replace("[", "[[]") for name in sorted(self.names) if {"*", "?"} & {*name}]

    def __contains__(self, name: object) -> bool:
        """Whether a name is asked for, by itself or by a pattern."""
        return name in self.names or any(fnmatchcase(str(name), pattern) for pattern in self.open)
