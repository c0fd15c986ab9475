"""How a torch model's results are nested: a closed set of containers, so that data names no class."""

import keyword
from collections import namedtuple
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import msgspec

Nesting = Literal["tuple", "list", "dict", "namedtuple", "record"]
"""The containers that there are."""


class Nest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A container.

    Attributes:
        kind: "record" has named fields, whose values are found by name, as an attribute, and by position.
        items: What it holds, in order; None is the next leaf.
        keys: Names of the items of a dictionary, a named tuple or a record.
        name: Name of a named tuple's or record's class; for people only.
    """

    kind: Nesting
    items: "tuple[Nest | None, ...]"
    keys: tuple[str | bool | int | float, ...] = ()
    name: str = ""


class Structure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a torch model's results are nested.

    Attributes:
        tree: The outermost container; None if the result is a single leaf.
        leaves: The leaves in order: an output's name, or what the model always returns there.
    """

    tree: Nest | None
    leaves: tuple[str | bool | int | float | None, ...]


class Record(dict[str, Any]):
    """Named results: by key, as an attribute, or by position, as the model's own class gives them.

    Args:
        name: Name of the model's own class.
        fields: Values by name.
    """

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self._name = name

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self:
            raise AttributeError(f"{name!r} is no field; there are {', '.join(self)}")
        return self[name]

    def __repr__(self) -> str:
        return f"{self._name}({', '.join(f'{key}={value!r}' for key, value in self.items())})"

    @property
    def class_name(self) -> str:
        """Name of the model's own class."""
        return self._name


def nested(structure: Structure, leaves: Sequence[Any]) -> Any:
    """Leaves in their containers.

    Args:
        structure: Without problems.
        leaves: One value a leaf, in order.
    """
    left = iter(leaves)
    return _filled(structure.tree, left)


def structure_problems(structure: Structure | None, values: Collection[str]) -> Iterator[str]:
    """Contradictions, as text.

    Args:
        structure: Of a plan; None is a plain result, which has none.
        values: Names that a leaf may have.
    """
    if structure is None:
        return
    nests, count = _nests(structure.tree)
    if count != len(structure.leaves):
        yield f"{len(structure.leaves)} leaves for {count} places in the structure of the results"
    for leaf in structure.leaves:
        if isinstance(leaf, str) and leaf not in values:
            yield f"leaf {leaf!r} of the results is no output"
    for nest in nests:
        keys = len(nest.items) if nest.kind not in {"tuple", "list"} else 0
        if len(nest.keys) != keys or len(set(nest.keys)) != keys:
            yield f"a {nest.kind} of {len(nest.items)} results has the keys {list(nest.keys)}"
        if nest.kind in {"namedtuple", "record"} and not all(map(_is_name, (*nest.keys, nest.name))):
            yield f"a {nest.kind} {nest.name!r} has the keys {list(nest.keys)}, which are no names"


def _filled(nest: Nest | None, left: Iterator[Any]) -> Any:
    if nest is None:
        return next(left)
    items = [_filled(item, left) for item in nest.items]
    if nest.kind in {"tuple", "list"}:
        return tuple(items) if nest.kind == "tuple" else items
    if nest.kind == "dict":
        return dict(zip(nest.keys, items, strict=True))
    names = [str(key) for key in nest.keys]
    if nest.kind == "record":
        return Record(nest.name, dict(zip(names, items, strict=True)))
    return namedtuple(nest.name, names)(*items)  # its names are data, and checked


def _nests(tree: Nest | None) -> tuple[list[Nest], int]:
    """All containers, and the number of leaves."""
    found: list[Nest] = []
    leaves, left = 0, [tree]
    while left:
        nest = left.pop()
        if nest is None:
            leaves += 1
        else:
            found.append(nest)
            left.extend(nest.items)
    return found, leaves


def _is_name(key: object) -> bool:
    plain = isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)
    return plain and not str(key).startswith("_")
