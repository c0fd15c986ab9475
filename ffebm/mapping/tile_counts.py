"""How many tiles of each group a mapping may use, and the boxes that it packs onto them."""

import math
from collections.abc import Iterable, Mapping, Sequence

from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.options import Choosing, Option
from ffebm.mapping.packing import CLOSE, DIAGONAL, WAYS, Box, Way, arrays_needed

ROUNDING = 1e-9
"""Part of an area that is no difference: it may be a sum of as many tiles."""


def ways_of(group: AnalogGroup) -> Sequence[Way]:
    """How boxes may lie on the tiles of a group: circuits that settle at once share no lines."""
    return WAYS if group.settling == "clocked" else DIAGONAL


def tiles_needed(group: AnalogGroup, boxes: Sequence[Box]) -> int:
    """The fewest tiles of a group that boxes were made to fit on."""
    return arrays_needed(boxes, group.tile.size, CLOSE if group.settling == "clocked" else DIAGONAL)


def boxes_of(choosing: Iterable[Choosing], options: Iterable[Option]) -> dict[str, list[Box]]:
    """The boxes of a mapping by group of tiles."""
    boxes: dict[str, list[Box]] = {}
    for some, option in zip(choosing, options, strict=True):
        for layout in option.layouts:
            owners = [block.id for block in some.blocks if layout.weight in block.weights()]
            boxes.setdefault(option.group, []).extend(Box(*size, owners) for size in layout.boxes())
    return boxes


def tile_counts(
    hardware: Hardware, boxes: Mapping[str, Sequence[Box]], most: int | None, area: float = math.inf
) -> dict[str, int] | None:
    """Tiles of each group: all that there are, or a share of the most that may be in use.

    Args:
        hardware: The machine.
        boxes: By group.
        most: Tiles of all groups together; None if all may be in use.
        area: Of the tiles in use of all groups together, mm2; a tile counts as a whole one.

    Returns:
        A number for each group; None if the boxes need more than the most.
    """
    counts = {group.name: group.count for group in hardware.analog}
    if most is None and area == math.inf:
        return counts
    spare = sum(counts.values()) if most is None else most
    if len(counts) == 1:
        (group,) = hardware.analog
        return {group.name: min(group.count, spare, _within(area, group))}
    needs = {g.name: tiles_needed(g, boxes.get(g.name, [])) for g in hardware.analog}
    spare -= sum(needs.values())
    area -= sum(needs[group.name] * group.area.value for group in hardware.analog)
    if spare < 0 or area < -ROUNDING * sum(group.count * group.area.value for group in hardware.analog):
        return None
    for group in hardware.analog:
        need, wanted = needs[group.name], min(group.count, len(boxes.get(group.name, [])))
        more = min(spare, _within(area, group), max(0, wanted - need))
        counts[group.name], spare = need + more, spare - more
        area -= more * group.area.value
    return counts


def _within(area: float, group: AnalogGroup) -> int:
    """How many whole tiles of a group an area holds; all of them if they have none."""
    one = group.area.value
    return group.count if one * group.count <= area else max(0, math.floor(area / one * (1 + ROUNDING)))
