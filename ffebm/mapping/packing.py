"""Packing parts onto tiles without overlap.

A tile is filled in shelves: a shelf is a band of word lines, its parts stand side by side on bit lines. A
part takes the lowest shelf where it fits, else opens a new one. Shelves of equal height waste nothing, which
is the common case: the parts of one layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ffebm.graph.graph import Part, Place


@dataclass
class _Shelf:
    row: int
    height: int
    used: int = 0


@dataclass
class _Tile:
    rows: int
    cols: int
    shelves: list[_Shelf] = field(default_factory=list)

    @property
    def top(self) -> int:
        """First free word line above all shelves."""
        return self.shelves[-1].row + self.shelves[-1].height if self.shelves else 0

    def put(self, part: Part) -> tuple[int, int] | None:
        """Word line and bit line where a part now lies; None if it does not fit."""
        for shelf in self.shelves:
            if part.n_in <= shelf.height and shelf.used + part.n_out <= self.cols:
                shelf.used += part.n_out
                return shelf.row, shelf.used - part.n_out
        if self.top + part.n_in > self.rows or part.n_out > self.cols:
            return None
        self.shelves.append(_Shelf(self.top, part.n_in, part.n_out))
        return self.shelves[-1].row, 0

    def take_back(self, part: Part, row: int) -> None:
        """Undo the latest `put`."""
        shelf = next(shelf for shelf in reversed(self.shelves) if shelf.row == row)
        shelf.used -= part.n_out
        if not shelf.used:
            self.shelves.remove(shelf)


class Packer:
    """Tiles in use and where their parts lie.

    Args:
        count: How many tiles there are.
        rows: Word lines of each; None for a tile that holds anything.
        cols: Bit-line pairs of each.
    """

    def __init__(self, count: int, rows: int | None, cols: int | None) -> None:
        self.count = count
        self.rows = rows or 1 << 62
        self.cols = cols or 1 << 62
        self.tiles: list[_Tile] = []

    @property
    def free(self) -> int:
        """Tiles that hold nothing yet."""
        return self.count - len(self.tiles)

    def needs(self, parts: Sequence[Part]) -> int:
        """Empty tiles that parts need on their own."""
        alone = Packer(len(parts), self.rows, self.cols)
        alone._fill(parts, 0)
        return len(alone.tiles)

    def place(self, parts: Sequence[Part]) -> dict[Part, Place] | None:
        """Place parts together: on empty tiles while there are enough, else in the gaps of used ones too.

        Returns:
            A place for each part; None, with nothing changed, if they do not fit.
        """
        places = self._fill(parts, len(self.tiles))
        return places if places is not None else self._fill(parts, 0)

    def _fill(self, parts: Sequence[Part], first: int) -> dict[Part, Place] | None:
        """Put parts on tiles from `first` on, tall ones first; all of them or none."""
        places: dict[Part, Place] = {}
        for part in sorted(parts, key=lambda p: (-p.n_in, -p.n_out, p.weight, p.group, p.outputs, p.inputs)):
            while first < len(self.tiles) and self._full(first):
                first += 1
            place = self._put(part, first)
            if place is None:
                self._take_back(places)
                return None
            places[part] = place
        return places

    def _put(self, part: Part, first: int) -> Place | None:
        """Put one part on the first tile with room, a new one if need be."""
        for number in range(first, len(self.tiles)):
            spot = self.tiles[number].put(part)
            if spot is not None:
                return Place(number, *spot)
        if len(self.tiles) == self.count or part.n_in > self.rows or part.n_out > self.cols:
            return None
        self.tiles.append(_Tile(self.rows, self.cols))
        self.tiles[-1].put(part)
        return Place(len(self.tiles) - 1, 0, 0)

    def _take_back(self, places: dict[Part, Place]) -> None:
        """Undo puts, latest first."""
        for part, place in reversed(places.items()):
            self.tiles[place.tile].take_back(part, place.row)
            if not self.tiles[place.tile].shelves:
                self.tiles.pop(place.tile)

    def _full(self, number: int) -> bool:
        """No line is left for even the smallest part."""
        tile = self.tiles[number]
        return tile.top == self.rows and all(shelf.used == self.cols for shelf in tile.shelves)
