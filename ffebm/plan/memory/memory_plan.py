"""What a plan says of memories: a buffer for all that steps read and write, and what did not fit near by."""

from typing import Annotated

import msgspec
from msgspec import Meta

from ffebm.plan.memory.held import HOST, Content, Held

Bytes = Annotated[int, Meta(ge=0, le=2**53)]


class Buffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A place in a memory, as long as what it holds is needed.

    Attributes:
        content: What it holds.
        name: Of the value, layer or weight; a view lies where the value lies that it is a view of.
        at: The block beside whose tiles it lies, by name; empty in a memory of the digital units or the chip.
        rows: The band [a, b) of its rows; None: all of them.
        sample: Which of several samples in flight.
        memory: Name of the memory.
        unit: Whose memory: "digital<id>" or "chip"; the block's name if it lies beside tiles, evenly on all.
        offset: First byte; beside tiles, on each of them.
        size: Bytes; beside tiles, on each of them.
        first: Id of the step that writes it first; -1 if it is there from the start.
        last: Id of the last step that needs it; the number of steps if it stays to the end.
    """

    content: Content
    name: str
    at: str = HOST
    rows: tuple[int, int] | None = None
    sample: int = 0
    memory: str
    unit: str
    offset: Bytes
    size: Bytes
    first: Annotated[int, Meta(ge=-1)]
    last: Annotated[int, Meta(ge=-1)]

    @property
    def held(self) -> Held:
        """What it holds, as steps name it."""
        return Held(self.content, self.name, self.at, self.rows, self.sample)


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How full a memory gets.

    Attributes:
        memory: Its name.
        peak: End of the highest buffer; where each unit has one, of the fullest, bytes.
        bound: Most bytes alive at once in one of them: no placement has a lower peak.
        capacity: Of one, bytes.
    """

    memory: str
    peak: Bytes
    bound: Bytes
    capacity: Bytes


class Spill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that did not fit near by: beside tiles, all its bands and samples that lie in one memory.

    Attributes:
        content: What it is.
        name: Of the value, layer or weight.
        at: The block beside whose tiles it would have been, by name; empty for the digital units.
        wanted: The nearest memory that it could have been in.
        memory: Where it is.
        traffic: Bytes that steps read and write there for it.
        joules: What these take there.
    """

    content: Content
    name: str
    at: str = HOST
    wanted: str
    memory: str
    traffic: Bytes
    joules: Annotated[float, Meta(ge=0)]


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where values lie in one schedule.

    Attributes:
        uses: How full each memory gets that holds something, in the order of the description.
        buffers: In the order of their first writes.
        spills: What did not fit near by.
        unsized: Values that are not counted, since a size of theirs is only known at run time.
    """

    uses: tuple[MemoryUse, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    spills: tuple[Spill, ...] = ()
    unsized: tuple[str, ...] = ()


class Memories(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where values lie in the two schedules of a plan."""

    inference: MemoryPlan = MemoryPlan()
    training: MemoryPlan = MemoryPlan()
