"""The simulated machine of a plan: its energy blocks on their tiles."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count

import torch
from torch import Tensor, nn

from ffebm.errors import UsageError
from ffebm.graph.energy_block import EnergyBlock, Linear
from ffebm.graph.windows import positions
from ffebm.hardware.description import Crossbar, TileKind
from ffebm.hardware.devices.update import PulsedBy
from ffebm.limits import as_number
from ffebm.plan.conductance import circuits_of, common_limit, linears_of
from ffebm.plan.plan import Plan
from ffebm.plan.program import values_read
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.circuit_time import CircuitTime
from ffebm.runtime.blocks.edge import Edge
from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.blocks.physics.physics import Physics
from ffebm.runtime.kernels.dtypes import tensor_of
from ffebm.runtime.state import TILE, Findings, under
from ffebm.runtime.tiles.choice import OwnTile, own_array
from ffebm.runtime.tiles.crossbar import CommonRange
from ffebm.runtime.tiles.lines.calibration import Calibration
from ffebm.runtime.tiles.master import MasteredTile, analog
from ffebm.runtime.tiles.noise import FrozenNoise
from ffebm.runtime.tiles.projection import TileProjection, crossbar_projection
from ffebm.runtime.tiles.tile import SPREAD, Health, Readings
from ffebm.visible import visible

SAME_RANGE = 1e-5
"""Relative difference of ranges that is one of rounding: cells are not written again for it."""


class Machine:
    """Blocks and tiles.

    Args:
        plan: What runs on it.
        generator: Source of the randomness of runs.
        name: Of the machine: what was drawn when its devices were made follows from it.
        tiles: What weights lie on instead of the plan's tiles, by source name.
        physics: What the energy of the blocks is; None is that of a Hopfield network.

    Attributes:
        blocks: The energy blocks by their ids.
        forms: The weights whose cells learn by outer products, with what these are made of.
    """

    def __init__(
        self,
        plan: Plan,
        generator: torch.Generator,
        name: str,
        tiles: Mapping[str, TileKind | OwnTile] | None = None,
        physics: Physics | None = None,
    ) -> None:
        self._plan = plan
        self._tiles = tiles or {}
        self._physics = physics
        self._generator = generator
        self._name = name
        self._arrays: dict[str, MasteredTile] = {}
        self._numbers = count()
        self._groups = plan.groups_of_weights()
        self._frozen = FrozenNoise(generator)
        self._circuits = self._common_circuits()
        self.blocks = {block.id: self._block(block) for block in plan.blocks}
        self.forms = self._product_forms()
        self._measure_noise(self._noise_of_reads)

    @property
    def learns_in_place(self) -> bool:
        """Cells take steps by a law of their own; else a digital master copy takes them and is programmed."""
        return any(self.learns(name) for name in self._arrays)

    def learns(self, name: str) -> bool:
        """A weight lies on cells that take steps by a law of their own.

        Args:
            name: Its source name.
        """
        return name in self._arrays and self._tile(name).learns_in_place

    def _product_forms(self) -> dict[str, PulsedBy]:
        """The weights whose cells take outer products: those that no digital node reads, too."""
        digital = {
            name
            for segment in self._plan.segments
            for instruction in segment.program.instructions
            for name in values_read(instruction)
        }
        found: dict[str, PulsedBy] = {}
        for name in self._arrays:
            tile = self._tile(name)
            law = None if isinstance(tile, OwnTile) else tile.crossbar().update
            if law is not None and law.pulsed_by != "matrix" and name not in digital:
                found[name] = law.pulsed_by
        return found

    def leave_products(self, products: OuterProducts | None) -> None:
        """Where backward passes leave outer products from now on; None: weights have gradients.

        Raises:
            UsageError: If a block's gradient is not made of them.
        """
        for block in self.blocks.values():
            block.leave_products(products)

    def pulse(self, products: OuterProducts, rate: float, weights: Callable[[str], Tensor]) -> None:
        """Have cells take outer products; weights get the values that they then hold.

        Args:
            products: What backward passes have left.
            rate: Learning rate.
            weights: The parameter of a name.

        Raises:
            UsageError: If products were taken before, are still collected or are another machine's, or if a
                weight is computed, not a parameter.
        """
        found = {name: weights(name) for name in products.taken if name in self.forms}
        parameters = {name: weight for name, weight in found.items() if isinstance(weight, nn.Parameter)}
        for name in found.keys() - parameters.keys():
            raise UsageError(
                f"cells of {visible(name)!r} take outer products, and the weight is computed",
                allowed="a parameter: its value is what the cells hold",
                hint="prune or parametrise weights that lie on other tiles",
            )
        products.spend(self.forms)
        for name, pairs in products.taken.items():
            self._arrays[name].pulse(parameters[name], pairs, rate)

    @property
    def follows_data(self) -> bool:
        """Some ADCs have ranges that data can set; a circuit that settles by itself has none."""
        return any(
            self._groups[weight].settling == "clocked" and self._tile(weight).follows_data
            for weight in self._arrays
        )

    @contextmanager
    def calibration(self) -> Iterator[None]:
        """Inside, ADCs whose ranges follow data measure what reaches them; behind it they are set by it.

        An error inside leaves all ranges as they were.
        """
        stage: Calibration = "drop"
        self._measure_noise(None)  # what reaches ADCs is that of the schedule's reads alone
        try:
            for array in self._arrays.values():
                array.tile.calibrate("measure")
            yield
            stage = "set"
        finally:
            for array in self._arrays.values():
                array.tile.calibrate(stage)
            self._measure_noise(self._noise_of_reads)

    @property
    def _noise_of_reads(self) -> torch.Generator | None:
        """What every read draws from; None if nothing lies on cells."""
        return self._generator if self._arrays else None

    def _measure_noise(self, source: torch.Generator | None) -> None:
        """Reads of blocks draw from a source; a circuit that settles by itself has one noise for a phase."""
        for block in self._plan.blocks:
            self.blocks[block.id].measures_noise(None if self._settles_itself(block) else source)

    def _settles_itself(self, block: EnergyBlock) -> bool:
        """A block is one circuit that relaxes, not a series of reads."""
        return self._plan.hardware.analog_group(block.group).settling == "continuous"

    @property
    def drifts(self) -> bool:
        """Some cells change with the time since they were programmed."""
        return any(self._tile(weight).drifts for weight in self._arrays)

    def check_time(self, seconds: float) -> None:
        """Refuse a time after programming at which nothing can be read.

        Raises:
            UsageError: If it is negative or no number, or if no cell drifts.
        """
        if not 0 <= as_number(seconds) < math.inf:
            found = f"{visible(repr(seconds))} s after programming"
            raise UsageError(found, allowed="a finite time of 0 s or more")
        if not self.drifts:
            raise UsageError(
                f"the tiles as they are {seconds:g} s after programming, but no cell drifts",
                hint="a hardware description gives drift with tile.cell.drift or tile.cell.statistics",
            )

    def at(self, seconds: float | None) -> None:
        """Reads come so long after programming; None is as the cells are described."""
        for array in self._arrays.values():
            array.tile.at(seconds)

    def health(self) -> dict[str, Health]:
        """What has met an end of its range since each weight was programmed, by its source name."""
        return {name: array.tile.health() for name, array in self._arrays.items()}

    def readings(self) -> dict[str, Readings]:
        """What the ADCs have read since each weight was programmed, by its source name."""
        return {name: array.tile.readings() for name, array in self._arrays.items()}

    def set_ranges(self, weights: Callable[[str], Tensor]) -> None:
        """Where single cells are to be programmed: give each circuit the range that its weights ask for.

        Cells that learn keep theirs; others are written again if it is another one.

        Args:
            weights: The weight of a name.
        """
        for names, common in self._circuits.items():
            if not any(self._arrays[name].keeps_cells for name in names):
                limit = self._limit(names, weights)
                if not math.isclose(limit, common.limit, rel_tol=SAME_RANGE):
                    common.limit = limit
                    for name in names:
                        self._arrays[name].empty()

    def _limit(self, names: Sequence[str], weights: Callable[[str], Tensor]) -> float:
        """The weight that a cell at g_max is to stand for."""

        def value(name: str) -> Tensor:
            return analog(weights(name).detach())

        return common_limit(names, linears_of(self._plan.blocks), value, self._tile(names[0]).crossbar())

    def _common_circuits(self) -> dict[tuple[str, ...], CommonRange]:
        """The weights of each circuit of single cells, with their range."""
        single = [name for name in self._groups if _is_single(self._tile(name))]
        return {names: CommonRange() for names in circuits_of(self._plan.blocks, single)}

    def learn(self, weights: Mapping[str, Tensor]) -> None:
        """Where cells learn in place: carry out the steps of weights, and give weights what their cells hold.

        Args:
            weights: The trainable weights by source name.

        Raises:
            UsageError: If something else than outer products has changed a weight whose cells take these.
        """
        for name, array in self._arrays.items():
            if name in weights and self.learns(name):
                if name in self.forms and array.has_changed(weights[name]):
                    raise UsageError(
                        f"{visible(name)!r} has another value than its cells, which take outer products only",
                        allowed="steps by `Executor.pulse`, of what a backward pass inside "
                        "`Executor.outer_products` has left",
                        hint="leave these weights out of the optimiser, or set tile.update.pulsed_by = "
                        "'matrix' in the hardware description",
                    )
                array.learn(weights[name])

    def program(self, weights: Callable[[str], Tensor]) -> None:
        """Program now what the next run would.

        Args:
            weights: The weight of a name.
        """
        for name, array in self._arrays.items():
            array.holding(weights(name).detach())

    def remap(self, weights: Callable[[str], Tensor]) -> None:
        """Write cells that learn in place anew, in ranges that follow what they hold.

        Args:
            weights: The parameter of a name, which gets the value that its cells hold then.

        Raises:
            UsageError: If none learn in place.
        """
        learning = [name for name in self._arrays if self.learns(name)]
        if not learning:
            raise UsageError(
                "no cells learn in place, so none are remapped",
                hint="the ranges of others follow their weights whenever these are programmed",
            )
        for name in learning:
            self._arrays[name].learn(weights(name))
        for names, common in self._circuits.items():
            common.limit = self._limit(names, weights)
        for name in learning:
            self._arrays[name].remap(weights(name))

    def cells(self) -> dict[str, Tensor]:
        """What cells that learn in place hold, to go on from; nothing where a master copy says it all."""
        if not self.learns_in_place:
            return {}
        return {
            f"{name}/{key}": tensor
            for name, array in self._arrays.items()
            if array.is_learning
            for key, tensor in array.tile.state().items()
        }

    def programmed_cells(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What cells that learn in place hold behind a first run with some weights, up to noise.

        Nothing changes: another machine of this kind is programmed.
        """
        if not self.learns_in_place:
            return {}
        source = torch.Generator(self._generator.device)
        fresh = Machine(self._plan, source, self._name, self._tiles, self._physics)
        fresh.set_ranges(
            lambda name: weights[name] if name in weights else tensor_of(self._plan.weights[name])
        )
        fresh.learn({name: weight.detach().clone() for name, weight in weights.items()})
        return fresh.cells()

    @property
    def programmed(self) -> tuple[str, ...]:
        """The weights that the cells hold by now."""
        return tuple(name for name, array in self._arrays.items() if array.is_programmed)

    def meaning(self) -> dict[str, str]:
        """What a conductance stands for, by the weight that the cells are for."""
        return {name: self._tile(name).meaning for name in self._arrays}

    def value(self, name: str, weight: Tensor) -> Tensor:
        """What the cells hold of a weight, in its layout; the weight itself where it lies on none."""
        array = self._arrays.get(name)
        if array is None or not array.is_learning:
            return weight
        held = array.value(weight).to(weight.dtype)
        return held + (weight - weight.detach())  # its gradient is the weight's

    def state(self) -> dict[str, Tensor]:
        """All that tiles hold, `<weight>/<name>`, to go on from: cells, calibration, what they were told.

        A weight's own slashes are escaped.
        """
        return {
            f"{_escaped(name)}/{key}": tensor
            for name, array in self._arrays.items()
            for key, tensor in array.state().items()
        }

    def learnt(self) -> dict[str, Tensor]:
        """The same of cells that learn in place, without what calibrations have found."""
        learning = {_escaped(name) for name, array in self._arrays.items() if array.is_learning}
        return {
            name: tensor
            for name, tensor in self.state().items()
            if self.learns_in_place and name.rsplit("/", 1)[0] in learning and SPREAD not in name
        }

    def renew(self) -> None:
        """The next change of a weight is programmed, not a step of its cells."""
        for array in self._arrays.values():
            array.renew()

    def take_up(self, state: Mapping[str, Tensor], weights: Callable[[str], Tensor]) -> None:
        """Take up a `state`, or a part of it, of a machine with the same tiles."""
        for name, array in self._arrays.items():
            own = under(state, f"{_escaped(name)}/")
            if own:
                device = weights(name).device
                array.restore({key: tensor.to(device) for key, tensor in own.items()})

    def load(
        self, state: Mapping[str, Tensor], names: Sequence[str], weights: Callable[[str], Tensor]
    ) -> Findings:
        """Take up what a file holds, as far as it is right; tiles for which it is not hold nothing.

        Args:
            state: As `state` returns it, each name behind `TILE`.
            names: The weights that it should hold.
            weights: The weight of a name.
        """
        findings = Findings()
        for name in names:
            if name not in self._arrays:
                findings.unexpected.append(f"{TILE}{_escaped(name)}/")
                continue
            prefix, array, weight = f"{TILE}{_escaped(name)}/", self._arrays[name], weights(name)
            own = under(state, prefix)
            if findings.compare(own, array.blank(weight), prefix):
                array.restore({key: tensor.to(weight.device) for key, tensor in own.items()})
            else:
                array.empty()
        known = tuple(f"{TILE}{_escaped(name)}/" for name in names)
        findings.unexpected += [k for k in state if k.startswith(TILE) and not k.startswith(known)]
        return findings

    def restore(self, cells: Mapping[str, Tensor], weights: Callable[[str], Tensor]) -> None:
        """Take up what `cells` returned; weights that learn get the values that their cells hold."""
        for name, array in self._arrays.items():
            own = {k.removeprefix(f"{name}/"): t for k, t in cells.items() if k.startswith(f"{name}/")}
            if own:
                weight = weights(name)
                array.tile.restore({key: tensor.to(weight.device) for key, tensor in own.items()})
                array.show(weight)

    def _block(self, block: EnergyBlock) -> BlockRuntime:
        projections = {}
        at_edge: Crossbar | None = None
        frozen = self._frozen if self._settles_itself(block) else None
        taken: dict[str, int] = {}  # copies of a weight that vectors before have to themselves
        for position, (_, interaction) in enumerate(block.interactions()):
            linear = interaction.linear
            if linear is None or not self._tile(linear.weight).has_cells:
                continue
            if linear.weight not in self._arrays:
                self._arrays[linear.weight] = self._array(linear, frozen)
            array = self._arrays[linear.weight]
            first = taken.get(linear.weight, 0)
            projections[position] = TileProjection(linear, array, frozen, next(self._numbers), first)
            if frozen is not None:
                taken[linear.weight] = first + positions(interaction, linear)
                at_edge = at_edge or self._tile(linear.weight).crossbar()
        group = self._plan.hardware.analog_group(block.group)
        time = None if frozen is None else CircuitTime(block, group)
        if frozen is None or at_edge is None:
            return BlockRuntime(block, projections, physics=self._physics, time=time)
        edge = Edge(at_edge, frozen, f"{self._name}/{block.name}")
        return BlockRuntime(block, projections, edge, self._physics, time)

    def _array(self, linear: Linear, frozen: FrozenNoise | None) -> MasteredTile:
        """The tiles that the pieces of a weight lie on."""
        pieces = [piece for _, piece in self._plan.pieces() if piece.weight == linear.weight]
        tile = self._tile(linear.weight)
        if isinstance(tile, OwnTile):
            return own_array(linear, pieces, tile, self._generator, self._name)
        common = next((common for names, common in self._circuits.items() if linear.weight in names), None)
        made = crossbar_projection(
            linear, pieces, tile.crossbar(), self._generator, self._name, frozen, common
        )
        return made.array

    def _tile(self, weight: str) -> TileKind | OwnTile:
        """What a weight lies on."""
        return self._tiles.get(weight, self._groups[weight].tile)


def _is_single(tile: TileKind | OwnTile) -> bool:
    """A weight on it is one cell."""
    return not isinstance(tile, OwnTile) and tile.has_cells and tile.crossbar().is_single


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")
