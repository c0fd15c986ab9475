"""The fields of a plan, as `plan.json` and the files beside it hold them."""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from ffebm.errors import InternalError, UsageError
from ffebm.graph.energy_block import DEFAULT_PHYSICS, LEAST_FEEDBACK, EnergyBlock
from ffebm.graph.graph import Part
from ffebm.graph.tensor import Array, TensorType
from ffebm.graph.work import stationary
from ffebm.hardware.description import AnalogGroup, Hardware, TileKind
from ffebm.plan.mapping import Mapping, Objective
from ffebm.plan.memory.memory_plan import Memories
from ffebm.plan.program import Segment
from ffebm.plan.programming import LEVELS, target_conductances
from ffebm.plan.schedule import Schedule
from ffebm.plan.structure import Structure
from ffebm.plan.twin import DigitalTwin

SCHEMA = 9
"""Version of the plan format; another version is refused."""


MOST_SWEEPS = 10**6
"""A phase that has not settled by then never will; without an end a plan could ask for work without end."""


class Settle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How energy blocks settle.

    Attributes:
        free_sweeps: Most sweeps in a free phase; a sweep updates every layer once.
        nudged_sweeps: Most sweeps in a nudged phase.
        tol: Stop when every sample's residual is at most this; None runs all sweeps.
        start: Where the free phase starts. Part of the model: a block with max-pooling can have several
            equilibria. Nudged phases start from the free state.
        relaxation: Step towards the update: 1 takes it, below damps, above over-relaxes; in (0, 2). "auto"
            finds that of each sample in each phase from its first sweeps.
        anderson: States that Anderson acceleration remembers; 0 is off.
        winners: Where a layer above a max-pooling sends its state: to the largest value of each window
            ("sharp"), or, if it is negative, shared among values that tie ("shared"). Part of the model: it
            settles the limit cycles of sharp winners, and may settle elsewhere.
        strict: A block that does not settle is an error.
        settling: How blocks come to their states where they are simulated: by "sweeps", or as a "circuit",
            all layers together in continuous time, for as long as their phases are billed. A circuit takes
            none of `tol`, `start`, `relaxation` and `anderson`; it needs a machine with continuous settling.
    """

    free_sweeps: Annotated[int, Meta(ge=1, le=MOST_SWEEPS)] = 60
    nudged_sweeps: Annotated[int, Meta(ge=1, le=MOST_SWEEPS)] = 20
    tol: Annotated[float, Meta(gt=0)] | None = None
    start: Literal["zero", "feedforward"] = "zero"
    relaxation: Annotated[float, Meta(gt=0, lt=2)] | Literal["auto"] = 1.0
    anderson: Annotated[int, Meta(ge=0)] = 0
    winners: Literal["sharp", "shared"] = "sharp"
    strict: bool = False
    settling: Literal["sweeps", "circuit"] = "sweeps"


def checked_settle(settle: Settle) -> Settle:
    """Settings of settling as a plan would hold them: msgspec checks ranges only where it decodes.

    Raises:
        UsageError: If one is wrong.
    """
    given = msgspec.structs.asdict(settle).items()
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given}
    try:
        checked = msgspec.convert(plain, Settle)
    except msgspec.ValidationError as error:
        raise UsageError(f"settings of settling: {error}") from None
    if checked.tol == math.inf:  # JSON has no such number, so the plan would hold none
        raise UsageError("settings of settling: tol inf", allowed="a finite number, or None: all sweeps run")
    return checked


MOST_EFFORT = 10**9
"""Nodes of a search: more than any search visits."""


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that a plan was compiled from.

    Attributes:
        name: File name or class name.
        format: "onnx" or "torch".
        digest: SHA-256 of the model with its weights.
        opset: ONNX opset of the source; 0 for torch.
    """

    name: str
    format: Literal["onnx", "torch"]
    digest: str
    opset: int = 0


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user asked of the compiler.

    Attributes:
        block_size: Free layers that one block may hold; or one number a block, what follows stays digital.
        boundary: Where the first linear map of a block runs.
        fold_batch_norm: Batch normalisation was folded into the weights: the plan is for inference only.
        dims: Sizes given to named dimensions of the model.
        digital: Weights and nodes that were kept digital on request, by name; * stands for anything.
        trainable: Constants that train on request, by name; * stands for anything.
        passes: Passes beside the compiler's own, by name.
        physics: What the energy of its blocks is, by name.
        feedback: How strongly layers of a block feel those above, of the strength at which they drive them.
        activations: Ops that are activations by what packages offer.
        objective: What the mapping makes small; "analog" has the most work on tiles, then the least latency.
        tiles: Most tiles in use; None for all that there are.
        max_latency: Most time of one inference, s.
        max_energy: Most energy of one inference, J.
        max_area: Most area of the tiles in use, mm2.
        slowdown: A block that is more than so many times slower on tiles is digital.
        replicas: Most copies of a weight; None for as many as help.
        effort: How long to look for the mapping: most nodes of each search of the solver.
        batch: Runs of the model that each schedule has in flight; a training step updates once after all.
        no_weights: Weights were left out: the plan is for cost and schedules alone.
    """

    block_size: int | tuple[int, ...] = 1
    boundary: Literal["tile", "digital"] = "tile"
    fold_batch_norm: bool = False
    dims: dict[str, int] = {}
    digital: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    physics: str = DEFAULT_PHYSICS
    feedback: Annotated[float, Meta(ge=LEAST_FEEDBACK, le=1)] = 1.0
    activations: tuple[str, ...] = ()
    objective: Objective = "analog"
    tiles: Annotated[int, Meta(ge=0)] | None = None
    max_latency: Annotated[float, Meta(gt=0)] | None = None
    max_energy: Annotated[float, Meta(gt=0)] | None = None
    max_area: Annotated[float, Meta(gt=0)] | None = None
    slowdown: Annotated[float, Meta(gt=0)] | None = None
    replicas: Annotated[int, Meta(ge=1)] | None = None
    effort: Annotated[int, Meta(ge=0, le=MOST_EFFORT)] = 1000
    batch: Annotated[int, Meta(ge=1)] = 1
    no_weights: bool = False

    @property
    def sizes(self) -> str:
        """The block size as options take it: one for all, or those of blocks in turn with commas."""
        return (
            str(self.block_size) if isinstance(self.block_size, int) else ",".join(map(str, self.block_size))
        )

    @property
    def blocks(self) -> str:
        """What makes the blocks, in words."""
        feedback = "" if self.feedback == 1 else f", feedback {self.feedback:g}"
        return f"block size {self.sizes}, boundary {self.boundary}{feedback}"


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of the model."""

    name: str
    type: TensorType


class PlanNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of the model and where it runs.

    Attributes:
        name: Unique name.
        op: ONNX op name, or a torch op.
        unit: "tile" or "digital".
        reason: Why that unit.
        block: Id of its energy block; None outside blocks.
        segment: Id of its digital segment; None on tiles.
        group: Which group of the machine's tiles or digital units runs it.
        inputs: Value names that it reads.
        outputs: Value names that it makes.
        location: Where it came from.
        macs: Multiply-accumulates of one inference.
        weights: Number of weights and biases that it owns or shares.
        shape: Shape of its first output, batch included, where it is known.
    """

    name: str
    op: str
    unit: Literal["tile", "digital"]
    reason: str
    block: int | None
    segment: int | None
    group: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    location: str
    macs: int
    weights: int
    shape: tuple[int | str, ...] | None


class Piece(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a weight matrix with its place and settings on a tile.

    Attributes:
        id: Position among all pieces; names its levels `piece<id>.levels`, [n_in, n_out], as they lie: of a
            transposed one, inputs of the matrix are on bit lines.
        row: First word line on the crossbar.
        col: First bit-line pair on the crossbar.
        scale: Weight that the whole conductance range stands for; 1 on an exact tile, and as ranges are 0 in
            a plan without weights. With bit slices that of
            the first one; the next one's is `levels` times as much. Where columns differ, the largest; all
            are `piece<id>.scale`.
        adc_range: Largest output that the ADCs resolve until a run calibrates them on data, in units of scale
            times the largest input; 0 on an exact tile. Where lines or slices differ, the largest; all are
            `piece<id>.adc_range`.
        adc_range_t: The same for the transposed read.
    """

    id: int
    row: int
    col: int
    scale: float = 1.0
    adc_range: float = 0.0
    adc_range_t: float = 0.0


class TilePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What lies on one tile.

    Attributes:
        id: Number of the tile, counted through all groups of the machine.
        group: Which group of the machine's tiles it belongs to.
        kind: "exact" or "crossbar".
        rows: Word lines; of an exact tile, as many as it uses.
        cols: Bit-line pairs; of an exact tile, as many as it uses.
        dac_bits: Resolution of its DACs; 0 on an exact tile.
        adc_bits: Resolution of its ADCs; 0 on an exact tile.
        pieces: What it holds.
    """

    id: int
    group: str
    kind: Literal["exact", "crossbar"]
    rows: int
    cols: int
    dac_bits: int
    adc_bits: int
    pieces: tuple[Piece, ...]

    @property
    def used(self) -> int:
        """Cells (pairs) that hold weights."""
        return sum(piece.n_in * piece.n_out for piece in self.pieces)


class Manifest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, eq=False):
    """What `plan.json` holds.

    Attributes:
        schema: Version of the format.
        source: The model.
        hardware: The machine.
        options: What the user asked of the compiler.
        settle: How its energy blocks settle.
        inputs: Fed at run time, in order.
        outputs: Returned, in order.
        structure: How the outputs are nested; None if they are one tensor or a plain tuple.
        trainable: Source names of the weights that training changes.
        buffers: Source names of running statistics.
        types: Types of all values.
        nodes: Every node with its unit and reason.
        blocks: The energy blocks.
        tiles: What lies on each tile that is used.
        inference: One inference as steps.
        training: One training step as steps.
        memory: Where what their steps read and write lies.
        batch: Samples that the schedules count for.
        twin: What the machine takes without its tiles, by data type; none where no digital unit runs some op.
        mapping: What each block could have been, and what was chosen; None without energy blocks.
        notes: What the compiler wants the user to know.
        packages: Packages whose ops, activations, physics and converters it runs, beside ffebm.
        left_out: Types of the weights whose values are not there, by source name.
    """

    schema: int
    source: Source
    hardware: Hardware
    options: Options
    settle: Settle
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    trainable: tuple[str, ...]
    buffers: tuple[str, ...]
    types: dict[str, TensorType]
    nodes: tuple[PlanNode, ...]
    blocks: tuple[EnergyBlock, ...]
    tiles: tuple[TilePlan, ...]
    inference: Schedule
    training: Schedule
    memory: Memories
    batch: int
    twin: dict[str, DigitalTwin]
    mapping: Mapping | None = None
    notes: tuple[str, ...]
    packages: tuple[str, ...] = ()
    structure: Structure | None = None
    left_out: dict[str, TensorType] = {}


class PlanData(Manifest, kw_only=True, forbid_unknown_fields=True, eq=False):
    """What a plan folder holds: the manifest, programs and arrays.

    Attributes:
        segments: The digital programs (in `digital/`).
        weights: Constants by source name (in `weights.safetensors`); zeros for those that were left out.
        crossbars: What the cells of pieces hold, as signed levels, with ranges and scales of single lines
            (in `crossbars.safetensors`).
        model: The ONNX source without its weights (in `source.onnx`); empty for torch.
    """

    segments: tuple[Segment, ...] = ()
    weights: dict[str, Array] = {}
    crossbars: dict[str, Array] = {}
    model: bytes = b""

    def ports(self) -> tuple[Port, ...]:
        """Inputs, then outputs."""
        return self.inputs + self.outputs

    @property
    def samples(self) -> int:
        """Samples of each schedule: those of one run, for every run in flight."""
        return self.batch * self.options.batch

    def pieces(self) -> Iterator[tuple[TilePlan, Piece]]:
        """Every piece with its tile."""
        for tile in self.tiles:
            for piece in tile.pieces:
                yield tile, piece

    def conductances(self, piece: Piece) -> tuple[Array, Array]:
        """Target conductances of a piece on a crossbar, siemens.

        Returns:
            The cells that count up, [n_in, n_out], and those that count down: as many, the offset column,
            [n_in, 1], or none, [n_in, 0]. With bit slices these are stacked in front, the lowest digit first.
            A plan without weights knows none.
        """
        levels = self.crossbars[f"piece{piece.id}.{LEVELS}"]
        return target_conductances(levels, self.tile_of(piece.weight).crossbar())

    def groups_of_weights(self) -> dict[str, AnalogGroup]:
        """The group of tiles that each weight on tiles lies on, by its source name."""
        return {piece.weight: self.hardware.analog_group(tile.group) for tile, piece in self.pieces()}

    def tile_of(self, weight: str) -> TileKind:
        """The kind of tile that a weight lies on.

        Raises:
            InternalError: If it lies on none.
        """
        if len(self.hardware.analog) == 1:
            return self.hardware.analog[0].tile
        for tile, piece in self.pieces():
            if piece.weight == weight:
                return self.hardware.analog_group(tile.group).tile
        raise InternalError(f"weight {weight!r} lies on no tile")

    def weight_names(self) -> list[str]:
        """Weights by source name: those that train, and those of frozen or quantised layers."""
        names = dict.fromkeys(self.trainable)
        names.update((piece.weight, None) for _, piece in self.pieces())
        for node in self.nodes:
            names.update((name, None) for name in sorted(stationary(node.op, node.inputs, self.weights)))
        return list(names)

    def tied(self) -> list[tuple[str, list[str]]]:
        """Weights that several nodes read, with the names of these nodes."""
        readers: dict[str, list[str]] = {name: [] for name in self.trainable}
        for node in self.nodes:
            for name in readers.keys() & {*node.inputs}:
                readers[name].append(node.name)
        return [(name, nodes) for name, nodes in readers.items() if len(nodes) > 1]
