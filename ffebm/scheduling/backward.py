"""Tasks of one training step behind its forward part.

After the loss, from the last block back: the two nudged phases, the contrast of their states (weight
gradients) and digital backward; updates last. A weight that several blocks or nodes share has one update, by
the sum of its gradients, after the last read of it.
"""

from dataclasses import replace

from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.graph import Graph, captured
from ffebm.graph.work import elements
from ffebm.hardware.description import Hardware
from ffebm.hardware.groups import DataType
from ffebm.mapping.block_cost import update_of
from ffebm.mapping.digital_cost import DigitalWork, work_of
from ffebm.plan.schema import Settle
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.items import ScheduledItem
from ffebm.scheduling.list_schedule import Task
from ffebm.scheduling.task_list import Seat, apart

LOSS_OPERATIONS = 8.0
"""Digital operations an output element for a loss and its derivative (as softmax with cross-entropy)."""
UPDATE_OPERATIONS = 2.0
"""Digital operations a weight for an optimiser's step (plain gradient descent)."""


class Backward(Forward):
    """Tasks of one training step; the arguments are those of `Forward`."""

    def __init__(
        self, graph: Graph, hardware: Hardware, settle: Settle, dtype: DataType, most_bands: int
    ) -> None:
        super().__init__(graph, hardware, settle, dtype, most_bands)
        self.readers: dict[str, list[ScheduledItem]] = {}
        for item in self.items:
            for value in item.reads:
                self.readers.setdefault(value, []).append(item)
        self.learns = self._learning()
        self.gradients: dict[tuple[int, ...], list[int]] = {}
        self.backwards: dict[int, int] = {}
        self.in_place: set[int] = set()
        self.users = self._users()
        self.read_by: dict[tuple[int, ...], list[str]] = {}
        for weight, users in self.users.items():
            self.read_by.setdefault(users, []).append(weight)

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
        ends = {task for v in self.graph.outputs for task in self.coming(v, host).tasks}
        size = sum(elements(self.graph, v) for v in self.graph.outputs)
        loss = self.compute(
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
                current = self.backwards[item.position]
                arrived.setdefault(value, []).append(self._carry_back(value, current, self.seat(item)))
        self._updates_of_shared()

    def _node_backward(self, item: ScheduledItem, after: tuple[int, ...], wanted: list[str]) -> None:
        node = item.nodes[0]
        trained = self._trained(item)
        times = (1 if trained else 0) + (1 if wanted else 0)
        work = work_of(self.graph, node, max(1, times))
        group = self.hardware.digital_group(node.group)
        before = (*after, self.ended(item))
        self.backwards[item.position] = self.compute("digital_backward", node.name, before, work, group=group)
        if trained:
            self._learn(item, self.backwards[item.position])

    def _block_backward(
        self, item: ScheduledItem, block: EnergyBlock, arrived: dict[str, list[int]], wanted: list[str]
    ) -> None:
        cost, units = self.costs[block.id], self.tiles(block)
        if cost.group.relaxation is not None:  # as a whole, in no bands
            free, ran = cost.free(self.settle.free_sweeps, before_nudge=True), self.ended(item)
            self.tasks[ran] = replace(self.tasks[ran], seconds=free.seconds, cost=free.cost)
        currents = [
            self.transfer(v, tuple(arrived[v]), (self._gathered(v), block))
            for v in block.outputs
            if v in arrived
        ]
        up = cost.nudged(self.settle.nudged_sweeps)
        down = cost.nudged(self.settle.nudged_sweeps, to_inputs=wanted)
        plus = Task(
            "nudged", f"{block.name} +beta", units, up.seconds, (*currents, self.ended(item)), up.cost
        )
        after = (self.append(plus, block),)
        minus = self.append(
            Task("nudged", f"{block.name} -beta", units, down.seconds, after, down.cost), block
        )
        self.backwards[item.position] = minus
        if not self._trained(item):
            return
        in_place = self._learns_in_place(item)
        if in_place:
            self.in_place.add(item.position)
        gradients = [w for w in self._trained(item) if not (in_place and self.graph.parts.get(w))]
        if not gradients:
            self._learn(item, minus)
            return
        moved = 2 * cost.state_elements()
        states = self.transfer(block.name, (minus,), (block, None), moved, block)
        size = sum(self.graph.constants[weight].size for weight in gradients)
        # biases alone need weighted sums of states
        products = moved if in_place else cost.contrast_macs()
        work = DigitalWork(products, 0, moved + size)
        self._learn(item, self.compute("contrast", block.name, (states,), work, block))

    def _learns_in_place(self, item: ScheduledItem) -> bool:
        """Cells take the outer products of a block's states themselves; no other part reads its weights."""
        assert item.block is not None
        alone = all(self.users[w] == (item.position,) for w in self._trained(item) if self.graph.parts.get(w))
        return alone and self.costs[item.block.id].learns_by_pairs()

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
        ends = [(self.ended(item), self.backwards.get(item.position, -1)) for item in items]
        reads = [task for both in ends for task in both if task >= 0]
        weights = self.read_by[users]
        size = sum(self.graph.constants[weight].size for weight in weights)
        owner = next((item.block for item in items if item.block is not None), None)
        name = items[0].nodes[0].name if owner is None else owner.name
        after = (*self.gradients[users], *(reads if len(users) > 1 else ()))
        on_tiles = [weight for weight in weights if self.graph.parts.get(weight)]
        in_place = items[0].position in self.in_place
        if owner is not None and on_tiles and in_place:
            self._update_in_place(owner, on_tiles, self.backwards[items[0].position])
            size -= sum(self.graph.constants[weight].size for weight in on_tiles)
        if not size:
            return
        # weights and gradients are read, weights written
        work = DigitalWork(0, UPDATE_OPERATIONS * size, 3 * size)
        master = self.compute("update", name, after, work, owner)
        if owner is None or not on_tiles or in_place:
            return  # biases stay digital
        if self.hardware.analog_group(owner.group).tile.has_cells:
            held = sum(self.graph.constants[weight].size for weight in on_tiles)
            master = self.transfer(name, (master,), (None, owner), held, owner)
            moved = self.tasks[master]
            self.tasks[master] = replace(moved, fixed_s=moved.seconds, fixed_j=moved.cost.energy)
        write, tiles = update_of(self.graph, self.hardware, weights)
        units = self.units(tiles)
        self.append(Task("update", name, units, write.seconds, (master,), write.cost), owner)

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
        return self.transfer(value, (current,), (seat, target)) if apart(seat, target) else current

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
