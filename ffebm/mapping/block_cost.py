"""What one phase of an energy block costs on its tiles.

Each interaction inside a block costs one product and one transposed product a sweep; an interaction from a
clamped input costs one product in the free phase, which the nudged phases reuse. Layers of one colour update
at once, so a sweep takes the sum over colours of the busiest tile's reads. Activations and partial sums are
additions beside the converters; their energy counts, and their time hides behind the reads. States of a block
cross the network in every sweep, beside the reads, where its layers lie on several tiles, or on several cores
where tiles lie in cores.

Where blocks settle by themselves, a phase takes the time and the energy of the relaxation, and converters
work at the block's edge only.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import EnergyBlock, Interaction, Layer, Linear, PhaseKind
from ffebm.graph.graph import Graph, Part
from ffebm.graph.ops import OPS
from ffebm.graph.windows import positions
from ffebm.hardware.description import AnalogGroup, Cell, Hardware, Relaxation, Transfer
from ffebm.mapping.cores import Home, Homes
from ffebm.mapping.layout import Bundle, bundles_of
from ffebm.mapping.read_cost import addition, cells_of, crossing, partial_sums, read_cost, sums_cost
from ffebm.plan.schedule import Cost

ROUNDING = 1e-9
"""Part of a time that is no difference: sums in another order differ in their last digits."""


@dataclass(frozen=True)
class PhaseCost:
    """Time and cost of one phase.

    Attributes:
        seconds: Until all is read.
        cost: Energy and conversions.
        rounds: Seconds after which more reads of the block may begin, if all are in rounds (`Homes.rounds`);
            infinite where they are in none.
        share: Seconds that it takes at least of any larger part of the phase that it is in; 0 if that is not
            known.
    """

    seconds: float
    cost: Cost
    rounds: float = math.inf
    share: float = 0.0

    @property
    def lag(self) -> float:
        """Seconds at its end in which more reads may begin; below 0 if rounds do not keep to its time."""
        lag = self.seconds - self.rounds
        return 0.0 if abs(lag) <= ROUNDING * self.seconds else lag


class BlockCost:
    """Costs of one block, placed or not.

    Args:
        graph: A tiled graph.
        hardware: The machine.
        block: One of the graph's blocks.
        batch: Samples that settle.
    """

    def __init__(self, graph: Graph, hardware: Hardware, block: EnergyBlock, batch: int) -> None:
        self.graph = graph
        self.hardware = hardware
        self.block = block
        self.group = hardware.analog_group(block.group)
        self.batch = batch
        inside = {layer.value for layer in block.layers}
        self.internal = [(la, i) for la, i in block.interactions() if i.source in inside]
        self.clamped = [(la, i) for la, i in block.interactions() if i.source not in inside]
        colours = block.colours()
        self.colour = {layer.value: colours[n] for n, layer in enumerate(block.layers)}
        self.bundles = {w: bundles_of(graph.parts[w]) for w in block.weights() if w in graph.parts}
        self.homes = Homes(graph, hardware, self.group, self.bundles)
        self.behind = {
            (i, back): behind_product(la, i, back) for la, i in block.interactions() for back in (False, True)
        }
        self._phases: dict[tuple[object, ...], PhaseCost] = {}
        self._homes_of: dict[str, list[Home]] = {}
        self._paces: dict[tuple[str, bool], float] = {}
        self._sums: dict[tuple[str, bool], dict[int, tuple[int, int]]] = {}

    @property
    def tiles(self) -> tuple[int, ...]:
        """Tiles that hold a part of the block."""
        held = [bundle for bundles in self.bundles.values() for bundle in bundles]
        return tuple(sorted({self.graph.places[bundle.parts[0]].tile for bundle in held}))

    def free(self, sweeps: int, *, before_nudge: bool = False) -> PhaseCost:
        """The free phase: the clamped drive once, then the sweeps; one is exact if no layer feels another.

        A circuit that is nudged afterwards settles for longer.
        """
        key = ("all", sweeps, before_nudge)
        if key not in self._phases:
            self._phases[key] = self._free(sweeps, before_nudge)
        return self._phases[key]

    def _free(self, sweeps: int, before_nudge: bool) -> PhaseCost:
        relaxation = self.group.relaxation
        if relaxation is not None:
            outputs = sum(math.prod(la.shape) for la in self.block.layers if la.value in self.block.outputs)
            inputs = {i.source: math.prod(i.source_shape) for _, i in self.clamped}
            kind: PhaseKind = "before nudge" if before_nudge else "free"
            return self._relaxes(relaxation, kind, sum(inputs.values()), outputs)
        drive = self._reads([(i, False) for _, i in self.clamped])
        whole = _sum([drive, *self._sweeps(sweeps if self.internal else 1)])
        return whole if self.internal else replace(whole, rounds=drive.rounds)

    def band(self, spans: Sequence[tuple[int, int]], share: float) -> PhaseCost:
        """Some of the free phase of a block of one layer, which no layer of the block feels.

        Args:
            spans: Of each interaction the vectors that are read: the first, and one behind the last.
            share: Of the layer's elements.
        """
        key = ("free", share, *self._alike(spans))
        if key not in self._phases:
            reads = self._reads([(i, False) for _, i in self.clamped], spans, share)
            whole = _sum([reads, self._activations(list(self.block.layers), share)])
            # activations hide behind the reads
            self._phases[key] = replace(whole, rounds=reads.rounds, share=reads.share)
        return self._phases[key]

    def _alike(self, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """What tells spans apart: the replica that takes the first vector of each, and how many there are."""
        copies = [self.replicas(interaction) for _, interaction in self.clamped]
        return [(first % n, behind - first) for (first, behind), n in zip(spans, copies, strict=True)]

    def replicas(self, interaction: Interaction) -> int:
        """Copies of an interaction's weight, which share its vectors out."""
        linear = interaction.linear
        return 1 if linear is None else 1 + self.graph.parts[linear.weight][-1].replica

    def nudged(self, sweeps: int, *, to_inputs: Iterable[str] = ()) -> PhaseCost:
        """One nudged phase, and the transposed reads that carry the error current to `to_inputs`."""
        wanted = set(to_inputs)
        back = self._reads([(i, True) for _, i in self.clamped if i.source in wanted])
        relaxation = self.group.relaxation
        if relaxation is not None:
            outputs = sum(math.prod(la.shape) for la in self.block.layers if la.value in self.block.outputs)
            states = sum(math.prod(layer.shape) for layer in self.block.layers)
            return _sum([back, self._relaxes(relaxation, "nudged", outputs, states)])
        return _sum([back, *self._sweeps(sweeps if self.internal else 1)])

    def nudged_band(
        self, spans: Sequence[tuple[int, int]], share: float, to_inputs: Collection[str] = ()
    ) -> PhaseCost:
        """Some of a nudged phase of a block of one layer.

        Args:
            spans: Of each interaction the vectors whose error currents go back: the first, and one behind.
            share: Of the layer's elements.
            to_inputs: Where error currents are carried.
        """
        key = ("nudged", share, *self._alike(spans), *to_inputs)
        if key not in self._phases:
            pairs = zip(self.clamped, spans, strict=True)
            back = [(i, span) for (_, i), span in pairs if i.source in to_inputs]
            reads = self._reads([(i, True) for i, _ in back], [span for _, span in back], share)
            whole = _sum([reads, self._activations(list(self.block.layers), share)])
            self._phases[key] = replace(whole, share=reads.share)
        return self._phases[key]

    def state_elements(self) -> int:
        """Elements of all layers together."""
        return self.batch * sum(math.prod(layer.shape) for layer in self.block.layers)

    def contrast_macs(self, without: Collection[str] = ()) -> int:
        """Multiply-accumulates of the weight gradients: one outer product a clamped drive, two inside.

        Args:
            without: Weights that have none.
        """
        once, twice = (
            sum(self._macs(i) for _, i in some if i.linear is None or i.linear.weight not in without)
            for some in (self.clamped, self.internal)
        )
        return self.batch * (once + 2 * twice)

    def outer_products(self) -> dict[str, int]:
        """Outer products that cells take of each weight.

        By states two a vector, one a phase; by differences one a vector of a clamped drive, two inside.
        """
        found: dict[str, int] = defaultdict(int)
        clamped = 2 if self._pulsed_by() == "states" else 1
        for times, interactions in ((clamped, self.clamped), (2, self.internal)):
            for _, interaction in interactions:
                if interaction.linear is not None:
                    vectors = self.batch * positions(interaction, interaction.linear)
                    found[interaction.linear.weight] += times * vectors
        return dict(found)

    def learns_by_products(self) -> bool:
        """Cells take each outer product by pulses on both lines: no gradient is computed digitally."""
        return self._pulsed_by() in {"states", "differences"}

    def _pulsed_by(self) -> str | None:
        """By what cells learn in place; None where they do not."""
        tile = self.group.tile
        law = tile.crossbar().update if tile.has_cells else None
        return None if law is None else law.pulsed_by

    def _macs(self, interaction: Interaction) -> int:
        linear = interaction.linear
        if linear is None:
            return 0
        parts = self.graph.parts[linear.weight]
        cells = sum(p.n_in * p.n_out for p in parts if not p.replica and not p.transposed)
        return cells * positions(interaction, linear)

    def _relaxes(self, relaxation: Relaxation, kind: PhaseKind, driven: int, sensed: int) -> PhaseCost:
        """A phase of a circuit that settles by itself, one sample after the other.

        Every cell dissipates all through the phase, as at its end. The windows of a convolution settle at
        once, as if each had an array of its own. A block whose time is not known takes the description's
        time, conductance and voltage.

        Args:
            relaxation: The circuit.
            kind: Of the phase.
            driven: Elements of a sample that pass DACs at the start.
            sensed: Elements of a sample that pass ADCs at the end.
        """
        tile = self.group.tile.crossbar()
        seconds = relaxation.lasting(self.block.time_constants(kind))
        dacs, adcs = self.batch * driven, self.batch * sensed
        cost = Cost(
            array=self.batch * (self._cell_watts(relaxation) + self._supply_watts(relaxation)) * seconds,
            dac=dacs * tile.dac.energy.value,
            adc=adcs * tile.adc.energy.value,
            dac_count=dacs,
            adc_count=adcs,
        )
        return PhaseCost(self.batch * (tile.dac.time.value + seconds + tile.adc.time.value), cost)

    def _cell_watts(self, relaxation: Relaxation) -> float:
        """Power of all cells while the block settles: from its own states, or from their number."""
        if self.block.relaxed is not None:
            return self.block.relaxed.siemens * float(relaxation.voltage.value) ** 2
        tile, cells = self.group.tile.crossbar(), 0
        for _, interaction in self.block.interactions():
            if interaction.linear is not None:
                parts = self.graph.parts[interaction.linear.weight]
                held = sum(cells_of(part, tile) for part in parts if not part.replica)
                cells += held * positions(interaction, interaction.linear)
        return float(cells * relaxation.conductance.value * relaxation.voltage.value**2)

    def _supply_watts(self, relaxation: Relaxation) -> float:
        """What neurons and amplifiers take from their supply, whatever the states are."""
        neuron, amplifier = relaxation.neuron, relaxation.amplifier
        watts = 0.0
        if neuron is not None:
            watts += neuron.value * sum(math.prod(layer.shape) for layer in self.block.layers)
        if amplifier is not None and amplifier.power is not None:
            watts += amplifier.power.value * self._virtual_grounds()
        return watts

    def _virtual_grounds(self) -> int:
        """Two for each unit that an array drives, in each direction; of a cut sum, for each part of it.

        Passive arrays have none.
        """
        if admission_of(self.block.physics).cells_a_weight == 1:
            return 0
        pairs = 0
        inside = {id(interaction) for _, interaction in self.internal}
        for _, interaction in self.block.interactions():
            if interaction.linear is None:
                continue
            parts = [p for p in self.graph.parts[interaction.linear.weight] if not p.group]
            pairs += len({p.inputs for p in parts}) * math.prod(interaction.linear_shape)
            if id(interaction) in inside:
                pairs += len({p.outputs for p in parts}) * math.prod(interaction.source_shape)
        return 2 * pairs

    def _sweeps(self, count: int) -> list[PhaseCost]:
        """Phases of one sweep, one a colour, each `count` times; states cross between the layers' tiles."""
        phases = [
            PhaseCost(0.0, Cost(network=self._crossing_states() * crossing(self.hardware)).times(count))
        ]
        for colour in range(max(self.colour.values()) + 1):
            reads = [(i, False) for layer, i in self.internal if self.colour[layer.value] == colour]
            reads += [(i, True) for _, i in self.internal if self.colour[i.source] == colour]
            layers = [layer for layer in self.block.layers if self.colour[layer.value] == colour]
            once = _sum([self._reads(reads), self._activations(layers)])
            phases.append(PhaseCost(once.seconds * count, once.cost.times(count)))
        return phases

    def _crossing_states(self) -> int:
        """Values that travel in one sweep: each state to the tiles that read it, and their reaction back."""
        if not self.group.tile.has_cells:
            return 0
        made = {layer.value: self._tiles_of(layer.interactions) for layer in self.block.layers}
        states = 0
        for _, interaction in self.internal:
            read = self._tiles_of([interaction])
            if interaction.linear is not None and len(read | made[interaction.source]) > 1:
                states += math.prod(interaction.source_shape)
        return 2 * self.batch * states

    def _tiles_of(self, interactions: Iterable[Interaction]) -> set[Home]:
        weights = [i.linear.weight for i in interactions if i.linear is not None]
        return {self.homes.sums(bundle.parts[0]) for weight in weights for bundle in self.bundles[weight]}

    def _activations(self, layers: list[Layer], share: float = 1.0) -> PhaseCost:
        operations = 0.0
        for layer in layers:
            activation = layer.activation.op
            work = OPS[activation].work if activation in OPS else 0.0
            operations += math.prod(layer.shape) * (work + len(layer.interactions) + len(layer.biases))
        energy = share * operations * self.batch * self.hardware.host.fp32.op_energy.value
        return PhaseCost(0.0, Cost(digital=energy))

    def _reads(
        self,
        reads: list[tuple[Interaction, bool]],
        spans: Sequence[tuple[int, int]] | None = None,
        share: float = 1.0,
    ) -> PhaseCost:
        """Products that run together, some transposed; tiles work side by side, a tile's reads in turn.

        Args:
            reads: What is read, and whether it is transposed.
            spans: The vectors of a sample that each takes; None: all.
            share: Of what is behind the products: biases of theirs and poolings.
        """
        busy: dict[Home, float] = defaultdict(float)
        evenly = 0.0
        products: list[tuple[Bundle, int, bool]] = []
        behind = share * self.batch * sum(self.behind[read] for read in reads)
        total = Cost(digital=behind * self.hardware.host.fp32.op_energy.value)
        for number, (interaction, transposed) in enumerate(reads):
            linear = interaction.linear
            if linear is None:
                continue
            alike: dict[tuple[int, int], Cost] = {}  # in all replicas
            span = spans[number] if spans is not None else (0, positions(interaction, linear))
            shares: dict[int, int] = {}
            evenly = max(evenly, self.batch * (span[1] - span[0]) * self._pace(linear.weight, transposed))
            for bundle, home in zip(
                self.bundles[linear.weight], self._bundle_homes(linear.weight), strict=True
            ):
                if bundle.parts[0].transposed:
                    continue  # it is for circuits, which take no reads
                replica = bundle.parts[0].replica
                if replica not in shares:
                    shares[replica] = self._vectors(interaction, span, replica)
                vectors = shares[replica]
                busy[home] += vectors * self._turns(bundle) * self.group.tile.read_seconds
                products.append((bundle, vectors, transposed))
                key = (bundle.parts[0].bundle, vectors)
                if key not in alike:
                    parts = list(bundle.parts)
                    alike[key] = read_cost(self.hardware, self.group, parts, vectors, backwards=transposed)
                total += alike[key]
            for replica, sums in self._partial_sums(linear, transposed).items():
                vectors = self._vectors(interaction, span, replica)
                total += sums_cost(self.hardware, self.group, sums, vectors)
        issuing = self.homes.issuing(products, self.group.tile.read_seconds, more=spans is not None)
        rounds = self.homes.rounds(products, self.group.tile.read_seconds)
        return PhaseCost(max(issuing, *busy.values(), 0.0), total, rounds, evenly)

    def _turns(self, bundle: Bundle) -> int:
        """How often a tile reads for one product of a bundle."""
        return bundle.turns if self.group.tile.has_cells else 1

    def _pace(self, weight: str, transposed: bool) -> float:
        """Seconds that each vector of a weight takes at least, whichever replicas take how many."""
        key = weight, transposed
        if key not in self._paces:
            arrays: dict[int, dict[Home, float]] = defaultdict(lambda: defaultdict(float))
            products: dict[int, list[tuple[Bundle, int, bool]]] = defaultdict(list)
            for bundle, home in zip(self.bundles[weight], self._bundle_homes(weight), strict=True):
                replica = bundle.parts[0].replica
                if not bundle.parts[0].transposed:
                    arrays[replica][home] += self._turns(bundle) * self.group.tile.read_seconds
                    products[replica].append((bundle, 1, transposed))
            ports = {replica: self.homes.starting(some) for replica, some in products.items()}
            self._paces[key] = max(least_pace(arrays), least_pace(ports))
        return self._paces[key]

    def _vectors(self, interaction: Interaction, span: tuple[int, int], replica: int) -> int:
        """Vectors of a span that a replica takes: of each sample, every one that its number comes to."""
        copies = self.replicas(interaction)
        first, behind = (-((replica - vector) // copies) for vector in span)
        return self.batch * (behind - first)

    def _bundle_homes(self, weight: str) -> list[Home]:
        """What each bundle of a weight keeps busy."""
        if weight not in self._homes_of:
            self._homes_of[weight] = [self.homes.tile(bundle.parts[0]) for bundle in self.bundles[weight]]
        return self._homes_of[weight]

    def _partial_sums(self, linear: Linear, backwards: bool) -> dict[int, tuple[int, int]]:
        """For each replica of a weight what one product adds, and what of that leaves its tile or core."""
        key = linear.weight, backwards
        if key not in self._sums:
            places: dict[int, dict[Part, Home]] = defaultdict(dict)
            for part in self.graph.parts[linear.weight]:
                if part.transposed:
                    continue
                places[part.replica][part] = self.homes.sums(part)
            self._sums[key] = {n: partial_sums(own, backwards=backwards) for n, own in places.items()}
        return self._sums[key]


def least_pace(work: Mapping[int, Mapping[Home, float]]) -> float:
    """What the busiest home works at least for each vector that some replicas share out in any way, seconds.

    It works no less than some homes do on average, here the busiest of each replica; and for each vector
    these together no less than for one of the replica that they do least for.

    Args:
        work: Of each replica what homes do for one of its vectors, seconds.
    """
    busiest = dict.fromkeys(max(own, key=lambda home: own[home]) for own in work.values() if own)
    together = [sum(own.get(home, 0.0) for home in busiest) for own in work.values()]
    return min(together, default=0.0) / max(1, len(busiest))


def behind_product(layer: Layer, interaction: Interaction, back: bool) -> int:
    """Digital operations of a sample between a product and the drive of a layer.

    The bias of the linear map is added, and a pooling takes each element of a window once; on the way back a
    pooling gives each of them its share.
    """
    pool, linear = interaction.pool, interaction.linear
    biased = linear is not None and linear.bias is not None and not back
    inner = math.prod(interaction.linear_shape) if biased else 0
    return inner + (0 if pool is None else math.prod(pool.kernel) * math.prod(layer.shape))


def update_of(
    graph: Graph, hardware: Hardware, weights: Iterable[str], outer: Mapping[str, int] | None = None
) -> tuple[PhaseCost, tuple[int, ...]]:
    """Programming the cells of some weights once, row by row, or pulses in place; tiles work side by side.

    Args:
        graph: A placed graph.
        hardware: The machine.
        weights: Weights by source name, on tiles of one group.
        outer: Outer products that cells which learn in place take one by one, for each weight; None: a whole
            matrix of steps, line by line.

    Returns:
        What it takes, and the tiles that it is done on.
    """
    parts = [part for weight in weights for part in graph.parts.get(weight, ())]
    bundles = bundles_of(parts)
    tiles = tuple(sorted({graph.places[bundle.parts[0]].tile for bundle in bundles}))
    group = hardware.group_of_tile(tiles[0]) if tiles else None
    if group is None:
        return PhaseCost(0.0, Cost()), tiles
    if not group.tile.has_cells:
        return PhaseCost(group.tile.write_time.value, Cost()), tiles
    tile = group.tile.crossbar()
    if tile.update is not None:
        return _pulses(graph, hardware, group, parts, outer or {}), tiles

    rows: dict[int, int] = defaultdict(int)
    for bundle in bundles:
        rows[graph.places[bundle.parts[0]].tile] += bundle.height
    cells = sum(cells_of(part, tile) for part in parts)
    verify = tile.cell.verify
    # a row waits for its slowest cell
    seconds = max(rows.values(), default=0) * tile.write_time.value * (verify.writes if verify else 1)
    return PhaseCost(seconds, Cost(array=cells * tile.cell.write_energy.value * writes_of(tile.cell))), tiles


def _pulses(
    graph: Graph, hardware: Hardware, group: AnalogGroup, parts: Iterable[Part], outer: Mapping[str, int]
) -> PhaseCost:
    """An update in place: an outer product takes all lines of a part at once, a matrix of steps line by line.

    The parts of a tile take turns. With a transfer, a second array takes every update; its reads and the
    updates of the first, line by line both, are shared out over the updates between two transfers; a buffer
    takes an addition a weight in each.
    """
    tile = group.tile.crossbar()
    law = tile.update
    assert law is not None
    share = 1.0 / law.remedy.every if isinstance(law.remedy, Transfer) else 0.0
    buffered = isinstance(law.remedy, Transfer) and law.remedy.buffered
    busy: dict[int, float] = defaultdict(float)
    total = Cost()
    for part in parts:
        read = read_cost(hardware, group, [part], part.n_in, backwards=False)
        turns = outer.get(part.weight, part.n_in)  # of the array in time
        seconds = law.time.value * (turns + share * part.n_in) + share * part.n_in * tile.read_seconds
        busy[graph.places[part].tile] += seconds
        times = outer.get(part.weight, 1)  # that each cell is pulsed
        pulses = part.n_in * part.n_out * tile.cells_a_weight * law.energy.value * (times + share)
        total += Cost(
            array=pulses + share * read.array,
            dac=share * read.dac,
            adc=share * read.adc,
            adders=share * (read.adders + buffered * part.n_in * part.n_out * addition(hardware, group)),
            buffer=share * read.buffer,
            dac_count=round(share * read.dac_count),
            adc_count=round(share * read.adc_count),
        )
    return PhaseCost(max(busy.values(), default=0.0), total)


def writes_of(cell: Cell) -> float:
    """Mean number of writes of a cell.

    A write that misses by a normal error of deviation sigma is within the tolerance with p = erf(tolerance /
    (sigma sqrt(2))); of at most n writes (1 - (1 - p)^n) / p are made.
    """
    if cell.verify is None:
        return 1.0
    sigma = cell.programming_deviation
    p = math.erf(cell.verify.tolerance.value / (sigma * math.sqrt(2.0))) if sigma else 1.0
    return float((1.0 - (1.0 - p) ** cell.verify.writes) / p) if p else float(cell.verify.writes)


def _sum(phases: list[PhaseCost]) -> PhaseCost:
    total = Cost()
    for phase in phases:
        total += phase.cost
    return PhaseCost(sum(phase.seconds for phase in phases), total)
