"""In which memory everything lies, and at which offset."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np

from ffebm.errors import UsageError
from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import DataType, Memory
from ffebm.plan.memory.accesses import Access, Beside, reading
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.demand import Demand, Integers, bound_of, demand_of
from ffebm.plan.memory.held import HOST, Content, Held
from ffebm.plan.memory.levels import Level, capacity, host_unit, levels_of, scratchpads
from ffebm.plan.memory.lives import BEFORE, Life, moments
from ffebm.plan.memory.memory_plan import MemoryPlan, MemoryUse
from ffebm.plan.memory.sizes import Sizes
from ffebm.plan.memory.work import Work
from ffebm.plan.schedule import Step
from ffebm.scheduling.memory.lifetimes import Lifetimes
from ffebm.scheduling.memory.offsets import NOWHERE, placed
from ffebm.scheduling.memory.spills import crowded_out

SURE = 0.9
"""Where no more of a memory is alive at once, offsets are found without a look whether they exist."""
UNKNOWN = -1
"""In the place of a memory: where something lies is still to be looked up."""
WORDS: dict[Content, str] = {
    "value": "value",
    "error": "the error current of",
    "plus": "the state nudged up of",
    "minus": "the state nudged down of",
    "gradient": "the gradient of",
}
"""What a buffer holds, before the name."""


def together(held: Held) -> Held:
    """What goes away together: beside tiles, all bands and samples of a value."""
    return held if held.at == HOST else Held(held.content, held.name, held.at)


class Places:
    """Where everything that steps read and write lies.

    Args:
        flow: What nodes and blocks read and make.
        hardware: The machine.
        dtype: Of which type values are.

    Attributes:
        down: How many levels below the nearest one something lies, by what it is.
        steps: The steps that were read last.
        sizes: How large each is.
        numbers: What takes any bytes, each with a number.
        offsets: Where each lies, bytes.
        uses: How full each memory gets.
    """

    def __init__(self, flow: Dataflow, hardware: Hardware, dtype: DataType) -> None:
        self.flow = flow
        self.hardware = hardware
        self.bits = (hardware.host.arithmetic(dtype) or hardware.host.fp32).value_bits
        self.pads = {block.name: scratchpads(hardware, block.group) for block in flow.blocks}
        self.tiles = {block.name: flow.tiles_of(block.id) for block in flow.blocks}
        self.down: dict[Held, int] = {}
        self.steps: Sequence[Step] = ()
        self.sizes = Sizes(flow, self.bits, ())
        self.numbers: dict[Held, int] = {}
        self.offsets: dict[Held, int] = {}
        self.uses: list[MemoryUse] = []
        self._chains: dict[Held, tuple[Level, ...]] = {}
        self._lies_in: dict[Held, Level] = {}
        self._lifetimes = Lifetimes(flow, (), ())
        self._timed = self._lifetimes.timed((), ())
        self._here = np.empty(0, np.int64)
        self._bytes = np.empty(0, np.int64)
        self._memory_of = np.empty(0, np.int64)
        self._lives: dict[Held, Life] | None = None
        self._levels = cache(partial(levels_of, hardware))
        self._homes_of: dict[tuple[str, str], frozenset[str]] = {}
        self._work: Sequence[Work] = ()
        self._reading: Callable[[Beside], list[Access]] = reading(flow, ())
        self._accesses: tuple[set[Held], list[Access]] = set(), []
        self._users: dict[Held, list[int]] | None = None
        self._order: Sequence[int] = ()
        self._away: set[Held] = set()

    def take(self, work: Sequence[Work]) -> None:
        """Take what is done, before it has times."""
        if work is not self._work:
            self._work = work
            self._reading = reading(self.flow, work)
            self._reads_and_writes(self.redirected())

    def read(self, steps: Sequence[Step], order: Sequence[int]) -> None:
        """Read a schedule: how long what its steps read and write lives, and which memories it may lie in.

        Args:
            steps: Of the schedule.
            order: Which of what is done each of them is, by position.
        """
        away = self.redirected()
        if steps is self.steps and away == self._away:
            return
        self.steps, self._order, self._away = steps, order, away
        assert self.accesses() is self._accesses[1]
        self._timed = self._lifetimes.timed(order, moments(steps))
        self._here = self._timed.order[self._bytes[self._timed.order] > 0]
        self._lives = None
        first = self._timed.first.tolist()
        for n in self._here.tolist():
            held = self._timed.held[n]
            if held not in self._chains:
                self._chains[held] = self._chain(held, first[n])

    @property
    def lives(self) -> dict[Held, Life]:
        """How long each thing lives, in the order of first writes."""
        if self._lives is None:
            self._lives = self._timed.lives(self._here)
        return self._lives

    def restore(self, steps: Sequence[Step], memory: MemoryPlan) -> None:
        """Take a schedule whose places were found before.

        Args:
            steps: Of the schedule.
            memory: Where its values lie.
        """
        lies = {together(buffer.held): buffer.memory for buffer in memory.buffers}
        self.take(steps)
        self.read(steps, range(len(steps)))
        for held in self.lives:
            if held.at != HOST:  # what is in no buffer there is with the digital units
                pads = [pad.name for pad in self.pads[held.at]]
                where = lies.get(together(held))
                self.down[together(held)] = pads.index(where) if where in pads else len(pads)
        self.read(steps, range(len(steps)))
        for held in self.lives:
            if held.at == HOST:
                self.down[held] = [level.memory.name for level in self._chains[held]].index(lies[held])
        self.down = {held: down for held, down in self.down.items() if down}
        self._lies_in.clear()
        self._memory_of[:] = UNKNOWN

    def accesses(self) -> list[Access]:
        """What all that is done reads and writes, where things lie now."""
        away = self.redirected()
        if self._accesses[0] != away:
            self._reads_and_writes(away)
        return self._accesses[1]

    def _reads_and_writes(self, away: set[Held]) -> None:
        """Find out what all that is done reads and writes, and how large that is."""
        self._accesses, self._users = (away, self._reading(self._beside)), None
        self._lifetimes = Lifetimes(self.flow, self._work, self._accesses[1])
        self.sizes = Sizes(self.flow, self.bits, self._lifetimes.held)
        each = [self.sizes.each(held) for held in self._lifetimes.held]
        self.numbers = {held: n for n, held in enumerate(self._lifetimes.held) if each[n]}
        self._bytes = np.array(each, np.int64)
        self._memory_of = np.full(len(each), UNKNOWN)

    def users(self) -> dict[Held, list[int]]:
        """Positions of what reads or writes each thing, where things lie now."""
        found = self.accesses()
        if self._users is None:
            self._users = defaultdict(list)
            for position, access in enumerate(found):
                for held in {together(held) for held in (*access.reads, *access.writes)}:
                    self._users[held].append(position)
        return self._users

    def accessed(self) -> Iterator[tuple[Step, Access]]:
        """The steps that were read last, with what each reads and writes where things lie now."""
        found = self.accesses()
        yield from ((step, found[self._order[step.id]]) for step in self.steps)

    def _beside(self, content: Content, name: str, block: str) -> bool:
        return self.down.get(Held(content, name, block), 0) < len(self.pads[block])

    def levels_down(self, held: Held) -> int:
        """How many levels below the nearest one something lies."""
        return self.down.get(together(held), 0)

    def _chain(self, held: Held, first: int) -> tuple[Level, ...]:
        """The memories that something may lie in that a step writes first, the nearest first."""
        if held.at != HOST:
            return tuple(Level(memory, held.at) for memory in self.pads[held.at])
        units = self.steps[first].units if first != BEFORE else ()
        makers = [unit for unit in units if unit.startswith("digital")]
        return self._levels(makers[0] if makers else host_unit(self.hardware))

    def nearest(self, held: Held) -> Level:
        """The memory that something would lie in if there were room; beside tiles, that of all its bands."""
        return Level(self.pads[held.at][0], held.at) if held.at != HOST else self._chains[held][0]

    def level(self, held: Held) -> Level:
        """The memory that something lies in."""
        level = self._lies_in.get(held)
        if level is None:
            chain = self._chains[held]
            level = self._lies_in[held] = chain[min(self.levels_down(held), len(chain) - 1)]
        return level

    def redirected(self) -> set[Held]:
        """What found no room beside tiles, as it is called there."""
        return {held for held, n in self.down.items() if held.at != HOST and n >= len(self.pads[held.at])}

    # --- offsets -----------------------------------------------------------------------------------------

    def crowd_out(self) -> set[Held]:
        """Send what does not fit in its memory one level down; what that is, as it goes `together`.

        Raises:
            UsageError: If something is at its last level already.
        """
        moved: set[Held] = set()
        for memory, here in self._inhabited():
            if self._all_fit(memory, here):
                continue
            wanted = self._demand(here)
            out = self._named(here[crowded_out(wanted, capacity(memory))])
            if not out and not moved and bound_of(wanted) > SURE * capacity(memory):
                found = placed(wanted, capacity(memory))
                out = self._named(here[found.at == NOWHERE])
            self._go_down(out, memory)
            moved.update(map(together, out))
        return moved

    def settle(self) -> bool:
        """Give everything its offset; whether all of it has one, else the rest goes one level down.

        Raises:
            UsageError: If something is at its last level already.
        """
        self.uses = []
        for memory, here in self._inhabited():
            wanted = self._demand(here)
            bound = bound_of(wanted)
            found = placed(wanted, capacity(memory), bound)
            out = self._named(here[found.at == NOWHERE])
            self._go_down(out, memory)
            if out:
                return False
            self.offsets.update(zip(self._named(here), found.at.tolist(), strict=True))
            self.uses.append(
                MemoryUse(memory=memory.name, peak=found.peak, bound=bound, capacity=capacity(memory))
            )
        return True

    def fits(self) -> bool:
        """Whether all finds a place, as `settle` would say; what does not goes one level down.

        Raises:
            UsageError: If something is at its last level already.
        """
        for memory, here in self._inhabited():
            if self._all_fit(memory, here):
                continue
            found = placed(self._demand(here), capacity(memory))
            out = self._named(here[found.at == NOWHERE])
            self._go_down(out, memory)
            if out:
                return False
        return True

    def _inhabited(self) -> Iterator[tuple[Memory, Integers]]:
        """What lies in each memory, by its numbers, level by level as the description has them."""
        numbers = {memory.name: number for number, memory in enumerate(self.hardware.memory)}
        for memory in self.hardware.memory:
            for n in self._here[self._memory_of[self._here] == UNKNOWN].tolist():
                self._memory_of[n] = numbers[self.level(self._timed.held[n]).memory.name]
            here = self._here[self._memory_of[self._here] == numbers[memory.name]]
            if len(here):
                yield memory, here

    def _named(self, numbers: Integers) -> list[Held]:
        return [self._timed.held[n] for n in numbers.tolist()]

    def _all_fit(self, memory: Memory, here: Integers) -> bool:
        """A memory holds all side by side that ever lies in it, so any order of placing finds places."""
        return int(self._bytes[here].sum()) <= capacity(memory)

    def _demand(self, here: Integers) -> Demand:
        homes = [self._homes(held) for held in self._named(here)]
        return demand_of(self._bytes[here], self._timed.begins[here], self._timed.ends[here], homes)

    def _homes(self, held: Held) -> frozenset[str]:
        """The single memories that something lies in."""
        unit = self.level(held).unit
        known = self._homes_of.get((held.at, unit))
        if known is None:
            tiles = frozenset(f"tile{tile}" for tile in self.tiles.get(held.at, ()))
            known = self._homes_of[held.at, unit] = tiles or frozenset({unit})
        return known

    def _go_down(self, out: Sequence[Held], memory: Memory) -> None:
        """One level farther away; from the last memory beside tiles to those of the digital units."""
        for held in {together(held): held for held in out}.values():  # all its bands take one step together
            down = self.levels_down(held) + 1
            if held.at == HOST and down >= len(self._chains[held]):
                raise UsageError(
                    f"{WORDS[held.content]} {held.name!r} takes {self.sizes.each(held):,} bytes, for which "
                    f"{memory.name} of {self.hardware.name} has no room",
                    allowed=f"at most {capacity(memory):,} bytes at once in the last level",
                    hint="a smaller batch, or a [[memory]] of a higher level: docs/hardware.md",
                )
            self.down[together(held)] = down
            if held.at == HOST:
                self._lies_in.pop(held, None)
                self._memory_of[self.numbers[held]] = UNKNOWN
            else:
                self._lies_in.clear()
                self._memory_of[:] = UNKNOWN
