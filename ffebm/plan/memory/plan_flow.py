"""What the nodes and blocks of a plan read and make."""

import math

from ffebm.graph.tensor import TensorType
from ffebm.graph.work import sizes
from ffebm.plan.memory.dataflow import Dataflow, DigitalNode
from ffebm.plan.program import Instruction, values_read
from ffebm.plan.schema import PlanData


def plan_flow(plan: PlanData) -> Dataflow:
    """The dataflow of a plan."""
    runs = {i.name: i for segment in plan.segments for i in segment.program.instructions}
    nodes = {node.name: _digital(runs[node.name]) for node in plan.nodes if node.name in runs}
    values = [*(port.name for port in plan.inputs), *(v for n in plan.nodes for v in n.outputs if v)]
    tiles: dict[str, set[int]] = {}
    for tile, piece in plan.pieces():
        tiles.setdefault(piece.weight, set()).add(tile.id)
    return Dataflow(
        inputs=tuple(port.name for port in plan.inputs),
        outputs=tuple(port.name for port in plan.outputs),
        nodes=nodes,
        blocks=plan.blocks,
        constants={name: array.size for name, array in plan.weights.items()},
        trainable=frozenset(plan.trainable),
        elements={value: _elements(plan.types.get(value)) for value in values},
        tiles={weight: tuple(sorted(held)) for weight, held in tiles.items()},
    )


def _digital(run: Instruction) -> DigitalNode:
    own = [name for name in run.inputs if name]
    reads = dict.fromkeys([*own, *sorted(values_read(run))])
    return DigitalNode(run.op, tuple(reads), tuple(name for name in run.outputs if name))


def _elements(known: TensorType | None) -> int:
    shape = sizes(known.shape) if known is not None else None
    return math.prod(shape) if shape is not None else 0
