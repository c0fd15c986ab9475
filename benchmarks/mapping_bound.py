"""What no mapping of the same blocks onto tiles can beat, however they are laid out, copied and scheduled.

A linear program: each block takes shares of the options that the mapping knows (layouts and replicas), which
fill no more tiles than there are; an item takes its time; what streams starts and ends no earlier than what
it reads, what does not starts when that has ended; digital units and the bus do what they have to do. So the
bound holds for bands of any height. What blocks fetch, and what far memories add, is left out.
"""

from collections import defaultdict

from ffebm.graph.graph import Graph
from ffebm.hardware.description import Hardware
from ffebm.mapping.digital_cost import digital_cost, work_of
from ffebm.mapping.options import Option, Run, choosing_of
from ffebm.mapping.solver.linear_program import LinearProgram
from ffebm.plan.schema import Settle
from ffebm.scheduling.items import ScheduledItem, items_of
from ffebm.scheduling.list_schedule import work_of_units
from ffebm.scheduling.schedules import batch_of, inference_tasks
from ffebm.scheduling.streams import Stream, streams_of


def mapping_bound(graph: Graph, hardware: Hardware, settle: Settle) -> float:
    """The least time of an inference over all mappings that have the same blocks on tiles, seconds.

    Args:
        graph: A placed graph.
        hardware: The machine.
        settle: How energy blocks settle.
    """
    program = LinearProgram()
    makespan = program.column()
    block_times = _options(program, graph, hardware, settle)
    items = items_of(graph)
    streams = streams_of(graph, hardware, items, batch_of(graph))
    starts, ends = ([program.column() for _ in items] for _ in range(2))
    for item in items:
        at = item.position
        times = {starts[at]: -1.0, ends[at]: 1.0}
        if item.block is None:
            seconds = _digital_seconds(graph, hardware, item)
            program.row(times, lower=seconds)
        else:
            shares = {column: -seconds for column, seconds in block_times[item.block.id].items()}
            program.row(times | shares, lower=0.0)
        program.row({makespan: 1.0, ends[at]: -1.0}, lower=0.0)
    maker = {value: item.position for item in items for value in item.makes}
    for item in items:
        for value in item.reads:
            if value in maker:
                here, before = item.position, maker[value]
                if _flows(streams.of[before], streams.of[here], value):
                    program.row({starts[here]: 1.0, starts[before]: -1.0}, lower=0.0)
                    program.row({ends[here]: 1.0, ends[before]: -1.0}, lower=0.0)
                else:
                    program.row({starts[here]: 1.0, ends[before]: -1.0}, lower=0.0)
    solved = program.minimum({makespan: 1.0}, nodes=0, gap=0.0)
    return max(solved.bound, _others(graph, hardware, settle))


def _options(
    program: LinearProgram, graph: Graph, hardware: Hardware, settle: Settle
) -> dict[int, dict[int, float]]:
    """Shares of options: for each block its columns with the seconds of each; rows that bound the tiles."""
    found: dict[int, dict[int, float]] = {}
    tiles: dict[str, dict[int, float]] = defaultdict(dict)
    for some in choosing_of(graph, hardware, Run(batch_of(graph), settle.free_sweeps)):
        options: dict[int, Option] = {program.column(): option for option in some.options if option.group}
        program.row(dict.fromkeys(options, 1.0), lower=1.0, upper=1.0)
        for number, block in enumerate(some.blocks):
            found[block.id] = {column: o.prices[number].interval for column, o in options.items()}
        for column, option in options.items():
            tiles[option.group][column] = sum(option.prices[0].tiles.values())
    for group in hardware.analog:
        if tiles[group.name]:
            program.row(tiles[group.name], upper=float(group.count))
    return found


def _digital_seconds(graph: Graph, hardware: Hardware, item: ScheduledItem) -> float:
    """On one unit, or on those of all cores together where these share it out."""
    node = item.nodes[0]
    group = hardware.digital_group(node.group)
    units = group.count if group.place == "core" else 1
    return digital_cost(hardware, group, work_of(graph, node), units=units).seconds


def _flows(made: Stream | None, read: Stream | None, value: str) -> bool:
    """Rows of a value are read as they come."""
    reaches = () if read is None else read.reads.get(value, ())
    return made is not None and bool(reaches) and reaches[0].axis == made.axis


def _others(graph: Graph, hardware: Hardware, settle: Settle) -> float:
    """The most that a bus has to do, or a digital unit if the work of its group were shared out evenly."""
    work = work_of_units(inference_tasks(graph, hardware, settle, most_bands=1))
    found = [work.get("network", 0.0)] if hardware.network.topology == "bus" else [0.0]
    for group in hardware.digital:
        units = hardware.unit_numbers(group.name)
        found.append(sum(work.get(f"digital{number}", 0.0) for number in units) / len(units))
    return max(found)
