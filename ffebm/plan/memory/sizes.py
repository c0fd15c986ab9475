"""How large what steps read and write is."""

from collections.abc import Iterable

from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.held import HOST, Held


class Sizes:
    """Sizes of buffers.

    Args:
        flow: What nodes and blocks read and make.
        bits: Of one number in memory.
        found: All that there is, from which bands are told.
    """

    def __init__(self, flow: Dataflow, bits: int, found: Iterable[Held]) -> None:
        self._flow = flow
        self._bits = bits
        self._tiles = {block.name: max(1, len(flow.tiles_of(block.id))) for block in flow.blocks}
        self._rows: dict[tuple[str, str], int] = {}
        self._known: dict[Held, int] = {}
        self._each: dict[Held, int] = {}
        for held in found:
            if held.rows is not None:
                known = self._rows.get((held.content, held.name), 1)
                self._rows[held.content, held.name] = max(known, held.rows[1])

    def elements(self, held: Held) -> int:
        """How many numbers all bands of one run together are; 0 if that is not known."""
        known = self._flow.constants if held.content == "gradient" else self._flow.elements
        return known.get(held.name, 0)

    def whole(self, held: Held) -> int:
        """Bytes of it: of a band, its share."""
        known = self._known.get(held)
        if known is None:
            first, behind = held.rows or (0, 1)
            rows = self._rows[held.content, held.name] if held.rows is not None else 1
            known = self._known[held] = -(-self.elements(held) * self._bits * (behind - first) // (8 * rows))
        return known

    def all_bands(self, held: Held) -> int:
        """Bytes of all bands together."""
        return -(-self.elements(held) * self._bits // 8)

    def each(self, held: Held) -> int:
        """Bytes in each memory that it lies in: memories beside tiles take even shares."""
        known = self._each.get(held)
        if known is None:
            tiles = 1 if held.at == HOST else self._tiles[held.at]
            known = self._each[held] = -(-self.whole(held) // tiles)
        return known
