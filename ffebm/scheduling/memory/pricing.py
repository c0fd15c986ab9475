"""What it costs that values lie where they do.

The bill of a task holds what digital units read and write in the memory nearest to them, and one access in
the memory of the digital units for each transfer. A value in a farther memory adds the energy of its bits
there for each step that reads or writes it, and the step takes no less time than that memory's bandwidth
allows. So does a value beside tiles, unless it lies in the memory nearest to them, where each line that a
product takes is billed; a transfer between two of these passes no memory of the digital units.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

from msgspec import structs

from ffebm.hardware.groups import Memory
from ffebm.mapping.read_cost import buffer_of
from ffebm.plan.memory.accesses import Access
from ffebm.plan.memory.held import HOST, Held
from ffebm.plan.memory.memory_plan import Spill
from ffebm.plan.memory.plan_flow import plan_flow
from ffebm.plan.memory.work import Work
from ffebm.plan.schedule import Schedule
from ffebm.plan.schema import PlanData
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.memory.places import Places, together


class Unbilled(NamedTuple):
    """Something that a step reads or writes, and that the bill does not hold yet.

    Attributes:
        held: What it is.
        size: Bytes of it.
    """

    held: Held
    size: int


class Pricing:
    """Prices of tasks where things lie now.

    Args:
        places: Where they lie.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.away = places.redirected()
        self.redirected = {(held.content, places.flow.seen(held.name), held.at): held for held in self.away}
        groups = {block.name: places.hardware.analog_group(block.group) for block in places.flow.blocks}
        self.buffers = {name: buffer_of(places.hardware, group) for name, group in groups.items()}

    def tasks(self, tasks: list[Task]) -> list[Task]:
        """What is done with these costs.

        Args:
            tasks: The same without them.
        """
        places = self.places
        if not places.down and not any(places.pads.values()):
            return tasks
        return [self._priced(*both) for both in zip(tasks, places.accesses(), strict=True)]

    def again(self, tasks: list[Task], before: list[Task], moved: Collection[Held]) -> list[Task]:
        """The same where some things have moved since: only what reads or writes these costs otherwise.

        Args:
            tasks: What is done, without these costs.
            before: With them, as things lay.
            moved: What lies elsewhere now.
        """
        if self.places.redirected() != self.away:  # what has left the tiles is called otherwise
            return Pricing(self.places).tasks(tasks)
        found, accesses, users = list(before), self.places.accesses(), self.places.users()
        for index in {index for held in moved for index in users.get(held, ())}:
            found[index] = self._priced(tasks[index], accesses[index])
        return found

    def _priced(self, task: Task, access: Access) -> Task:
        beside = {held.at != HOST for held in (*access.reads, *access.writes)}
        parts = [list(self._part(task, part)) for part in access.parts or (access,)]
        unbilled = [moved for part in parts for moved in part]
        if not unbilled and True not in beside:
            return task
        buffer = memory = 0.0
        for moved in unbilled:
            joules = 8 * moved.size * self.places.level(moved.held).memory.bit_energy.value
            if moved.held.at != HOST:
                buffer += joules
            else:
                memory += joules
        # a transfer between memories beside tiles passes none of the digital units
        near = 0.0 if task.kind == "transfer" and beside == {True} else task.cost.memory
        cost = structs.replace(task.cost, buffer=task.cost.buffer + buffer, memory=near + memory)
        passing = [max(self._passing(part).values(), default=0.0) for part in parts]
        own = (share * task.seconds for share in task.shares)
        seconds = sum(max(both) for both in zip(own, passing, strict=True))
        # what memories pass for it lasts to its end
        lag = task.lag if seconds <= task.seconds else 0.0
        priced = structs.replace(task, seconds=seconds, cost=cost, lag=lag)
        if task.kind == "update":  # once, whatever the batch
            return structs.replace(priced, fixed_s=seconds, fixed_j=priced.cost.energy)
        return priced

    def _passing(self, unbilled: Sequence[Unbilled]) -> dict[str, float]:
        """Seconds that each memory takes to pass some bytes, by its name; tiles pass their shares at once."""
        passing: dict[str, float] = defaultdict(float)
        for moved in unbilled:
            memory = self.places.level(moved.held).memory
            stripes = self.places.sizes.whole(moved.held) / self.places.sizes.each(moved.held)
            passing[memory.name] += 8 * moved.size / stripes / memory.bandwidth.value
        return passing

    def farther(self) -> dict[tuple[Literal["buffer", "memory"], str], None]:
        """Kinds of energy that the bits of memories are added to, with the names of these memories."""
        if not self.places.down and not any(self.places.pads.values()):
            return {}
        moves = self.places.accessed()
        held = (moved.held for step, access in moves for moved in self._moved(step, access))
        return {
            ("memory" if one.at == HOST else "buffer", self.places.level(one).memory.name): None
            for one in held
        }

    def binding(self) -> dict[int, str]:
        """By the ids of steps, the memory whose bandwidth makes how long a step takes; not of other steps."""
        found: dict[int, str] = {}
        if not self.places.down and not any(self.places.pads.values()):
            return found
        for step, access in self.places.accessed():
            passing: dict[str, float] = defaultdict(float)
            for part in access.parts or (access,):
                some = self._passing(list(self._part(step, part)))
                for name in sorted(some, key=some.__getitem__)[-1:]:
                    passing[name] += some[name]
            slowest = max(passing, key=passing.__getitem__, default="")
            rounding = 4 * math.ulp(step.end_s)
            if slowest and 0 < step.end_s - step.start_s <= passing[slowest] * (1 + 1e-9) + rounding:
                found[step.id] = slowest
        return found

    def _moved(self, step: Work, access: Access) -> Iterator[Unbilled]:
        """What a step reads and writes beside what is billed, each of its nodes for itself."""
        for part in access.parts or (access,):
            yield from self._part(step, part)

    def _part(self, step: Work, access: Access) -> Iterator[Unbilled]:
        """What a step, or a node of it, reads and writes beside what is billed."""
        whole = self.places.sizes.whole
        if step.rows is None:
            passed = [(held, whole(held)) for held in (*access.reads, *access.writes)]
        else:
            share = (step.rows[1] - step.rows[0]) / self._heights[step.kind, step.name, step.block]
            # what several bands add to: sums over all rows, and error currents, of which bands overlap
            sums = [held for held in access.writes if held.rows is None or held.content == "error"]
            own = [(held, whole(held)) for held in access.writes if held not in sums]
            passed = [*self._shares(access.reads, share), *own, *self._shares(sums, share)]
        for held, count in passed:
            if held in self.places.numbers and self._adds(held, step):
                yield Unbilled(held, count)

    def _shares(self, some: Sequence[Held], share: float) -> Iterator[tuple[Held, int]]:
        """What a band passes of each thing: its share of all of it, however it reaches into bands of that.

        Rows that two bands need stay with the unit from the one to the other, as bands of reads share lines.
        """
        together: dict[tuple[str, str, str, int], list[Held]] = {}
        for held in some:
            together.setdefault((held.content, held.name, held.at, held.sample), []).append(held)
        for parts in together.values():
            sizes = [self.places.sizes.whole(held) for held in parts]
            most = min(1.0, share * self.places.sizes.all_bands(parts[0]) / max(1, sum(sizes)))
            for held, size in zip(parts, sizes, strict=True):
                yield held, math.ceil(most * size)

    @cached_property
    def _heights(self) -> dict[tuple[str, str, int | None], int]:
        """How many rows the bands of a step have together."""
        found: dict[tuple[str, str, int | None], int] = {}
        for step in self.places.steps:
            if step.rows is not None:
                key = step.kind, step.name, step.block
                found[key] = max(found.get(key, 0), step.rows[1])
        return found

    def _adds(self, held: Held, step: Work) -> bool:
        if held.at == HOST and not self.places.down:
            return False
        if held.at != HOST:
            # reads of lines are billed in the memory nearest to their tiles
            return not self._block(step) or self.places.level(held).memory != self.buffers[held.at]
        return bool(self.places.levels_down(held)) or self._wanted_beside(held, step) is not None

    def _block(self, step: Work) -> str:
        """The block on whose tiles a step runs, by name; empty if it runs elsewhere."""
        on_tiles = step.block is not None and step.kind in {"free", "nudged", "update"}
        return self.places.flow.blocks[step.block].name if on_tiles and step.block is not None else ""

    def _wanted_beside(self, held: Held, step: Work) -> Held | None:
        """What something is called beside the tiles that a step runs on, if it found no room there."""
        if not self.redirected:
            return None
        return self.redirected.get((held.content, held.name, self._block(step)))

    def spills(self) -> Iterator[Spill]:
        """What lies farther away than it could, with what that costs."""
        traffic: dict[tuple[Held, Memory], int] = {}
        for held in self.places.lives:
            if self.places.levels_down(held):
                traffic[together(held), self.places.level(held).memory] = 0
        for step, access in self.places.accessed():
            for moved in self._moved(step, access):
                beside = self._wanted_beside(moved.held, step)
                memory = self.places.level(moved.held).memory
                if self.places.levels_down(moved.held):
                    traffic[together(moved.held), memory] += moved.size
                if beside is not None:  # bands of it may lie in several memories
                    traffic[beside, memory] = traffic.get((beside, memory), 0) + moved.size
        for (held, memory), count in traffic.items():
            yield Spill(
                content=held.content,
                name=held.name,
                at=held.at,
                wanted=self.places.nearest(held).memory.name,
                memory=memory.name,
                traffic=count,
                joules=8 * count * memory.bit_energy.value,
            )


def pricing_of(plan: PlanData, schedule: Schedule) -> Pricing:
    """Prices where the values of a plan's schedule lie.

    Args:
        plan: The plan.
        schedule: Its inference or training step.
    """
    places = Places(plan_flow(plan), plan.hardware, "fp32")
    memory = plan.memory.training if schedule is plan.training else plan.memory.inference
    places.restore(schedule.steps, memory)
    return Pricing(places)
