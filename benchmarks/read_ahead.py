"""How much memory waits for rows that reads of tiles have begun: what comes of windows taken early.

Copies of a weight take the next windows at once, whatever rows these are of, and windows of a pooling share
rows, so a band ends with parts of rows that later bands complete. In the memory plan these rows have buffers,
which live from the step that begins them. Of an inference the most bytes alive at once are told as planned,
where only what waits had a place until its rows are complete, and where nothing of it had one.

python benchmarks/read_ahead.py squeezenet:isaac shufflenet:isaac
"""

import argparse
import math
from collections.abc import Iterator
from typing import NamedTuple

import schedule

from ffebm import Plan
from ffebm.graph.graph import Graph
from ffebm.mapping.block_cost import BlockCost
from ffebm.plan.memory.demand import bound_of, demand
from ffebm.plan.memory.lives import Life, moments, spans
from ffebm.plan.memory.memory_plan import Buffer
from ffebm.plan.memory.plan_flow import plan_flow
from ffebm.plan.schedule import Step
from ffebm.scheduling.streams import Stream, block_stream

Span = tuple[int, int]
"""First and last moment of a life."""


class Begun(NamedTuple):
    """Rows that a step begins before another one completes them.

    Attributes:
        waits: How long a part of them waits.
        waiting: Bytes of that part, where it is most.
        completed: The life of their buffer from the step on that completes them.
    """

    waits: Span
    waiting: int
    completed: Span


def streams(plan: Plan, graph: Graph) -> dict[int, Stream]:
    """How the blocks stream that do, by id."""
    found: dict[int, Stream] = {}
    for block in graph.blocks:
        cost = BlockCost(graph, plan.hardware, block, 1)
        copies = [cost.replicas(interaction) for _, interaction in block.interactions()]
        stream = block_stream(graph, plan.hardware, block, copies)
        if stream is not None:
            found[block.id] = stream
    return found


def part(stream: Stream, end: int, row: int) -> float:
    """The share of a row of which something is read once rows up to another one are made.

    Of a row that is pooled all that is made of it counts, since its windows share vectors.
    """
    found = 0.0
    for drive in stream.drives:
        if drive is not None and (read := drive.read(end, stream.rows)) > (first := drive.first(row)):
            whole = len(drive.reach.windows) > 1
            found = max(found, 1.0 if whole else min(1.0, (read - first) / drive.row))
    return found


def begun(buffer: Buffer, steps: tuple[Step, ...], of: dict[int, Stream], at: list[Span]) -> Begun | None:
    """What a buffer holds early, if it does."""
    rows, first = buffer.rows, steps[buffer.first]
    if rows is None or buffer.first < 0 or not first.begun or first.rows is None or first.rows[1] > rows[0]:
        return None
    assert first.block is not None
    alike = [(step.id, step.rows) for step in steps if (step.kind, step.block) == ("free", first.block)]
    whole = next(number for number, band in alike if band and band[0] <= rows[0] < band[1])
    end = max(band[1] for _, band in alike if band and band[1] <= rows[0])
    shares = [part(of[first.block], end, row) for row in range(*rows)]
    waiting = math.ceil(buffer.size * sum(shares) / len(shares))
    (life,) = spans(at, [Life(buffer.first, buffer.last)])
    return Begun((life[0], at[whole][0] - 1), waiting, (at[whole][0], life[1]))


def bounds(plan: Plan, graph: Graph, memory: str) -> Iterator[int]:
    """Most bytes alive at once in a memory: as planned, with what waits alone, and without it."""
    steps, of = plan.inference.steps, streams(plan, graph)
    at = moments(steps)
    flow = plan_flow(plan)
    tiles = {block.name: frozenset(map(str, flow.tiles_of(block.id))) for block in plan.blocks}
    ways: tuple[list[tuple[int, Span, frozenset[str]]], ...] = ([], [], [])
    for buffer in plan.memory.inference.buffers:
        if buffer.memory != memory:
            continue
        home = tiles.get(buffer.at) or frozenset({buffer.unit})
        (life,) = spans(at, [Life(buffer.first, buffer.last)])
        early = begun(buffer, steps, of, at)
        ways[0].append((buffer.size, life, home))
        ways[1].append((buffer.size, early.completed if early else life, home))
        ways[2].append((buffer.size, early.completed if early else life, home))
        if early:
            ways[1].append((early.waiting, early.waits, home))
    for way in ways:
        sizes, lived, homes = zip(*way, strict=True)
        yield bound_of(demand(sizes, lived, homes))


def measured(network: str, machine: str) -> Iterator[str]:
    """A network's lines."""
    plan, graph, _ = schedule.placed(schedule.NETWORKS[network](), machine)
    for use in plan.memory.inference.uses:
        planned, waiting, nothing = bounds(plan, graph, use.memory)
        assert planned == use.bound
        yield (
            f"{network} on {machine}, {use.memory}: peak {use.peak:,} bytes, at once {planned:,}; "
            f"with what waits alone {waiting:,}, without it {nothing:,}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="what reads of tiles have begun, beside the memory plan")
    parser.add_argument("pairs", nargs="+", metavar="NETWORK:MACHINE")
    for pair in parser.parse_args().pairs:
        for line in measured(*pair.split(":")):
            print(line, flush=True)


if __name__ == "__main__":
    main()
