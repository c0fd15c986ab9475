"""How many tiles of each group a mapping may use, and the boxes that it packs onto them."""

from collections.abc import Iterable, Mapping, Sequence

from ffebm.hardware.description import Hardware
from ffebm.mapping.options import Choosing, Option
from ffebm.mapping.packing import Box, arrays_needed


def boxes_of(choosing: Iterable[Choosing], options: Iterable[Option]) -> dict[str, list[Box]]:
    """The boxes of a mapping by group of tiles."""
    boxes: dict[str, list[Box]] = {}
    for some, option in zip(choosing, options, strict=True):
        for layout in option.layouts:
            owners = [block.id for block in some.blocks if layout.weight in block.weights()]
            boxes.setdefault(option.group, []).extend(Box(*size, owners) for size in layout.boxes())
    return boxes


def tile_counts(
    hardware: Hardware, boxes: Mapping[str, Sequence[Box]], most: int | None
) -> dict[str, int] | None:
    """Tiles of each group: all that there are, or a share of the most that may be in use.

    Args:
        hardware: The machine.
        boxes: By group.
        most: Tiles of all groups together; None if all may be in use.

    Returns:
        A number for each group; None if the boxes need more than the most.
    """
    counts = {group.name: group.count for group in hardware.analog}
    if most is None:
        return counts
    if len(counts) == 1:
        return {name: min(count, most) for name, count in counts.items()}
    sizes = {group.name: group.tile.size for group in hardware.analog}
    needs = {name: arrays_needed(boxes.get(name, []), sizes[name]) for name in counts}
    spare = most - sum(needs.values())
    if spare < 0:
        return None
    for name, need in needs.items():
        more = min(spare, max(0, min(counts[name], len(boxes.get(name, []))) - need))
        counts[name], spare = need + more, spare - more
    return counts
