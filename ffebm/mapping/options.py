"""What each energy block could be: digital, or on tiles of a group with a layout and so many replicas.

Blocks that share a weight choose together, since a weight lies in one group and in one way. Options that cost
more of everything than another one are left out, and so are those that save next to no time. Where several
groups of digital units run an op, digital blocks and digital nodes choose between these too.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

from msgspec.structs import replace as changed

from ffebm.graph.admission import admission_of
from ffebm.graph.energy_block import EnergyBlock, Interaction, Linear
from ffebm.graph.graph import Graph, Node
from ffebm.graph.windows import positions, two_way_weights, windows_of
from ffebm.graph.work import elements, macs, rows
from ffebm.hardware.description import AnalogGroup, Hardware
from ffebm.mapping.block_cost import BlockCost
from ffebm.mapping.crossings import digital_price, digital_ways
from ffebm.mapping.digital_cost import carrying, transfer_cost
from ffebm.mapping.layout import Layout, layouts_of, turned_size
from ffebm.mapping.solver.price import Price

DIGITAL = "digital"
"""The place of everything that is not on tiles: values there need not be carried."""
WORTH_IT = 0.97
"""An option with more bundles is kept if it takes at most this share of another one's time or energy ..."""
WORTH_BUNDLES = 0.55
"""... or less than this share of its room, as where diagonals are half as long ..."""
WORTH_ROOM = 0.1
"""... and that room is at least this share of an array: a small one is cheaper on one tile."""
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Replicas that are tried."""


@dataclass(frozen=True)
class Option:
    """One thing that blocks with common weights, or a digital node, could be.

    Attributes:
        group: The group of tiles; empty if digital.
        layouts: Of their weights, with replicas; none if digital.
        prices: Of each block; tiles and area are those of the first one.
        roomy: Tiles that it takes if each bundle lies among others of its own size.
        units: If digital, the group of digital units of each node, by name.
    """

    group: str
    layouts: tuple[Layout, ...]
    prices: tuple[Price, ...]
    roomy: float = 0.0
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        """Copies of each weight, the most of all."""
        return max((layout.replicas for layout in self.layouts), default=0)

    @property
    def kind(self) -> str:
        """In words."""
        if not self.group:
            return DIGITAL
        return ", ".join(dict.fromkeys(layout.kind for layout in self.layouts))

    @cached_property
    def bundles(self) -> int:
        """Arrays on which no read waits for another one."""
        return sum(1 for layout in self.layouts for _ in layout.boxes())

    @cached_property
    def seconds(self) -> float:
        """Of all its blocks, one after the other."""
        return sum(price.seconds for price in self.prices)

    @cached_property
    def joules(self) -> float:
        """Of all its blocks."""
        return sum(price.joules for price in self.prices)


@dataclass(frozen=True)
class Run:
    """What one inference is.

    Attributes:
        batch: Samples.
        sweeps: Most sweeps of a free phase.
    """

    batch: int
    sweeps: int


@dataclass(frozen=True)
class Choosing:
    """Blocks that choose one option together, or a digital node outside of them that several groups run.

    Attributes:
        blocks: In graph order; none of a digital node.
        options: Digital first, where digital units run all nodes: at first each in its first group.
    """

    blocks: tuple[EnergyBlock, ...]
    options: tuple[Option, ...]

    @property
    def digital(self) -> tuple[Option, ...]:
        """The options without tiles."""
        return tuple(option for option in self.options if not option.group)

    def alike(self, number: int) -> list[int]:
        """Options on the tiles of the same group as another; of a digital one that itself."""
        group = self.options[number].group
        return [n for n, option in enumerate(self.options) if option.group == group] if group else [number]

    def within(self, number: int, seconds: float) -> int:
        """The option in the group of another that takes fewest tiles for some seconds, or else is fastest."""
        alike = self.alike(number)
        fast = [n for n in alike if self.options[n].seconds <= seconds]
        if fast and self.options[number].group:
            return min(fast, key=lambda n: sum(self.options[n].prices[0].tiles.values()))
        return min(alike, key=lambda n: self.options[n].seconds)


def choosing_of(
    graph: Graph, hardware: Hardware, run: Run, *, tiles: int | None = None, replicas: float = math.inf
) -> tuple[Choosing, ...]:
    """All blocks with what they could be, in graph order; then digital nodes that several groups run.

    Args:
        graph: A graph with energy blocks.
        hardware: The machine.
        run: What one inference is.
        tiles: Most tiles in use; None for all that there are.
        replicas: Most copies of a weight.
    """
    most = {g.name: g.count if tiles is None else min(tiles, g.count) for g in hardware.analog}
    members: dict[int, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.block is not None:
            members[node.block].append(node)
    blocks = (
        Choosing(some, tuple(_Pricing(graph, hardware, some, members, run, most, replicas).options()))
        for some in _sharing(graph)
    )
    free = (node for node in graph.nodes if node.block is None)
    alone = (Choosing((), tuple(digital_options(graph, hardware, [[node]]))) for node in free)
    return (*blocks, *(some for some in alone if len(some.options) > 1))


def _sharing(graph: Graph) -> list[tuple[EnergyBlock, ...]]:
    """Blocks that share weights on tiles, directly or through others, together."""
    owner: dict[str, int] = {}
    together: dict[int, list[EnergyBlock]] = {}
    for block in graph.blocks:
        weights = [i.linear.weight for _, i in block.interactions() if i.linear is not None]
        known = sorted({owner[weight] for weight in weights if weight in owner})
        home = known[0] if known else block.id
        together.setdefault(home, []).append(block)
        for other in known[1:]:
            together[home] += together.pop(other)
            owner = {weight: home if at == other else at for weight, at in owner.items()}
        owner |= dict.fromkeys(weights, home)
    return [tuple(sorted(blocks, key=lambda block: block.id)) for _, blocks in sorted(together.items())]


@dataclass
class _Pricing:
    """Prices of blocks with common weights."""

    graph: Graph
    hardware: Hardware
    blocks: tuple[EnergyBlock, ...]
    members: dict[int, list[Node]]
    run: Run
    most: dict[str, int]
    replicas: float

    def options(self) -> Iterator[Option]:
        """Digital if that goes, then groups in the order of the machine, few tiles first."""
        yield from digital_options(
            self.graph, self.hardware, [self.members[block.id] for block in self.blocks]
        )
        cells = max(admission_of(block.physics).cells_a_weight for block in self.blocks)
        for group in self.hardware.analog:
            if not group.holds(cells):
                continue
            found = list(self._on_tiles(group))
            alone = [option for option in found if option.bundles <= self.most[group.name]]
            yield from _worth_it(alone or found)  # a tile for each bundle, if that can be

    @cached_property
    def _at_once(self) -> dict[str, int]:
        """Vectors that each weight takes at once in a circuit."""
        return windows_of(self.blocks)

    @cached_property
    def _uses(self) -> dict[str, list[tuple[Linear, Interaction]]]:
        """Each weight with what it is read for."""
        uses: dict[str, list[tuple[Linear, Interaction]]] = {}
        for block in self.blocks:
            for _, interaction in block.interactions():
                if interaction.linear is not None:
                    uses.setdefault(interaction.linear.weight, []).append((interaction.linear, interaction))
        return uses

    def _on_tiles(self, group: AnalogGroup) -> Iterator[Option]:
        known = {weight: self._layouts(group, weight, uses[0][0]) for weight, uses in self._uses.items()}
        for rank in range(max((len(layouts) for layouts in known.values()), default=0)):
            layouts = [layouts[min(rank, len(layouts) - 1)] for layouts in known.values()]
            yield from self._copies(group, layouts)

    def _layouts(self, group: AnalogGroup, weight: str, linear: Linear) -> tuple[Layout, ...]:
        """Layouts of a weight; in a circuit without turns, and both ways where layers drive each other."""
        shape, size = self.graph.constants[weight].shape, group.tile.size
        if group.settling == "clocked":
            return layouts_of(linear, shape, size)
        two_way = weight in two_way_weights(self.blocks)
        found = layouts_of(linear, shape, turned_size(size) if two_way else size)
        return tuple(replace(one, two_way=two_way) for one in found if one.turns == 1)

    def _copies(self, group: AnalogGroup, layouts: Sequence[Layout]) -> Iterator[Option]:
        """One layout of each weight with more and more replicas."""
        once = [self._phase(group, block, layouts) for block in self.blocks]
        room = {layout.weight: _room(group, layout) for layout in layouts}
        roomy = {layout.weight: _roomy(group, layout) for layout in layouts}
        windows = {
            weight: max(positions(interaction, linear) for linear, interaction in uses)
            for weight, uses in self._uses.items()
        }
        for copied in self._copied(group, layouts, windows):
            copies = max(layout.replicas for layout in copied)
            prices = []
            for number, (block, (seconds, price)) in enumerate(zip(self.blocks, once, strict=True)):
                if copies > 1 or group.core is not None:
                    seconds = self._phase(group, block, copied, whole=False)[0]
                    seconds = max(seconds, self._starting(group, block, copied))
                own = sum(room[layout.weight] * layout.replicas for layout in copied) if number == 0 else 0.0
                fetch = price.seconds - price.interval
                prices.append(
                    replace(
                        price,
                        seconds=fetch + seconds,
                        interval=seconds,
                        tiles={group.name: own},
                        area=own * group.area.value,
                    )
                )
            takes = sum(roomy[layout.weight] * layout.replicas for layout in copied)
            yield Option(group.name, copied, tuple(prices), takes)

    def _starting(self, group: AnalogGroup, block: EnergyBlock, layouts: Sequence[Layout]) -> float:
        """How long all cores together take at least to start the products of a block."""
        if group.core is None:
            return 0.0
        cores, starts = group.count // group.core.tiles, 0
        for layout in layouts:
            products = layout.replicas * layout.ranges
            for linear, interaction in self._uses[layout.weight]:
                if any(interaction == own for _, own in block.interactions()):
                    reads = layout.vectors(positions(interaction, linear)) * layout.turns
                    starts += reads * -(-products // cores)
        return self.run.batch * starts * group.core.issue.value

    def _copied(
        self, group: AnalogGroup, layouts: Sequence[Layout], windows: Mapping[str, int]
    ) -> Iterator[tuple[Layout, ...]]:
        """Layouts with more and more replicas, of each weight the fewest that take as long.

        In a circuit that settles at once each window has arrays of its own.
        """
        if group.settling == "continuous":
            yield tuple(layout.copies(self._at_once[layout.weight]) for layout in layouts)
            return
        bundles = max(sum(1 for _ in layout.boxes()) for layout in layouts)
        most, before = 1, tuple[Layout, ...]()
        if group.tile.has_cells:
            most = int(min(self.replicas, self.most[group.name] // bundles, max(windows.values())))
        for copies in sorted({*(step for step in LADDER if step < most), max(1, most)}):
            copied = tuple(layout.copies(_as_fast(windows[layout.weight], copies)) for layout in layouts)
            if copied != before:
                yield copied
            before = copied

    def _phase(
        self, group: AnalogGroup, block: EnergyBlock, layouts: Sequence[Layout], *, whole: bool = True
    ) -> tuple[float, Price]:
        """How long a free phase keeps the tiles busy, and its price with what is fetched for it.

        Args:
            group: The tiles.
            block: Which.
            layouts: Of its weights.
            whole: Bill all bundles; else look at the first of each weight, which takes as long as any.
        """
        held = {weight for weight in block.weights() if weight in self._uses}
        parts = {layout.weight: layout.copies(1).parts() for layout in layouts if layout.weight in held}
        copies = {layout.weight: layout.replicas for layout in layouts}
        if not whole:
            parts = {
                weight: tuple(p for p in some if p.bundle == 0 and not p.replica)
                for weight, some in parts.items()
            }
        view = replace(self.graph, parts=parts, places={})
        vectors = self.run.batch * rows(self.graph, block.outputs[0], self.run.batch)
        cost = _CopiedCost(view, self.hardware, changed(block, group=group.name), vectors, copies)
        phase = cost.free(self.run.sweeps)
        fetched = [
            transfer_cost(self.hardware, elements(self.graph, value))
            for value in block.inputs
            if value not in self.graph.constants
        ]
        carry = sum(transfer.seconds for transfer in fetched)
        price = Price(
            seconds=phase.seconds + carry,
            joules=phase.cost.energy + sum(transfer.cost.energy for transfer in fetched),
            interval=phase.seconds,
            busy=carrying(self.hardware, carry),
            work=float(sum(macs(self.graph, node) for node in self.members[block.id])),
        )
        return phase.seconds, price


class _CopiedCost(BlockCost):
    """Costs of a block whose vectors are shared out over replicas that are not spelled out."""

    def __init__(
        self, graph: Graph, hardware: Hardware, block: EnergyBlock, batch: int, copies: dict[str, int]
    ) -> None:
        super().__init__(graph, hardware, block, batch)
        self.copies = copies

    def _vectors(self, interaction: Interaction, span: tuple[int, int], replica: int) -> int:
        return self.batch * -(-(span[1] - span[0]) // self.replicas(interaction))

    def replicas(self, interaction: Interaction) -> int:
        """As it is to be copied."""
        return 1 if interaction.linear is None else self.copies[interaction.linear.weight]


def _as_fast(windows: int, copies: int) -> int:
    """The fewest replicas of which the busiest takes as few windows as with so many."""
    share = -(-windows // min(windows, copies))
    return -(-windows // share)


def _room(group: AnalogGroup, layout: Layout) -> float:
    """Tiles that a layout fills, parts of them counted as such."""
    if group.tile.size is None:
        return 0.0
    if group.settling == "continuous":
        return _diagonal(group.tile.size, list(layout.boxes()))
    cells = sum(height * width for height, width in layout.boxes())
    return cells / math.prod(group.tile.size)


def _diagonal(size: tuple[int, int], boxes: Sequence[tuple[int, int]]) -> float:
    """Arrays that boxes fill whose lines are their own."""
    rows, cols = (sum(lines) for lines in zip(*boxes, strict=True))
    return float(max(rows / size[0], cols / size[1]))


def _roomy(group: AnalogGroup, layout: Layout) -> float:
    """Tiles that a layout takes if each bundle lies among others of its own size."""
    if group.tile.size is None:
        return 0.0
    if group.settling == "continuous":
        rows, cols = group.tile.size
        return sum(1 / min(rows // height, cols // width) for height, width in layout.boxes())
    return layout.replicas * layout.arrays(group.tile.size)


def _worth_it(options: list[Option]) -> Iterator[Option]:
    """Options of one group that save time or energy, or much room, over each with fewer bundles."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.bundles, o.roomy, o.seconds, o.joules)):
        if all(
            option.seconds <= WORTH_IT * other.seconds
            or option.joules <= WORTH_IT * other.joules
            or (other.roomy >= WORTH_ROOM and option.roomy < WORTH_BUNDLES * other.roomy)
            for other in kept
        ):
            kept.append(option)
            yield option


def digital_options(graph: Graph, hardware: Hardware, parts: Sequence[Sequence[Node]]) -> Iterator[Option]:
    """Digital, with the ways to share nodes out over the groups of digital units that run them.

    Args:
        graph: With the nodes.
        hardware: The machine.
        parts: The nodes of each block.

    Yields:
        First that with each node in the first group that runs it; nothing where no unit runs one.
    """
    for units in digital_ways(graph, hardware, list(chain.from_iterable(parts))):
        prices = (digital_price(graph, hardware, nodes, units) for nodes in parts)
        yield Option("", (), tuple(prices), units=units)
