"""A replay of a schedule on its memories, byte by byte range, that shares no code with what plans them.

Time runs over begins and ends of steps. A step owns the bytes that it writes from its begin on; whatever lay
there is lost. What a step reads must have been written, and must stay whole until the step ends. What a read
of tiles makes of rows that a later band completes must have a buffer, and stay whole until then.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ffebm.graph.energy_block import EnergyBlock
from ffebm.hardware.description import Hardware
from ffebm.plan.memory.dataflow import Dataflow
from ffebm.plan.memory.memory_plan import Buffer, MemoryPlan
from ffebm.plan.schedule import Step
from tests.scheduling.early import read_early, reads_nothing

Name = tuple[str, str]
"""Content and name."""


def events(steps: Iterable[Step]) -> Iterator[tuple[bool, Step]]:
    """Whether a step ends, and which; what ends goes before what begins, steps of no time between."""
    marks = []
    for step in steps:
        if step.end_s > step.start_s:
            marks += [(step.end_s, 0, step.id, 1, step), (step.start_s, 2, step.id, 0, step)]
        else:
            marks += [(step.start_s, 1, step.id, 0, step), (step.end_s, 1, step.id, 1, step)]
    for *_, end, step in sorted(marks, key=lambda mark: mark[:4]):
        yield bool(end), step


def overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two bands have a row in common; None is all rows."""
    return one is None or other is None or max(one[0], other[0]) < min(one[1], other[1])


def within(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether some rows are all among others."""
    return one is None or other is None or (other[0] <= one[0] and one[1] <= other[1])


@dataclass
class Replay:
    """What is whole at a time.

    Attributes:
        flow: What nodes and blocks read and make.
        plan: Where everything lies.
        faults: What went wrong, as text.
    """

    flow: Dataflow
    plan: MemoryPlan
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.whole: set[int] = set()
        self.parts: set[int] = set()
        self.makers: dict[int, set[int]] = defaultdict(set)
        self.of: dict[Name, list[int]] = defaultdict(list)
        for number, buffer in enumerate(self.plan.buffers):
            self.of[buffer.content, buffer.name].append(number)
        self.units = [self.memories(buffer) for buffer in self.plan.buffers]
        views = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
        self.views = {
            node.makes[0]: node.reads[0]
            for node in self.flow.nodes.values()
            if node.op in views and node.reads[0] not in self.flow.constants  # of a weight it is copied
        }

    def memories(self, buffer: Buffer) -> set[str]:
        """The single memories that a buffer lies in."""
        for block in self.flow.blocks:
            if buffer.at and block.name == buffer.at:
                held = {t for w in block.weights() for t in self.flow.tiles.get(w, ())}
                return {f"{buffer.memory} of tile {tile}" for tile in held}
        return {f"{buffer.memory} of {buffer.unit}"}

    def run(self, steps: tuple[Step, ...], *, trains: bool) -> list[str]:
        """Replay all steps; what went wrong."""
        self.steps = steps
        early = dict(read_early(self.flow.blocks, steps))
        samples = {step.sample for step in steps} | {0}
        for sample in samples:
            for value in self.flow.inputs:
                self.put(-1, sample, ("value", value))
        for end, step in events(steps):
            reads = list(self.reads(step))
            for name in reads:
                self.get(step, name)
            if not end:
                self.start(step, early.get(step.id))
                for name in reads:  # and it has not written over what it reads
                    self.get(step, name)
        for sample in samples:
            for value in () if trains else self.flow.outputs:
                self.get(None, ("value", value), sample)
        return self.faults

    def start(self, step: Step, further: tuple[int, int] | None) -> None:
        """A step begins to write, and reads of tiles to make parts of further rows."""
        for name in self.writes(step):
            self.complete(step, name)
            self.put(step.id, step.sample, name)
        if further is not None:
            self.begin(step, further)

    def source(self, name: Name) -> Name:
        """Views lie where what they are a view of lies."""
        content, value = name
        while content == "value" and name not in self.of and value in self.views:
            value = self.views[value]
            name = (content, value)
        return name

    def holding(self, name: Name) -> list[int]:
        """Buffers of something, and of what it is a view of: only a copy elsewhere may have its name."""
        content, value = name
        found = [*self.of[name]]
        while content == "value" and value in self.views:
            value = self.views[value]
            found += self.of[content, value]
        return found

    def put(self, step: int, sample: int, name: Name) -> None:
        """A step begins to write: it owns the buffers that it writes first, or adds to."""
        for one in self.of[self.source(name)]:
            mine = self.plan.buffers[one]
            if mine.content != "gradient" and mine.sample != sample:
                continue
            if step >= 0 and not self.reaches(self.steps[step], mine):
                continue  # another band
            if not mine.first <= step <= mine.last:
                continue
            self.own(one)
            self.makers[one].add(step)

    def own(self, one: int) -> None:
        """The bytes of a buffer are its own; what lay there is lost."""
        mine = self.plan.buffers[one]
        for other in tuple(self.whole - {one}):
            theirs = self.plan.buffers[other]
            apart = mine.offset + mine.size <= theirs.offset or theirs.offset + theirs.size <= mine.offset
            if not apart and self.units[one] & self.units[other]:
                self.whole.discard(other)
        self.whole.add(one)

    def begin(self, step: Step, rows: tuple[int, int]) -> None:
        """A read of tiles makes a part of rows behind a step's own: their buffers must be there."""
        assert step.block is not None
        for layer in self.flow.blocks[step.block].layers:
            own = self.of["value", layer.value]
            beside = step.name if any(self.plan.buffers[one].at == step.name for one in own) else ""
            there = [one for one in own if self.is_there(step, self.plan.buffers[one], rows)]
            there = [one for one in there if self.plan.buffers[one].at == beside]
            rest = set(range(*rows)).difference(
                *(range(*self.plan.buffers[one].rows or rows) for one in there)
            )
            if rest:
                self.faults.append(f"free {step.name} reads for rows {sorted(rest)}, which have no buffer")
            for one in there:
                self.own(one)
                self.parts.add(one)

    def is_there(self, step: Step, mine: Buffer, rows: tuple[int, int]) -> bool:
        """Whether a buffer for some of these rows is there when a step begins."""
        alive = mine.first <= step.id <= mine.last
        return alive and mine.sample == step.sample and overlap(mine.rows, rows)

    def complete(self, step: Step, name: Name) -> None:
        """A step makes the rest of what reads before it have begun."""
        for one in self.of[name]:
            mine = self.plan.buffers[one]
            if one in self.parts and mine.sample == step.sample and within(mine.rows, step.rows):
                self.parts.discard(one)
                if one not in self.whole:
                    self.faults.append(f"{step.kind} {step.name} completes {name}, whose first part is lost")

    def reaches(self, step: Step, mine: Buffer) -> bool:
        """Whether a step writes a band: its own, or one of an error current whose value it has read."""
        if step.rows is None or within(mine.rows, step.rows):
            return True
        if mine.content != "error":
            return False
        if step.kind == "transfer":
            return overlap(mine.rows, step.rows)
        (forth,) = (
            other
            for other in self.steps
            if other.kind in {"digital", "free"}
            and (other.block, other.rows, other.sample) == (step.block, step.rows, step.sample)
            and (step.block is not None or other.name == step.name)
        )
        brought = (self.steps[before] for before in forth.after)
        return any(
            other.rows == mine.rows
            and (other.name == mine.name if other.kind == "transfer" else mine.name in self.made(other))
            for other in brought
        )

    def made(self, step: Step) -> list[str]:
        """Values that a forward step makes."""
        if step.block is not None:
            return [layer.value for layer in self.flow.blocks[step.block].layers]
        return [value for name in (*step.fused, step.name) for value in self.flow.nodes[name].makes]

    def get(self, step: Step | None, name: Name, sample: int = 0) -> None:
        """Something that a step reads is whole in some memory, all bands of it."""
        sample = sample if step is None else step.sample
        found = self.holding(name)
        if name[0] != "gradient":
            found = [one for one in found if self.plan.buffers[one].sample == sample]
        if step is not None and name[0] == "error":
            found = [one for one in found if overlap(self.plan.buffers[one].rows, step.rows)]
        elif step is not None and step.rows is not None:  # of bands, those that it waits for
            awaited = {step.id, *self.awaited(step)}
            found = [one for one in found if self.makers[one] & awaited] or found
        places = self.places(step, {self.plan.buffers[one].at for one in found})
        whole = [
            place
            for place in places
            if all(self.is_whole(one) for one in found if self.plan.buffers[one].at == place)
        ]
        if found and not whole:
            who = "the end" if step is None else f"{step.kind} {step.name}"
            self.faults.append(f"{who} reads {name}, which is not whole")

    def is_whole(self, one: int) -> bool:
        """Whether a buffer holds all that it is for."""
        return one in self.whole and one not in self.parts

    def awaited(self, step: Step) -> Iterator[int]:
        """Steps that one waits for, and that transfers and views among them wait for."""
        for number in step.after:
            yield number
            before = self.steps[number]
            viewing = before.kind == "digital" and before.name != step.name and self.is_view(before)
            if viewing or (before.kind == "transfer" and step.kind != "transfer"):
                yield from self.awaited(before)

    def is_view(self, step: Step) -> bool:
        """Whether what a digital step makes lies where what it reads does."""
        return any(value in self.views for value in self.flow.nodes[step.name].makes)

    def places(self, step: Step | None, found: set[str]) -> set[str]:
        """Where a step may read: on tiles beside these, else in memories of digital units or the chip.

        What goes from tiles to tiles alone is in neither for digital units, which read it there.
        """
        own = set()
        if step is not None and step.block is not None and not step.units[0].startswith("digital"):
            own = found & {self.flow.blocks[step.block].name}
        return own or found & {""} or found

    # --- who reads and writes what, told apart from what the plan says -----------------------------------

    def reads(self, step: Step) -> Iterator[Name]:
        """What a step must find."""
        if step.block is not None and step.kind in {"free", "nudged", "contrast"}:
            yield from self.block_reads(step, self.flow.blocks[step.block])
        if step.kind in {"digital", "digital_backward"}:
            node = self.flow.nodes[step.name]
            if step.kind == "digital":
                together = [self.flow.nodes[name] for name in (*step.fused, step.name)]
                inside = {value for one in together for value in one.makes}
                wanted = dict.fromkeys(value for one in together for value in one.reads)
                yield from (("value", v) for v in wanted if v not in self.flow.constants and v not in inside)
            else:
                yield from (("error", value) for value in node.makes)
                yield from (("value", value) for value in node.makes if node.op in {"Relu", "Softmax"})
        if step.kind == "loss":
            yield from (("value", value) for value in self.flow.outputs)
        if step.kind == "update" and step.units[0].startswith("digital"):
            for before in step.after:
                yield from (("gradient", weight) for weight in self.trained(self.steps[before]))

    def block_reads(self, step: Step, block: EnergyBlock) -> Iterator[Name]:
        """What a phase or contrast of a block must find."""
        if not reads_nothing(step, self.steps):
            yield from (("value", value) for value in block.inputs)
        contents = {"free": (), "contrast": ("plus", "minus")}.get(step.kind, ("value",))
        if step.name.endswith("-beta"):
            contents = ("value", "plus")
        yield from ((content, layer.value) for content in contents for layer in block.layers)

    def writes(self, step: Step) -> Iterator[Name]:
        """What a step makes, or adds to."""
        if step.kind in {"digital", "digital_backward"}:
            node = self.flow.nodes[step.name]
            forward = step.kind == "digital"
            values = [v for v in node.makes if v not in self.views] if forward else node.reads
            values = [*(v for name in step.fused for v in self.flow.nodes[name].makes), *values]
            yield from (("value" if forward else "error", value) for value in values)
        if step.block is not None and step.kind in {"free", "nudged"}:
            content = "value" if step.kind == "free" else "minus" if step.name.endswith("-beta") else "plus"
            block = self.flow.blocks[step.block]
            yield from ((content, layer.value) for layer in block.layers)
            if content == "minus":
                yield from (("error", value) for value in block.inputs)
        if step.kind == "loss":
            yield from (("error", value) for value in self.flow.outputs)
        if step.kind == "transfer":
            yield "error" if self.is_back(step) else "value", step.name
            layers = () if step.block is None else self.flow.blocks[step.block].layers
            yield from ((content, layer.value) for content in ("plus", "minus") for layer in layers)
        yield from (("gradient", weight) for weight in self.trained(step))

    def is_back(self, step: Step) -> bool:
        """Whether a transfer belongs to the way back: it waits for something else than what goes forward."""
        before = [self.steps[number] for number in step.after]
        return any(
            self.is_back(one) if one.kind == "transfer" else one.kind not in {"digital", "free"}
            for one in before
        )

    def trained(self, step: Step) -> list[str]:
        """Weights whose gradients a step makes."""
        read: Iterable[str] = ()
        if step.kind == "contrast" and step.block is not None:
            read = self.flow.blocks[step.block].weights()
        elif step.kind == "digital_backward":
            read = self.flow.nodes[step.name].reads
        return [weight for weight in read if weight in self.flow.trainable]


def faults(flow: Dataflow, steps: tuple[Step, ...], plan: MemoryPlan) -> list[str]:
    """What a replay of a schedule finds wrong with where things lie."""
    return Replay(flow, plan).run(steps, trains=any(step.kind == "loss" for step in steps))


def over_capacity(plan: MemoryPlan, hardware: Hardware) -> list[str]:
    """Buffers that end behind their memory."""
    room = {memory.name: memory.capacity.value / 8 for memory in hardware.memory}
    return [b.name for b in plan.buffers if b.offset + b.size > room[b.memory]]
