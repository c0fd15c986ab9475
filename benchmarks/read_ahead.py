"""What lies beside tiles, and in no buffer of the memory plan: products of vectors that a read took early.

Copies of a weight take the next vectors at once, whatever rows these are of, so a band ends with products of
rows that later bands make. Of each layer it is told how much that is after the band where it is most, and all
layers together, as if each were there at the same time, beside the peak of the memory plan.

python benchmarks/read_ahead.py squeezenet:isaac resnet50:isaac
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator

import schedule

from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.plan.memory.held import Rows
from ffebm.plan.schema import Settle
from ffebm.scheduling.bands import FEW_STEPS, MOST_BANDS, MOST_STEPS, StepBudget
from ffebm.scheduling.forward import Forward
from ffebm.scheduling.streams import block_stream


def read_ahead(graph: Graph, hardware: Hardware, settle: Settle) -> Iterator[int]:
    """Bytes of each linear map whose reads take vectors of several rows, where they are most.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
    """
    listed = Forward(graph, hardware, settle, "fp32", MOST_BANDS, StepBudget(MOST_STEPS, FEW_STEPS))
    listed.forward()
    ends: dict[int, set[Rows]] = defaultdict(set)
    for task in listed.tasks:
        if task.kind == "free" and task.block is not None and task.rows is not None:
            ends[task.block].add(task.rows)
    for block in graph.blocks:
        copies = [listed.costs[block.id].replicas(interaction) for _, interaction in block.interactions()]
        stream = block_stream(graph, hardware, block, copies)
        shape = block.layers[0].shape
        numbers = shape[0] if len(shape) == 3 else shape[-1]  # channels of an image; columns of a matrix
        if stream is None:
            continue
        for drive in stream.shared:
            early = [
                drive.read(end, stream.rows) - drive.wanted(end, stream.rows) for _, end in ends[block.id]
            ]
            yield max(early, default=0) * numbers * hardware.host.fp32.value_bits // 8


def measured(network: str, machine: str) -> str:
    """A network's line."""
    plan, graph, settle = schedule.placed(schedule.NETWORKS[network](), machine)
    found = list(read_ahead(graph, plan.hardware, settle))
    peaks = ", ".join(f"{use.memory} {use.peak:,}" for use in plan.memory.inference.uses)
    return (
        f"{network} on {machine}: {len(found)} of {len(plan.blocks)} blocks read ahead, at most "
        f"{max(found, default=0):,} bytes, {sum(found):,} together; peaks: {peaks}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="products of vectors that a read took early")
    parser.add_argument("pairs", nargs="+", metavar="NETWORK:MACHINE")
    for pair in parser.parse_args().pairs:
        print(measured(*pair.split(":")), flush=True)


if __name__ == "__main__":
    main()
