"""The compiler: a model goes in, a plan comes out. The pass order is here, on one screen."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
from onnx import ModelProto

from ffebm import plugins
from ffebm.backends.crossbar import emit_tiles
from ffebm.backends.digital import emit_segments, instruction_of
from ffebm.collection import collecting_later
from ffebm.compiler.onnx.from_onnx import from_onnx, without_weights
from ffebm.compiler.options import checked_batch, goal_of, options_from
from ffebm.compiler.own_passes import Pass, own_passes, with_own
from ffebm.errors import InternalError, Location, ModelError, UsageError
from ffebm.graph.admission import ADMISSIONS
from ffebm.graph.energy_block import DEFAULT_PHYSICS
from ffebm.graph.graph import Graph, Node
from ffebm.graph.ops import OPS, is_activation
from ffebm.graph.tensor import Array, TensorType
from ffebm.graph.verify import verify
from ffebm.graph.work import macs, parameters
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.hardware.silicon import watts
from ffebm.mapping.circuit.moving import require_circuits
from ffebm.mapping.search.goal import AtMost, Measured
from ffebm.passes.canonicalize import Canonicalize
from ffebm.passes.check_sizes import CheckSizes
from ffebm.passes.energy_blocks import EnergyBlocks
from ffebm.passes.fold_batch_norm import FoldBatchNorm
from ffebm.passes.fold_constants import FoldConstants
from ffebm.passes.partition import OnMachine, Partition
from ffebm.passes.placement import Placement
from ffebm.passes.remove_dead import RemoveDead
from ffebm.passes.roles import Roles, running_statistics
from ffebm.passes.tiling import Tiling
from ffebm.plan.checks.left_out import leave_out
from ffebm.plan.checks.programs import program_problems
from ffebm.plan.mapping import Mapping as Mapped
from ffebm.plan.mapping import Objective
from ffebm.plan.plan import Plan
from ffebm.plan.schema import SCHEMA, Options, PlanNode, Port, Settle, Source, checked_settle
from ffebm.plan.twin import losing_notes
from ffebm.scheduling.in_flight import pace_of
from ffebm.scheduling.memory.planned import Remembered
from ffebm.scheduling.schedules import batch_of
from ffebm.scheduling.twin import inference_of, schedules_of, twins_of

PassProgress = Callable[[str, Graph], None]
"""Called with a pass's name and the graph after it."""


def pass_order(
    options: Options,
    source: Literal["onnx", "torch"] = "onnx",
    settle: Settle | None = None,
    tell: Callable[[Mapped], None] | None = None,
    tried: Remembered | None = None,
    known: dict[bytes, OnMachine] | None = None,
) -> tuple[Pass, ...]:
    """The passes, in order.

    Args:
        options: What the user asks for.
        source: A torch model tells weights from constants itself.
        settle: How energy blocks settle, which counts for their price.
        tell: Called with what each block could be, and what was chosen.
        tried: Keeps schedules of mappings that were looked at.
        known: What is known of mappings of the same graph from other objectives, where a price is asked for
            alone: nobody reads then why blocks are digital.
    """
    settle = settle or Settle()
    measured = partial(_measured, settle, tried)
    return (
        *((FoldConstants(_by_kernels, options.trainable),) if source == "onnx" else ()),
        RemoveDead(),
        Roles(options.trainable, decides=source == "onnx"),
        CheckSizes(),
        *((FoldBatchNorm(), RemoveDead()) if options.fold_batch_norm else ()),
        Canonicalize(options.activations),
        RemoveDead(),
        EnergyBlocks(
            options.block_size,
            options.boundary,
            options.digital,
            options.physics,
            options.activations,
            options.feedback,
        ),
        Tiling(),
        Partition(goal_of(options), batch_of, settle.free_sweeps, measured, tell, known, known is None),
        Placement(options.tiles, math.inf if options.max_area is None else options.max_area),
    )


def units_without_tiles(
    graph: Graph, hardware: Hardware, options: Options, settle: Settle
) -> dict[str, str] | None:
    """The group of digital units of each node of a machine without tiles; None if one has none."""
    if any(hardware.units_for(node.op) is None for node in graph.nodes):
        return None
    measured = partial(_measured, settle, None)
    return Partition(goal_of(options), batch_of, settle.free_sweeps, measured).without_tiles(graph, hardware)


def _measured(
    settle: Settle, tried: Remembered | None, graph: Graph, hardware: Hardware, most: AtMost
) -> Measured | None:
    """One inference of a placed graph as it is scheduled; None if a bound says that it takes more."""
    schedule = inference_of(graph, hardware, settle, tried, most)
    if schedule is None:
        return None
    power = watts(hardware, schedule.units)
    joules = schedule.cost.energy + power * schedule.makespan_s
    return Measured(schedule.makespan_s, joules, pace_of(schedule), leakage=power)


def _by_kernels(node: Node, constants: Mapping[str, Array]) -> Mapping[str, Array]:
    """Computes a node of constants that onnx's reference evaluator cannot."""
    from ffebm.runtime.constant_evaluator import (
        evaluate_constants,
    )  # torch costs two seconds, which few models need to pay here

    tensors: dict[str, Array] = {}
    return evaluate_constants(instruction_of(node, tensors), {**constants, **tensors})


def run_passes(
    graph: Graph, hardware: Hardware, passes: tuple[Pass, ...], progress: PassProgress | None
) -> None:
    """Run passes; after each, the graph must hold what its stage says."""
    for step in passes:
        if graph.stage < step.requires:
            raise InternalError(f"{step.name} needs stage {step.requires.name}, found {graph.stage.name}")
        step.run(graph, hardware)
        graph.stage = max(graph.stage, step.ensures)
        try:
            verify(graph)
        except InternalError as error:
            raise InternalError(f"{error.found} (after {step.name})", location=error.location) from error
        if progress is not None:
            progress(step.name, graph)


@collecting_later()
def compile_model(  # noqa: PLR0913 - the public entry point; every option has a name and a default
    model: object,
    example_inputs: object = None,
    hardware: str | Path | Hardware = "reference",
    block_size: int | tuple[int, ...] | list[int] = 1,
    boundary: Literal["tile", "digital"] = "tile",
    *,
    settle: Settle | None = None,
    fold_batch_norm: bool = False,
    dims: Mapping[str, int] | None = None,
    digital: Sequence[str] = (),
    trainable: Sequence[str] | None = None,
    passes: Sequence[Pass | str] = (),
    physics: str = DEFAULT_PHYSICS,
    feedback: float = 1.0,
    activations: Sequence[str] = (),
    progress: PassProgress | None = None,
    objective: Objective = "analog",
    tiles: int | None = None,
    max_latency: float | None = None,
    max_energy: float | None = None,
    max_area: float | None = None,
    slowdown: float | None = None,
    replicas: int | None = None,
    effort: int = 1000,
    batch: int = 1,
    no_weights: bool = False,
    mapped: bool = False,
) -> Plan:
    """Compile a model into a plan.

    Args:
        model: Path of an ONNX file or of a plan of one, an ONNX model in memory, a torch module (traced ones
            too) or a torch.export.ExportedProgram.
        example_inputs: For a torch module: a tensor, a tuple of arguments or a dictionary of named ones.
        hardware: Shipped name, path of a TOML file, or a description.
        block_size: Free layers that one energy block may hold; or one number a block in graph order, and what
            follows the last one stays digital. At 1 the plan computes what the model computes.
        boundary: Where the first linear map of a block runs.
        settle: How energy blocks settle.
        fold_batch_norm: Fold batch normalisation into the weights before it; the plan is for inference only.
        dims: Sizes for named dimensions of an ONNX model.
        digital: Names of weights and nodes that stay digital, whatever fits on tiles; * stands for anything.
        trainable: Names of constants that train beside weights and biases; * stands for anything.
        passes: Passes of one's own, and names of those that installed packages offer, each run where the
            graph has reached the stage that it requires; docs/extend.md says how to write one.
        physics: What the energy of the blocks is, by name: "hopfield", "deep-resistive", or what an installed
            package offers.
        feedback: How strongly each layer of a block feels those above, of the strength at which it drives
            them, at least 0.001: the weaker, the nearer a block is to what the model computes and the fewer
            sweeps it takes; a nudge reaches lower layers as much weaker.
        activations: Ops that layers of blocks may have as activations beside ffebm's own, as installed
            packages offer them.
        progress: Called after each pass.
        objective: What the mapping makes small: "latency", "throughput" (the interval between samples),
            "energy", "edp" (energy times latency); "analog" has the most multiply-accumulates on tiles, then
            the least latency on the tiles there are. With blocks of several layers it says what the plan
            computes too: an equilibrium on tiles, layer by layer where it keeps them digital.
        tiles: Most tiles in use.
        max_latency: Most time of one inference, in s.
        max_energy: Most energy of one inference, in J.
        max_area: Most area of the tiles in use, in mm2.
        slowdown: A block that is more than so many times slower on tiles is digital.
        replicas: Most copies of a weight, which share its windows out; by default as many as help on the
            tiles there are. Each copy is written at each update of training.
        effort: How long to look for the mapping: most nodes of each search of the solver. How many mappings
            are scheduled follows from it.
        batch: Runs of the model that each schedule has in flight, one after the other as units come free; a
            training step updates once after all of them. The mapping is that which suits so many.
        no_weights: The plan is for cost and schedules alone: it says what a plan with weights says, holds
            none of more than 1,024 elements and nothing of what cells hold, and cannot run.
        mapped: Map the weights of an ONNX file instead of reading them, for less memory: the files may not
            change as long as the plan is in use.

    Raises:
        ModelError: If the model cannot be compiled.
        HardwareError: If the hardware description is wrong.
        UsageError: If an option is wrong.
    """
    options = options_from(
        {
            "block_size": block_size,
            "boundary": boundary,
            "fold_batch_norm": fold_batch_norm,
            "dims": dims or {},
            "digital": digital,
            "trainable": trainable or (),
            "physics": physics,
            "feedback": feedback,
            "activations": activations,
            "objective": objective,
            "tiles": tiles,
            "max_latency": max_latency,
            "max_energy": max_energy,
            "max_area": max_area,
            "slowdown": slowdown,
            "replicas": replicas,
            "effort": effort,
        }
    )
    options = msgspec.structs.replace(options, batch=checked_batch(batch), no_weights=no_weights)
    job = _Request.of(load_hardware(hardware), options, settle or Settle(), own_passes(passes), progress)
    if isinstance(model, str | Path | ModelProto):
        return _compile_onnx(model, example_inputs, job, mapped=mapped)
    return _compile_torch(model, example_inputs, job)


@dataclass(frozen=True)
class _Request:
    """What is asked of the compiler, beside the model."""

    machine: Hardware
    options: Options
    settle: Settle
    own: tuple[Pass, ...]
    progress: PassProgress | None

    @classmethod
    def of(
        cls,
        machine: Hardware,
        options: Options,
        settle: Settle,
        own: tuple[Pass, ...],
        progress: PassProgress | None,
    ) -> "_Request":
        """What is asked, checked; the options name the passes of one's own."""
        named = msgspec.structs.replace(options, passes=tuple(step.name for step in own))
        return cls(machine, named, checked_settle(settle), own, progress)

    def done(self, graph: Graph, source: Source) -> Plan:
        """The plan of an imported graph."""
        told: list[Mapped] = []
        tried = Remembered()
        order = with_own(pass_order(self.options, source.format, self.settle, told.append, tried), self.own)
        run_passes(graph, self.machine, order, self.progress)
        plan = emit(graph, self.machine, source, self.options, self.settle, tried)
        plan.mapping = told[-1] if told else None
        return plan


def _compile_onnx(
    model: str | Path | ModelProto, example_inputs: object, job: _Request, *, mapped: bool
) -> Plan:
    if example_inputs is not None:
        raise UsageError(
            f"example inputs of type {type(example_inputs).__name__} for an ONNX model",
            allowed="example inputs for torch modules only",
            hint="name the other options: compile(path, hardware=...)",
        )
    no_weights = job.options.no_weights
    imported = from_onnx(model, job.options.dims, mapping=mapped or no_weights)
    if not no_weights:
        imported.needs_weights()
    given = dict(imported.graph.constants)
    plan = job.done(imported.graph, imported.source)
    plan.model = without_weights(imported.proto, given, imported.graph.constants, plan.left_out)
    return plan


def _compile_torch(model: object, example_inputs: object, job: _Request) -> Plan:
    from ffebm.compiler.torch.from_torch import (
        from_torch,  # torch costs two seconds, which ONNX models need not pay
    )

    if job.options.dims:
        raise UsageError(
            f"sizes for {sorted(job.options.dims)}", allowed="named dimensions belong to ONNX models"
        )
    imported = from_torch(model, example_inputs)
    plan = job.done(imported.graph, imported.source)
    plan.structure = imported.structure
    problem = next(program_problems(plan.segments, plan.weights), None)
    if problem is not None:
        raise ModelError(
            problem,
            allowed="ops that only compute new tensors",
            hint="docs/plan.md says what a plan may run",
            location=Location(imported.source.name),
        )
    return plan


def emit(
    graph: Graph,
    hardware: Hardware,
    source: Source,
    options: Options,
    settle: Settle,
    tried: Remembered | None = None,
) -> Plan:
    """Lower a placed graph with the backends; its inference may be one of the schedules that were tried.

    Raises:
        UsageError: If blocks are to move as circuits that are none.
    """
    require_circuits(settle, graph.blocks, graph.constants, hardware)
    segments, segment_of, tensors = emit_segments(graph)
    tiles, crossbars = emit_tiles(graph, hardware, levels=not options.no_weights)
    scheduled = schedules_of(graph, hardware, settle, options.batch, options.objective, tried)
    twins = twins_of(
        graph, hardware, settle, scheduled, units_without_tiles(graph, hardware, options, settle)
    )
    plan = Plan(
        schema=SCHEMA,
        source=source,
        hardware=hardware,
        options=options,
        settle=settle,
        inputs=tuple(_port(graph, value) for value in graph.inputs),
        outputs=tuple(_port(graph, value) for value in graph.outputs),
        trainable=tuple(name for name in graph.constants if name in graph.trainable),
        buffers=running_statistics(graph),
        types=dict(sorted(graph.types.items())),
        nodes=tuple(_node(graph, node, segment_of) for node in graph.nodes),
        blocks=tuple(graph.blocks),
        tiles=tiles,
        inference=scheduled.inference,
        training=scheduled.training,
        memory=scheduled.memory,
        batch=batch_of(graph),
        twin=twins,
        notes=(*graph.notes, *scheduled.notes, *losing_notes(twins)),
        packages=_packages(graph, hardware),
        segments=segments,
        weights={**graph.constants, **tensors},
        crossbars=crossbars,
    )
    if options.no_weights:
        leave_out(plan)
    return plan


def _packages(graph: Graph, hardware: Hardware) -> tuple[str, ...]:
    """Packages whose ops, activations, physics and converters a plan needs, subgraphs included, sorted."""
    offers = set()
    waiting = [graph]
    while waiting:
        for node in waiting.pop().nodes:
            own = node.op in OPS  # a name that only torch has begins with a namespace
            offers.add((plugins.KERNELS, node.op) if own else (plugins.TORCH_OPS, node.op.partition(".")[0]))
            waiting += [inner for inner in node.attrs.values() if isinstance(inner, Graph)]

    for block in graph.blocks:
        activations = {layer.activation.op for layer in block.layers} - {"Identity"}
        offers |= {(plugins.ACTIVATIONS, op) for op in activations if not is_activation(op)}
        if block.physics not in ADMISSIONS:
            offers.add((plugins.PHYSICS, block.physics))
    tiles = [group.tile for group in hardware.analog if group.tile.has_cells]
    offers |= {(plugins.CONVERTERS, tile.crossbar().adc.curve) for tile in tiles}

    found = {plugins.package_of(*offer) for offer in offers}
    return tuple(sorted(package for package in found if package is not None))


def _port(graph: Graph, value: str) -> Port:
    return Port(value, graph.types.get(value, TensorType("unknown")))


def _node(graph: Graph, node: Node, segment_of: Mapping[str, int]) -> PlanNode:
    unit: Literal["tile", "digital"] = "tile" if node.unit == "tile" else "digital"
    return PlanNode(
        name=node.name,
        op=node.op,
        unit=unit,
        reason=node.reason,
        block=node.block,
        segment=segment_of.get(node.name),
        group=node.group,
        inputs=tuple(node.inputs),
        outputs=tuple(node.outputs),
        location=str(node.location or ""),
        macs=macs(graph, node),
        weights=parameters(graph, node),
        shape=graph.shape(node.outputs[0]),
    )
