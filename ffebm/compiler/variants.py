"""One ONNX model, compiled for many machines and with many options.

It is read once. Passes before tiling do not read the machine, so they run once for each of the options that
they look at; mapping and schedules are made anew each time. What is only priced gets no weights on cells, no
programs, no bounds and no twin but the one in the type that digital units compute in. Prices
of one machine for several objectives share what does not depend on the objective: options of blocks, the
solver's choices, which mappings pack, and schedules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
from msgspec import structs
from onnx import ModelProto

from ffebm.collection import collecting_later
from ffebm.compiler.driver import emit, pass_order, run_passes, units_without_tiles
from ffebm.compiler.onnx.from_onnx import from_onnx, without_weights
from ffebm.compiler.own_passes import Pass, own_passes, with_own
from ffebm.graph.graph import Graph, Stage
from ffebm.graph.work import macs
from ffebm.hardware.description import Hardware
from ffebm.hardware.silicon import powered
from ffebm.mapping.circuit.moving import require_circuits
from ffebm.passes.partition import OnMachine
from ffebm.plan.mapping import Mapping as Mapped
from ffebm.plan.plan import Plan
from ffebm.plan.schedule import Schedule
from ffebm.plan.schema import Options, Settle, Source
from ffebm.plan.twin import Total
from ffebm.scheduling.memory.planned import Remembered
from ffebm.scheduling.schedules import batch_of
from ffebm.scheduling.twin import Wanted, priced_schedules, totals_without_tiles

LATER = (
    "objective",
    "tiles",
    "max_latency",
    "max_energy",
    "max_area",
    "slowdown",
    "replicas",
    "effort",
    "batch",
    "passes",
    "no_weights",
)
"""Options that no pass before tiling looks at; all others are taken to count for them."""


SHARED = 2
"""Machines of which is kept what does not depend on the objective: the last ones."""


@dataclass(frozen=True)
class _Shared:
    """What variants have in common that differ in their objective alone.

    Attributes:
        tried: Schedules of mappings that were looked at.
        known: What is known of mappings, by machine.
    """

    tried: Remembered = field(default_factory=Remembered)
    known: dict[bytes, OnMachine] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """What is asked of the compiler for one plan of the model.

    Attributes:
        options: As the plan would hold them.
        settle: How energy blocks settle.
        hardware: The machine.
        training: A price is that of a training step too.
    """

    options: Options
    settle: Settle
    hardware: Hardware
    training: bool = True


@dataclass(frozen=True)
class PricedVariant:
    """What a plan takes, without the plan.

    Attributes:
        inference: The schedule of one inference, without its bound.
        training: That of one training step; None where it was not asked for.
        twin: What the machine takes without tiles; None if no digital unit runs some op.
        runs: Runs of the model that each schedule has in flight, its batch.
        samples: Samples of each schedule, those of each run times its runs.
        tiles: Tiles in use, a number.
        area: Of what is powered for either schedule, mm2.
        blocks: Energy blocks on tiles, a number.
        candidates: What could be on tiles, a number; blocks that share a weight count as one.
        on_tiles: Share of the multiply-accumulates that tiles do.
        mapping: What each block could have been; None if there are no blocks.
    """

    inference: Schedule
    training: Schedule | None
    twin: dict[Total, float] | None
    runs: int
    samples: int
    tiles: int
    area: float
    blocks: int
    candidates: int
    on_tiles: float
    mapping: Mapped | None


class Variants:
    """Compiles one model again and again.

    Args:
        model: Path of an ONNX file or of a plan of one, or an ONNX model in memory.
        dims: Sizes for named dimensions.
        passes: Passes of one's own, and names of those that installed packages offer.

    Raises:
        ModelError: If the model cannot be read.
    """

    def __init__(
        self,
        model: str | Path | ModelProto,
        dims: Mapping[str, int] | None = None,
        passes: Sequence[Pass | str] = (),
    ) -> None:
        self._imported = from_onnx(model, dims or {})
        self._own = own_passes(passes)
        self._blocked: dict[bytes, Graph] = {}
        self._twins: dict[bytes, dict[Total, float] | None] = {}
        self._shared: dict[bytes, _Shared] = {}

    @property
    def source(self) -> Source:
        """The model, as plans name it."""
        return self._imported.source

    @property
    def no_weights(self) -> bool:
        """The model is that of a plan without weights."""
        return self._imported.no_weights

    def needs_weights(self) -> None:
        """Refuse a model without weights.

        Raises:
            ModelError: If it has none.
        """
        self._imported.needs_weights()

    @property
    def pass_names(self) -> tuple[str, ...]:
        """Names of the passes of one's own, as options of a plan hold them."""
        return tuple(step.name for step in self._own)

    @collecting_later()
    def price(self, variant: Variant) -> PricedVariant:
        """What a plan takes.

        Raises:
            ModelError: If the model cannot be compiled.
            UsageError: If a limit cannot be kept, or blocks are no circuits and should move as such.
        """
        shared = self._sharing(variant)
        tried = shared.tried
        graph, mapping = self._placed(variant, tried, shared.known)
        hardware, wanted = variant.hardware, _wanted(variant)
        require_circuits(variant.settle, graph.blocks, graph.constants, hardware)
        inference, training = priced_schedules(graph, hardware, variant.settle, wanted, tried)
        units = inference.units | (training.units if training is not None else frozenset())
        work = {node.name: macs(graph, node) for node in graph.nodes}
        held = sum(work[node.name] for node in graph.nodes if node.unit == "tile")
        return PricedVariant(
            inference=inference,
            training=training if variant.training else None,
            twin=self._twin(graph, variant),
            runs=wanted.runs,
            samples=batch_of(graph) * wanted.runs,
            tiles=len({place.tile for place in graph.places.values()}),
            area=sum(part.area * part.used for part in powered(hardware, units)),
            blocks=len(graph.blocks),
            candidates=len(mapping.blocks) if mapping else 0,
            on_tiles=held / max(1, sum(work.values())),
            mapping=mapping,
        )

    @collecting_later()
    def plan(self, variant: Variant) -> Plan:
        """The plan, as `ffebm.compile` makes it.

        Raises:
            ModelError: If the model cannot be compiled.
            UsageError: If a limit cannot be kept.
        """
        if not variant.options.no_weights:
            self._imported.needs_weights()
        tried = Remembered()
        graph, mapping = self._placed(variant, tried)
        plan = emit(graph, variant.hardware, self.source, variant.options, variant.settle, tried)
        plan.mapping = mapping
        given = self._imported.graph.constants
        plan.model = without_weights(self._imported.proto, given, graph.constants, plan.left_out)
        return plan

    def _sharing(self, variant: Variant) -> "_Shared":
        """What is known from other objectives; of passes of one's own nobody knows what they look at."""
        if self._own:
            return _Shared()
        same = structs.replace(variant.options, objective=Options().objective)
        key = msgspec.json.encode((same, variant.settle, variant.hardware))
        shared = self._shared.pop(key, None) or _Shared()
        self._shared[key] = shared  # the last one
        while len(self._shared) > SHARED:
            del self._shared[next(iter(self._shared))]
        return shared

    def _placed(
        self, variant: Variant, tried: Remembered, known: dict[bytes, OnMachine] | None = None
    ) -> tuple[Graph, Mapped | None]:
        """A graph of one's own with every part in its place, and what each block could have been.

        Args:
            variant: What is asked.
            tried: Keeps schedules of mappings that were looked at.
            known: Of mappings, where a price is asked for alone.
        """
        told: list[Mapped] = []
        passes = pass_order(variant.options, "onnx", variant.settle, told.append, tried, known)
        order = with_own(passes, self._own)
        later = next(i for i, step in enumerate(order) if step.ensures >= Stage.TILED)
        key = self._key(variant)
        if key not in self._blocked:
            fresh = copied(self._imported.graph)
            run_passes(fresh, variant.hardware, order[:later], None)
            self._blocked[key] = fresh
        graph = copied(self._blocked[key])
        run_passes(graph, variant.hardware, order[later:], None)
        return graph, told[-1] if told else None

    def _key(self, variant: Variant) -> bytes:
        """What passes before tiling look at; those of one's own may read the machine too."""
        usual = structs.asdict(Options())
        early = structs.replace(variant.options, **{name: usual[name] for name in LATER})
        return msgspec.json.encode((early, variant.hardware if self._own else None))

    def _twin(self, graph: Graph, variant: Variant) -> dict[Total, float] | None:
        """What the machine takes without tiles, which does not depend on what its tiles are."""
        hardware = variant.hardware
        groups = [(group.name, group.count, group.core) for group in hardware.analog]
        machine = (groups, hardware.digital, hardware.memory, hardware.network)
        wanted = _wanted(variant)
        key = self._key(variant)
        key += msgspec.json.encode((machine, variant.settle, wanted, variant.options.effort))
        if key not in self._twins:
            units = units_without_tiles(graph, hardware, variant.options, variant.settle)
            self._twins[key] = totals_without_tiles(graph, hardware, variant.settle, wanted, units)
        return self._twins[key]


def _wanted(variant: Variant) -> Wanted:
    """Which schedules are to be priced."""
    return Wanted(variant.options.batch, variant.options.objective, variant.training)


def copied(graph: Graph) -> Graph:
    """A graph that can be rewritten without a change of the first; arrays are shared."""
    nodes = [
        replace(
            node,
            inputs=[*node.inputs],
            outputs=[*node.outputs],
            attrs={
                key: copied(value) if isinstance(value, Graph) else value for key, value in node.attrs.items()
            },
        )
        for node in graph.nodes
    ]
    return replace(
        graph,
        inputs=[*graph.inputs],
        outputs=[*graph.outputs],
        nodes=nodes,
        types={**graph.types},
        constants={**graph.constants},
        trainable={*graph.trainable},
        blocks=[*graph.blocks],
        parts={**graph.parts},
        places={**graph.places},
        notes=[*graph.notes],
    )
