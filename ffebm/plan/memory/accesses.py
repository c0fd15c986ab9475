"""What each step of a schedule reads and writes.

A step names its node, block or value; the steps that it waits for, and those that wait for it, say the rest:
whether a transfer carries a value forward or an error current back, between whom, and which bands of rows and
samples a step works on. A step of a band, or of one sample of several in flight, reads what the steps have
made that it waits for; where it waits for none of a value's makers, all that there is of the value for its
sample.

What training reads beside the values of an inference:

- a nudged phase: the inputs of its block, the free state that it starts from, the error currents of the
  block's outputs; the second one also the first one's state, to compare;
- a contrast: both nudged states and the inputs of its block; an update in place the same;
- a digital node's backward run: what its derivative needs (`DigitalNode.kept`), the error currents of what it
  made;
- an update: the gradients of its weights. Weights themselves are no values: they have no buffer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ffebm.graph.energy_block import EnergyBlock
from ffebm.plan.memory.dataflow import Dataflow, DigitalNode
from ffebm.plan.memory.held import GIVEN, HOST, NUDGED, Content, Held, Rows
from ffebm.plan.memory.parts import Parts
from ffebm.plan.memory.work import Work


@dataclass
class Access:
    """What a step takes from memories and puts into them.

    Attributes:
        reads: What it reads, each once.
        writes: What it writes, each once.
        begins: What it puts a first part into; the rest, and what it costs, is of steps that write it.
        needs: What must be there while it runs, though it reads it no more: a transfer has carried it.
        parts: What each of its nodes takes and puts, in order, where it does several; else nothing.
    """

    reads: list[Held] = field(default_factory=list)
    writes: list[Held] = field(default_factory=list)
    needs: list[Held] = field(default_factory=list)
    begins: list[Held] = field(default_factory=list)
    parts: "list[Access]" = field(default_factory=list)

    def once(self) -> None:
        """Each thing counts once, where it comes first."""
        self.reads, self.writes = _distinct(self.reads), _distinct(self.writes)
        self.needs = _distinct(self.needs)


Beside = Callable[[Content, str, str], bool]
"""Whether something of a name lies beside the tiles of a block, by the block's name."""


def nothing_beside(content: Content, name: str, block: str) -> bool:
    """No value lies beside tiles: the machine has no memory there."""
    del content, name, block
    return False


def accesses(flow: Dataflow, steps: Sequence[Work], beside: Beside = nothing_beside) -> list[Access]:
    """What each step reads and writes.

    Args:
        flow: What nodes and blocks read and make.
        steps: In an order in which each waits only for earlier ones.
        beside: What lies in memories beside tiles.
    """
    return reading(flow, steps)(beside)


def reading(flow: Dataflow, steps: Sequence[Work]) -> Callable[[Beside], list[Access]]:
    """The same for whatever lies beside tiles.

    What a step reads follows from what it waits for, whatever the order of the others: so what is to be done
    can be read before it has times, once for all schedules of it.

    Args:
        flow: What nodes and blocks read and make.
        steps: In an order in which each waits only for earlier ones.
    """
    return _Reading(flow, steps).all


def _distinct(some: list[Held]) -> list[Held]:
    """Each once, where it comes first."""
    return list(dict.fromkeys(some)) if len(some) > 1 else some


_Place = tuple[Content, str, str]
"""Something by its name, and where it is."""


_Cause = tuple[int | None, str, Rows | None, int]
"""A block or a node, its rows and sample."""


def _cause(step: Work) -> _Cause:
    """What a step works for, forward or back."""
    return step.block, step.name if step.block is None else "", step.rows, step.sample


def _meet(one: Rows | None, other: Rows | None) -> bool:
    """Whether two bands have a row in common; None is all rows."""
    return one is None or other is None or (one[0] < other[1] and other[0] < one[1])


class _Reading:
    """Reads steps one by one; `there` says which step has put what into which place."""

    def __init__(self, flow: Dataflow, steps: Sequence[Work]) -> None:
        self.flow = flow
        self.steps = steps
        self.beside: Beside = nothing_beside
        self.there: dict[_Place, dict[int, list[Held]]] = {}
        self.waiting: list[list[Work]] = [[] for _ in steps]
        for step in steps:
            for before in step.after:
                self.waiting[before].append(step)
        self.back = self._backwards()
        self.forth, self.cut = self._forwards()
        self.parts = Parts(flow, steps)
        self.in_place = {block.id for step in steps for block in self._pulsed(step)}
        self.number = 0
        self.access = Access()

    def _pulsed(self, step: Work) -> list[EnergyBlock]:
        """The blocks whose states cells take: an update in place waits for their nudged phases alone.

        One of a weight that several blocks read waits for these too, beside what makes its gradients.
        """
        before = [self.steps[number] for number in step.after]
        if step.kind != "update" or any(one.kind != "nudged" for one in before):
            return []
        return [
            self.flow.blocks[number]
            for number in dict.fromkeys(one.block for one in before)
            if number is not None
        ]

    def _backwards(self) -> list[bool]:
        """Whether each step belongs to the way back of a training step."""
        back: list[bool] = []
        for step in self.steps:
            begins = step.kind not in {"transfer", "digital", "free"}
            back.append(begins or any(back[before] for before in step.after if before < len(back)))
        return back

    def _forwards(self) -> tuple[dict[_Cause, Work], dict[str, list[Rows]]]:
        """The forward steps by what runs, and the bands of each value that is made in some."""
        forth: dict[_Cause, Work] = {}
        cut: dict[str, dict[Rows, None]] = {}
        for step in self.steps:
            if step.kind in {"digital", "free"}:
                forth[_cause(step)] = step
                if step.rows is not None:
                    for value in self._made(step):
                        cut.setdefault(value, {})[step.rows] = None
        return forth, {value: sorted(bands) for value, bands in cut.items()}

    def _made(self, step: Work) -> Sequence[str]:
        """Values that a forward step makes rows of."""
        if step.block is None:
            return [value for name in step.nodes for value in self.flow.nodes[name].makes]
        return [layer.value for layer in self.flow.blocks[step.block].layers]

    def all(self, beside: Beside) -> list[Access]:
        """What each step reads of what is there, and writes."""
        self.beside = beside
        runs = range(1 + max((step.sample for step in self.steps), default=0))
        self.there = {
            ("value", value, HOST): {GIVEN: [Held("value", value, sample=run) for run in runs]}
            for value in self.flow.inputs
        }
        found = []
        for number, step in enumerate(self.steps):
            self.number = number
            self.access = access = Access()
            getattr(self, f"_{step.kind}")(step)
            found.append(access)
            access.once()
        self.beside, self.there = nothing_beside, {}  # whoever was asked holds this: no circle of both
        return found

    # --- places ------------------------------------------------------------------------------------------

    def at(self, content: Content, name: str, block: EnergyBlock) -> _Place:
        """The place of something of a block: beside its tiles, or in the memory of the digital units."""
        return content, name, block.name if self.beside(content, name, block.name) else HOST

    def original(self, value: str) -> _Place:
        """Where the maker of a value leaves it."""
        maker = self.flow.maker.get(value)
        return ("value", value, HOST) if maker is None else self.at("value", value, self.flow.blocks[maker])

    def on_host(self, value: str) -> _Place:
        """Where a digital unit reads a value: where its maker left it if it was not carried."""
        carried: _Place = ("value", value, HOST)
        return carried if carried in self.there else self.original(value)

    def found(self, step: Work, place: _Place) -> list[Held]:
        """What a step finds in a place; of an error current, what lies in the rows that it works on."""
        makers = self.there.get(place)
        if makers is None:
            return []
        if place[0] == "error":
            errors = _distinct([held for helds in makers.values() for held in helds])
            return [held for held in errors if held.sample == step.sample and _meet(held.rows, step.rows)]
        if self.number in makers:  # an earlier node of the same step has made it
            return _distinct(makers[self.number])
        direct: list[Held] = []
        for before in step.after:
            if before in makers:
                direct += makers[before]
        if direct:
            return _distinct(direct)
        every = _distinct([held for helds in makers.values() for held in helds])
        own = [held for held in every if held.sample == step.sample]
        return own or every

    def read(self, step: Work, places: Iterable[_Place]) -> None:
        """A step reads what is in some places."""
        for place in places:
            self.access.reads += self.found(step, place)

    def take(self, step: Work, places: Iterable[_Place]) -> None:
        """A block takes what transfers have carried to it; beside its tiles it is read once more."""
        for place in places:
            kept = self.access.needs if place[2] == HOST else self.access.reads
            kept += self.found(step, place)

    def write(self, step: Work, places: Iterable[_Place]) -> None:
        """A step puts something into some places: its own band, of its own sample."""
        for content, name, where in places:
            held = Held(content, name, where, step.rows, step.sample)
            self.access.writes.append(held)
            self.there.setdefault((content, name, where), {})[self.number] = [held]

    def make(self, step: Work, places: Iterable[_Place]) -> None:
        """A block makes its own band, and first parts of further rows.

        What an earlier step has begun of a band has a buffer of its own, from then on; the rest another one.
        """
        for content, name, where in places:
            parts, further = self.parts.of(name, step)
            own = [Held(content, name, where, rows, step.sample) for rows in parts]
            self.access.writes += own
            self.access.begins += [Held(content, name, where, rows, step.sample) for rows in further]
            self.there.setdefault((content, name, where), {})[self.number] = own

    def collect(self, step: Work, places: Iterable[_Place]) -> None:
        """A step adds to a sum, of which there is one for all samples and bands."""
        for content, name, where in places:
            held = Held(content, name, where)
            self.access.writes.append(held)
            self.there.setdefault((content, name, where), {})[self.number] = [held]

    def add_errors(self, step: Work, places: Iterable[_Place]) -> None:
        """A step adds to error currents, which are cut as their values are.

        Windows of two bands overlap, so a band of an error current is added to by several.
        """
        for content, name, where in places:
            helds = [Held(content, name, where, rows, step.sample) for rows in self._added(step, name)]
            self.access.writes += helds
            self.there.setdefault((content, name, where), {})[self.number] = helds

    def _added(self, step: Work, value: str) -> Sequence[Rows | None]:
        """The bands of an error current that a step adds to: those that it has read of the value."""
        cut = self.cut.get(value)
        if cut is None:
            return [None]
        rows = step.rows
        if rows is None:
            return cut
        if step.kind == "transfer":
            return [band for band in cut if _meet(band, rows)]
        forth = self.forth.get(_cause(step))
        if forth is None:  # cut otherwise than forward
            return cut
        before = (self.steps[number] for number in forth.after)
        read = {earlier.rows for earlier in before if self._brings(earlier, value)}
        return cut if None in read else [band for band in cut if band in read]

    def _brings(self, step: Work, value: str) -> bool:
        """Whether a forward step makes or carries rows of a value."""
        if step.kind == "transfer":
            return step.block is None and step.name == value
        return step.kind in {"digital", "free"} and value in self._made(step)

    def carry(self, step: Work, sources: Iterable[_Place], targets: Iterable[tuple[_Place, bool]]) -> None:
        """What leaves some places arrives in others.

        Args:
            step: That carries.
            sources: Where it was.
            targets: Where it goes, and whether a block takes it; what a block has put into the memory of the
                digital units is there already.
        """
        held = {place: self.found(step, place) for place in sources}
        for target, to_block in targets:
            if target not in held:
                self.read(step, held)
                if target[0] == "error":
                    self.add_errors(step, [target])
                else:
                    self.write(step, [target])
                continue
            (self.access.reads if to_block else self.access.needs).extend(held[target])
            for place in held.keys() - {target}:
                self.read(step, [place])
            self.there[target][self.number] = held[target]

    # --- steps -------------------------------------------------------------------------------------------

    def _block(self, step: Work) -> EnergyBlock:
        assert step.block is not None
        return self.flow.blocks[step.block]

    def _digital(self, step: Work) -> None:
        names, whole = step.nodes, self.access
        for name in names:
            self.access = whole if len(names) == 1 else Access()
            self._node(step, self.flow.nodes[name])
            if len(names) > 1:
                self.access.once()
                whole.parts.append(self.access)
                whole.reads += self.access.reads
                whole.writes += self.access.writes
                whole.needs += self.access.needs

    def _node(self, step: Work, node: DigitalNode) -> None:
        """One of the nodes that a step does."""
        values = [value for value in node.reads if value not in self.flow.constants]
        source = self.flow.views.get(node.makes[0]) if node.makes else None
        if source is not None:  # it shares the bytes of what it reads
            self.read(step, [self.on_host(value) for value in values if value != source])
            seen = self.found(step, self.on_host(source))
            self.access.needs += seen
            self.there.setdefault(("value", node.makes[0], HOST), {})[self.number] = seen
            return
        self.read(step, [self.on_host(value) for value in values])
        self.write(step, [("value", value, HOST) for value in node.makes])

    def _free(self, step: Work) -> None:
        block = self._block(step)
        self.take(step, self._inputs(block))
        self.make(step, [self.at("value", layer.value, block) for layer in block.layers])

    def _inputs(self, block: EnergyBlock) -> list[_Place]:
        return [self.at("value", value, block) for value in block.inputs]

    def _transfer(self, step: Work) -> None:
        if step.block is not None:
            self._states(step)
        elif self.back[self.number]:
            self.carry(step, self._senders(step), self._arrivals("error", step))
        else:
            self.carry(step, [self.original(step.name)], self._arrivals("value", step))

    def _arrivals(self, content: Content, step: Work) -> list[tuple[_Place, bool]]:
        """Where what a transfer carries goes for each step that waits for it, and whether to a block."""
        found: dict[_Place, bool] = {}
        for reader in self.waiting[self.number]:
            if reader.kind in {"free", "nudged"}:
                found[self.at(content, step.name, self._block(reader))] = True
            else:
                found.setdefault((content, step.name, HOST), False)
        return list(found.items()) or [((content, step.name, HOST), False)]

    def _senders(self, step: Work) -> list[_Place]:
        """Where the error current is that a transfer carries: beside tiles that made it, or on the host."""
        found: dict[_Place, None] = {}
        for before in step.after:
            sender = self.steps[before]
            beside = sender.kind == "nudged"
            found[
                self.at("error", step.name, self._block(sender)) if beside else ("error", step.name, HOST)
            ] = None
        return list(found)

    def _states(self, step: Work) -> None:
        """Nudged states of a block go to the host; or weights come from there, which have no buffer."""
        block = self._block(step)
        if step.name != block.name or not any(self.steps[n].kind == "nudged" for n in step.after):
            return
        for content in NUDGED:
            for layer in block.layers:
                self.carry(
                    step, [self.at(content, layer.value, block)], [((content, layer.value, HOST), False)]
                )

    def _loss(self, step: Work) -> None:
        self.read(step, [self.on_host(value) for value in self.flow.outputs])
        learnt = [value for value in self.flow.outputs if value in self.flow.learns]
        self.add_errors(step, [("error", value, HOST) for value in learnt])

    def _nudged(self, step: Work) -> None:
        block = self._block(step)
        second = any(self.steps[n].kind == "nudged" and self.steps[n].block == step.block for n in step.after)
        states = [layer.value for layer in block.layers]
        self.read(step, self._inputs(block))
        self.read(step, [self.at("value", value, block) for value in states])
        self.take(step, [self.at("error", value, block) for value in block.outputs])
        if second:
            self.read(step, [self.at("plus", value, block) for value in states])
        self.write(step, [self.at("minus" if second else "plus", value, block) for value in states])
        if second:
            learnt = [value for value in block.inputs if value in self.flow.learns]
            self.add_errors(step, [self.at("error", value, block) for value in learnt])

    def _contrast(self, step: Work) -> None:
        block = self._block(step)
        self.read(step, [(content, la.value, HOST) for content in NUDGED for la in block.layers])
        for value in block.inputs:
            near = self.on_host(value)
            self.read(step, [near if near in self.there else self.at("value", value, block)])
        self.collect(step, self._gradients(block.weights(), in_place=step.block in self.in_place))

    def _gradients(self, weights: Iterable[str], *, in_place: bool = False) -> list[_Place]:
        """Gradients of those weights that train; cells that learn in place need none."""
        learnt = [weight for weight in dict.fromkeys(weights) if weight in self.flow.trainable]
        return [("gradient", w, HOST) for w in learnt if not (in_place and w in self.flow.tiles)]

    def _digital_backward(self, step: Work) -> None:
        node = self.flow.nodes[step.name]
        self.read(step, [self.on_host(value) for value in node.kept if value not in self.flow.constants])
        self.read(step, [("error", value, HOST) for value in node.makes])
        learnt = [value for value in dict.fromkeys(node.reads) if value in self.flow.learns]
        self.add_errors(step, [("error", value, HOST) for value in learnt])
        self.collect(step, self._gradients(node.reads))

    def _update(self, step: Work) -> None:
        for block in self._pulsed(step):
            states = [self.at(c, layer.value, block) for c in NUDGED for layer in block.layers]
            for place in (*states, *self._inputs(block)):  # of all samples
                self.access.reads += [held for helds in self.there.get(place, {}).values() for held in helds]
        for before in step.after:
            source = self.steps[before]
            if source.kind == "contrast":
                weights = self._block(source).weights()
                self.read(step, self._gradients(weights, in_place=source.block in self.in_place))
            elif source.kind == "digital_backward":
                self.read(step, self._gradients(self.flow.nodes[source.name].reads))
