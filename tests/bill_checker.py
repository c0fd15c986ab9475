"""A second bill of a plan, by formulas of its own: each step in joules, from a plan and its constants.

For blocks of one layer on clocked crossbars whose weights have a digital master copy, one group of digital
units and a bus. `docs/costs.md` says what is counted; nothing here calls what bills.

A step with `rows` makes or moves that band of rows: its share of what the whole takes, and products of its
own vectors. That bands of one step cover all rows once is checked here too.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

import pytest

from ffebm import Plan
from ffebm.graph.energy_block import EnergyBlock, Interaction, Layer
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import to_matrix
from ffebm.plan.schedule import ENERGY_KINDS, Cost, Schedule, Step
from ffebm.plan.schema import Piece, PlanNode
from tests.plan_checker import vectors

LINEAR = {"Conv", "Gemm", "MatMul"}
OPERATIONS = {
    "Relu": 1,
    "Tanh": 4,
    "Identity": 0,
    "Softmax": 6,
    "Add": 1,
    "MaxPool": 4,
    "AveragePool": 4,
    "Flatten": 0,
}
"""Of one element that an op makes; the maximum of the models here has windows of 2 x 2."""


def check_bill(plan: Plan) -> None:
    """Both schedules, step by step and in total."""
    bill = _Bill(plan)
    for schedule in (plan.inference, plan.training):
        check_bands(schedule)
        total = Cost()
        for step in schedule.steps:
            ours = bill.step(schedule, step)
            for kind in ENERGY_KINDS:
                found, where = getattr(step.cost, kind), f"{kind} of step {step.id}, {step.kind} {step.name}"
                assert found == pytest.approx(getattr(ours, kind), rel=1e-9, abs=1e-30), where
            total += ours
        total += Cost(leakage=bill.watts(schedule.units) * schedule.makespan_s)
        assert schedule.cost.energy == pytest.approx(total.energy, rel=1e-9)


def check_bands(schedule: Schedule) -> None:
    """The bands of a name hold each row equally often: once, or for a transfer once a place it goes to."""
    for (kind, name), bands in bands_of(schedule).items():
        height = max(behind for _, behind in bands)
        held = Counter(row for first, behind in bands for row in range(first, behind))
        often = {held[row] for row in range(height)}
        assert len(often) == 1, f"rows of {kind} {name}"
        assert kind == "transfer" or often == {1}, f"rows of {kind} {name}"


def bands_of(schedule: Schedule) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """The bands of all steps that have some, by kind and name."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for step in schedule.steps:
        if step.rows is not None:
            found[step.kind, step.name].append(step.rows)
    return found


class _Bill:
    """Bills steps of one plan.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        (self.unit,) = plan.hardware.digital
        self.bits = self.unit.fp32.value_bits
        self.memory_joules = self.bits * self.nearest(self.unit.name)
        network = plan.hardware.network
        assert network.topology == "bus"
        self.way_joules = self.bits * network.bit_energy.value * network.hops.value
        self.pieces: dict[str, list[tuple[int, Piece]]] = defaultdict(list)
        for tile, piece in plan.pieces():
            self.pieces[piece.weight].append((tile.id, piece))
        self.nodes = {node.name: node for node in plan.nodes}
        self.blocks = {block.id: block for block in plan.blocks}
        self.feels = self._feels()

    def nearest(self, owner: str) -> float:
        """Cost of a bit in the first memory of an owner, or else of the chip; 0 without either."""
        for name in (owner, "chip"):
            levels = {m.level: m.bit_energy.value for m in self.plan.hardware.memory if m.owner == name}
            if levels:
                return levels[min(levels)]
        return 0.0

    def watts(self, names: Collection[str]) -> float:
        """Of all units in use, with their memories, the chip's, and the network."""
        hardware, counts = self.plan.hardware, Counter({"chip": 1})
        for unit in names:
            if unit.startswith("tile"):
                number = int(unit.removeprefix("tile"))
                counts[next(g.name for g in hardware.analog if number in hardware.tile_numbers(g.name))] += 1
            elif unit.startswith("digital"):
                counts[self.unit.name] += 1
        owned = [(tiles.name, tiles.leakage.value) for tiles in hardware.analog]
        owned += [(units.name, units.leakage.value) for units in hardware.digital]
        owned += [(memory.owner, memory.leakage.value) for memory in hardware.memory]
        moves = hardware.network.leakage.value if "network" in names else 0.0
        return float(sum(counts[name] * leakage for name, leakage in owned) + moves)

    def step(self, schedule: Schedule, step: Step) -> Cost:
        """What a step takes."""
        match step.kind:
            case "transfer":
                count = self.carried(schedule, step)
                return Cost(network=count * self.way_joules, memory=count * self.memory_joules)
            case "digital":
                nodes = [self.nodes[name] for name in (*step.fused, step.name)]
                part = self.share(schedule, step, nodes[-1].outputs[0])
                return sum((self.digital(node, part) for node in nodes), Cost())
            case "digital_backward":
                node = self.nodes[step.name]
                times = int(bool(self.trained(node.inputs))) + int(bool(self.feels.intersection(node.inputs)))
                return self.digital(node, times * self.share(schedule, step, node.outputs[0]))
            case "loss":
                made = sum(self.elements(port.name) for port in self.plan.outputs)
                return self.computed(0, 8 * made, 2 * made)
            case "free":
                return self.free(self.block(step), step.rows)
            case "nudged":
                return self.nudged(self.block(step), step.rows, back=step.name.endswith("-beta"))
            case "contrast":
                block = self.block(step)
                learnt = sum(self.plan.weights[name].size for name in self.trained(block.weights()))
                part = self.share(schedule, step, block.layers[0].value)
                moved = 2 * self.states(block) + learnt
                return self.computed(part * self.outer(block), 0, part * moved)
            case "update":
                return self.update(step)

    def share(self, schedule: Schedule, step: Step, value: str) -> float:
        """The part of a value's rows that a step makes or moves; the last band of its name ends with them."""
        if step.rows is None:
            return 1.0
        height = max(behind for _, behind in bands_of(schedule)[step.kind, step.name])
        assert height in (self.plan.types[value].shape or ()), f"rows of {value}"
        return (step.rows[1] - step.rows[0]) / height

    # --- digital -------------------------------------------------------------------------------------

    def computed(self, macs: float, operations: float, moved: float) -> Cost:
        does = self.unit.fp32
        joules = macs * does.mac_energy.value + operations * does.op_energy.value
        return Cost(digital=joules, memory=moved * self.memory_joules)

    def digital(self, node: PlanNode, times: float) -> Cost:
        made = sum(self.elements(value) for value in node.outputs)
        macs = made * self.inner(node) if node.op in LINEAR else 0
        each = 1 if node.op in LINEAR else OPERATIONS[node.op]
        if not macs and not each:
            return Cost()  # a view
        moved = made + sum(self.elements(value) for value in node.inputs)
        return self.computed(times * macs, times * each * made, times * moved)

    def inner(self, node: PlanNode) -> int:
        """Multiply-accumulates of one output."""
        weight = self.plan.weights[node.inputs[1]]
        return math.prod(weight.shape[1:]) if node.op == "Conv" else weight.shape[0]

    def elements(self, value: str) -> int:
        if value in self.plan.weights:
            return int(self.plan.weights[value].size)
        shape = self.plan.types[value].shape
        assert shape is not None
        return math.prod(size for size in shape if isinstance(size, int))

    # --- moving --------------------------------------------------------------------------------------

    def carried(self, schedule: Schedule, step: Step) -> float:
        """Values of a transfer: a value of the model, both states of a block, or its new weights."""
        if step.block is None:
            return self.elements(step.name) * self.share(schedule, step, step.name)
        block = self.block(step)
        (before,) = {schedule.steps[number].kind for number in step.after}
        if before == "nudged":
            return 2 * self.states(block) * self.share(schedule, step, block.layers[0].value)
        assert before == "update"
        return sum(self.plan.weights[name].size for name in block.weights() if name in self.pieces)

    # --- blocks --------------------------------------------------------------------------------------

    def block(self, step: Step) -> EnergyBlock:
        assert step.block is not None
        block = self.blocks[step.block]
        assert len(block.layers) == 1
        return block

    def states(self, block: EnergyBlock) -> int:
        return self.plan.batch * sum(math.prod(layer.shape) for layer in block.layers)

    def free(self, block: EnergyBlock, rows: tuple[int, int] | None) -> Cost:
        """Every product once, the sums of its cuts, and the activation; or those of some rows."""
        (layer,) = block.layers
        total = self.activated(layer, rows)
        for interaction in layer.interactions:
            vectors_of_rows = self.shared_out(layer, interaction, rows, back=False)
            total += self.products(block, interaction, back=False, taken=vectors_of_rows)
            total += self.behind(layer, interaction, rows, back=False)
        return total

    def nudged(self, block: EnergyBlock, rows: tuple[int, int] | None, *, back: bool) -> Cost:
        """The activation; the second phase also sends currents to what learns in front of the block."""
        (layer,) = block.layers
        total = self.activated(layer, rows)
        for interaction in layer.interactions if back else ():
            if interaction.source in self.feels:
                vectors_of_rows = self.shared_out(layer, interaction, rows, back=True)
                total += self.products(block, interaction, back=True, taken=vectors_of_rows)
                total += self.behind(layer, interaction, rows, back=True)
        return total

    def shared_out(
        self, layer: Layer, interaction: Interaction, rows: tuple[int, int] | None, *, back: bool
    ) -> range:
        """The vectors of some rows.

        Where copies would be idle for more than a tenth of the time, a read of all of them takes vectors of
        the next rows too; on the way back it waits for these.
        """
        found = taken(layer, interaction, rows)
        if interaction.linear is None or rows is None:
            return found
        copies = 1 + max(piece.replica for _, piece in self.pieces[interaction.linear.weight])
        height = layer.shape[axis_of_rows(layer)]
        each = [len(taken(layer, interaction, (row, row + 1))) for row in range(height)]
        whole = -(-sum(each) // copies)
        if sum(-(-count // copies) for count in each) <= 1.1 * whole:
            return found
        ends = (found.start, found.stop)
        if back:
            return range(*(end if end == sum(each) else end // copies * copies for end in ends))
        return range(*(min(-(-end // copies) * copies, sum(each)) for end in ends))

    def behind(
        self, layer: Layer, interaction: Interaction, rows: tuple[int, int] | None, *, back: bool
    ) -> Cost:
        """Each element of each window once, and the bias that a product is given; of some rows."""
        share = 1.0 if rows is None else (rows[1] - rows[0]) / layer.shape[axis_of_rows(layer)]
        biased = interaction.linear is not None and interaction.linear.bias is not None and not back
        each = math.prod(interaction.linear_shape) if biased else 0
        if interaction.pool is not None:
            each += math.prod(layer.shape) * math.prod(interaction.pool.kernel)
        return Cost(digital=share * self.plan.batch * each * self.unit.fp32.op_energy.value)

    def activated(self, layer: Layer, rows: tuple[int, int] | None) -> Cost:
        terms = OPERATIONS[layer.activation.op] + len(layer.interactions) + len(layer.biases)
        made = math.prod(layer.shape)
        if rows is not None:
            height = layer.shape[axis_of_rows(layer)]
            made = made // height * (rows[1] - rows[0])
        operations = self.plan.batch * made * terms
        return Cost(digital=operations * self.unit.fp32.op_energy.value)

    def products(self, block: EnergyBlock, interaction: Interaction, *, back: bool, taken: range) -> Cost:
        """Some vectors of each sample through the pieces of an interaction, each replica its own."""
        if interaction.linear is None:
            return Cost()
        group = self.plan.hardware.analog_group(block.group)
        tile = group.tile.crossbar()
        buffered = [m.bit_energy.value for m in self.plan.hardware.memory if m.owner == group.name]
        pieces = self.pieces[interaction.linear.weight]
        copies = 1 + max(piece.replica for _, piece in pieces)
        addition = self.unit.fp32.op_energy.value if tile.adder is None else tile.adder.value
        total = Cost()
        cuts: dict[tuple[int, int, tuple[int, int]], list[int]] = defaultdict(list)
        for number, piece in pieces:
            count = self.plan.batch * sum(vector % copies == piece.replica for vector in taken)
            lines = (piece.n_out, piece.n_in) if back else (piece.n_in, piece.n_out)
            total += self.product(tile, piece, lines, addition, back=back, count=count)
            if buffered:
                total += Cost(buffer=count * sum(lines) * 2 * self.bits * buffered[0])
            cuts[piece.replica, piece.group, piece.inputs if back else piece.outputs].append(number)
        for (replica, _, (start, stop)), tiles in cuts.items():
            count = self.plan.batch * sum(vector % copies == replica for vector in taken) * (stop - start)
            total += Cost(adders=(len(tiles) - 1) * count * addition)
            total += Cost(network=(len(set(tiles)) - 1) * count * self.way_joules)
        return total

    def product(
        self, tile: Crossbar, piece: Piece, lines: tuple[int, int], addition: float, *, back: bool, count: int
    ) -> Cost:
        """So many vectors through one piece."""
        driven, sensed = lines
        digits, reads = tile.slices, slices_of_inputs(tile)
        drivers = 1 if tile.drivers == "shared" and not back else digits
        return Cost(
            array=count * reads * cells(tile, piece) * tile.cell.read_energy.value,
            dac=count * reads * driven * drivers * tile.dac.energy.value,
            adc=count * reads * sensed * digits * tile.adc.energy.value,
            adders=count * sensed * (reads * digits - 1) * addition,
        )

    # --- learning ------------------------------------------------------------------------------------

    def trained(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name in self.plan.trainable]

    def _feels(self) -> set[str]:
        """Values that some trainable weight has shaped."""
        felt: set[str] = set()
        for node in self.plan.nodes:
            if self.trained(node.inputs) or felt.intersection(node.inputs):
                felt.update(node.outputs)
        return felt

    def outer(self, block: EnergyBlock) -> int:
        """Multiply-accumulates of the outer products that make the gradient."""
        total = 0
        for interaction in block.layers[0].interactions:
            if interaction.linear is not None:
                weight = self.plan.weights[interaction.linear.weight]
                matrix: Array = to_matrix(interaction.linear, weight)
                total += self.plan.batch * vectors(interaction) * matrix.size
        return total

    def update(self, step: Step) -> Cost:
        """A step of gradient descent on digital units, or cells written line by line."""
        if step.block is None:
            learnt = sum(self.elements(name) for name in self.trained(self.nodes[step.name].inputs))
            return self.computed(0, 2 * learnt, 3 * learnt)
        block = self.block(step)
        if step.units[0].startswith("digital"):
            learnt = sum(self.plan.weights[name].size for name in self.trained(block.weights()))
            return self.computed(0, 2 * learnt, 3 * learnt)
        tile = self.plan.hardware.analog_group(block.group).tile.crossbar()
        assert tile.cell.verify is None
        written = sum(cells(tile, piece) for name in block.weights() for _, piece in self.pieces[name])
        return Cost(array=written * tile.cell.write_energy.value)


def axis_of_rows(layer: Layer) -> int:
    """Rows of an image [channels, rows, columns], or of a matrix [rows, features]; of one sample."""
    ops = {i.linear.op for i in layer.interactions if i.linear is not None}
    assert len(ops) == 1
    return 0 if ops == {"MatMul"} else 1


def taken(layer: Layer, interaction: Interaction, rows: tuple[int, int] | None) -> range:
    """The vectors of a sample that some rows of a layer take: as many for each row of what is pooled.

    A band makes the rows that its windows reach and those of the band before did not; the last one all that
    is left.
    """
    count = 0 if interaction.linear is None else vectors(interaction)
    if rows is None or not count:
        return range(count)
    axis, pool = axis_of_rows(layer), interaction.pool
    height = interaction.linear_shape[axis]
    each, left = divmod(count, height)
    assert not left
    if pool is None:
        assert height == layer.shape[axis]
        return range(rows[0] * each, rows[1] * each)
    reached = (min(height, (row - 1) * pool.strides[0] - pool.pads[0] + pool.kernel[0]) for row in rows)
    first, behind = reached
    return range(
        (first if rows[0] else 0) * each, (height if rows[1] == layer.shape[axis] else behind) * each
    )


def cells(tile: Crossbar, piece: Piece) -> int:
    """Pairs of cells; or one each and one more a line that all weights of the line share."""
    columns = 2 * piece.n_out if tile.mapping == "differential" else piece.n_out + 1
    return piece.n_in * columns * tile.slices


def slices_of_inputs(tile: Crossbar) -> int:
    """Reads of one input: of its magnitude, so many bits at a time."""
    return -(-(tile.dac.bits - 1) // tile.dac.slice_bits) if tile.dac.slice_bits else 1
