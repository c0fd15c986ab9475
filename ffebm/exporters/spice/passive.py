"""A deep resistive block as a netlist: conductances between nodes, ideal diodes, amplifiers both ways.

Every weight is one resistor a window, between the amplifier behind a node of the source and a node of the
layer. An amplifier of gain A is a voltage source of A times its node's voltage; 1 / A of the current that it
gives is drawn from the node. Ngspice finds the operating point of each phase: nothing here takes time.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ffebm.errors import UsageError
from ffebm.exporters.export import source_line
from ffebm.exporters.spice.control import TOLERANCE
from ffebm.exporters.spice.names import NodeNames, shown
from ffebm.exporters.spice.netlist import NUDGE
from ffebm.exporters.spice.neurons import number
from ffebm.exporters.spice.stimulus import FREE, MINUS, PHASES, PLUS, Stimulus
from ffebm.graph.admission import counted_power
from ffebm.graph.energy_block import EnergyBlock, Layer, Linear
from ffebm.graph.tensor import Floats
from ffebm.limits import CIRCUIT_CELLS
from ffebm.mapping.circuit.equations import bias_drives, clamped_inputs
from ffebm.mapping.circuit.wiring import Units, wiring
from ffebm.plan.conductance import from_matrix, to_matrix
from ffebm.plan.plan import Plan
from ffebm.visible import visible

PHYSICS = "deep-resistive"
"""What blocks this netlist is of."""

STIFF = 1e7
"""Conductance of a diode that conducts, over that of its node: a node is off by the inverse of it."""

SIGNS = {FREE: 0.0, PLUS: 1.0, MINUS: -1.0}
"""Of the nudge by phase."""


@dataclass(frozen=True)
class Joint:
    """The conductances of an interaction.

    Attributes:
        source: Value at one end.
        target: The layer at the other.
        sources: Flat index of the unit of the source, [conductances].
        targets: Flat index of the unit of the layer, [conductances].
        siemens: [conductances]; those of 0 are left out.
    """

    source: str
    target: str
    sources: Units
    targets: Units
    siemens: Floats


@dataclass(frozen=True)
class PassiveCircuit:
    """The circuit of a deep resistive block.

    Attributes:
        block: The block.
        inputs: Shape of each clamped input by value name.
        joints: Its conductances.
        currents: Of biases into each node of a layer, by value name, [units], amperes for 1 V.
        power: What the energy counts of the power into each layer, by value name.
        siemens: What stands for a weight of 1.
        volts: What stands for 1 in the model.
    """

    block: EnergyBlock
    inputs: dict[str, tuple[int, ...]]
    joints: tuple[Joint, ...]
    currents: dict[str, Floats]
    power: dict[str, float]
    siemens: float
    volts: float

    @property
    def cells(self) -> int:
        """Conductances, those of all windows together."""
        return sum(len(joint.siemens) for joint in self.joints)

    def nudging(self, layer: Layer) -> float:
        """Amperes for 1 V of a current in the unit of the energy, at a node of a layer."""
        return self.siemens * layer.activation.scale / self.power[layer.value]

    def incident(self, layer: Layer) -> Floats:
        """Conductance of the cells that meet at each node of a layer or behind its amplifier, S, [units]."""
        total = np.zeros(math.prod(layer.shape))
        for joint in self.joints:
            if joint.target == layer.value:
                np.add.at(total, joint.targets, joint.siemens)
            if joint.source == layer.value:
                np.add.at(total, joint.sources, joint.siemens)
        return total


@dataclass(frozen=True)
class PassiveNetlist:
    """A deep resistive block, its drive, and its text.

    Attributes:
        circuit: The circuit.
        stimulus: What drives it.
        text: What ngspice reads.
    """

    circuit: PassiveCircuit
    stimulus: Stimulus
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
    linears = [i.linear for _, i in block.interactions() if i.linear is not None]
    tile = group.tile.crossbar()
    if tile.is_single and linears:
        siemens = _siemens(plan, linears[0])
    else:
        largest = max((float(plan.weights[linear.weight].max()) for linear in linears), default=0.0)
        siemens = float(tile.cell.g_max.value) / (largest or 1.0)
    joints = tuple(_joints(plan, block, siemens))
    power = counted_power(block)
    currents = {layer.value: bias_drives(layer, plan.weights) for layer in block.layers}
    volts = float(group.relaxation.voltage.value)
    circuit = PassiveCircuit(block, clamped_inputs(block), joints, currents, power, siemens, volts)
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


def _joints(plan: Plan, block: EnergyBlock, siemens: float) -> Iterator[Joint]:
    for layer, interaction in block.interactions():
        linear = interaction.linear
        if linear is None:
            raise UsageError(
                f"{block.name} has {visible(layer.value)!r}, which a digital unit drives",
                allowed="layers that conductances drive: --boundary tile",
            )
        weight = held_weight(plan, linear)
        lines = wiring(interaction, () if linear.op == "MatMul" else weight.shape[2:])
        matrix = to_matrix(linear, weight)
        windows = lines.sources.shape[1]
        shape = (len(matrix), windows, *matrix.shape[1:])
        sources = np.broadcast_to(lines.sources[:, :, None, :], shape)
        targets = np.broadcast_to(lines.targets[:, :, :, None], shape)
        values = np.broadcast_to(matrix[:, None], shape)
        joined = (sources >= 0) & (targets >= 0) & (values > 0)
        yield Joint(
            interaction.source, layer.value, sources[joined], targets[joined], siemens * values[joined]
        )


def passive_netlist(plan: Plan, circuit: PassiveCircuit, stimulus: Stimulus) -> PassiveNetlist:
    """The netlist of a deep resistive block."""
    names = NodeNames(circuit)
    lines = [f"* {circuit.block.name}: a deep resistive block, written by ffebm export --to spice"]
    lines += _header(circuit, names, source_line(plan))
    for index, joint in enumerate(circuit.joints):
        lines += _resistors(names, index, joint)
    for layer in circuit.block.layers:
        lines += _nodes(circuit, names, layer)
    lines += _sources(circuit, names, stimulus)
    lines += [".options reltol=1e-9 abstol=1e-18 vntol=1e-12 gmin=1e-18 itl1=1000"]
    lines += _control(circuit, names, stimulus)
    lines += [".end"]
    return PassiveNetlist(circuit, stimulus, "\n".join(lines) + "\n")


def _header(circuit: PassiveCircuit, names: NodeNames, source: str) -> Iterator[str]:
    block = circuit.block
    yield f"* {block.name} of {shown(source)}"
    yield "* Conductances, ideal diodes and amplifiers at rest; run it with: ngspice -n -b FILE"
    yield "*"
    yield f"* units     V, A, S, Ohm; {number(circuit.volts)} V stand for 1 in the model,"
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
    low, high = _range(layer)
    yield f"* nodes of {names.tags[layer.value]}: amplifier, diodes, bias"
    for index, node in enumerate(names.units(layer.value)):
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


def _range(layer: Layer) -> tuple[float, float]:
    """Where the diodes of a layer are, in units of its state."""
    activation = layer.activation
    if activation.op == "Identity":
        return -math.inf, math.inf
    if activation.op == "Relu":
        return 0.0, math.inf
    low, high = activation.low, activation.high
    return -math.inf if low is None else low, math.inf if high is None else high


def _sources(circuit: PassiveCircuit, names: NodeNames, stimulus: Stimulus) -> Iterator[str]:
    """Clamped inputs and error currents, set to the first sample."""
    yield "* clamped inputs"
    for name, values in stimulus.inputs.items():
        for node, value in zip(names.units(name), values[0].reshape(-1).tolist(), strict=True):
            yield f"V_{node} {node} 0 DC {number(circuit.volts * value)}"
    yield "* error currents times the strength of the nudge"
    yield f"V{NUDGE} {NUDGE} 0 DC 0"
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


def _control(circuit: PassiveCircuit, names: NodeNames, stimulus: Stimulus) -> Iterator[str]:
    """Operating points of every sample and phase, and the verdict."""
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
    if stimulus.expected:
        count = stimulus.samples * len(PHASES)
        yield f"echo $agreed of {count} settled states agree with the expected ones"
        yield from (f"if $agreed < {count}", "  quit 1", "end")
    yield from ("quit 0", ".endc")


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
