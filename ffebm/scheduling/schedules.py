"""Schedule: one inference and one training step as tasks on units, then as steps with times.

A training step is: the free phases and digital nodes in order; the loss; then from the last block back, the
two nudged phases, the contrast of their states (weight gradients) and digital backward; updates last. A
weight that several blocks or nodes share has one update, by the sum of its gradients, after the last read of
it. Values that cross units travel over the network: between tiles, digital groups, and both; what leaves the
tiles as an output goes to the host. Weights are on their tiles before an inference starts.
"""

from dataclasses import dataclass, replace

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.work import elements, rows
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.groups import DataType
from ffebm.hardware.routes import Routes
from ffebm.mapping.block_cost import BlockCost, update_of
from ffebm.mapping.digital_cost import DigitalWork, digital_cost, element_joules, transfer_cost, work_of
from ffebm.plan.schedule import StepKind
from ffebm.plan.schema import Settle
from ffebm.scheduling.list_schedule import Task

LOSS_OPERATIONS = 8.0
"""Digital operations an output element for a loss and its derivative (as softmax with cross-entropy)."""
UPDATE_OPERATIONS = 2.0
"""Digital operations a weight for an optimiser's step (plain gradient descent)."""


def inference_tasks(graph: Graph, hardware: Hardware, settle: Settle, dtype: DataType = "fp32") -> list[Task]:
    """What one inference of a placed graph is made of; digital work at the price of a data type."""
    tasks = _Tasks(graph, hardware, settle, dtype)
    tasks.forward()
    return tasks.tasks


def training_tasks(graph: Graph, hardware: Hardware, settle: Settle, dtype: DataType = "fp32") -> list[Task]:
    """What one training step of a placed graph is made of; digital work at the price of a data type."""
    tasks = _Tasks(graph, hardware, settle, dtype)
    tasks.forward()
    tasks.backward()
    return tasks.tasks


def batch_of(graph: Graph) -> int:
    """Samples of one run: the first size of the first input; 1 if it is open or 0."""
    shape = graph.shape(graph.inputs[0]) if graph.inputs else None
    return max(1, shape[0]) if shape and isinstance(shape[0], int) else 1


Seat = EnergyBlock | str | None
"""Where a value lies: on a block's tiles, with a group of digital units by name, or wherever it is read."""


@dataclass
class _Item:
    """A node or a whole block: what the schedule treats as one."""

    nodes: list[Node]
    block: EnergyBlock | None
    reads: list[str]
    makes: list[str]
    position: int = -1
    forward: int = -1
    backward: int = -1
    in_place: bool = False


class _Tasks:
    """Collects tasks; `made` is the task that makes each value where it is wanted."""

    def __init__(self, graph: Graph, hardware: Hardware, settle: Settle, dtype: DataType) -> None:
        self.graph = graph
        self.dtype = dtype
        self.hardware = hardware
        self.settle = settle
        self.batch = batch_of(graph)
        self.tasks: list[Task] = []
        self.items = [replace(item, position=n) for n, item in enumerate(_items(graph))]
        self.maker = {value: item for item in self.items for value in item.makes}
        self.moved: dict[tuple[str, str], int] = {}
        self.seats: dict[str, Seat] = {}
        self.load = [0.0] * hardware.unit_count
        self.costs = {b.id: BlockCost(graph, hardware, b, self._vectors(b)) for b in graph.blocks}
        self.routes = Routes(hardware)
        self.readers: dict[str, list[_Item]] = {}
        for item in self.items:
            for value in item.reads:
                self.readers.setdefault(value, []).append(item)
        self.learns = self._learning()
        self.gradients: dict[tuple[int, ...], list[int]] = {}
        self.users = self._users()
        self.read_by: dict[tuple[int, ...], list[str]] = {}
        for weight, users in self.users.items():
            self.read_by.setdefault(users, []).append(weight)

    def _vectors(self, block: EnergyBlock) -> int:
        """Samples that settle in a block: its rows, where batch and sequence are one axis."""
        return self.batch * rows(self.graph, block.outputs[0], self.batch)

    # --- forward -------------------------------------------------------------------------------------

    def forward(self) -> None:
        """Tasks of one inference."""
        for item in self.items:
            seat = self._seat(item)
            self.seats.update(dict.fromkeys(item.makes, seat))
            after = tuple(sorted({self._bring(v, seat) for v in item.reads} - {-1}))
            if item.block is None:
                item.forward = self._digital("digital", item.nodes[0], after)
            else:
                phase = self.costs[item.block.id].free(self.settle.free_sweeps)
                units = self._tiles(item.block)
                task = Task("free", item.block.name, units, phase.seconds, after, phase.cost)
                item.forward = self._append(task, item.block)
        for value in self.graph.outputs:
            if isinstance(self.seats.get(value), EnergyBlock):
                self._bring(value, self.hardware.host.name)

    def _seat(self, item: _Item) -> Seat:
        """Where an item works; a view of a digital value is wherever that lies."""
        if item.block is not None:
            return item.block
        node = item.nodes[0]
        if len(item.reads) == 1 and not work_of(self.graph, node).moved:
            source = self.seats.get(item.reads[0])
            return node.group if isinstance(source, EnergyBlock) else source
        return node.group

    def _bring(self, value: str, seat: Seat) -> int:
        """The task after which a value is where it is read; -1 if it is there from the start."""
        if value in self.graph.constants:
            return -1
        maker = self.maker.get(value)
        source = maker.forward if maker is not None else -1
        start = self.seats.get(value)
        if not _apart(start, seat):
            return source
        where = seat.name if isinstance(seat, EnergyBlock) else f"digital {seat}"
        if (value, where) not in self.moved:
            self.moved[value, where] = self._transfer(value, (source,) if source >= 0 else (), (start, seat))
        return self.moved[value, where]

    def _transfer(
        self,
        name: str,
        after: tuple[int, ...],
        ends: tuple[Seat, Seat],
        moved: float | None = None,
        block: EnergyBlock | None = None,
    ) -> int:
        """A value, or so many elements of a block, over the network; an end that is nowhere is the host."""
        count = elements(self.graph, name) if moved is None else moved
        source, target = (
            self.costs[end.id].tiles[0] if isinstance(end, EnergyBlock) else end for end in ends
        )
        units, hops = self.routes.way(source, target)
        latency = self.routes.latency(hops)
        groups = [end or self.hardware.host.name for end in ends if not isinstance(end, EnergyBlock)]
        cost = transfer_cost(self.hardware, count, self.dtype, (latency, hops), groups)
        task = Task("transfer", name, units, cost.seconds, after, cost.cost, fixed_s=latency)
        return self._append(task, block)

    def _digital(self, kind: StepKind, node: Node, after: tuple[int, ...], times: int = 1) -> int:
        """A node on a digital unit; `times` as much work as its forward run."""
        group = self.hardware.digital_group(node.group)
        return self._compute(kind, node.name, after, work_of(self.graph, node, times), group=group)

    def _compute(
        self,
        kind: StepKind,
        name: str,
        after: tuple[int, ...],
        work: DigitalWork,
        block: EnergyBlock | None = None,
        group: DigitalGroup | None = None,
    ) -> int:
        """Some work on a group's least loaded unit; what belongs to no node is the host's."""
        group = group or self.hardware.host
        found = digital_cost(self.hardware, group, work, self.dtype)
        unit = min(self.hardware.unit_numbers(group.name), key=lambda index: (self.load[index], index))
        self.load[unit] += found.seconds
        held = work.held * element_joules(self.hardware, group, self.dtype)
        task = Task(kind, name, (f"digital{unit}",), found.seconds, after, found.cost, fixed_j=held)
        return self._append(task, block)

    def _append(self, task: Task, block: EnergyBlock | None = None) -> int:
        """Add a task, which may work for a block."""
        found = task if block is None else replace(task, block=block.id)
        if task.kind == "update":  # once, whatever the batch
            found = replace(found, fixed_s=task.seconds, fixed_j=task.cost.energy)
        self.tasks.append(replace(found, after=tuple(sorted(set(found.after)))))
        return len(self.tasks) - 1

    def _tiles(self, block: EnergyBlock) -> tuple[str, ...]:
        return self._units(self.costs[block.id].tiles)

    def _units(self, tiles: tuple[int, ...]) -> tuple[str, ...]:
        """Tiles, and the cores whose port and adders they take, if they lie in some."""
        cores = {self.hardware.core_of_tile(number) for number in tiles} - {None}
        names = [f"core{number}" for number in sorted(number for number in cores if number is not None)]
        return (*names, *(f"tile{number}" for number in tiles))

    # --- backward ------------------------------------------------------------------------------------

    def _learning(self) -> set[str]:
        """Values that a trainable weight has shaped: where error currents must reach."""
        learns: set[str] = set()
        for item in self.items:
            own = any(v in self.graph.trainable for node in item.nodes for v in node.inputs)
            if own or any(v in learns for v in item.reads):
                learns.update(item.makes)
        return learns

    def backward(self) -> None:
        """Tasks of one training step behind its forward part."""
        host = self.hardware.host.name
        ends = {self._bring(v, host) for v in self.graph.outputs} - {-1}
        size = sum(elements(self.graph, v) for v in self.graph.outputs)
        loss = self._compute(
            "loss", "loss", tuple(sorted(ends)), DigitalWork(0, LOSS_OPERATIONS * size, 2 * size)
        )
        arrived = {value: [self._carry_back(value, loss, host)] for value in self.graph.outputs}
        for item in reversed(self.items):
            after = [task for value in item.makes for task in arrived.get(value, [])]
            if not after or not any(value in self.learns for value in item.makes):
                continue
            wanted = [v for v in item.reads if v in self.learns]
            if item.block is None:
                self._node_backward(item, tuple(after), wanted)
            else:
                self._block_backward(item, item.block, arrived, wanted)
            for value in wanted:
                arrived.setdefault(value, []).append(self._carry_back(value, item.backward, self._seat(item)))
        self._updates_of_shared()

    def _node_backward(self, item: _Item, after: tuple[int, ...], wanted: list[str]) -> None:
        node = item.nodes[0]
        trained = self._trained(item)
        times = (1 if trained else 0) + (1 if wanted else 0)
        item.backward = self._digital("digital_backward", node, (*after, item.forward), max(1, times))
        if trained:
            self._learn(item, item.backward)

    def _block_backward(
        self, item: _Item, block: EnergyBlock, arrived: dict[str, list[int]], wanted: list[str]
    ) -> None:
        cost, units = self.costs[block.id], self._tiles(block)
        currents = [
            self._transfer(v, tuple(arrived[v]), (self._gathered(v), block))
            for v in block.outputs
            if v in arrived
        ]
        up = cost.nudged(self.settle.nudged_sweeps)
        down = cost.nudged(self.settle.nudged_sweeps, to_inputs=wanted)
        plus = Task("nudged", f"{block.name} +beta", units, up.seconds, (*currents, item.forward), up.cost)
        after = (self._append(plus, block),)
        minus = self._append(
            Task("nudged", f"{block.name} -beta", units, down.seconds, after, down.cost), block
        )
        item.backward = minus
        if not self._trained(item):
            return
        item.in_place = self._learns_in_place(item)
        gradients = [w for w in self._trained(item) if not (item.in_place and self.graph.parts.get(w))]
        if not gradients:
            self._learn(item, minus)
            return
        moved = 2 * cost.state_elements()
        states = self._transfer(block.name, (minus,), (block, None), moved, block)
        size = sum(self.graph.constants[weight].size for weight in gradients)
        # biases alone need weighted sums of states
        products = moved if item.in_place else cost.contrast_macs()
        work = DigitalWork(products, 0, moved + size)
        self._learn(item, self._compute("contrast", block.name, (states,), work, block))

    def _learns_in_place(self, item: _Item) -> bool:
        """Cells take the outer products of a block's states themselves; no other part reads its weights."""
        assert item.block is not None
        alone = all(self.users[w] == (item.position,) for w in self._trained(item) if self.graph.parts.get(w))
        return alone and self.costs[item.block.id].learns_by_pairs()

    # --- updates -------------------------------------------------------------------------------------

    def _trained(self, item: _Item) -> list[str]:
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

    def _learn(self, item: _Item, gradient: int) -> None:
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
        reads = [task for item in items for task in (item.forward, item.backward) if task >= 0]
        weights = self.read_by[users]
        size = sum(self.graph.constants[weight].size for weight in weights)
        owner = next((item.block for item in items if item.block is not None), None)
        name = items[0].nodes[0].name if owner is None else owner.name
        after = (*self.gradients[users], *(reads if len(users) > 1 else ()))
        on_tiles = [weight for weight in weights if self.graph.parts.get(weight)]
        if owner is not None and on_tiles and items[0].in_place:
            self._update_in_place(owner, on_tiles, items[0].backward)
            size -= sum(self.graph.constants[weight].size for weight in on_tiles)
        if not size:
            return
        # weights and gradients are read, weights written
        work = DigitalWork(0, UPDATE_OPERATIONS * size, 3 * size)
        master = self._compute("update", name, after, work, owner)
        if owner is None or not on_tiles or items[0].in_place:
            return  # biases stay digital
        if self.hardware.analog_group(owner.group).tile.has_cells:
            held = sum(self.graph.constants[weight].size for weight in on_tiles)
            master = self._transfer(name, (master,), (None, owner), held, owner)
            moved = self.tasks[master]
            self.tasks[master] = replace(moved, fixed_s=moved.seconds, fixed_j=moved.cost.energy)
        write, tiles = update_of(self.graph, self.hardware, weights)
        units = self._units(tiles)
        self._append(Task("update", name, units, write.seconds, (master,), write.cost), owner)

    def _update_in_place(self, block: EnergyBlock, weights: list[str], states: int) -> None:
        """Pulses of the outer products of a block's states, which are beside the tiles."""
        outer = self.costs[block.id].outer_products()
        write, tiles = update_of(self.graph, self.hardware, weights, outer)
        units = tuple(f"tile{number}" for number in tiles)
        task = Task("update", block.name, units, write.seconds, (states,), write.cost)
        self.tasks.append(replace(task, block=block.id))

    def _carry_back(self, value: str, current: int, seat: Seat) -> int:
        """Carry an error current from where it is made to where those of its value are added."""
        target = self._gathered(value)
        return self._transfer(value, (current,), (seat, target)) if _apart(seat, target) else current

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
            return self._seat(readers[0])
        return self.hardware.host.name


def _apart(one: Seat, other: Seat) -> bool:
    """What is read at the one and lies at the other goes over the network."""
    if isinstance(one, EnergyBlock) or isinstance(other, EnergyBlock):
        return one is not other
    return one is not None and other is not None and one != other


def _items(graph: Graph) -> list[_Item]:
    """Digital nodes and whole blocks in an order that respects what each reads."""
    items: list[_Item] = []
    blocks: dict[int, _Item] = {}
    for node in graph.nodes:
        if node.block is None:
            items.append(_Item([node], None, _fed(graph, node), [o for o in node.outputs if o]))
        elif node.block not in blocks:
            block = graph.blocks[node.block]
            item = _Item([node], block, list(block.inputs), list(block.outputs))
            blocks[node.block] = item
            items.append(item)
        else:
            blocks[node.block].nodes.append(node)
    return _in_order(items)


def _fed(graph: Graph, node: Node) -> list[str]:
    return [v for v in dict.fromkeys(captured(node)) if v not in graph.constants]


def _in_order(items: list[_Item]) -> list[_Item]:
    """Topological order; a block stands where its last input is made, which may be behind its first node."""
    maker = {value: index for index, item in enumerate(items) for value in item.makes}
    order: list[_Item] = []
    done: set[int] = set()
    for start in range(len(items)):
        stack = [start]
        while stack:
            index = stack[-1]
            missing = [maker[v] for v in items[index].reads if v in maker and maker[v] not in done]
            if index in done or not missing:
                stack.pop()
                if index not in done:
                    done.add(index)
                    order.append(items[index])
            else:
                stack.extend(missing)
    return order
