"""How a block's circuit moves: the same equations that ngspice integrates, element by element lumped.

    tau du/dt = b + sum of y - u,   lag dy/dt = feedback times current - y,   s = sigma(scale u)

with u the drive of a unit, y what a virtual ground makes of its line, and lag = (1 + feedback times the
conductance on the line) / (2 pi gain-bandwidth), which is 0 with ideal amplifiers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffebm.exporters.spice.circuit import BlockCircuit, PlacedArray
from ffebm.exporters.spice.neurons import sigma
from ffebm.graph.tensor import Floats
from ffebm.hardware.description import Amplifier
from ffebm.mapping.wiring import NOWHERE, Units

STEPS = 20
"""Steps in a time constant; what is fast is integrated exactly over a step."""

MOST = 500
"""Time constants after which a circuit that still moves is given up."""


Met = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class _Lines:
    """The lines of an array as equations.

    Attributes:
        drivers: Index of the state on each driven line; the last state is ground, [windows, driven].
        weight: Drive for each state, [driven, sensed].
        at: Where in `units` each current goes, [windows * sensed met].
        met: Which sensed lines have a unit, [windows, sensed].
        units: Index of each free unit that is driven, ascending.
        lags: Of the line of each unit, s.
    """

    drivers: Units
    weight: Floats
    at: Units
    met: Met
    units: Units
    lags: Floats

    @classmethod
    def of(cls, array: PlacedArray, starts: Mapping[str, int], amplifier: Amplifier | None) -> "_Lines":
        """Those of an array whose values start at some indices."""
        met = array.sensed >= 0
        units, at = np.unique(array.sensed[met], return_inverse=True)
        drivers = np.where(array.drivers >= 0, array.drivers + starts[array.source], NOWHERE)
        loads = [
            np.bincount(at, np.broadcast_to(cells.sum(0), met.shape)[met], len(units))
            for cells in (array.plus, array.minus)
        ]
        lags = _lags(array.ohms * np.maximum(*loads), amplifier)
        weight = (array.plus - array.minus) * array.ohms
        return cls(drivers, weight, at, met, starts[array.target] + units, lags)

    def product(self, state: Floats) -> Floats:
        """What the lines ask for, [units]."""
        products = state[self.drivers] @ self.weight
        return np.bincount(self.at, products[self.met], len(self.units)).astype(np.float64)

    def follow(self, step: float) -> Floats:
        """How far each line goes towards that in a step."""
        slow = np.where(self.lags > 0, self.lags, 1.0)
        followed: Floats = np.where(self.lags > 0, -np.expm1(-step / slow), 1.0)
        return followed


@dataclass(frozen=True)
class Course:
    """Where a circuit went.

    Attributes:
        seconds: Of a step.
        states: All states after each step, [steps, units].
        settled: It had come to rest.
    """

    seconds: float
    states: Floats
    settled: bool

    def time_to(self, accuracy: float) -> float:
        """Time after which the state stays within a share of where it goes, by norm, s."""
        end = self.states[-1]
        size = float(np.linalg.norm(end)) or 1.0
        far = np.linalg.norm(self.states - end, axis=1) > accuracy * size
        return self.seconds * float(np.flatnonzero(far)[-1] + 1 if far.any() else 0)


class Dynamics:
    """A block's circuit as equations.

    Args:
        circuit: The circuit.
        amplifier: At its virtual grounds; None is ideal.
    """

    def __init__(self, circuit: BlockCircuit, amplifier: Amplifier | None) -> None:
        self._circuit = circuit
        self._starts: dict[str, int] = {}
        count = 0
        for layer in circuit.block.layers:
            self._starts[layer.value] = count
            count += math.prod(layer.shape)
        self._free = count
        for name, shape in circuit.inputs.items():
            self._starts[name] = count
            count += math.prod(shape)
        self._units = count
        self._constants = np.concatenate([circuit.constants[la.value] for la in circuit.block.layers])
        self._lines = [_Lines.of(array, self._starts, amplifier) for array in circuit.arrays]

    def relax(self, inputs: Mapping[str, Floats], still: float = 1e-9) -> Course:
        """Settle from zero.

        Args:
            inputs: Of one sample by value name, [*shape].
            still: Change in a time constant, as a share of the state, at which it has come to rest.
        """
        tau = self._circuit.relaxation.time_constant.value
        step = tau / STEPS
        share = -math.expm1(-1 / STEPS)
        state = np.zeros(self._units + 1)  # the last one is ground
        for name, values in inputs.items():
            start = self._starts[name]
            state[start : start + values.size] = values.reshape(-1)
        drive = np.zeros(self._free)
        reads = [np.zeros(len(lines.units)) for lines in self._lines]
        state[: self._free] = self._sigma(drive)
        course = []
        for _ in range(MOST * STEPS):
            pushed = self._constants.copy()
            for lines, read in zip(self._lines, reads, strict=True):
                read += lines.follow(step) * (lines.product(state) - read)
                pushed[lines.units] += read
            for link in self._circuit.links:
                sources = state[self._starts[link.source] + link.drivers]
                pushed[self._starts[link.target] + link.driven] += sources
            drive += share * (pushed - drive)
            before = state[: self._free].copy()
            state[: self._free] = self._sigma(drive)
            course.append(state[: self._free].copy())
            moved = float(np.linalg.norm(course[-1] - before)) * STEPS
            if len(course) > STEPS and moved <= still * float(np.linalg.norm(course[-1])):
                return Course(step, np.array(course), True)
        return Course(step, np.array(course), False)

    def _sigma(self, drive: Floats) -> Floats:
        found = np.empty_like(drive)
        for layer in self._circuit.block.layers:
            at = slice(self._starts[layer.value], self._starts[layer.value] + math.prod(layer.shape))
            found[at] = sigma(layer.activation, drive[at])
        return found


def _lags(noise_gain: Floats, amplifier: Amplifier | None) -> Floats:
    """Time constant of a virtual ground with a noise gain of 1 + what is given, s."""
    if amplifier is None:
        return np.zeros_like(noise_gain)
    return (1.0 + noise_gain) / (2 * math.pi * amplifier.gain_bandwidth.value)
