"""How the matrices of a weight lie on arrays: bundles of parts with places relative to each other.

A matrix larger than an array is cut: into full arrays and one remainder each way ("full"), or into ranges
whose sizes differ by at most one ("even"). Each group of a grouped convolution is a matrix of its own. Small
ones lie together in a bundle, which is a row of diagonals:

    same lines       2 a read         own lines
    A B C D          A . C .          A . . .
                     . B . D          . B . .
                                      . . C .
                                      . . . D

Kernels of one diagonal have word lines and bit lines of their own, so one read takes them all; the diagonals
of a bundle are read in turn. Own lines cost one read a vector and leave most of the array empty; kernels side
by side on the same word lines fill it, and are read one by one. Shorter diagonals of lines of their own leave
less empty, in more bundles on more arrays.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Literal

from msgspec.structs import replace as replace_part

from ffebm.graph.energy_block import Linear
from ffebm.graph.graph import Part

Size = tuple[int, int]
"""Word lines and bit-line pairs of an array."""

Cut = Literal["full", "even"]

DENSER = 0.5
"""Shorter diagonals are a layout of their own if they take at most this share of the arrays."""


@dataclass(frozen=True)
class Bundle:
    """Parts that lie together on one array.

    Attributes:
        parts: All of one weight, bundle, replica and direction; those of a turn behind each other.
    """

    parts: tuple[Part, ...]

    @cached_property
    def spots(self) -> tuple[Size, ...]:
        """Word line and bit line of each part from the bundle's corner on."""
        spots, row, col, turn = [], 0, 0, -1
        for part in self.parts:
            row = row if part.turn == turn else 0
            spots.append((row, col))
            row, col, turn = row + part.n_in, col + part.n_out, part.turn
        return tuple(spots)

    @property
    def height(self) -> int:
        """Word lines."""
        return max(row + part.n_in for part, (row, _) in zip(self.parts, self.spots, strict=True))

    @property
    def width(self) -> int:
        """Bit-line pairs."""
        return sum(part.n_out for part in self.parts)

    @property
    def turns(self) -> int:
        """Reads that a vector takes."""
        return 1 + self.parts[-1].turn


def bundles_of(parts: Sequence[Part]) -> tuple[Bundle, ...]:
    """The bundles that parts make up, in the order in which they appear."""
    found: dict[tuple[str, int, int, bool], list[Part]] = {}
    for part in parts:
        found.setdefault((part.weight, part.replica, part.bundle, part.transposed), []).append(part)
    return tuple(Bundle(tuple(together)) for together in found.values())


@dataclass(frozen=True)
class Layout:
    """All bundles of one weight.

    Attributes:
        weight: Source name.
        groups: Matrices.
        inputs: Ranges of a matrix's inputs: first, and one behind the last.
        outputs: Ranges of its outputs.
        cut: How these were made.
        together: Groups that one read takes.
        turns: Reads that a vector takes.
        replicas: Copies over which vectors are shared out.
        two_way: Each copy has arrays with the transpose beside it.
    """

    weight: str
    groups: int
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]
    cut: Cut = "full"
    together: int = 1
    turns: int = 1
    replicas: int = 1
    two_way: bool = False

    @property
    def kind(self) -> str:
        """What tells it from the others of its weight."""
        if self.groups == 1:
            return f"{self.cut} cuts"
        if self.turns == 1:
            return "own lines"
        return "same lines" if self.together == 1 else f"{self.together} a read"

    def copies(self, replicas: int) -> "Layout":
        """The same with so many replicas."""
        return replace(self, replicas=replicas)

    @property
    def ranges(self) -> int:
        """Ranges of inputs of a replica that start products of their own."""
        if self._whole:
            return sum(1 for _ in _counts(self.groups, self.together * self.turns))
        return self.groups * len(self.inputs)

    def vectors(self, count: int) -> int:
        """Vectors that the busiest replica takes of `count` of a sample."""
        return _up(count, self.replicas)

    def boxes(self) -> Iterator[Size]:
        """Word lines and bit lines of each bundle, those of all replicas."""
        once = list(self._boxes())
        if self.two_way:
            once += [(width, height) for height, width in once]
        for _ in range(self.replicas):
            yield from once

    def arrays(self, size: Size) -> float:
        """Arrays that one replica takes if each bundle lies among others of its own size.

        Args:
            size: Word lines and bit lines of an array.
        """
        taken = Counter(self._boxes()) if not self._whole else self._bundled()
        return sum(
            count / ((size[0] // height) * (size[1] // width)) for (height, width), count in taken.items()
        )

    def _bundled(self) -> Counter[Size]:
        """How many bundles of one replica have a size, where no matrix is cut."""
        count = _up(self.groups, self.together * self.turns)
        small, larger = divmod(self.groups, count)
        return +Counter({self._box(small): count - larger, self._box(small + 1): larger})

    def _box(self, held: int) -> Size:
        """Word lines and bit lines of a bundle of so many whole matrices."""
        return _up(held, _up(held, self.together)) * self.inputs[0][1], held * self.outputs[0][1]

    def _boxes(self) -> Iterator[Size]:
        """Those of one replica."""
        if self._whole:
            yield from map(self._box, _counts(self.groups, self.together * self.turns))
        else:
            heights, widths = (
                [last - first for first, last in spans] for spans in (self.inputs, self.outputs)
            )
            yield from ((height, width) for _ in range(self.groups) for width in widths for height in heights)

    def parts(self) -> tuple[Part, ...]:
        """Every part, bundle by bundle."""
        ways = (False, True) if self.two_way else (False,)
        return tuple(
            replace_part(part, transposed=turned) if turned else part
            for turned in ways
            for replica in range(self.replicas)
            for part in self._parts(replica)
        )

    @property
    def _whole(self) -> bool:
        """No matrix is cut."""
        return len(self.inputs) == len(self.outputs) == 1

    def _parts(self, replica: int) -> Iterator[Part]:
        if not self._whole:
            cuts = product(range(self.groups), self.outputs, self.inputs)
            for bundle, (group, outputs, inputs) in enumerate(cuts):
                yield Part(self.weight, group, inputs, outputs, bundle, 0, replica)
            return
        group = 0
        for bundle, held in enumerate(_counts(self.groups, self.together * self.turns)):
            for turn, at_once in enumerate(_counts(held, self.together)):
                for _ in range(at_once):
                    yield Part(self.weight, group, self.inputs[0], self.outputs[0], bundle, turn, replica)
                    group += 1


def layouts_of(linear: Linear, shape: Sequence[int], size: Size | None) -> tuple[Layout, ...]:
    """Every layout of a weight without replicas, those with the fewest reads first.

    Args:
        linear: What it is the weight of.
        shape: The weight's, as the source model has it.
        size: Word lines and bit-line pairs of an array; None for one that holds anything and is read at once.
    """
    groups, n_in, n_out = matrix_size(linear, shape)
    if size is None:
        return (Layout(linear.weight, groups, ((0, n_in),), ((0, n_out),), turns=groups),)
    rows, cols = size
    if groups == 1 or n_in > rows or n_out > cols:
        full = Layout(linear.weight, groups, full_cuts(n_in, rows), full_cuts(n_out, cols))
        even = Layout(linear.weight, groups, even_cuts(n_in, rows), even_cuts(n_out, cols), cut="even")
        return (full, even) if (full.inputs, full.outputs) != (even.inputs, even.outputs) else (full,)
    whole = Layout(linear.weight, groups, ((0, n_in),), ((0, n_out),))
    found: dict[tuple[int, int], Layout] = {}
    for turns in _ladder(groups, rows // n_in, cols // n_out):
        # a bundle of so many diagonals is as wide as all its kernels
        together = min(rows // n_in, cols // n_out // turns)
        bundles = _up(groups, together * turns)
        together = _up(groups, bundles * turns)
        needed = _up(_up(groups, bundles), together)
        for held in (together, _denser(whole, size, together)) if needed == 1 else (together,):
            found.setdefault((needed, -held), replace(whole, together=held, turns=needed))
    return tuple(found[key] for key in sorted(found))


def _denser(whole: Layout, size: Size, together: int) -> int:
    """Groups of the longest shorter diagonals that take clearly fewer arrays; all of them if none do."""

    def arrays(held: int) -> float:
        return replace(whole, together=held).arrays(size)

    most = DENSER * arrays(together)
    return next((held for held in range(together - 1, 0, -1) if arrays(held) <= most), together)


def _ladder(groups: int, high: int, wide: int) -> list[int]:
    """Reads a vector from one on, twice as many each; the last ones fill an array with the fewest lines."""
    most = min(groups, wide)
    steps = {1 << power for power in range(most.bit_length())}
    filled = max(1, wide // min(high, wide))
    return sorted({*(step for step in steps if step <= most), min(filled, most), most})


def turned_size(size: Size | None) -> Size | None:
    """Lines of what fits an array as it is and turned."""
    return None if size is None else (min(size), min(size))


def matrix_size(linear: Linear, shape: Sequence[int]) -> tuple[int, int, int]:
    """Size of a weight's matrices: groups, inputs and outputs of one group."""
    if linear.op == "MatMul":
        n_in, n_out = reversed(shape) if linear.transposed else shape
        return 1, n_in, n_out
    first, rest = shape[0] // linear.groups, 1
    for extent in shape[1:]:
        rest *= extent
    return (linear.groups, rest, first) if linear.op == "Conv" else (linear.groups, first, rest)


def full_cuts(size: int, limit: int) -> tuple[tuple[int, int], ...]:
    """Ranges of `limit` and one remainder that cover `size`."""
    return tuple((start, min(start + limit, size)) for start in range(0, size, limit))


def even_cuts(size: int, limit: int) -> tuple[tuple[int, int], ...]:
    """Ranges of at most `limit` that cover `size` evenly, larger ones first."""
    ranges, start = [], 0
    for length in _counts(size, limit):
        ranges.append((start, start + length))
        start += length
    return tuple(ranges)


def _up(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)


def _counts(size: int, limit: int) -> list[int]:
    """As few numbers of at most `limit` as add up to `size`, alike but for one, larger ones first."""
    count = _up(size, limit)
    small, larger = divmod(size, count)
    return [small + (index < larger) for index in range(count)]
