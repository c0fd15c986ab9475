"""The plan: what a compiled model is, in memory and on disk.

A plan folder holds `plan.json` (everything a person would read), `weights.safetensors` (the model's constants
by source name), `crossbars.safetensors` (target conductances), `digital/` (one program a digital segment),
`source.onnx` (an ONNX source without its weights) and `SHA256SUMS` over all of them.
"""

import textwrap
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import safetensors
from msgspec import Meta

from ffebm.errors import HardwareError, Location, PlanError
from ffebm.files.decoded import decoded
from ffebm.files.folder import read_folder, write_folder
from ffebm.graph.graph import Array, EnergyBlock, Part, TensorType, holds_floats
from ffebm.graph.work import stationary
from ffebm.hardware.description import Crossbar, Hardware, check_hardware
from ffebm.plan.conductance import to_matrix
from ffebm.plan.program import Instruction, Segment
from ffebm.plan.program_check import program_problems
from ffebm.plan.programming import PROGRAMMED, programming_problems
from ffebm.plan.schedule import Schedule, schedule_problems
from ffebm.plan.structure import Structure, structure_problems
from ffebm.plan.tensor_file import pack, unpack
from ffebm.visible import visible

SCHEMA = 2
"""Version of the plan format; another version is refused."""
MANIFEST, WEIGHTS, CROSSBARS = "plan.json", "weights.safetensors", "crossbars.safetensors"
MODEL = "source.onnx"


class Settle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How energy blocks settle.

    Attributes:
        free_sweeps: Most sweeps in a free phase; a sweep updates every layer once.
        nudged_sweeps: Most sweeps in a nudged phase.
        tol: Stop when every sample's residual is at most this; None runs all sweeps.
        start: Where the free phase starts. Part of the model: a block with max-pooling can have several
            equilibria. Nudged phases start from the free state.
        relaxation: Step towards the update: 1 takes it, below damps, above over-relaxes; in (0, 2).
        anderson: States that Anderson acceleration remembers; 0 is off.
        winners: Where a layer above a max-pooling sends its state: to the largest value of each window
            ("sharp"), or, if it is negative, shared among values that tie ("shared"). Part of the model: it
            settles the limit cycles of sharp winners, and may settle elsewhere.
        strict: A block that does not settle is an error.
    """

    free_sweeps: Annotated[int, Meta(ge=1)] = 60
    nudged_sweeps: Annotated[int, Meta(ge=1)] = 20
    tol: Annotated[float, Meta(gt=0)] | None = None
    start: Literal["zero", "feedforward"] = "zero"
    relaxation: Annotated[float, Meta(gt=0, lt=2)] = 1.0
    anderson: Annotated[int, Meta(ge=0)] = 0
    winners: Literal["sharp", "shared"] = "sharp"
    strict: bool = False


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
        digital: Weights and nodes that were kept digital on request, by name.
        trainable: Constants that train on request, by name; * stands for anything.
    """

    block_size: int | tuple[int, ...] = 1
    boundary: Literal["tile", "digital"] = "tile"
    fold_batch_norm: bool = False
    dims: dict[str, int] = {}
    digital: tuple[str, ...] = ()
    trainable: tuple[str, ...] = ()


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
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    location: str
    macs: int
    weights: int
    shape: tuple[int | str, ...] | None


class Piece(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a weight matrix with its place and settings on a tile.

    Attributes:
        id: Position among all pieces; names its conductances `piece<id>.plus` and `.minus`, [n_in, n_out].
        row: First word line on the crossbar.
        col: First bit-line pair on the crossbar.
        scale: Weight that the whole conductance range stands for; 1 on an exact tile. With bit slices that of
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
        id: Number of the tile.
        kind: "exact" or "crossbar".
        rows: Word lines; of an exact tile, as many as it uses.
        cols: Bit-line pairs; of an exact tile, as many as it uses.
        dac_bits: Resolution of its DACs; 0 on an exact tile.
        adc_bits: Resolution of its ADCs; 0 on an exact tile.
        pieces: What it holds.
    """

    id: int
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
        batch: Samples that the schedules count for.
        notes: What the compiler wants the user to know.
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
    batch: int
    notes: tuple[str, ...]
    structure: Structure | None = None


class Plan(Manifest, kw_only=True, forbid_unknown_fields=True, eq=False):
    """A compiled model.

    Attributes:
        segments: The digital programs (in `digital/`).
        weights: Constants by source name (in `weights.safetensors`).
        crossbars: Target conductances in siemens (in `crossbars.safetensors`).
        model: The ONNX source without its weights (in `source.onnx`); empty for torch.
    """

    segments: tuple[Segment, ...] = ()
    weights: dict[str, Array] = {}
    crossbars: dict[str, Array] = {}
    model: bytes = b""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        arrays = {"weights", "crossbars"}
        plain = [f for f in self.__struct_fields__ if f not in arrays]
        return all(getattr(self, f) == getattr(other, f) for f in plain) and all(
            _same_arrays(getattr(self, f), getattr(other, f)) for f in arrays
        )

    def __ne__(self, other: object) -> bool:
        return not self == other  # msgspec's own compares identities

    def __repr__(self) -> str:
        size = f"{len(self.nodes)} nodes, {len(self.blocks)} blocks"
        return f"<Plan of {self.source.name} for {self.hardware.name}: {size}>"

    def pieces(self) -> Iterator[tuple[TilePlan, Piece]]:
        """Every piece with its tile."""
        for tile in self.tiles:
            for piece in tile.pieces:
                yield tile, piece

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

    def save(self, path: str | Path) -> None:
        """Write the plan folder; all of it or nothing.

        Raises:
            PlanError: If something that is not a plan is in the way, or the disk refuses.
        """
        document = {name: getattr(self, name) for name in Manifest.__struct_fields__}
        files = {
            MANIFEST: msgspec.json.format(msgspec.json.encode(document), indent=1),
            WEIGHTS: pack(self.weights),
            CROSSBARS: pack(self.crossbars),
        }
        for segment in self.segments:
            name = f"digital/segment{segment.id:04}.json"
            files[name] = msgspec.json.format(msgspec.json.encode(segment), indent=1)
        if self.model:
            files[MODEL] = self.model
        write_folder(Path(path), files, MANIFEST)

    def summary(self) -> str:
        """What a person wants to know first, as text of at most 80 columns."""
        return "\n".join(_summary_lines(self)) + "\n"


def load_plan(path: str | Path) -> Plan:
    """Read a plan folder and check all of it.

    Raises:
        PlanError: If it is no plan, of an unknown version, incomplete, damaged, or contradicts itself.
    """
    folder = Path(path)
    where = Location(str(folder))
    files = read_folder(folder, MANIFEST)
    try:
        found = decoded(files[MANIFEST], _Version).schema
        if found != SCHEMA:
            raise PlanError(
                f"the plan is of version {found}",
                allowed=f"this ffebm reads version {SCHEMA}",
                hint="compile the model again with this version",
                location=where,
            )
        manifest = decoded(files[MANIFEST], Manifest)
        names = sorted(name for name in files if name.startswith("digital/"))
        segments = tuple(decoded(files[name], Segment) for name in names)
        weights = unpack(files[WEIGHTS])
        crossbars = unpack(files[CROSSBARS])
    except KeyError as error:
        raise PlanError(f"{error.args[0]} is missing", hint="compile again", location=where) from None
    except (msgspec.DecodeError, safetensors.SafetensorError) as error:
        raise PlanError(f"cannot be read: {error}", hint="compile again", location=where) from None
    plain = {name: getattr(manifest, name) for name in Manifest.__struct_fields__}
    plan = Plan(**plain, segments=segments, weights=weights, crossbars=crossbars, model=files.get(MODEL, b""))
    try:
        check_hardware(plan.hardware, str(folder))
    except HardwareError as error:
        raise PlanError(
            f"its hardware: {error.found}", allowed=error.allowed, location=error.location
        ) from None
    problem = next(_problems(plan), None)
    if problem is not None:
        raise PlanError(problem, hint="compile the model again", location=where)
    return plan


class _Version(msgspec.Struct):
    schema: int


def _same_arrays(ours: dict[str, Array], theirs: dict[str, Array]) -> bool:
    return ours.keys() == theirs.keys() and all(
        a.dtype == theirs[name].dtype and np.array_equal(a, theirs[name], equal_nan=holds_floats(a))
        for name, a in ours.items()
    )


# --- checks ------------------------------------------------------------------------------------------


def _problems(plan: Plan) -> Iterator[str]:
    """Every contradiction in a plan, as text."""
    known = {*plan.weights, *(port.name for port in plan.inputs)}
    for name in (*plan.trainable, *plan.buffers):
        if name not in plan.weights:
            yield f"weight {name!r} has no values"
    if plan.batch < 1:
        yield f"a batch of {plan.batch}"
    for position, block in enumerate(plan.blocks):
        if block.id != position:
            yield f"{block.name} stands at position {position}"
        if not block.layers or not all(layer.interactions for layer in block.layers):
            yield f"{block.name} has no layers, or a layer that nothing drives"
        for weight in block.weights():
            if weight not in plan.weights:
                yield f"weight {weight!r} of {block.name} has no values"
    yield from program_problems(plan.segments, plan.weights)
    yield from _order_problems(plan, known)
    yield from structure_problems(plan.structure, {*plan.weights, *(port.name for port in plan.outputs)})
    yield from _node_problems(plan)
    yield from _tile_problems(plan)
    units = {f"tile{t.id}" for t in plan.tiles} | {f"digital{i}" for i in range(plan.hardware.digital.count)}
    for schedule in (plan.inference, plan.training):
        yield from schedule_problems(schedule, {*units, "network"}, len(plan.blocks))


def _node_problems(plan: Plan) -> Iterator[str]:
    """Every node has a reason, and runs where it says: a block on tiles, or a digital instruction."""
    digital = {i.name for segment in plan.segments for i in segment.program.instructions}
    for node in plan.nodes:
        if not node.reason:
            yield f"node {node.name!r} has no reason"
        on_tile = node.block is not None and 0 <= node.block < len(plan.blocks)
        if on_tile != (node.unit == "tile") or (node.unit == "digital") != (node.name in digital):
            yield f"node {node.name!r} does not run where it says: {node.unit}, block {node.block}"
    missing = digital - {node.name for node in plan.nodes}
    if missing:
        yield f"instruction {min(missing)!r} is no node of the plan"


def _order_problems(plan: Plan, known: set[str]) -> Iterator[str]:
    """The inference runs every digital node and block once, each after what it reads."""
    left: dict[tuple[str, str | int | None], Instruction | EnergyBlock] = {}
    left |= {("digital", i.name): i for segment in plan.segments for i in segment.program.instructions}
    left |= {("free", block.id): block for block in plan.blocks}
    for step in plan.inference.steps:
        if step.kind not in {"digital", "free"}:
            continue
        runner = left.pop((step.kind, step.name if step.kind == "digital" else step.block), None)
        if runner is None or runner.name != step.name:
            yield f"step {step.id} runs {step.name!r}, which is unknown or has run already"
            return
        for value in runner.inputs:
            if value and value not in known:
                yield f"step {step.id} ({step.name}) reads {value!r} before it is made"
        known.update(runner.outputs)
    if left:
        yield f"no step runs {min(str(runner.name) for runner in left.values())!r}"
    for port in plan.outputs:
        if port.name not in known:
            yield f"output {port.name!r} is never made"


def _tile_problems(plan: Plan) -> Iterator[str]:
    seen: set[int] = set()
    for tile in plan.tiles:
        if tile.id in seen or not 0 <= tile.id < plan.hardware.tiles.count:
            yield f"tile {tile.id} is not one of the machine's {plan.hardware.tiles.count} tiles, each once"
        seen.add(tile.id)
        yield from _overlaps(tile)
    cells: dict[str, int] = {}
    parts: dict[tuple[str, int], list[Piece]] = {}
    for position, (tile, piece) in enumerate(sorted(plan.pieces(), key=lambda pair: pair[1].id)):
        if piece.id != position:
            yield f"piece {piece.id} stands at position {position}"
        yield from _piece_problems(plan, tile, piece)
        cells[piece.weight] = cells.get(piece.weight, 0) + piece.n_in * piece.n_out
        parts.setdefault((piece.weight, piece.group), []).append(piece)
    for (weight, group), held in parts.items():
        inside = tuple(map(_in_matrix, held))
        matrix = TilePlan(id=group, kind="exact", rows=1, cols=1, dac_bits=0, adc_bits=0, pieces=inside)
        if any(True for _ in _overlaps(matrix)):
            yield f"an element of {weight!r} lies on tiles twice"
    for weight, count in cells.items():
        if weight in plan.weights and plan.weights[weight].size != count:
            yield f"{count} of the {plan.weights[weight].size} elements of {weight!r} lie on tiles"
    yield from (problem for _, piece in plan.pieces() for problem in _programming_problems(plan, piece))


def _piece_problems(plan: Plan, tile: TilePlan, piece: Piece) -> Iterator[str]:
    if piece.weight not in plan.weights:
        yield f"piece {piece.id} holds unknown weight {piece.weight!r}"
    if not piece.scale >= 0:
        yield f"piece {piece.id} has a scale of {piece.scale}"
    if piece.row < 0 or piece.col < 0 or piece.n_in < 1 or piece.n_out < 1:
        yield f"piece {piece.id} has no valid place"
    if piece.row + piece.n_in > tile.rows or piece.col + piece.n_out > tile.cols:
        yield f"piece {piece.id} reaches over the edge of tile {tile.id}"
    if tile.kind == "crossbar":
        yield from _conductance_problems(plan, piece)


def _in_matrix(piece: Piece) -> Piece:
    """A piece placed where it lies in its weight's matrix, to find elements that two pieces hold."""
    return msgspec.structs.replace(piece, row=piece.inputs[0], col=piece.outputs[0])


def _overlaps(tile: TilePlan) -> Iterator[str]:
    """Pieces that share a cell: rows are swept, the pieces open at once kept in order of their columns."""
    events = [(p.row + p.n_in, 0, p) for p in tile.pieces] + [(p.row, 1, p) for p in tile.pieces]
    open_pieces: list[tuple[int, int, Piece]] = []
    for _, opens, piece in sorted(events, key=lambda event: (event[0], event[1], event[2].id)):
        spot = bisect(open_pieces, (piece.col, piece.id), key=lambda entry: entry[:2])
        if not opens:
            del open_pieces[spot - 1]
            continue
        for _, _, other in open_pieces[max(0, spot - 1) : spot + 1]:
            if other.col < piece.col + piece.n_out and piece.col < other.col + other.n_out:
                yield f"pieces {other.id} and {piece.id} overlap on tile {tile.id}"
                return
        open_pieces.insert(spot, (piece.col, piece.id, piece))


def _conductance_problems(plan: Plan, piece: Piece) -> Iterator[str]:
    tile = plan.hardware.tiles.tile
    if not isinstance(tile, Crossbar):
        yield f"piece {piece.id} lies on a crossbar, which {plan.hardware.name} does not have"
        return
    slices = () if tile.slices == 1 else (tile.slices,)
    down = 1 if tile.mapping == "offset" else piece.n_out
    for name, n_out in ((f"piece{piece.id}.plus", piece.n_out), (f"piece{piece.id}.minus", down)):
        array = plan.crossbars.get(name)
        if array is None or array.shape != (*slices, piece.n_in, n_out):
            yield f"conductances {name!r} are missing or of another size"
        elif not (
            array.min() >= tile.cell.g_min.value * 0.999 and array.max() <= tile.cell.g_max.value * 1.001
        ):
            yield f"conductances {name!r} leave the range of the cells"


def _programming_problems(plan: Plan, piece: Piece) -> Iterator[str]:
    if not isinstance(tile := plan.hardware.tiles.tile, Crossbar):
        return
    linears = (i.linear for block in plan.blocks for _, i in block.interactions() if i.linear is not None)
    linear = next((linear for linear in linears if linear.weight == piece.weight), None)
    if linear is None or piece.weight not in plan.weights:
        yield f"piece {piece.id} holds {piece.weight!r}, which no block uses"
        return
    held = ((name, plan.crossbars.get(f"piece{piece.id}.{name}")) for name in PROGRAMMED)
    stored = {name: array for name, array in held if array is not None}
    try:
        settings = {name: getattr(piece, name) for name in ("scale", "adc_range", "adc_range_t")}
        matrix = to_matrix(linear, plan.weights[piece.weight])
        wrong = next(programming_problems(matrix, piece, tile, stored, settings), None)
    except (IndexError, ValueError, TypeError, ZeroDivisionError) as error:
        yield f"piece {piece.id} is no part of {piece.weight!r} ({error})"
        return
    if wrong is not None:
        yield f"{wrong} of piece {piece.id} is not what {piece.weight!r} says"


# --- summary -----------------------------------------------------------------------------------------


def share(part: float, whole: float) -> str:
    """A share in per cent; a dash if there is nothing to share."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def engineering(value: float, unit: str) -> str:
    """A quantity with an SI prefix and four digits."""
    for power, prefix in ((0, ""), (-3, "m"), (-6, "u"), (-9, "n"), (-12, "p"), (-15, "f")):
        if abs(value) >= 0.99995 * 10.0**power:  # what rounds to 1 is 1, not 1000 of the next prefix
            return f"{value / 10.0**power:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def _summary_lines(plan: Plan) -> Iterator[str]:
    tile_nodes = [node for node in plan.nodes if node.unit == "tile"]
    macs = sum(node.macs for node in plan.nodes)
    on_tiles = {piece.weight for _, piece in plan.pieces()}
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    held = sum(plan.weights[name].size for name in on_tiles)
    yield f"plan        {plan.source.name} for {plan.hardware.name}"
    options = plan.options
    yield f"blocks      {len(plan.blocks)}; block size {_sizes(plan)}, boundary {options.boundary}"
    yield f"nodes       {len(tile_nodes)} on tiles, {len(plan.nodes) - len(tile_nodes)} digital"
    analog = share(sum(node.macs for node in tile_nodes), macs)
    yield f"work        {analog} of {macs:,} multiply-accumulates on tiles"
    yield f"weights     {share(held, weights)} of {weights:,} on tiles"
    for name, nodes in plan.tied():
        tie = visible(f"{name} is one weight in {', '.join(nodes)}")
        yield textwrap.fill(tie, 80, initial_indent="tied        ", subsequent_indent=" " * 12)
    used = sum(tile.used for tile in plan.tiles)
    room = sum(tile.rows * tile.cols for tile in plan.tiles)
    count = plan.hardware.tiles.count
    yield f"tiles       {len(plan.tiles)} of {count} in use, {share(used, room)} of their cells"
    mode, settle = plan.hardware.tiles.settling, plan.settle
    sweeps = f"{settle.free_sweeps} free, 2 x {settle.nudged_sweeps} nudged sweeps"
    relaxation = plan.hardware.tiles.relaxation
    when = (
        "in every sweep" if relaxation is None else f"once a phase of {engineering(relaxation.seconds, 's')}"
    )
    yield f"settling    {mode}: converters {when}"
    yield f"            {'' if relaxation is None else 'solved by '}at most {sweeps}"
    for name, schedule in (("inference", plan.inference), ("training", plan.training)):
        yield from _schedule_lines(name, schedule, plan.batch)
    assumed = [name for name, quantity in plan.hardware.quantities() if quantity.assumption]
    total = len(list(plan.hardware.quantities()))
    yield f"constants   {total} of {plan.hardware.name}, {len(assumed)} of them assumptions"
    for note in plan.notes:
        yield textwrap.fill(note, 80, initial_indent="note        ", subsequent_indent=" " * 12)


def _sizes(plan: Plan) -> str:
    size = plan.options.block_size
    return str(size) if isinstance(size, int) else ",".join(map(str, size))


def _schedule_lines(name: str, schedule: Schedule, batch: int) -> Iterator[str]:
    cost = schedule.cost
    yield f"{name:<11} of {batch} sample(s): {len(schedule.steps)} steps"
    bound = "busiest unit" if schedule.busiest_s >= schedule.critical_path_s else "critical path"
    yield (
        f"  time      {engineering(schedule.makespan_s, 's')}; lower bound "
        f"{engineering(schedule.lower_bound_s, 's')} ({bound}); ratio {schedule.ratio:.3f}"
    )
    kinds = ("array", "dac", "adc", "digital", "memory", "network")
    yield f"  energy    {engineering(cost.energy, 'J')}"
    yield "    " + ", ".join(f"{kind} {engineering(getattr(cost, kind), 'J')}" for kind in kinds[:3])
    yield "    " + ", ".join(f"{kind} {engineering(getattr(cost, kind), 'J')}" for kind in kinds[3:])
    yield f"  converts  {cost.dac_count:,} digital to analog, {cost.adc_count:,} analog to digital"
