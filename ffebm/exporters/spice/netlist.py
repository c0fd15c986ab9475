"""The netlist of a block: its elements, in sections that a circuit engineer can read.

Everything in a netlist is a number, or a name that `names` made.
"""

import math
from collections.abc import Iterator

import numpy as np

from ffebm.exporters.spice.circuit import BlockCircuit, PlacedArray
from ffebm.exporters.spice.names import NodeNames, shown, wrapped
from ffebm.exporters.spice.neurons import buffer_of, number
from ffebm.exporters.spice.stimulus import Stimulus
from ffebm.graph.energy_block import Layer
from ffebm.hardware.description import Amplifier
from ffebm.hardware.groups import Relaxation

NUDGE = "nudge"
"""The node that carries the nudging strength: 0, +beta, -beta, phase by phase."""


def elements(
    circuit: BlockCircuit, names: NodeNames, amplifier: Amplifier | None, source: str
) -> Iterator[str]:
    """The circuit, line by line, without sources of a stimulus.

    Args:
        circuit: The block's circuit.
        names: Its nodes.
        amplifier: At the virtual grounds; None is ideal.
        source: Which plan it is of.
    """
    yield from _header(circuit, names, amplifier, source)
    if amplifier is not None:
        yield from _amplifier(amplifier)
    yield from _arrays(circuit)
    for layer in circuit.block.layers:
        yield from _neurons(circuit, names, layer)
    for index, array in enumerate(circuit.arrays):
        yield from _windows(circuit, names, index, array)
        yield from _grounds(circuit, names, index, array, amplifier)
    for link_index, link in enumerate(circuit.links):
        yield f"* identity from {names.tags[link.source]} to {names.tags[link.target]}"
        siemens = circuit.relaxation.conductance.value
        for at, (start, end) in enumerate(zip(link.drivers, link.driven, strict=True)):
            here, there = names.unit(link.source, int(start)), names.unit(link.target, int(end))
            yield f"Glink{link_index}_{at} 0 u_{there} {here} 0 {number(siemens)}"


def _header(
    circuit: BlockCircuit, names: NodeNames, amplifier: Amplifier | None, source: str
) -> Iterator[str]:
    block, relaxation = circuit.block, circuit.relaxation
    kind = "ideal" if amplifier is None else _described(amplifier)
    yield f"* {block.name} of {shown(source)}"
    yield "* An energy block as a circuit that settles by itself; run it with: ngspice -n -b FILE"
    yield "*"
    yield f"* units     V, A, S, Ohm, F, s; {number(relaxation.voltage.value)} V stand for 1 in the model"
    siemens = number(relaxation.conductance.value)
    yield f"* neuron    C = {number(capacitance(relaxation))} F behind {siemens} S;"
    yield "*           u_NODE is its input, NODE its output, sigma(scale u)"
    yield f"* arrays    {circuit.cells} cells in {len(circuit.arrays)} arrays of differential pairs"
    yield "*           an output has virtual grounds for cells that count up (p) and for the others (m)"
    yield f"* grounds   {kind} amplifiers; the feedback is the drive in V for each A"
    yield "*"
    for name, shape in circuit.inputs.items():
        yield f"* {names.tags[name]} = clamped input '{shown(name)}' {_sizes(shape)}"
    for layer in block.layers:
        kind = layer.activation.op
        yield f"* {names.tags[layer.value]} = layer '{shown(layer.value)}' {_sizes(layer.shape)}, {kind}"
    yield "*"


def _described(amplifier: Amplifier) -> str:
    return f"gain {number(amplifier.gain.value)}, {number(amplifier.gain_bandwidth.value)} Hz one-pole"


def _sizes(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def capacitance(relaxation: Relaxation) -> float:
    """At a neuron's input: time constant times conductance, F."""
    return float(relaxation.time_constant.value * relaxation.conductance.value)


def _amplifier(amplifier: Amplifier) -> Iterator[str]:
    """An operational amplifier with one pole."""
    gain, farad = amplifier.gain.value, 1 / (2 * math.pi * amplifier.gain_bandwidth.value)
    yield "* an operational amplifier: open-loop gain, one pole at gain-bandwidth over gain"
    yield ".subckt opamp plus minus out"
    yield "Gin 0 pole plus minus 1"
    yield f"Rpole pole 0 {number(gain)}"
    yield f"Cpole pole 0 {number(farad)}"
    yield "Eout out 0 pole 0 1"
    yield ".ends opamp"


def _arrays(circuit: BlockCircuit) -> Iterator[str]:
    """A subcircuit a piece and direction: word lines r…, bit lines c…p and c…m."""
    for array in {array.name: array for array in circuit.arrays}.values():  # a tied weight lies once
        row, col = array.corner
        turned = ", a copy of its transpose: word lines are outputs" if array.transposed else ""
        yield f"* piece {array.piece} on tile {array.tile}, at word line {row}, bit-line pair {col}{turned}"
        n_driven, n_sensed = array.plus.shape
        rows = [f"r{i}" for i in range(n_driven)]
        columns = [f"c{j}{side}" for j in range(n_sensed) for side in "pm"]
        yield wrapped(f".subckt {array.name}", [*rows, *columns])
        for side, cells in (("p", array.plus), ("m", array.minus)):
            for i in range(n_driven):
                for j in range(n_sensed):
                    yield f"R{i}_{j}{side} r{i} c{j}{side} {number(1 / float(cells[i, j]))}"
        yield f".ends {array.name}"


def _neurons(circuit: BlockCircuit, names: NodeNames, layer: Layer) -> Iterator[str]:
    relaxation = circuit.relaxation
    volts, siemens = relaxation.voltage.value, relaxation.conductance.value
    constants = circuit.constants[layer.value]
    yield f"* neurons of {names.tags[layer.value]}: leak, capacitor, bias and buffer"
    for index, node in enumerate(names.units(layer.value)):
        yield f"Rn_{node} u_{node} 0 {number(1 / siemens)}"
        yield f"Cn_{node} u_{node} 0 {number(capacitance(relaxation))} ic=0"
        if constants[index]:
            yield f"Ib_{node} 0 u_{node} DC {number(siemens * volts * float(constants[index]))}"
        yield f"Bs_{node} {node} 0 V={buffer_of(layer.activation, f'u_{node}', volts)}"


def _windows(circuit: BlockCircuit, names: NodeNames, index: int, array: PlacedArray) -> Iterator[str]:
    """An instance of the array for each window."""
    start, end = names.tags[array.source], names.tags[array.target]
    yield f"* array {index}: {array.name} from {start} to {end}, {len(array.drivers)} windows"
    for window in range(len(array.drivers)):
        tile, piece = array.windows[window]
        if window:
            yield f"* window {window}: piece {piece} on tile {tile}"
        lines = [names.unit(array.source, int(unit)) for unit in array.drivers[window]]
        for unit in array.sensed[window]:
            lines += [_ground(index, int(unit), side) for side in "pm"]
        yield wrapped(f"Xa{index}_{window}", [*lines, array.name])


def _ground(index: int, unit: int, side: str) -> str:
    """The virtual ground of a unit; lines that are cut off go to ground itself."""
    return "0" if unit < 0 else f"g{index}_{unit}{side}"


def _grounds(
    circuit: BlockCircuit, names: NodeNames, index: int, array: PlacedArray, amplifier: Amplifier | None
) -> Iterator[str]:
    """Two virtual grounds a unit, whose difference of currents drives its neuron."""
    siemens = circuit.relaxation.conductance.value
    for unit in np.unique(array.sensed[array.sensed >= 0]).tolist():
        neuron = f"u_{names.unit(array.target, unit)}"
        tag = f"{index}_{unit}"
        if amplifier is None:
            gain = number(siemens * array.ohms)
            for side, (start, end) in (("p", ("0", neuron)), ("m", (neuron, "0"))):
                yield f"Vg{tag}{side} {_ground(index, unit, side)} 0 0"
                yield f"Fg{tag}{side} {start} {end} Vg{tag}{side} {gain}"
            continue
        for side in "pm":
            ground = _ground(index, unit, side)
            yield f"Xo{tag}{side} 0 {ground} o{tag}{side} opamp"
            yield f"Rf{tag}{side} {ground} o{tag}{side} {number(array.ohms)}"
        yield f"Gd{tag} 0 {neuron} o{tag}m o{tag}p {number(siemens)}"


def sources(circuit: BlockCircuit, names: NodeNames, stimulus: Stimulus) -> Iterator[str]:
    """Sources of the clamped inputs and of the nudge, set to the first sample."""
    volts, siemens = circuit.relaxation.voltage.value, circuit.relaxation.conductance.value
    yield "* clamped inputs"
    for name, values in stimulus.inputs.items():
        flat = values[0].reshape(-1)
        for index, node in enumerate(names.units(name)):
            yield f"V_{node} {node} 0 DC {number(volts * float(flat[index]))}"
    yield "* error currents times the strength of the nudge"
    yield f"Vnudge {NUDGE} 0 DC 0 PWL(0 0)"
    for name, values in stimulus.currents.items():
        flat = values[0].reshape(-1)
        for index, node in enumerate(names.units(name)):
            yield f"Ge_{node} 0 u_{node} {NUDGE} 0 {number(-siemens * float(flat[index]))}"
