"""What reads of parts cost, beside their time: cells, converters, additions, partial sums on their way.

Every pair of a weight's digit (slice) and an input's (slice of a DAC) is converted by itself; they add up
beside the converters. Where a matrix is cut, partial sums of all cuts but one travel to the tile where they
add up, if they are not there already. Where a tile has a buffer, each input and each result of a product is
written there and read once.
"""

from collections.abc import Hashable, Mapping

from ffebm.graph.graph import Part
from ffebm.hardware.description import AnalogGroup, Crossbar, Hardware, Memory
from ffebm.plan.schedule import Cost


def read_cost(
    hardware: Hardware, group: AnalogGroup, parts: list[Part], vectors: int, *, backwards: bool
) -> Cost:
    """Reads of some parts of one tile.

    Args:
        hardware: The machine.
        group: The tiles that hold the parts.
        parts: What is read.
        vectors: Products with each part.
        backwards: Inputs come by the bit lines.
    """
    if not group.tile.has_cells:
        return Cost()
    tile = group.tile.crossbar()
    rows, cols = sum(p.n_in for p in parts), sum(p.n_out for p in parts)
    driven, sensed = (cols, rows) if backwards else (rows, cols)
    reads = vectors * tile.dac.slices
    drivers = 1 if tile.drivers == "shared" and not backwards else tile.slices
    dacs, adcs = reads * driven * drivers, reads * sensed * tile.slices
    return Cost(
        array=reads * sum(cells_of(part, tile) for part in parts) * tile.cell.read_energy.value,
        dac=dacs * tile.dac.energy.value,
        adc=adcs * tile.adc.energy.value,
        adders=(adcs - vectors * sensed) * addition(hardware, group),
        buffer=vectors * (driven + sensed) * buffering(hardware, group),
        dac_count=dacs,
        adc_count=adcs,
    )


def sums_cost(hardware: Hardware, group: AnalogGroup, sums: tuple[int, int], vectors: int) -> Cost:
    """Partial sums of a matrix that is cut: each is sent to where it is added, and added.

    Args:
        hardware: The machine.
        group: The tiles that hold the parts.
        sums: What one product with all parts adds and sends (`partial_sums`).
        vectors: Products with each part.
    """
    if not group.tile.has_cells:
        return Cost()
    added, sent = sums
    return Cost(
        adders=vectors * added * addition(hardware, group), network=vectors * sent * crossing(hardware)
    )


def partial_sums(parts: Mapping[Part, Hashable], *, backwards: bool) -> tuple[int, int]:
    """Results of one product that are added to others, and those of them that leave their tile for it.

    Args:
        parts: All parts of a weight with where what they give is added: their tiles or cores.
        backwards: Sums run over cuts of the outputs.
    """
    cuts: dict[tuple[int, tuple[int, int]], list[Hashable]] = {}
    for part, tile in parts.items():
        cuts.setdefault((part.group, part.inputs if backwards else part.outputs), []).append(tile)
    added = sent = 0
    for (_, (start, stop)), tiles in cuts.items():
        apart = len(set(tiles))
        added += (len(tiles) - 1) * (stop - start)
        sent += (apart - 1) * (stop - start)
    return added, sent


def addition(hardware: Hardware, group: AnalogGroup) -> float:
    """Joules of one addition beside the converters; without adders there, an operation of a digital unit."""
    adder = group.tile.crossbar().adder
    return hardware.host.fp32.op_energy.value if adder is None else adder.value


def buffering(hardware: Hardware, group: AnalogGroup) -> float:
    """Joules of one value that is written to the buffer beside a tile and read from it; 0 without one."""
    buffer = buffer_of(hardware, group)
    return 0.0 if buffer is None else 2 * hardware.host.fp32.value_bits * buffer.bit_energy.value


def buffer_of(hardware: Hardware, group: AnalogGroup) -> Memory | None:
    """The nearest memory that each tile of a group has for itself."""
    owned = [memory for memory in hardware.memory if memory.owner == group.name]
    return min(owned, key=lambda memory: memory.level, default=None)


def crossing(hardware: Hardware) -> float:
    """Joules of one value that crosses the network."""
    network = hardware.network
    return hardware.host.fp32.value_bits * network.bit_energy.value * network.hops.value


def cells_of(part: Part, tile: Crossbar) -> int:
    """Devices that are written and read for a part, those of its offset column included."""
    column = part.n_in * tile.slices if tile.mapping == "offset" else 0
    return (part.n_in * part.n_out * tile.used_cells_a_weight + column) * tile.cell.devices
