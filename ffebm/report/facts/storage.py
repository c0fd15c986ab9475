"""Storage: where values lie over the time of a schedule, as columns."""

import msgspec

from ffebm.plan.memory.held import Content
from ffebm.plan.memory.memory_plan import MemoryPlan, MemoryUse


class Spilt(msgspec.Struct, frozen=True, kw_only=True):
    """What found no room in one memory and lies in another.

    Attributes:
        wanted: The memory without room.
        memory: Where it lies.
        count: How many.
        traffic: Bytes that steps read and write there for it.
        joules: What these take there.
    """

    wanted: str
    memory: str
    count: int
    traffic: int
    joules: float


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """Buffers of a schedule, one column a property, so that many thousands stay small.

    Attributes:
        uses: How full each memory gets.
        spills: What lies farther away than it could, together.
        unsized: How many values of unknown size are not counted.
        homes: Memories that hold something, and whose each is; `home` counts into it.
        contents: What buffers hold; `content` counts into it.
        names: Of what they hold; `name` counts into it.
        home: Where each lies.
        content: What each holds.
        name: Of what each holds.
        offset: First byte of each.
        size: Bytes of each.
        first: Step that writes each first; -1 if it is there from the start.
        last: Last step that needs each; the number of steps if it stays to the end.
    """

    uses: tuple[MemoryUse, ...]
    spills: tuple[Spilt, ...]
    unsized: int
    homes: tuple[tuple[str, str], ...]
    contents: tuple[Content, ...]
    names: tuple[str, ...]
    home: tuple[int, ...]
    content: tuple[int, ...]
    name: tuple[int, ...]
    offset: tuple[int, ...]
    size: tuple[int, ...]
    first: tuple[int, ...]
    last: tuple[int, ...]


def storage(memory: MemoryPlan) -> Storage:
    """Where values lie, as columns."""
    buffers = memory.buffers
    levels = [use.memory for use in memory.uses]
    found = sorted(dict.fromkeys((b.memory, b.unit) for b in buffers), key=lambda home: levels.index(home[0]))
    homes = {home: n for n, home in enumerate(found)}
    contents = {content: n for n, content in enumerate(dict.fromkeys(b.content for b in buffers))}
    names = {name: n for n, name in enumerate(dict.fromkeys(b.name for b in buffers))}
    return Storage(
        uses=memory.uses,
        spills=_together(memory),
        unsized=len(memory.unsized),
        homes=tuple(homes),
        contents=tuple(contents),
        names=tuple(names),
        home=tuple(homes[b.memory, b.unit] for b in buffers),
        content=tuple(contents[b.content] for b in buffers),
        name=tuple(names[b.name] for b in buffers),
        offset=tuple(b.offset for b in buffers),
        size=tuple(b.size for b in buffers),
        first=tuple(b.first for b in buffers),
        last=tuple(b.last for b in buffers),
    )


def _together(memory: MemoryPlan) -> tuple[Spilt, ...]:
    """Spills by the memory that had no room and the one where they lie."""
    ways = dict.fromkeys((spill.wanted, spill.memory) for spill in memory.spills)
    found = []
    for wanted, lies in ways:
        spills = [s for s in memory.spills if (s.wanted, s.memory) == (wanted, lies)]
        found.append(
            Spilt(
                wanted=wanted,
                memory=lies,
                count=len(spills),
                traffic=sum(spill.traffic for spill in spills),
                joules=sum(spill.joules for spill in spills),
            )
        )
    return tuple(found)
