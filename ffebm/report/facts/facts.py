"""Facts: everything a report shows, as plain typed data computed from a plan and, if there is one, a run."""

from collections.abc import Iterator

import msgspec

from ffebm.hardware.description import Hardware
from ffebm.plan.plan import Plan
from ffebm.plan.program import Instruction
from ffebm.plan.schedule import Schedule
from ffebm.plan.schema import Options, PlanNode, Port, Settle, Source
from ffebm.plan.summary import engineering, figures_of, share, times_twin
from ffebm.plan.twin import COMPUTED, DigitalTwin, Total
from ffebm.report.facts.bill import Bill, Constant, bill, constants, energy_basis, schedule_basis, time_basis
from ffebm.report.facts.choices import Choices, choices
from ffebm.report.facts.floor import TileFacts, floor
from ffebm.report.facts.frames import Frame, frames
from ffebm.report.facts.measured.run_facts import RunFacts
from ffebm.report.facts.measured.sensitivity_facts import SensitivityFacts
from ffebm.report.facts.reasons import Reason, reasons
from ffebm.report.facts.storage import Storage, storage
from ffebm.report.facts.timeline import Timeline, timeline
from ffebm.report.facts.utilisation import Utilisation, utilisation
from ffebm.studies.gradcheck.certificate import Certificate


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A headline figure.

    Attributes:
        name: What it is.
        text: The figure with its unit.
        note: A second line.
        basis: Constants that it rests on.
        twin: What the machine takes without its tiles, one text a data type.
    """

    name: str
    text: str
    note: str
    basis: tuple[str, ...] = ()
    twin: tuple[str, ...] = ()


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node: what the plan says of it, and where its weights lie.

    Attributes:
        name: Unique name.
        op: ONNX op name, or a torch op.
        unit: "tile" or "digital".
        reason: Why that unit.
        block: Id of its energy block.
        segment: Id of its digital segment.
        group: Which group of the machine's tiles or digital units runs it.
        inputs: Value names that it is given.
        outputs: Value names that it makes.
        reads: Values that it reads, those of its subgraphs too, constants left out.
        location: Where it came from.
        macs: Multiply-accumulates of one inference.
        weights: Number of weights and biases.
        shape: Shape of its first output.
        tiles: Tiles that hold its weights.
        inference: Seconds and joules of an inference; None on tiles, where blocks settle as a whole.
        training: The same of a training step.
    """

    name: str
    op: str
    unit: str
    reason: str
    block: int | None
    segment: int | None
    group: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...]
    location: str
    macs: int
    weights: int
    shape: tuple[int | str, ...] | None
    tiles: tuple[int, ...]
    inference: tuple[float, float] | None
    training: tuple[float, float] | None


class BlockFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An energy block.

    Attributes:
        id: Position among the blocks.
        inputs: Clamped inputs.
        outputs: Layers that are read outside.
        layers: Free layers as text: state, shape, activation and what drives it.
        tiles: Tiles that hold its weights.
        weights: Number of its weights and biases.
    """

    id: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[str, ...]
    tiles: tuple[int, ...]
    weights: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a report shows.

    Attributes:
        schema: Version of this format.
        source: The model.
        hardware: The machine in full.
        options: What the user asked of the compiler.
        settle: How energy blocks settle.
        batch: Samples that the schedules count for.
        inputs: Of the model.
        outputs: Of the model.
        twin: What the machine takes without its tiles, by data type.
        utilisation: What of the machine the plan uses, by kind of unit.
        notes: What the compiler wants the user to know.
        figures: Headline figures.
        reasons: What kept nodes off the tiles, the largest share of work or weights first.
        types: Types of the values that nodes read and make.
        nodes: All nodes, in order.
        frames: The tree of foldable parts; the first is the whole model.
        blocks: The energy blocks.
        choices: What each block could have been; None if nothing was chosen.
        tiles: The tiles in use.
        inference: Schedule of one inference.
        training: Schedule of one training step.
        inference_storage: Where values lie in an inference.
        training_storage: Where values lie in a training step.
        inference_bill: Where the costs of an inference go.
        training_bill: Where the costs of a training step go.
        constants: What the figures rest on.
        energy_basis: Constants behind each kind of energy.
        time_basis: Constants behind the time of each kind of step.
        run: A training run; None without.
        certificate: How near the gradients are to the exact ones; None without.
        sensitivity: A study of sensitivity; None without.
    """

    schema: int = 1
    source: Source
    hardware: Hardware
    options: Options
    settle: Settle
    batch: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    twin: dict[str, DigitalTwin]
    utilisation: tuple[Utilisation, ...]
    notes: tuple[str, ...]
    figures: tuple[Figure, ...]
    reasons: tuple[Reason, ...]
    types: dict[str, str]
    nodes: tuple[NodeFacts, ...]
    frames: tuple[Frame, ...]
    blocks: tuple[BlockFacts, ...]
    choices: Choices | None
    tiles: tuple[TileFacts, ...]
    inference: Timeline
    training: Timeline
    inference_storage: Storage
    training_storage: Storage
    inference_bill: Bill
    training_bill: Bill
    constants: tuple[Constant, ...]
    energy_basis: dict[str, tuple[str, ...]]
    time_basis: dict[str, tuple[str, ...]]
    run: RunFacts | None = None
    certificate: Certificate | None = None
    sensitivity: SensitivityFacts | None = None


def facts(
    plan: Plan,
    run: RunFacts | None = None,
    certificate: Certificate | None = None,
    sensitivity: SensitivityFacts | None = None,
) -> Facts:
    """Compute everything a report shows.

    Args:
        plan: The plan.
        run: A training run of it.
        certificate: Of its gradients.
        sensitivity: A study of it.
    """
    inference_bill, training_bill = bill(plan, plan.inference), bill(plan, plan.training)
    reads = [_reads(plan, node, captured) for node, captured in zip(plan.nodes, _captured(plan), strict=True)]
    tiles = _tiles_of_weights(plan)
    return Facts(
        source=plan.source,
        hardware=plan.hardware,
        options=plan.options,
        settle=plan.settle,
        batch=plan.samples,
        inputs=plan.inputs,
        outputs=plan.outputs,
        twin=plan.twin,
        utilisation=utilisation(plan),
        notes=plan.notes,
        figures=tuple(_figures(plan)),
        reasons=reasons(plan),
        types=_types(plan),
        nodes=tuple(
            _node(node, read, tiles, (inference_bill, training_bill))
            for node, read in zip(plan.nodes, reads, strict=True)
        ),
        frames=frames(plan, reads),
        blocks=tuple(_blocks(plan, tiles)),
        choices=choices(plan),
        tiles=floor(plan),
        inference=timeline(plan.inference),
        training=timeline(plan.training),
        inference_storage=storage(plan.memory.inference),
        training_storage=storage(plan.memory.training),
        inference_bill=inference_bill,
        training_bill=training_bill,
        constants=constants(plan.hardware),
        energy_basis=energy_basis(plan, plan.inference, plan.training),
        time_basis=time_basis(plan, plan.inference, plan.training),
        run=run,
        certificate=certificate,
        sensitivity=sensitivity,
    )


# --- nodes and blocks --------------------------------------------------------------------------------


def _captured(plan: Plan) -> Iterator[tuple[str, ...]]:
    """For each node, what it reads, in its subgraphs too."""
    instructions = {i.name: i for segment in plan.segments for i in segment.program.instructions}
    for node in plan.nodes:
        instruction = instructions.get(node.name)
        yield tuple(_inner_reads(instruction)) if instruction is not None else node.inputs


def _inner_reads(instruction: Instruction) -> Iterator[str]:
    yield from instruction.inputs
    for program in instruction.graphs.values():
        own = {*program.inputs, *(value for inner in program.instructions for value in inner.outputs)}
        for inner in program.instructions:
            yield from (value for value in _inner_reads(inner) if value not in own)
        yield from (value for value in program.outputs if value not in own)


def _reads(plan: Plan, node: PlanNode, captured: tuple[str, ...]) -> tuple[str, ...]:
    wanted = dict.fromkeys((*node.inputs, *captured))
    return tuple(value for value in wanted if value and value not in plan.weights)


def _node(
    node: PlanNode, reads: tuple[str, ...], tiles: dict[str, tuple[int, ...]], bills: tuple[Bill, Bill]
) -> NodeFacts:
    inference, training = (b.nodes.get(node.name) if node.unit == "digital" else None for b in bills)
    return NodeFacts(
        name=node.name,
        op=node.op,
        unit=node.unit,
        reason=node.reason,
        block=node.block,
        segment=node.segment,
        group=node.group,
        inputs=node.inputs,
        outputs=node.outputs,
        reads=reads,
        location=node.location,
        macs=node.macs,
        weights=node.weights,
        shape=node.shape,
        tiles=_tiles(node.inputs if node.unit == "tile" else (), tiles),
        inference=inference,
        training=training,
    )


def _tiles_of_weights(plan: Plan) -> dict[str, tuple[int, ...]]:
    held: dict[str, dict[int, None]] = {}
    for tile, piece in plan.pieces():
        held.setdefault(piece.weight, {})[tile.id] = None
    return {weight: tuple(sorted(tiles)) for weight, tiles in held.items()}


def _tiles(weights: tuple[str, ...], tiles: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted({tile for weight in weights for tile in tiles.get(weight, ())}))


def _blocks(plan: Plan, tiles: dict[str, tuple[int, ...]]) -> Iterator[BlockFacts]:
    for block in plan.blocks:
        layers = []
        for layer in block.layers:
            maps = [i.linear.op if i.linear else "identity" for i in layer.interactions]
            pools = [f" {i.pool.op}" for i in layer.interactions if i.pool]
            drives = " + ".join(maps) + "".join(pools)
            shape = "×".join(map(str, layer.shape))
            layers.append(f"{layer.value} [{shape}] = {layer.activation.op}({drives})")
        yield BlockFacts(
            id=block.id,
            inputs=block.inputs,
            outputs=block.outputs,
            layers=tuple(layers),
            tiles=_tiles(block.weights(), tiles),
            weights=sum(plan.weights[name].size for name in block.weights()),
        )


def _types(plan: Plan) -> dict[str, str]:
    """Types as text of all values and constants that a node names."""
    named = dict.fromkeys(value for node in plan.nodes for value in (*node.inputs, *node.outputs) if value)
    found = {}
    for value in named:
        known = plan.types.get(value)
        if known is not None:
            shape = "unknown shape" if known.shape is None else "×".join(map(str, known.shape)) or "scalar"
            found[value] = f"{known.dtype} {shape}"
    return found


# --- headlines ---------------------------------------------------------------------------------------


def _figures(plan: Plan) -> Iterator[Figure]:
    on_tiles = [node for node in plan.nodes if node.unit == "tile"]
    macs = sum(node.macs for node in plan.nodes)
    yield Figure(
        name="Energy blocks",
        text=f"{len(plan.blocks):,}",
        note=f"{sum(len(block.layers) for block in plan.blocks):,} free layers",
    )
    yield Figure(
        name="Nodes on tiles", text=f"{len(on_tiles):,} of {len(plan.nodes):,}", note="the rest is digital"
    )
    yield Figure(
        name="Work on tiles",
        text=share(sum(node.macs for node in on_tiles), macs),
        note=f"of {amount(macs)} MACs",
    )
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    held = sum(plan.weights[name].size for name in {piece.weight for _, piece in plan.pieces()})
    yield Figure(name="Weights on tiles", text=share(held, weights), note=f"of {amount(weights)}")
    used, room = sum(t.used for t in plan.tiles), sum(t.rows * t.cols for t in plan.tiles)
    yield Figure(
        name="Tiles in use",
        text=f"{len(plan.tiles)} of {plan.hardware.tile_count}",
        note=f"{share(used, room)} of their cells",
    )
    parts = utilisation(plan)
    yield Figure(
        name="Area in use",
        text=f"{sum(part.area_used for part in parts):.4g} mm²",
        note=f"of {sum(part.area for part in parts):.4g} mm²",
        basis=tuple(name for part in parts for name in part.basis),
    )
    for name, schedule in (("Inference", plan.inference), ("Training step", plan.training)):
        yield from _schedule_figures(name, schedule, plan)


def _schedule_figures(name: str, schedule: Schedule, plan: Plan) -> Iterator[Figure]:
    cost = schedule.cost
    times, energies = schedule_basis(schedule, plan)
    which: tuple[Total, Total] = (
        ("inference_s", "inference_j") if schedule is plan.inference else ("training_s", "training_j")
    )
    yield Figure(
        name=f"{name} time",
        text=quantity(schedule.makespan_s, "s"),
        note=f"{schedule.ratio:.3f} × lower bound",
        basis=times,
        twin=tuple(_twins(plan, which[0])),
    )
    yield Figure(
        name=f"{name} energy",
        text=quantity(cost.energy, "J"),
        note=f"{amount(cost.adc_count)} A/D, {amount(cost.dac_count)} D/A",
        basis=energies,
        twin=tuple(_twins(plan, which[1])),
    )


def _twins(plan: Plan, total: Total) -> Iterator[str]:
    """A figure beside its twins': how many times it is, and at which batches it is less."""
    ours, unit = figures_of(plan)[total], "s" if total.endswith("_s") else "J"
    ratios = {
        dtype: times_twin(ours, getattr(twin, total)).replace("x", "×") for dtype, twin in plan.twin.items()
    }
    computed = plan.twin.get(COMPUTED)
    if computed is not None:
        theirs = quantity(getattr(computed, total), unit)
        yield f"{ratios.pop(COMPUTED)} {COMPUTED} twin, {theirs}; less at {computed.batches(total)}"
    if ratios:
        yield ", ".join(f"{ratio} {dtype}" for dtype, ratio in ratios.items())


def quantity(value: float, unit: str) -> str:
    """A quantity with an SI prefix and four digits, with the letter that micro has on paper."""
    return engineering(value, unit).replace(f" u{unit}", f" µ{unit}")


def amount(number: int) -> str:
    """A count of at most four digits with a prefix: 7.98 G."""
    for power, prefix in ((9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}"
    return str(number)
