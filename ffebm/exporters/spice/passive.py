"""A deep resistive block as a netlist: conductances between nodes, ideal diodes, amplifiers both ways.

Every weight is one resistor a window, between the amplifier behind a node of the source and a node of the
layer. An amplifier of gain A is a voltage source of A times its node's voltage; 1 / A of the current that it
gives is drawn from the node. Each node has a capacitor. Ngspice finds the operating point of each phase, and
how the circuit gets there in phases as long as they are billed.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import get_args

import numpy as np

from ffebm.errors import UsageError
from ffebm.exporters.export import source_line
from ffebm.exporters.spice.control import BILLED, TOLERANCE, PhaseTimes
from ffebm.exporters.spice.names import NodeNames, shown
from ffebm.exporters.spice.netlist import NUDGE
from ffebm.exporters.spice.neurons import number
from ffebm.exporters.spice.stimulus import FREE, MINUS, PHASES, PLUS, Stimulus
from ffebm.graph.energy_block import EnergyBlock, Layer, Linear, PhaseKind
from ffebm.graph.tensor import Floats
from ffebm.limits import CIRCUIT_CELLS
from ffebm.mapping.circuit.passive import Constants, Joint, PassiveCircuit, diodes
from ffebm.plan.conductance import from_matrix, to_matrix
from ffebm.plan.plan import Plan
from ffebm.visible import visible

STIFF = 1e7
"""Conductance of a diode that conducts, over that of its node: a node is off by the inverse of it."""

POINTS = 200
"""Steps of the integration in the shortest phase, at least."""

EDGE, RELATIVE = 1e-4, 1e-6
"""Of a change of the nudge, in the shortest phase; tolerance of the integration."""

SIGNS = {FREE: 0.0, PLUS: 1.0, MINUS: -1.0}
"""Of the nudge by phase."""


@dataclass(frozen=True)
class PassiveNetlist:
    """A deep resistive block, its drive, and its text.

    Attributes:
        circuit: The circuit.
        stimulus: What drives it.
        timeline: How long its phases last.
        text: What ngspice reads.
    """

    circuit: PassiveCircuit
    stimulus: Stimulus
    timeline: PhaseTimes
    text: str

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.circuit.block.name}.cir"

    def described(self) -> dict[str, object]:
        """Which node stands for what, for programs."""
        names, circuit = NodeNames(self.circuit), self.circuit
        return {
            "netlist": self.file,
            "block": circuit.block.name,
            "volts": circuit.volts,
            "siemens": circuit.siemens,
            "farads": circuit.farads,
            "phase_seconds": asdict(self.timeline),
            "beta": self.stimulus.beta,
            "inputs": {name: names.units(name) for name in circuit.inputs},
            "layers": {layer.value: names.units(layer.value) for layer in circuit.block.layers},
        }


def held_weight(plan: Plan, linear: Linear) -> Floats:
    """A weight as its circuit has it, in the layout of the source model.

    Single cells are at the levels that the plan programs; of pairs the weights themselves, since a circuit
    takes one conductance each.
    """
    weight: Floats = plan.weights[linear.weight].astype(np.float64)
    tile = plan.tile_of(linear.weight).crossbar()
    if not tile.is_single:
        return weight
    held = np.zeros(to_matrix(linear, weight).shape)
    for _, piece in plan.pieces():
        if piece.weight == linear.weight and not piece.replica:
            cells = np.asarray(plan.conductances(piece)[0], np.float64)
            held[piece.group, slice(*piece.outputs), slice(*piece.inputs)] = cells.T / _siemens(plan, linear)
    found: Floats = from_matrix(linear, held, weight.shape)
    return found


def _siemens(plan: Plan, linear: Linear) -> float:
    """What stands for a weight of 1 in a circuit of single cells."""
    tile = plan.tile_of(linear.weight).crossbar()
    scale = next(piece.scale for _, piece in plan.pieces() if piece.weight == linear.weight)
    return (tile.cell.g_max.value - tile.cell.g_min.value) / scale if scale else float(tile.cell.g_max.value)


def passive_circuit(plan: Plan, block: EnergyBlock) -> PassiveCircuit:
    """The circuit of a deep resistive block.

    Single cells are as the plan programs them; on a machine of pairs the largest weight is a cell at g_max.

    Raises:
        UsageError: If the machine's blocks do not settle by themselves, or the first map is digital.
        ModelError: If it has more conductances than a simulator of circuits takes.
    """
    group = plan.hardware.analog_group(block.group)
    if group.relaxation is None:
        raise UsageError(
            f"{block.name} settles by clocked reads on {group.name!r} of machine {plan.hardware.name!r}",
            allowed="blocks that settle by themselves, as one circuit",
            hint="compile for a machine with continuous settling: --hardware resistive",
        )
    for layer, interaction in block.interactions():
        if interaction.linear is None:
            raise UsageError(
                f"{block.name} has {visible(layer.value)!r}, which a digital unit drives",
                allowed="layers that conductances drive: --boundary tile",
            )
    linears = [i.linear for _, i in block.interactions() if i.linear is not None]
    tile = group.tile.crossbar()
    if tile.is_single and linears:
        siemens = _siemens(plan, linears[0])
    else:
        largest = max((float(plan.weights[linear.weight].max()) for linear in linears), default=0.0)
        siemens = float(tile.cell.g_max.value) / (largest or 1.0)
    held = {linear.weight: held_weight(plan, linear) for linear in linears}
    constants = Constants.of(group.relaxation)
    circuit = PassiveCircuit.of(block, held, plan.weights, siemens, constants)
    CIRCUIT_CELLS.check(circuit.cells, f"{block.name} is a circuit of {circuit.cells:,} cells")
    for layer in block.layers:
        floating = int((circuit.incident(layer) == 0).sum())
        if floating:
            raise UsageError(
                f"{block.name}: {floating} of the nodes of {visible(layer.value)!r} without any conductance",
                allowed="nodes that something holds",
                hint="clamp weights a little above 0, as training does",
            )
    return circuit


def passive_netlist(plan: Plan, circuit: PassiveCircuit, stimulus: Stimulus) -> PassiveNetlist:
    """The netlist of a deep resistive block."""
    names, timeline = NodeNames(circuit), _timeline(plan, circuit)
    lines = [f"* {circuit.block.name}: a deep resistive block, written by ffebm export --to spice"]
    lines += _header(circuit, names, source_line(plan))
    for index, joint in enumerate(circuit.joints):
        lines += _resistors(names, index, joint)
    for layer in circuit.block.layers:
        lines += _nodes(circuit, names, layer)
    lines += _sources(circuit, names, stimulus)
    lines += [".options reltol=1e-9 abstol=1e-18 vntol=1e-12 gmin=1e-18 itl1=1000"]
    lines += _control(circuit, names, stimulus, timeline)
    lines += [".end"]
    return PassiveNetlist(circuit, stimulus, timeline, "\n".join(lines) + "\n")


def _timeline(plan: Plan, circuit: PassiveCircuit) -> PhaseTimes:
    """How long phases are billed."""
    relaxation = plan.hardware.analog_group(circuit.block.group).relaxation
    assert relaxation is not None  # `passive_circuit` has looked
    read, before, nudged = (
        float(relaxation.lasting(circuit.block.time_constants(kind))) for kind in get_args(PhaseKind)
    )
    return PhaseTimes(read, before, nudged, given=max(read, before, nudged))


def _header(circuit: PassiveCircuit, names: NodeNames, source: str) -> Iterator[str]:
    block = circuit.block
    yield f"* {block.name} of {shown(source)}"
    yield "* Conductances, capacitors, ideal diodes and amplifiers; run it with: ngspice -n -b FILE"
    yield "*"
    yield f"* units     V, A, S, Ohm, F, s; {number(circuit.volts)} V stand for 1 in the model,"
    yield f"*           {number(circuit.siemens)} S for a weight of 1"
    yield f"* weights   {circuit.cells} conductances, one a weight and window"
    yield "* nodes     n_NODE between its diodes; NODE is what its amplifier gives, the state"
    yield "*"
    for name in circuit.inputs:
        yield f"* {names.tags[name]} = clamped input '{shown(name)}'"
    for layer in block.layers:
        kind, gain = layer.activation.op, number(layer.activation.scale)
        yield f"* {names.tags[layer.value]} = layer '{shown(layer.value)}', {kind}, amplifiers of gain {gain}"
    yield "*"


def _resistors(names: NodeNames, index: int, joint: Joint) -> Iterator[str]:
    yield f"* conductances from {names.tags[joint.source]} to {names.tags[joint.target]}"
    pairs = zip(joint.sources.tolist(), joint.targets.tolist(), joint.siemens.tolist(), strict=True)
    for at, (start, end, siemens) in enumerate(pairs):
        here, there = names.unit(joint.source, start), names.unit(joint.target, end)
        yield f"R{index}_{at} {here} n_{there} {number(1 / siemens)}"


def _nodes(circuit: PassiveCircuit, names: NodeNames, layer: Layer) -> Iterator[str]:
    """Amplifiers, diodes and biases of a layer."""
    gain, incident = layer.activation.scale, circuit.incident(layer)
    low, high = diodes(layer)
    yield f"* nodes of {names.tags[layer.value]}: capacitor, amplifier, diodes, bias"
    for index, node in enumerate(names.units(layer.value)):
        yield f"C_{node} n_{node} 0 {number(circuit.farads)} IC=0"
        yield f"Ea_{node} a_{node} 0 n_{node} 0 {number(gain)}"
        yield f"Va_{node} a_{node} {node} 0"
        yield f"Fa_{node} n_{node} 0 Va_{node} {number(1 / gain)}"
        stiff = number(STIFF * float(incident[index]))
        held = [
            f"{pick}(v(n_{node})-({number(circuit.volts * limit / gain)}),0)"
            for pick, limit in (("min", low), ("max", high))
            if math.isfinite(limit)
        ]
        if held:
            yield f"Bd_{node} n_{node} 0 I={stiff}*({'+'.join(held)})"
        bias = float(circuit.currents[layer.value][index])
        if bias:
            yield f"Ib_{node} 0 n_{node} DC {number(circuit.nudging(layer) * circuit.volts * bias)}"


def _sources(circuit: PassiveCircuit, names: NodeNames, stimulus: Stimulus) -> Iterator[str]:
    """Clamped inputs and error currents, set to the first sample."""
    yield "* clamped inputs"
    for name, values in stimulus.inputs.items():
        for node, value in zip(names.units(name), values[0].reshape(-1).tolist(), strict=True):
            yield f"V_{node} {node} 0 DC {number(circuit.volts * value)}"
    yield "* error currents times the strength of the nudge"
    yield f"V{NUDGE} {NUDGE} 0 DC 0 PWL(0 0)"
    for layer in circuit.block.layers:
        for node, value in zip(*_pushed(names, stimulus, layer, 0), strict=True):
            yield f"Ge_{node} 0 n_{node} {NUDGE} 0 {number(-circuit.nudging(layer) * value)}"


def _pushed(names: NodeNames, stimulus: Stimulus, layer: Layer, sample: int) -> tuple[list[str], list[float]]:
    """Nodes of a layer that error currents reach, and these."""
    if layer.value not in stimulus.currents:
        return [], []
    return names.units(layer.value), stimulus.currents[layer.value][sample].reshape(-1).tolist()


def raw_file(block: str, sample: int, phase: str) -> str:
    """Where ngspice writes the operating point of a phase."""
    return f"{block}_sample{sample}_{phase}.raw"


def watched(circuit: PassiveCircuit, names: NodeNames) -> list[str]:
    """Nodes that carry the states of all layers, in order."""
    return [node for layer in circuit.block.layers for node in names.units(layer.value)]


def _control(
    circuit: PassiveCircuit, names: NodeNames, stimulus: Stimulus, timeline: PhaseTimes
) -> Iterator[str]:
    """Operating points of every sample and phase, the way there, and the verdict."""
    nodes = watched(circuit, names)
    yield from (".control", "set filetype=binary", "set noaskquit", "set agreed = 0")
    for start in range(0, len(nodes), 8):
        yield f"save {' '.join(nodes[start : start + 8])}"
    for sample in range(stimulus.samples):
        yield from _altered(circuit, names, stimulus, sample)
        for phase in PHASES:
            yield f"alter v{NUDGE} dc = {number(SIGNS[phase] * stimulus.beta * circuit.volts)}"
            yield "op"
            yield f"write {raw_file(circuit.block.name, sample, phase)}"
            if stimulus.expected:
                yield from _verdict(circuit, names, stimulus.expected[phase], sample)
        yield from _transient(circuit, stimulus, timeline, sample)
    if stimulus.expected:
        count = stimulus.samples * len(PHASES)
        yield f"echo $agreed of {count} settled states agree with the expected ones"
        yield from (f"if $agreed < {count}", "  quit 1", "end")
    yield from ("quit 0", ".endc")


def _transient(
    circuit: PassiveCircuit, stimulus: Stimulus, timeline: PhaseTimes, sample: int
) -> Iterator[str]:
    """All phases of a sample from rest, as long as they are billed."""
    free, plus, minus = timeline.ends(BILLED)
    push, edge = stimulus.beta * circuit.volts, EDGE * min(timeline.read, timeline.nudged)
    points = [(0.0, 0.0), (free, 0.0), (free + edge, push), (plus, push), (plus + edge, -push)]
    yield f"alter @v{NUDGE}[pwl] = [ {' '.join(f'{number(t)} {number(v)}' for t, v in points)} ]"
    step = number(min(timeline.read, timeline.nudged) / POINTS)
    yield f"option reltol={number(RELATIVE)}"
    yield f"tran {step} {number(minus)} 0 {step} uic"
    yield f"write {raw_file(circuit.block.name, sample, BILLED)}"
    yield "option reltol=1e-9"


def _altered(circuit: PassiveCircuit, names: NodeNames, stimulus: Stimulus, sample: int) -> Iterator[str]:
    """Sources set to a sample; the netlist itself has the first one."""
    yield f"* sample {sample}"
    if not sample:
        return
    for name, values in stimulus.inputs.items():
        for node, value in zip(names.units(name), values[sample].reshape(-1).tolist(), strict=True):
            yield f"alter v_{node} dc = {number(circuit.volts * value)}"
    for layer in circuit.block.layers:
        for node, value in zip(*_pushed(names, stimulus, layer, sample), strict=True):
            yield f"alter ge_{node} gain = {number(-circuit.nudging(layer) * value)}"


def _verdict(
    circuit: PassiveCircuit, names: NodeNames, expected: dict[str, Floats], sample: int
) -> Iterator[str]:
    """How far an operating point is from the expected state."""
    yield "let off = 0"
    size = 0.0
    for layer in circuit.block.layers:
        states = circuit.volts * expected[layer.value][sample].reshape(-1)
        size += float(states @ states)
        for node, value in zip(names.units(layer.value), states.tolist(), strict=True):
            yield f"let off = off + (v({node}) - ({number(value)}))^2"
    yield f"let error = sqrt(off / {number(size or 1.0)})"
    yield "print error"
    yield f"if error <= {number(TOLERANCE)}"
    yield "  let count = $agreed + 1"
    yield '  set agreed = "$&count"'
    yield "end"
