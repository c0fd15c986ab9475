"""Knobs: what an exploration varies, and the points of their grid."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from ffebm.errors import UsageError

Value: TypeAlias = int | float | bool | str | None
"""What a knob can stand at; None leaves an option or a constant out."""
Point: TypeAlias = Mapping[str, Value]
"""A value for each knob."""

OPTIONS = (
    "hardware",
    "block_size",
    "boundary",
    "fold_batch_norm",
    "physics",
    "feedback",
    "objective",
    "tiles",
    "max_latency",
    "max_energy",
    "max_area",
    "slowdown",
    "replicas",
    "effort",
    "batch",
)
"""Options of the compiler with one value, which can be varied, named as `ffebm.compile` names them."""
SETTLING = (
    "free_sweeps",
    "nudged_sweeps",
    "tol",
    "start",
    "relaxation",
    "anderson",
    "winners",
    "strict",
    "settling",
)
"""The same of how blocks settle."""
SIMULATED = frozenset(SETTLING) - {"free_sweeps", "nudged_sweeps"} | {"feedback"}
"""Options that only a simulation looks at: phases are priced by their sweeps."""
MOST_POINTS = 1_000_000
"""Of a grid."""
_WORDS: dict[str, Value] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Knob:
    """Something that is varied.

    Attributes:
        key: An option of the compiler, or the dotted name of a constant of the machine; several joined by
            "+" always stand at the same value.
        values: What it stands at, each once, in the order in which they were given.
    """

    key: str
    values: tuple[Value, ...]


def knobs_of(entries: Iterable[str]) -> tuple[Knob, ...]:
    """What `--vary` says, once for each knob.

    Raises:
        UsageError: If an entry is no KEY=a,b,c, or there is none, or one comes twice.

    >>> knobs_of(["block_size=1,2", "analog.tiles.tile.dac.slice_bits=none,1"])
    (Knob(key='block_size', values=(1, 2)), Knob(key='analog.tiles.tile.dac.slice_bits', values=(None, 1)))
    """
    knobs: list[Knob] = []
    seen: set[str] = set()
    for entry in entries:
        key, sign, text = entry.partition("=")
        texts = [part.strip() for part in text.split(",")]
        if not all(key.split("+")) or not sign or not all(texts):
            raise UsageError(
                f"--vary {entry}", allowed="KEY=a,b,c: an option or a constant, and what it stands at"
            )
        for name in key.split("+"):
            if name in seen:
                raise UsageError(f"--vary {name} comes twice", allowed="all values of a knob in one --vary")
            seen.add(name)
        knobs.append(Knob(key, tuple(dict.fromkeys(map(_value, texts)))))
    if not knobs:
        raise UsageError("nothing is varied", allowed="at least one --vary KEY=a,b,c")
    return tuple(knobs)


def settings_of(point: Point) -> dict[str, Value]:
    """What single options and constants stand at.

    >>> settings_of({"tile.rows+tile.cols": 64, "batch": 2})
    {'tile.rows': 64, 'tile.cols': 64, 'batch': 2}
    """
    return {name: value for key, value in point.items() for name in key.split("+")}


def _value(text: str) -> Value:
    """A value as a user writes it: a number, true, false, none, or a word."""
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text


def value_text(value: Value) -> str:
    """A value as a user would write it.

    >>> value_text(None), value_text(True), value_text(1e-12), value_text("latency")
    ('none', 'true', '1e-12', 'latency')
    """
    words = {None: "none", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


class Grid(Sequence[Point]):
    """Every combination of the values of some knobs, the last knob turning fastest.

    Raises:
        UsageError: If that is more than a grid may have.
    """

    def __init__(self, knobs: Sequence[Knob]) -> None:
        self.knobs = tuple(knobs)
        self._length = math.prod(len(knob.values) for knob in self.knobs)
        if self._length > MOST_POINTS:
            raise UsageError(
                f"a grid of {self._length:,} points", allowed=f"at most {MOST_POINTS:,}", hint="vary less"
            )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Point]:
        keys = [knob.key for knob in self.knobs]
        for values in product(*(knob.values for knob in self.knobs)):
            yield dict(zip(keys, values, strict=True))

    def __getitem__(self, index: int) -> Point:  # type: ignore[override] # no slices
        if not 0 <= index < len(self):
            raise IndexError(index)
        point: dict[str, Value] = {}
        for knob in reversed(self.knobs):
            index, place = divmod(index, len(knob.values))
            point[knob.key] = knob.values[place]
        return dict(reversed(point.items()))

    def index_of(self, point: Point) -> int:
        """Where a point stands in the grid."""
        index = 0
        for knob in self.knobs:
            index = index * len(knob.values) + knob.values.index(point[knob.key])
        return index
