"""How a deep resistive block moves: nodes with a capacitance, conductances, ideal diodes and amplifiers.

    C dv/dt = sum of g (z - v) + (1 / A) sum of g' (v' - A v) + i,   v held between the diodes,

with v the voltage of a node, g and z the conductances and sources below it, A the gain of the amplifier
behind it, g' and v' the conductances and nodes that this drives, and i the currents of biases and nudges. The
capacitance of a node is that of a neuron's input: `relaxation.time_constant` times `relaxation.conductance`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ffebm.graph.admission import counted_power
from ffebm.graph.energy_block import EnergyBlock, Layer
from ffebm.graph.tensor import Array, Floats
from ffebm.hardware.description import Relaxation
from ffebm.mapping.circuit.dynamics import LARGEST, Course
from ffebm.mapping.circuit.equations import bias_drives, clamped_inputs
from ffebm.mapping.circuit.wiring import Units, wiring
from ffebm.plan.conductance import to_matrix

PHYSICS = "deep-resistive"
"""What blocks these circuits are of."""

STEPS = 4
"""Steps in the time constant of the fastest node; they are of second order."""

MOST_STEPS = 200_000
"""After which a circuit counts as one that does not come to rest."""

KEPT = 2000
"""States of a course that are kept, at most."""


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
        farads: Capacitance of a node.
    """

    block: EnergyBlock
    inputs: dict[str, tuple[int, ...]]
    joints: tuple[Joint, ...]
    currents: dict[str, Floats]
    power: dict[str, float]
    siemens: float
    volts: float
    farads: float

    @classmethod
    def of(
        cls,
        block: EnergyBlock,
        held: Mapping[str, Floats],
        weights: Mapping[str, Array],
        siemens: float,
        constants: "Constants",
    ) -> "PassiveCircuit":
        """The circuit of a block whose layers are all driven by conductances.

        Args:
            block: The block.
            held: Its weights as cells hold them, in the layout of the source model, by source name.
            weights: All of them, biases too.
            siemens: What stands for a weight of 1.
            constants: Of the machine.
        """
        joints = tuple(joints_of(block, held, siemens))
        currents = {layer.value: bias_drives(layer, weights) for layer in block.layers}
        power, inputs = counted_power(block), clamped_inputs(block)
        return cls(block, inputs, joints, currents, power, siemens, constants.volts, constants.farads)

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
class Constants:
    """What a machine says of circuits.

    Attributes:
        volts: What stands for 1 in the model.
        farads: Capacitance of a node.
    """

    volts: float
    farads: float

    @classmethod
    def of(cls, relaxation: Relaxation) -> "Constants":
        """Those of a machine whose blocks settle by themselves."""
        farads = relaxation.time_constant.value * relaxation.conductance.value
        return cls(float(relaxation.voltage.value), float(farads))


def joints_of(block: EnergyBlock, held: Mapping[str, Floats], siemens: float) -> Iterator[Joint]:
    """The conductances of a block, an interaction after the other.

    Args:
        block: The block; identities are left out.
        held: Weights in the layout of the source model, by source name.
        siemens: What stands for a weight of 1.
    """
    for layer, interaction in block.interactions():
        linear = interaction.linear
        if linear is None:
            continue
        weight = held[linear.weight]
        lines = wiring(interaction, () if linear.op == "MatMul" else weight.shape[2:])
        matrix = to_matrix(linear, weight)
        shape = (len(matrix), lines.sources.shape[1], *matrix.shape[1:])
        sources = np.broadcast_to(lines.sources[:, :, None, :], shape)
        targets = np.broadcast_to(lines.targets[:, :, :, None], shape)
        values = np.broadcast_to(matrix[:, None], shape)
        joined = (sources >= 0) & (targets >= 0) & (values > 0)
        yield Joint(
            interaction.source, layer.value, sources[joined], targets[joined], siemens * values[joined]
        )


def diodes(layer: Layer) -> tuple[float, float]:
    """Where the diodes of a layer are, in units of its state."""
    activation = layer.activation
    if activation.op == "Identity":
        return -math.inf, math.inf
    if activation.op == "Relu":
        return 0.0, math.inf
    low, high = activation.low, activation.high
    return -math.inf if low is None else low, math.inf if high is None else high


class PassiveDynamics:
    """A deep resistive block as equations, for 1 V that stands for 1.

    A step takes the neighbours of a node as they are, follows the exponential towards them exactly, and
    corrects that by where they have gone meanwhile.

    Args:
        circuit: The circuit; something holds each of its nodes.

    Source: Cox & Matthews 2002, Exponential time differencing for stiff systems, J. Comput. Phys. 176, the
    scheme ETD2RK.
    """

    def __init__(self, circuit: PassiveCircuit) -> None:
        self._circuit = circuit
        layers = circuit.block.layers
        self._slices: dict[str, slice] = {}
        start = 0
        for layer in layers:
            self._slices[layer.value] = slice(start, start + math.prod(layer.shape))
            start = self._slices[layer.value].stop
        self._free = start
        self._loads = np.concatenate([circuit.incident(layer) for layer in layers])
        self._gains = self._by_unit([layer.activation.scale for layer in layers])
        self._bounds = np.stack([self._by_unit(ends) for ends in zip(*map(diodes, layers), strict=True)])
        self._bounds = self._bounds / self._gains
        self._nudging = self._by_unit([circuit.nudging(layer) for layer in layers])
        self._biases = np.concatenate([circuit.currents[layer.value] for layer in layers])
        self._feeds = [joint for joint in circuit.joints if joint.source in circuit.inputs]
        self._inside = [joint for joint in circuit.joints if joint.source in self._slices]
        self._matrices = [self._matrix(joint) for joint in self._inside]
        self._step = circuit.farads / (STEPS * float(self._loads.max()))
        phase = self._loads * (self._step / circuit.farads)
        self._stays = np.exp(-phase)
        self._corrects = (np.expm1(-phase) + phase) / phase

    @property
    def layers(self) -> list[slice]:
        """The units of each layer, of all free ones side by side."""
        return list(self._slices.values())

    def relax(
        self, inputs: Mapping[str, Floats], nudges: Sequence[Mapping[str, Floats]], still: float
    ) -> list[list[Course]]:
        """Settle from zero, and again under each nudge from where the one before has led.

        Args:
            inputs: By value name, [samples, *shape].
            nudges: What each phase adds to the drives of some layers, by value name, [samples, *layer].
            still: Change in the time constant of the slowest node, as a share of the state, at which a sample
                has come to rest.

        Returns:
            The course of each phase, for each sample.
        """
        clamped = {name: values.reshape(len(values), -1) for name, values in inputs.items()}
        samples = len(next(iter(clamped.values())))
        fed = np.zeros((self._free, samples))
        for joint in self._feeds:
            part = fed[self._slices[joint.target]]
            np.add.at(part, joint.targets, joint.siemens[:, None] * clamped[joint.source].T[joint.sources])
        voltages = np.clip(np.zeros((self._free, samples)), *self._bounds[:, :, None])
        phases = []
        for nudge in nudges:
            pushed = np.tile(self._biases, (samples, 1))
            for name, values in nudge.items():
                pushed[:, self._slices[name]] += values.reshape(samples, -1)
            constants = fed + (self._nudging * pushed).T
            voltages, courses = self._phase(voltages, constants, still, clamped)
            phases.append(courses)
        return [list(courses) for courses in zip(*phases, strict=True)]

    def _phase(
        self, voltages: Floats, constants: Floats, still: float, clamped: Mapping[str, Floats]
    ) -> tuple[Floats, list[Course]]:
        """One phase of all samples, until each is still; where it has led, [units, samples]."""
        slowest = float(self._loads.max() / self._loads.min()) * STEPS
        kept, every, rests = list[Floats](), 1, np.zeros(voltages.shape[1], np.bool_)
        for step in range(1, MOST_STEPS + 1):
            before, voltages = voltages, self._advanced(voltages, constants)
            if step % every == 0:
                kept.append((voltages * self._gains[:, None]).T)
            if len(kept) == KEPT:
                kept, every = kept[1::2], 2 * every
            if step % every or step < slowest:
                continue
            moved = np.linalg.norm(voltages - before, axis=0) * slowest
            rests = moved <= still * np.linalg.norm(voltages, axis=0)
            if rests.all() or not np.abs(voltages).max() < LARGEST:
                break
        states, watts = np.stack(kept, axis=1), self._watts(voltages, clamped)
        seconds = every * self._step
        ends = zip(states, rests, watts, strict=True)
        return voltages, [Course(seconds, s, bool(rest), float(w)) for s, rest, w in ends]

    def _advanced(self, voltages: Floats, constants: Floats) -> Floats:
        """A step, [units, samples]."""
        low, high = self._bounds[:, :, None]
        stays, corrects = self._stays[:, None], self._corrects[:, None]
        asked = self._asked(voltages, constants)
        first = np.clip(asked + (voltages - asked) * stays, low, high)
        return np.clip(first + corrects * (self._asked(first, constants) - asked), low, high)

    def _asked(self, voltages: Floats, constants: Floats) -> Floats:
        """Where each node goes while its neighbours stay, [units, samples]."""
        drives: Floats = constants.copy()
        for joint, matrix in zip(self._inside, self._matrices, strict=True):
            below, above = self._slices[joint.source], self._slices[joint.target]
            gain = self._gains[below, None]
            drives[above] += matrix @ (gain * voltages[below])
            drives[below] += (matrix.T @ voltages[above]) / gain
        found: Floats = drives / self._loads[:, None]
        return found

    def _watts(self, voltages: Floats, clamped: Mapping[str, Floats]) -> Floats:
        """Power of all conductances, [samples]."""
        total = np.zeros(voltages.shape[1])
        for joint in self._circuit.joints:
            if joint.source in clamped:
                ends = clamped[joint.source].T
            else:
                below = self._slices[joint.source]
                ends = self._gains[below, None] * voltages[below]
            across = ends[joint.sources] - voltages[self._slices[joint.target]][joint.targets]
            total += joint.siemens @ across**2
        return total

    def _matrix(self, joint: Joint) -> Floats:
        """Conductances between two layers, [units of the target, units of the source]."""
        below, above = self._slices[joint.source], self._slices[joint.target]
        found = np.zeros((above.stop - above.start, below.stop - below.start))
        np.add.at(found, (joint.targets, joint.sources), joint.siemens)
        return found

    def _by_unit(self, values: Sequence[float]) -> Floats:
        """A value of each layer, of its units."""
        counts = [part.stop - part.start for part in self.layers]
        found: Floats = np.repeat(np.asarray(values, np.float64), counts)
        return found
