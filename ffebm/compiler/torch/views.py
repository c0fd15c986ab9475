"""Values of torch that share memory: what an op writes in place is seen by all of them.

A view remembers its base. A write gives the written value and, through the inverse of each view, its bases
new values; a view whose base has changed since is made anew when it is next read.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from ffebm.compiler.torch.schemas import Functional, functional_of


class NotInvertibleError(Exception):
    """A write through a view that has no inverse here."""


@dataclass(frozen=True)
class Named:
    """An argument that is a value of the graph, by its name."""

    name: str


class Emitter(Protocol):
    """What adds calls to the graph."""

    def arguments(self, node: fx.Node) -> dict[str, object]:
        """Arguments of a call by name."""

    def emit(
        self, node: fx.Node, target: Any, arguments: dict[str, object], made: Tensor | None = None
    ) -> str:
        """Add a call that makes what the node holds, or `made`; name of its first output."""

    def part(self, node: fx.Node) -> str:
        """The output of a call that an item takes."""


SCATTERS = {
    "select": torch.ops.aten.select_scatter.default,
    "slice": torch.ops.aten.slice_scatter.default,
    "diagonal": torch.ops.aten.diagonal_scatter.default,
}
"""Views of a part, and the op that puts the part back."""
RESHAPES = frozenset({"view", "reshape", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten"})
SWAPS = frozenset({"transpose", "t", "swapaxes", "swapdims", "numpy_T", "mT"})
COPIES = frozenset({"detach", "alias", "contiguous", "to", "view_as", "lift_fresh"})
FRESH = frozenset({torch.ops.aten.lift_fresh_copy.default})
"""Ops whose result is new at every run, though export records that it shares memory with a constant."""


class Aliases:
    """The value that each node of torch's graph has now."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._value: dict[fx.Node, str] = {}
        self._same: dict[fx.Node, fx.Node] = {}
        self._base: dict[fx.Node, fx.Node] = {}
        self._stamp: dict[fx.Node, int] = {}
        self._seen: dict[fx.Node, int] = {}
        self._first: dict[fx.Node, str] = {}
        self._clock = 0

    def make(self, node: fx.Node, value: str) -> None:
        """A node makes a value."""
        self._clock += 1
        self._value[node] = value
        self._stamp[node] = self._clock
        if node.op == "placeholder":
            self._first.setdefault(node, value)

    def enter(self, node: fx.Node, value: str) -> None:
        """A region takes a value as its argument; the region may have been read before."""
        self._same.pop(node, None)
        self.make(node, value)

    def same(self, node: fx.Node, other: fx.Node) -> None:
        """A node is another one."""
        self._same[node] = other

    def share(self, node: fx.Node) -> None:
        """Remember the base of a node that is a view: one that shares its memory."""
        base = node.args[0] if node.args else None
        if isinstance(base, fx.Node) and node.target not in FRESH:
            here, there = _storages(node), _storages(base)
            base = self._root(base)
            if here and there and here[0] == there[0] and base in self._stamp:
                self._base[node] = base
                self._seen[node] = self._stamp[base]

    def read(self, node: fx.Node) -> str:
        """The value that a node has now."""
        node = self._root(node)
        base = self._base.get(node)
        if base is not None:
            self.read(base)
            if self._stamp[base] > self._seen[node]:
                if node.target is operator.getitem:
                    self.make(node, self._emitter.part(node))
                else:
                    self._emitter.emit(node, node.target, self._emitter.arguments(node))
                self._seen[node] = self._stamp[base]
        return self._value[node]

    def write(self, node: fx.Node) -> None:
        """An op that writes a tensor, in place or as its `out`: the op that makes the new value instead."""
        target: Any = node.target
        form = functional_of(target)
        arguments = self._emitter.arguments(node)
        place = arguments.get(form.written) if form is not None else None
        if form is None or not isinstance(place, fx.Node):
            raise NotInvertibleError(f"{target} writes more than one tensor, or torch has no form without")

        root = self._root(place)
        if torch.Tag.inplace_view in target.tags and (root in self._base or root in self._base.values()):
            raise NotInvertibleError(f"{target} turns a value that shares its memory")
        self.read(place)
        copies = target._schema.name == "aten::copy_"
        value = self._copied(node) if copies else self._computed(node, form, arguments)
        self._set(self._root(place), value)
        self._same[node] = place

    def _computed(self, node: fx.Node, form: Functional, arguments: dict[str, object]) -> str:
        """What an op writes, in the element type of where it is written."""
        given = form.arguments(arguments)
        held = node.meta["val"]
        if torch.Tag.inplace_view in node.target.tags:  # type: ignore[union-attr] # an overload
            return self._emitter.emit(node, form.target, given)

        made = _evaluated(form.target, given, held)
        if made.shape != held.shape:
            raise NotInvertibleError(f"{node.target} enlarges what it writes")
        if made.dtype == held.dtype:
            return self._emitter.emit(node, form.target, given)
        value = self._emitter.emit(node, form.target, given, made)
        cast: dict[str, object] = {"self": Named(value), "dtype": held.dtype}
        return self._emitter.emit(node, torch.ops.aten.to.dtype, cast)

    def _copied(self, node: fx.Node) -> str:
        """What a copy leaves behind: the source in the target's shape and element type."""
        target, source = node.args[:2]
        assert isinstance(target, fx.Node)
        assert isinstance(source, fx.Node)
        here, there = target.meta["val"], source.meta["val"]
        if here.shape == there.shape and here.dtype == there.dtype:
            return self.read(source)
        grown: dict[str, object] = {"self": source, "other": target}
        value = self._emitter.emit(node, torch.ops.aten.expand_as.default, grown)
        if here.dtype == there.dtype:
            return value
        cast: dict[str, object] = {"self": Named(value), "other": target}
        return self._emitter.emit(node, torch.ops.aten.type_as.default, cast)

    def written(self) -> Iterator[tuple[str, str]]:
        """Buffers and inputs that have another value now, and that value."""
        for node, first in self._first.items():
            now = self.read(node)
            if now != first:
                yield first, now

    def _root(self, node: fx.Node) -> fx.Node:
        while node in self._same:
            node = self._same[node]
        return node

    def _set(self, node: fx.Node, value: str) -> None:
        self.make(node, value)
        base = self._base.get(node)
        if base is not None:
            self._set(base, self._put_back(node, base, value))
            self._seen[node] = self._stamp[base]

    def _put_back(self, node: fx.Node, base: fx.Node, value: str) -> str:
        """The base after its view has become `value`."""
        if node.target is operator.getitem:
            raise NotInvertibleError("a write through one of several views")
        target: Any = node.target
        name = target._schema.name.split("::")[1]
        arguments = self._emitter.arguments(node)
        if name in COPIES:
            return value
        part = Named(value)
        rest = {k: v for k, v in arguments.items() if k != "self"}
        if name in SCATTERS:
            arguments = {"self": base, "src": part, **rest}
            target = SCATTERS[name]
        elif name in SWAPS:
            arguments = {**arguments, "self": part}
        elif name == "permute":
            order = [int(axis) % len(rest["dims"]) for axis in rest["dims"]]  # type: ignore[arg-type,attr-defined]
            arguments = {"self": part, "dims": [order.index(axis) for axis in range(len(order))]}
        elif name in RESHAPES:
            arguments = {"self": part, "shape": _known_sizes(base)}
            target = torch.ops.aten.reshape.default
        else:
            raise NotInvertibleError(f"a write through {name}")
        return self._emitter.emit(base, target, arguments)


def _evaluated(target: Any, arguments: dict[str, object], like: Any) -> Tensor:
    """What a call would make, without data; `like` is a tensor of the same export."""
    try:
        given = pytree.tree_map(
            lambda value: value.meta["val"] if isinstance(value, fx.Node) else value, arguments
        )
        with like.fake_mode:
            made: Tensor = target(**given)
    except Exception as error:  # whatever torch raises, the call is then left to its own decompositions
        raise NotInvertibleError(f"{target} cannot be evaluated here") from error
    return made


def _storages(node: fx.Node) -> list[int]:
    """What memory a node's tensors lie in."""
    made = node.meta.get("val")
    tensors = made if isinstance(made, tuple | list) else (made,)
    return [t.untyped_storage()._cdata for t in tensors if isinstance(t, Tensor)]


def _known_sizes(node: fx.Node) -> list[int]:
    """The shape of a node's value; one size may follow from the others."""
    sizes = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    if sizes.count(-1) > 1:
        raise NotInvertibleError("a write through a reshape with several unknown sizes")
    return sizes
