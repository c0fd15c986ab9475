"""Which bands of a block read vectors of further rows, told by the conversions that they are billed."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ffebm.graph.energy_block import EnergyBlock
from ffebm.plan.schedule import Step


def read_early(blocks: Sequence[EnergyBlock], steps: Iterable[Step]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Ids of free steps whose reads make a part of further rows, with these rows [a, b).

    Of layers with one linear map, whose vectors are read row by row, a pooling behind them or not; transposed
    convolutions are left out.

    Args:
        blocks: Of the plan.
        steps: Of one schedule.
    """
    free: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for step in steps:
        if step.kind == "free" and step.rows is not None and step.block is not None:
            free[step.block, step.sample].append(step)
    for (block, _), bands in free.items():
        (layer,) = blocks[block].layers
        (only, *others) = layer.interactions
        if others or only.linear is None or only.linear.op == "ConvTranspose":
            continue
        rows = only.linear_shape[1 if only.linear.op == "Conv" else 0]
        stride, pad = (1, 0) if only.pool is None else (only.pool.strides[0], only.pool.pads[0])
        whole, read = sum(billed(step) for step in bands), 0
        bands.sort(key=lambda step: step.rows or (0, 0))
        for step in bands[:-1]:
            assert step.rows is not None
            read += billed(step)
            behind = step.rows[1]
            while max(0, behind * stride - pad) * whole < read * rows:
                behind += 1
            if step.rows[1] < behind:
                yield step.id, (step.rows[1], min(behind, bands[-1].rows[1] if bands[-1].rows else behind))


def billed(step: Step) -> int:
    """Conversions of a step."""
    return step.cost.dac_count or step.cost.adc_count


def reads_nothing(step: Step, steps: Iterable[Step]) -> bool:
    """Whether a band reads no vector, and others of its block do: earlier ones have read what it needs."""
    if step.kind != "free" or step.rows is None or billed(step):
        return False
    return any(billed(other) for other in steps if (other.kind, other.block) == ("free", step.block))
