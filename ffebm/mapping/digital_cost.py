"""What work on digital units and moving a value cost; the schedule and the choice ask the same functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from ffebm.errors import InternalError
from ffebm.graph.graph import Graph, Node, captured
from ffebm.graph.work import elements, macs, operations
from ffebm.hardware.description import DigitalGroup, Hardware
from ffebm.hardware.groups import Arithmetic, DataType
from ffebm.mapping.block_cost import PhaseCost
from ffebm.plan.schedule import Cost


@dataclass(frozen=True)
class DigitalWork:
    """What a digital unit does in a step.

    Attributes:
        products: Multiply-accumulates.
        rest: Other operations.
        moved: Elements that its memory reads or writes.
        held: Those of them that are weights, the same for any batch.
    """

    products: float
    rest: float
    moved: float
    held: float = 0

    def __add__(self, other: "DigitalWork") -> "DigitalWork":
        return DigitalWork(
            self.products + other.products,
            self.rest + other.rest,
            self.moved + other.moved,
            self.held + other.held,
        )


def work_of(graph: Graph, node: Node, times: int = 1) -> DigitalWork:
    """What a node is to a digital unit; `times` as much work as its forward run."""
    products, rest = macs(graph, node) * times, operations(graph, node) * times
    moved = {v: elements(graph, v) * times for v in (*captured(node), *node.outputs) if v}
    if not products and not rest:
        moved = {}  # a view moves nothing
    held = sum(size for v, size in moved.items() if v in graph.constants)
    return DigitalWork(products, rest, sum(moved.values()), held)


def _does(group: DigitalGroup, dtype: DataType) -> Arithmetic:
    """What a group's units do in a data type."""
    found = group.arithmetic(dtype)
    if found is None:
        raise InternalError(f"{group.name} computes nothing in {dtype}")
    return found


def digital_cost(
    hardware: Hardware, group: DigitalGroup, work: DigitalWork, dtype: DataType = "fp32", units: int = 1
) -> PhaseCost:
    """Time and cost of some work on one unit of a group, or shared out evenly over several."""
    does = _does(group, dtype)
    seconds = (work.products / does.mac_rate.value + work.rest / does.op_rate.value) / units
    energy = work.products * does.mac_energy.value + work.rest * does.op_energy.value
    return PhaseCost(
        seconds, Cost(digital=energy, memory=work.moved * element_joules(hardware, group, dtype))
    )


def element_joules(hardware: Hardware, group: DigitalGroup, dtype: DataType = "fp32") -> float:
    """Energy of one element read from or written to the memory of a group."""
    return float(_does(group, dtype).value_bits * hardware.memory_of(group.name).bit_energy.value)


def transfer_cost(
    hardware: Hardware,
    elements_moved: float,
    dtype: DataType = "fp32",
    way: tuple[float, float] | None = None,
    groups: Sequence[str] = (),
    lanes: int = 1,
) -> PhaseCost:
    """Time and cost of carrying some elements over the network.

    Args:
        hardware: The machine.
        elements_moved: How many.
        dtype: Of what type.
        way: Latency in seconds and hops; those of the mean way before anything is placed.
        groups: Digital units at its ends, by name; none counts as the host. Between two that have one
            memory, both bill their own reads and writes; else the value is read here and written there.
        lanes: Pairs of routers that carry even shares side by side.
    """
    network, host = hardware.network, hardware.host
    mean = network.hops.value
    latency, hops = way or (network.latency.value * (1.0 if network.topology == "bus" else mean), mean)
    bits = elements_moved * _does(host, dtype).value_bits
    seconds = latency + bits / network.bit_rate.value / lanes
    energy = bits * network.bit_energy.value * hops
    memories = [hardware.memory_of(name) for name in groups or (host.name,)]
    shared = len(memories) > 1 and len({memory.name for memory in memories}) == 1
    memory = 0.0 if shared else bits * sum(memory.bit_energy.value for memory in memories)
    return PhaseCost(seconds, Cost(network=energy, memory=memory))


def carrying(hardware: Hardware, seconds: float) -> dict[str, float]:
    """How long transfers keep a unit busy that all share: a bus; routers of a mesh work side by side."""
    return {"network": seconds} if hardware.network.topology == "bus" else {}
