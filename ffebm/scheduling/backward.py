"""Tasks of one training step behind its forward part.

After the loss, from the last block back: the two nudged phases, the contrast of their states (weight
gradients) and digital backward; updates last. A weight that several blocks or nodes share has one update, by
the sum of its gradients, after the last read of it.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from msgspec import structs

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, captured
from ffebm.graph.work import elements
from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import DataType
from ffebm.mapping.block_cost import PhaseCost, update_of
from ffebm.mapping.digital_cost import DigitalWork, work_of
from ffebm.plan.memory.held import Rows
from ffebm.plan.schema import Settle
from ffebm.scheduling.bands import USUAL, Bands, StepBudget
from ffebm.scheduling.forward import Coming, Forward
from ffebm.scheduling.in_flight import joining
from ffebm.scheduling.items import ScheduledItem, items_of
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.streams import Stream, Streams
from ffebm.scheduling.task_list import Seat, apart

LOSS_OPERATIONS = 8.0
"""Digital operations an output element for a loss and its derivative (as softmax with cross-entropy)."""
UPDATE_OPERATIONS = 2.0
"""Digital operations a weight for an optimiser's step (plain gradient descent)."""


def learning(graph: Graph) -> set[str]:
    """Values that a trainable weight has shaped: where error currents must reach."""
    learns: set[str] = set()
    for item in items_of(graph):
        own = any(v in graph.trainable for node in item.nodes for v in node.inputs)
        if own or any(v in learns for v in item.reads):
            learns.update(item.makes)
    return learns


class Backward(Forward):
    """Tasks of one training step; the arguments are those of `Forward`.

    Arrays are read forwards and backwards there, and written: none is free before its last read has ended.
    """

    reads_alike = False

    def __init__(
        self,
        graph: Graph,
        hardware: Hardware,
        settle: Settle,
        dtype: DataType,
        most_bands: int,
        budget: StepBudget = USUAL,
    ) -> None:
        self.learns = learning(graph)
        super().__init__(graph, hardware, settle, dtype, most_bands, budget)
        self.readers: dict[str, list[ScheduledItem]] = {}
        for item in self.items:
            for value in item.reads:
                self.readers.setdefault(value, []).append(item)
        self.gradients: dict[tuple[int, ...], list[int]] = {}
        self.backwards: dict[int, int] = {}
        self.users = self._users()
        self.by_products = {weight for weight in self.users if self._takes_products(weight)}
        self.read_by: dict[tuple[int, ...], list[str]] = {}
        for weight, users in self.users.items():
            self.read_by.setdefault(users, []).append(weight)

    def _in_one_step(self, streams: Streams) -> tuple[list[ScheduledItem], Streams]:
        """Each node has a step of its own, as it has on the way back."""
        return self.items, streams

    def _worthwhile(self, item: ScheduledItem, bands: Bands | None) -> Bands | None:
        """All of them: there are few, and higher ones keep more values alive from the one way to the other.

        SqueezeNet on `pimcomp` would take 877 us and not 831: more of them lie in far memories.
        """
        return bands

    def _joined(self) -> Collection[str]:
        return joining(self.graph)

    def _further_steps(self) -> list[int]:
        """Steps of a band of each item beside its own, on both ways.

        What it makes is carried; error currents come, which a backward run takes, or two nudged phases whose
        states are carried and contrasted; and what it reads gets its own.
        """
        carried = super()._further_steps()
        back = (
            (1 if item.block is None else 4)
            + sum(value in self.learns for value in (*item.makes, *item.reads))
            for item in self.items
        )
        return [forth + more for forth, more in zip(carried, back, strict=True)]

    def backward(self) -> None:
        """Tasks of one training step behind its forward part."""
        host = self.hardware.host.name
        ends = {task for v in self.graph.outputs for task in self.coming(v, host).tasks}
        size = sum(elements(self.graph, v) for v in self.graph.outputs)
        loss = self.compute(
            "loss", "loss", tuple(sorted(ends)), DigitalWork(0, LOSS_OPERATIONS * size, 2 * size)
        )
        learnt = [value for value in dict.fromkeys(self.graph.outputs) if value in self.learns]
        arrived = {value: [self._carry_back(value, Coming((loss,)), host)] for value in learnt}
        for item in reversed(self.items):
            if not any(value in arrived and value in self.learns for value in item.makes):
                continue
            wanted = [v for v in item.reads if v in self.learns]
            if item.block is None:
                tasks = self._node_backward(item, arrived, wanted)
            else:
                tasks = self._block_backward(item, item.block, arrived, wanted)
            for value in wanted:
                made = self._made_back(item, value, tasks)
                arrived.setdefault(value, []).append(self._carry_back(value, made, self.seat(item)))
        self._updates_of_shared()

    def _streaming(self, item: ScheduledItem) -> tuple[Stream, Bands] | None:
        """How an item goes in bands; None: at once."""
        stream, bands = self._streams[item.position], self._bands[item.position]
        return None if stream is None or bands is None else (stream, bands)

    def _made_back(self, item: ScheduledItem, value: str, tasks: tuple[int, ...]) -> Coming:
        """The error current that the bands of an item leave of a value that it reads, row by row."""
        streaming = self._streaming(item)
        if streaming is None or not streaming[0].reads.get(value):
            return Coming(tasks[-1:])
        stream, bands = streaming
        ends: dict[int, int] = {}
        for task, behind in zip(tasks, bands.ends, strict=True):
            ends.setdefault(stream.complete(value, behind), task)
        reach = stream.reads[value][0]
        ends.pop(0, None)
        ends[reach.size] = tasks[-1]
        return Coming(tuple(ends.values()), reach.axis, Bands(tuple(ends)))

    def _node_backward(
        self, item: ScheduledItem, arrived: dict[str, list[Coming]], wanted: list[str]
    ) -> tuple[int, ...]:
        node = item.nodes[0]
        trained = self._trained(item)
        times = (1 if trained else 0) + (1 if wanted else 0)
        work = work_of(self.graph, node, max(1, times))
        run = self.digital_run(work, self.hardware.digital_group(node.group), self.seat(item))
        currents = [coming for value in item.makes for coming in arrived.get(value, [])]
        streaming = self._streaming(item)
        tasks: tuple[int, ...]
        if streaming is None:
            after = (*(task for coming in currents for task in coming.tasks), *self.ended(item))
            tasks = (self.append(run.task("digital_backward", node.name, after)),)
        else:
            stream, bands = streaming
            tasks = ()
            for rows, forth in zip(bands.rows(), self.ended(item), strict=True):
                needed = (task for coming in currents for task in coming.bring(stream.axis, rows))
                share = (rows[1] - rows[0]) / stream.rows
                after = (*tasks[-1:], forth, *needed)
                task = run.task("digital_backward", node.name, after, rows, share)
                tasks = (*tasks, self.append(task))
        self.backwards[item.position] = tasks[-1]
        if trained:
            self._learn(item, tasks[-1])
        return tasks

    def _block_backward(
        self, item: ScheduledItem, block: EnergyBlock, arrived: dict[str, list[Coming]], wanted: list[str]
    ) -> tuple[int, ...]:
        """Both nudged phases of a block, the contrast of their states; the tasks of the second phase."""
        currents = [v for v in block.outputs if v in arrived]
        streaming = self._streaming(item)
        if streaming is None:
            plus, minus = self._nudged_at_once(item, block, {v: arrived[v] for v in currents}, wanted)
        else:
            (value,) = currents
            plus, minus = self._nudged_in_bands(item, block, value, arrived[value], wanted)
        self.backwards[item.position] = minus[-1]
        if not self._trained(item):
            return minus
        gradients = [w for w in self._trained(item) if w not in self.by_products]
        if not gradients:
            self._learn(item, minus[-1])
            return minus
        self._learn(item, self._contrast(item, block, plus, minus, gradients))
        return minus

    def _contrast(
        self,
        item: ScheduledItem,
        block: EnergyBlock,
        plus: tuple[int, ...],
        minus: tuple[int, ...],
        gradients: list[str],
    ) -> int:
        """The contrast of the states that the bands of both nudged phases leave; its last task."""
        cost = self.costs[block.id]
        moved = 2 * cost.state_elements()
        size = sum(self.graph.constants[weight].size for weight in gradients)
        # biases alone need weighted sums of states
        on_tiles = any(self.graph.parts.get(weight) for weight in block.weights())
        has_matrix = not on_tiles or any(self.graph.parts.get(weight) for weight in gradients)
        products = cost.contrast_macs(self.by_products) if has_matrix else moved
        run = self.digital_run(DigitalWork(products, 0, moved + size), self.hardware.host)
        streaming = self._streaming(item)
        if streaming is None:
            states = self.transfer(block.name, minus, (block, None), moved, block)
            return self.append(run.task("contrast", block.name, (states,)), block)
        stream, bands = streaming
        last: tuple[int, ...] = ()
        for rows, up, down in zip(bands.rows(), plus, minus, strict=True):
            share = (rows[1] - rows[0]) / stream.rows
            states = self.transfer(block.name, (up, down), (block, None), share * moved, block, rows)
            task = run.task("contrast", block.name, (states, *last), rows, share)
            last = (self.append(task, block),)
        return last[0]

    def _nudged_at_once(
        self, item: ScheduledItem, block: EnergyBlock, arrived: dict[str, list[Coming]], wanted: list[str]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        cost = self.costs[block.id]
        if cost.group.relaxation is not None:  # as a whole, in no bands
            free, (ran,) = cost.free(self.settle.free_sweeps, before_nudge=True), self.ended(item)
            self.tasks[ran] = structs.replace(self.tasks[ran], seconds=free.seconds, cost=free.cost)
        currents = [
            self.transfer(
                v, tuple(task for coming in some for task in coming.tasks), (self._gathered(v), block)
            )
            for v, some in arrived.items()
        ]
        up = cost.nudged(self.settle.nudged_sweeps)
        down = cost.nudged(self.settle.nudged_sweeps, to_inputs=wanted)
        after = (*currents, *self.ended(item))
        plus = self._nudged(block, "+", up, after)
        return (plus,), (self._nudged(block, "-", down, (plus,)),)

    def _nudged_in_bands(
        self,
        item: ScheduledItem,
        block: EnergyBlock,
        value: str,
        arrived: list[Coming],
        wanted: list[str],
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Each band of the second phase follows the same band of the first one, and the band before."""
        found = self._streaming(item)
        assert found is not None
        stream, bands = found
        cost = self.costs[block.id]
        nothing = [(0, 0)] * len(stream.drives)
        plus: list[int] = []
        minus: list[int] = []
        for rows, forth in zip(bands.rows(), self.ended(item), strict=True):
            share = (rows[1] - rows[0]) / stream.rows
            spans = [
                (0, 0) if drive is None else drive.returned(rows, stream.rows) for drive in stream.drives
            ]
            needed = tuple(task for coming in arrived for task in coming.bring(stream.axis, rows))
            current = self._carried_rows(value, needed, (self._gathered(value), block), rows, bands)
            inputs = tuple(task for v in item.reads for task in self._tasks_before(v, item, stream, rows))
            up, down = cost.nudged_band(nothing, share), cost.nudged_band(spans, share, wanted)
            after = (current, forth, *inputs)
            plus.append(self._nudged(block, "+", up, after, rows))
            after = (plus[-1], *minus[-1:], forth, *inputs)
            minus.append(self._nudged(block, "-", down, after, rows))
        return tuple(plus), tuple(minus)

    def _nudged(
        self,
        block: EnergyBlock,
        sign: str,
        phase: PhaseCost,
        after: tuple[int, ...],
        rows: Rows | None = None,
    ) -> int:
        """Add one nudged phase of a block, or of some of its rows; returns its position."""
        units, name = self.tiles(block), f"{block.name} {sign}beta"
        task = Task("nudged", name, units, phase.seconds, after, phase.cost, rows=rows, share_s=phase.share)
        return self.append(task, block)

    def _takes_products(self, weight: str) -> bool:
        """Cells take the outer products of states themselves; no digital node has a gradient of it."""
        blocks = [self.items[position].block for position in self.users[weight]]
        return bool(self.graph.parts.get(weight)) and all(
            block is not None and self.costs[block.id].learns_by_products() for block in blocks
        )

    # --- updates -------------------------------------------------------------------------------------

    def _trained(self, item: ScheduledItem) -> list[str]:
        """The trainable weights that an item reads, each once."""
        read = item.block.weights() if item.block is not None else captured(item.nodes[0])
        return [w for w in dict.fromkeys(read) if w in self.graph.trainable]

    def _users(self) -> dict[str, tuple[int, ...]]:
        """For each trainable weight the items that read it, by position."""
        found: dict[str, tuple[int, ...]] = {}
        for position, item in enumerate(self.items):
            for weight in self._trained(item):
                found[weight] = (*found.get(weight, ()), position)
        return found

    def _learn(self, item: ScheduledItem, gradient: int) -> None:
        """An item's gradients are there; what it alone reads is updated, the rest waits for the others."""
        for users in dict.fromkeys(self.users[weight] for weight in self._trained(item)):
            self.gradients.setdefault(users, []).append(gradient)
            if users == (item.position,):
                self._update(users)

    def _updates_of_shared(self) -> None:
        for users in list(self.gradients):
            if len(users) > 1:
                self._update(users)

    def _update(self, users: tuple[int, ...]) -> None:
        """One step of the weights that exactly these items read, after everything that reads them."""
        items = [self.items[position] for position in users]
        ends = [(*self.ended(item)[-1:], self.backwards.get(item.position, -1)) for item in items]
        reads = [task for both in ends for task in both if task >= 0]
        weights = self.read_by[users]
        size = sum(self.graph.constants[weight].size for weight in weights)
        owner = next((item.block for item in items if item.block is not None), None)
        name = items[0].nodes[0].name if owner is None else owner.name
        after = (*self.gradients[users], *(reads if len(users) > 1 else ()))
        products = [weight for weight in weights if weight in self.by_products]
        on_tiles = [weight for weight in weights if self.graph.parts.get(weight) and weight not in products]
        if owner is not None and products:
            self._update_by_products(items, products)
            size -= sum(self.graph.constants[weight].size for weight in products)
        if not size:
            return
        # weights and gradients are read, weights written
        work = DigitalWork(0, UPDATE_OPERATIONS * size, 3 * size)
        master = self.compute("update", name, after, work, owner)
        if owner is None or not on_tiles:
            return  # biases stay digital
        if self.hardware.analog_group(owner.group).tile.has_cells:
            held = sum(self.graph.constants[weight].size for weight in on_tiles)
            master = self.transfer(name, (master,), (None, owner), held, owner)
            moved = self.tasks[master]
            self.tasks[master] = structs.replace(moved, fixed_s=moved.seconds, fixed_j=moved.cost.energy)
        write, tiles = update_of(self.graph, self.hardware, weights)
        units = self.units(tiles)
        self.append(Task("update", name, units, write.seconds, (master,), write.cost), owner)

    def _update_by_products(self, items: Sequence[ScheduledItem], weights: list[str]) -> None:
        """Pulses of the outer products of some blocks' states, which are beside the tiles."""
        outer: Counter[str] = Counter()
        for item in items:
            assert item.block is not None
            outer.update(self.costs[item.block.id].outer_products())
        write, tiles = update_of(self.graph, self.hardware, weights, outer)
        units = tuple(f"tile{number}" for number in tiles)
        states = tuple(self.backwards[item.position] for item in items if item.position in self.backwards)
        (block, *_) = (item.block for item in items if item.block is not None)
        task = Task("update", block.name, units, write.seconds, states, write.cost)
        self.tasks.append(structs.replace(task, block=block.id))

    def _carry_back(self, value: str, current: Coming, seat: Seat) -> Coming:
        """Carry an error current from where it is made to where those of its value are added."""
        target = self._gathered(value)
        if not apart(seat, target):
            return current
        if current.bands is None:
            return Coming((self.transfer(value, current.tasks, (seat, target)),))
        tasks = [
            self._carried_rows(value, (task,), (seat, target), rows, current.bands)
            for rows, task in zip(current.bands.rows(), current.tasks, strict=True)
        ]
        return Coming(tuple(tasks), current.axis, current.bands)

    def _gathered(self, value: str) -> Seat:
        """Where the error currents of a value are added.

        That is where it was made, if that is digital. For what a block made it is the host, or its only
        reader, from which it goes on to the block.
        """
        seat = self.seats.get(value)
        if not isinstance(seat, EnergyBlock):
            return seat
        readers = self.readers.get(value, [])
        if len(readers) == 1 and value not in self.graph.outputs:
            return self.seat(readers[0])
        return self.hardware.host.name
