"""Hardware descriptions for tests."""

from typing import Any

from msgspec.structs import replace

from ffebm.hardware.description import (
    Arithmetic,
    Conductance,
    Crossbar,
    Energy,
    Hardware,
    Rate,
    Ratio,
    Relaxation,
    Time,
    Voltage,
    load_hardware,
    shipped_hardware,
)


def crossbars(count: int, rows: int, cols: int, **digital: Any) -> Hardware:
    """The reference machine with other tiles."""
    machine = load_hardware("reference")
    assert isinstance(machine.analog[0].tile, Crossbar)
    tile = replace(machine.analog[0].tile, rows=rows, cols=cols)
    return replace(
        machine,
        analog=(replace(machine.analog[0], count=count, tile=tile),),
        digital=(replace(machine.digital[0], **digital),),
    )


def products_apart() -> Hardware:
    """The heterogeneous machine with no matrix products on its vector unit: each op runs on one group."""
    machine = load_hardware("heterogeneous")
    matrix, vector = machine.digital
    ops = (
        "Add",
        "Flatten",
        "LayerNormalization",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Softmax",
        "Tanh",
        "Transpose",
    )
    return replace(machine, digital=(matrix, replace(vector, ops=ops)))


def three_groups(units: int = 1) -> Hardware:
    """The heterogeneous machine with products on one group alone and activations on two others.

    Args:
        units: Of each group; all know fp32, bf16 and int8.
    """
    machine = load_hardware("heterogeneous")
    matrix, vector = machine.digital
    lanes = ("Abs", "Clip", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh")
    sums = ("Add", "AveragePool", "BatchNormalization", "GlobalAveragePool", "Mul", "Sub", "Sum")
    moves = ("Concat", "Flatten", "GlobalMaxPool", "Identity", "MaxPool", "Reshape", "Transpose")
    groups = (
        replace(matrix, bf16=vector.bf16),
        replace(vector, ops=(*lanes, *moves, *sums)),
        replace(vector, name="lanes", ops=lanes),
    )
    return replace(machine, digital=tuple(replace(group, count=units) for group in groups))


def with_signs() -> list[str]:
    """Shipped machines whose cells hold weights of either sign, as Hopfield networks have them."""
    return [name for name in shipped_hardware() if any(g.holds(2) for g in load_hardware(name).analog)]


def with_tiles(machine: Hardware, **fields: Any) -> Hardware:
    """A machine with other fields of its first group of tiles."""
    first, *others = machine.analog
    return replace(machine, analog=(replace(first, **fields), *others))


def joules(value: float) -> Energy:
    return Energy(value=value, source="chosen for a test", unit="J")


def seconds(value: float) -> Time:
    return Time(value=value, source="chosen for a test", unit="s")


def rate(value: float) -> Rate:
    return Rate(value=value, source="chosen for a test", unit="1/s")


def ratio(value: float) -> Ratio:
    return Ratio(value=value, source="chosen for a test", unit="1")


def continuous(machine: Hardware) -> Hardware:
    """The same machine with blocks that settle by themselves: 10 x 2 s a phase, 3 S and 5 V a cell."""
    relaxation = Relaxation(
        time_constant=seconds(2.0),
        time_constants=ratio(10.0),
        voltage=Voltage(value=5.0, source="chosen for a test", unit="V"),
        conductance=Conductance(value=3.0, source="chosen for a test", unit="S"),
    )
    return with_tiles(machine, settling="continuous", relaxation=relaxation)


def round_numbers(count: int = 8, rows: int = 4, cols: int = 4) -> Hardware:
    """A machine whose constants are powers of ten, one for each kind of cost, to add up by hand."""
    machine = crossbars(count, rows, cols)
    tile = machine.analog[0].tile
    assert isinstance(tile, Crossbar)
    tile = replace(
        tile,
        cell=replace(tile.cell, read_energy=joules(1.0), write_energy=joules(100.0)),
        dac=replace(tile.dac, energy=joules(10.0), time=seconds(1.0)),
        adc=replace(tile.adc, energy=joules(1000.0), time=seconds(3.0)),
        adder=joules(20.0),
        read_time=seconds(6.0),
        write_time=seconds(5.0),
    )
    digital = replace(
        machine.digital[0],
        fp32=Arithmetic(
            value_bits=8,
            mac_rate=rate(2.0),
            op_rate=rate(4.0),
            mac_energy=joules(2.0),
            op_energy=joules(3.0),
        ),
    )
    memory = replace(machine.memory[0], bit_energy=joules(0.5))
    network = replace(
        machine.network, bit_rate=rate(16.0), latency=seconds(2.0), bit_energy=joules(0.25), hops=ratio(2.0)
    )
    tiles = replace(machine.analog[0], tile=tile)
    return replace(
        machine, name="round", analog=(tiles,), digital=(digital,), memory=(memory,), network=network
    )
