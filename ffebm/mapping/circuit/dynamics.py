"""How a block's circuit moves: the equations that a simulator of circuits integrates, lumped.

    tau du/dt = b + sum of y - u,   lag dy/dt = feedback times current - y,   s = sigma(scale u)

with u the drive of a unit, y what a virtual ground makes of its line, and lag = (1 + feedback times the
conductance on the line) / (2 pi gain-bandwidth), which is 0 with ideal amplifiers.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.hardware.description import Amplifier, Relaxation
from ffebm.mapping.circuit.equations import Equations, Lines
from ffebm.mapping.circuit.sigma import sigma
from ffebm.mapping.circuit.wiring import NOWHERE, Units

STEPS = 20
"""Steps in a time constant; what is fast is integrated exactly over a step."""

LARGEST = 1e100
"""State beyond which a phase is given up: it grows without end, and its square has no number."""
MOST = 500
"""Time constants after which a circuit that still moves is given up."""

Met = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class _Motion:
    """The lines of an array as they move.

    Attributes:
        drivers: Index of the state on each driven line; the last state is ground, [windows, driven].
        weight: Drive for each state, [driven, sensed].
        at: Where in `units` each current goes, [windows * sensed met].
        met: Which sensed lines have a unit, [windows, sensed].
        units: Index of each free unit that is driven, ascending.
        lags: Of the line of each unit, s.
        siemens: Conductance on each driven line, [driven].
    """

    drivers: Units
    weight: Floats
    at: Units
    met: Met
    units: Units
    lags: Floats
    siemens: Floats

    @classmethod
    def of(cls, lines: Lines, starts: Mapping[str, int], amplifier: Amplifier | None) -> "_Motion":
        """Those of an array whose values start at some indices."""
        met = lines.sensed >= 0
        units, at = np.unique(lines.sensed[met], return_inverse=True)
        drivers = np.where(lines.drivers >= 0, lines.drivers + starts[lines.source], NOWHERE)
        noise_gain = np.bincount(at, np.broadcast_to(lines.noise_gain, met.shape)[met], len(units))
        lags = _lags(noise_gain.astype(np.float64), amplifier)
        return cls(drivers, lines.weight, at, met, starts[lines.target] + units, lags, lines.siemens)

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
        states: All free states after each step, [steps, units].
        settled: It had come to rest.
        siemens: Sum over driven lines of their conductance times the state squared, at the end: the power of
            the cells for 1 V that stands for 1.
    """

    seconds: float
    states: Floats
    settled: bool
    siemens: float

    def time_to(self, accuracy: float) -> float:
        """Time after which the state stays within a share of where it goes, by norm, s."""
        size = float(np.linalg.norm(self.states[-1])) or 1.0
        return self.time_within([(slice(None), accuracy * size)])

    def time_within(self, bounds: Sequence[tuple[slice, float]]) -> float:
        """Time after which parts of the state stay as close to where they go as they must, s.

        Args:
            bounds: Units, and the largest norm of their distance.
        """
        end = self.states[-1]
        left = np.zeros(len(self.states))
        for units, allowed in bounds:
            part = np.linalg.norm(self.states[:, units] - end[units], axis=1)
            left = np.maximum(left, part / allowed)
        far = np.flatnonzero(left > 1)
        if not len(far):
            return self.seconds
        last = int(far[-1])  # after last + 1 steps; between two it falls exponentially
        next_left = max(float(left[last + 1]), 1e-30)
        part = math.log(float(left[last])) / math.log(float(left[last]) / next_left)
        return self.seconds * (last + 1 + part)


class Dynamics:
    """A block's circuit as equations.

    Args:
        equations: The circuit.
        relaxation: The machine's constants.
        amplifier: At its virtual grounds; None is ideal.
        steps: In a time constant.
    """

    def __init__(
        self, equations: Equations, relaxation: Relaxation, amplifier: Amplifier | None, steps: int = STEPS
    ) -> None:
        self._equations = equations
        self._tau = relaxation.time_constant.value
        self._steps = steps
        self._starts: dict[str, int] = {}
        count = 0
        for layer in equations.layers:
            self._starts[layer.value] = count
            count += math.prod(layer.shape)
        self._free = count
        for name, shape in equations.inputs.items():
            self._starts[name] = count
            count += math.prod(shape)
        self._units = count
        self._constants = np.concatenate([equations.constants[la.value] for la in equations.layers])
        self._motions = [_Motion.of(lines, self._starts, amplifier) for lines in equations.lines]

    @property
    def layers(self) -> list[slice]:
        """The units of each layer, of all free ones side by side."""
        starts = [self._starts[layer.value] for layer in self._equations.layers]
        return [slice(a, b) for a, b in itertools.pairwise([*starts, self._free])]

    def relax(
        self,
        inputs: Mapping[str, Floats],
        nudges: Sequence[Mapping[str, Floats]] = ({},),
        still: float = 1e-9,
        most: int = MOST,
    ) -> list[Course]:
        """Settle from zero, and again under each nudge from where the one before has led.

        Args:
            inputs: Of one sample by value name, [*shape].
            nudges: What each phase adds to the drives of some layers, by value name, [*layer].
            still: Change in a time constant, as a share of the state, at which it has come to rest.
            most: Time constants after which a phase is given up.

        Returns:
            The course of each phase.
        """
        state = np.zeros(self._units + 1)  # the last one is ground
        for name, values in inputs.items():
            start = self._starts[name]
            state[start : start + values.size] = values.reshape(-1)
        drive = np.zeros(self._free)
        reads = [np.zeros(len(motion.units)) for motion in self._motions]
        state[: self._free] = self._sigma(drive)
        courses = []
        for nudge in nudges:
            constants = self._constants.copy()
            for name, pushes in nudge.items():
                constants[self._starts[name] : self._starts[name] + pushes.size] += pushes.reshape(-1)
            courses.append(self._phase(state, drive, reads, constants, (still, most)))
        return courses

    def _phase(
        self,
        state: Floats,
        drive: Floats,
        reads: Sequence[Floats],
        constants: Floats,
        until: tuple[float, int],
    ) -> Course:
        """One phase, which moves what it is given; until it is still, or for so many time constants."""
        step, share = self._tau / self._steps, -math.expm1(-1 / self._steps)
        follow = [motion.follow(step) for motion in self._motions]
        course: list[Floats] = []
        for _ in range(until[1] * self._steps):
            pushed = constants.copy()
            for motion, read, part in zip(self._motions, reads, follow, strict=True):
                read += part * (motion.product(state) - read)
                pushed[motion.units] += read
            for link in self._equations.links:
                sources = state[self._starts[link.source] + link.drivers]
                pushed[self._starts[link.target] + link.driven] += sources
            drive += share * (pushed - drive)
            before = state[: self._free].copy()
            state[: self._free] = self._sigma(drive)
            course.append(state[: self._free].copy())
            if not np.abs(course[-1]).max(initial=0.0) < LARGEST:
                break
            moved = float(np.linalg.norm(course[-1] - before)) * self._steps
            if len(course) > self._steps and moved <= until[0] * float(np.linalg.norm(course[-1])):
                return Course(step, np.array(course), True, self._siemens(state))
        return Course(step, np.array(course), False, self._siemens(state))

    def _siemens(self, state: Floats) -> float:
        return sum(float((state[m.drivers] ** 2 @ m.siemens).sum()) for m in self._motions)

    def _sigma(self, drive: Floats) -> Floats:
        found = np.empty_like(drive)
        for layer in self._equations.layers:
            at = slice(self._starts[layer.value], self._starts[layer.value] + math.prod(layer.shape))
            found[at] = sigma(layer.activation, drive[at])
        return found


def _lags(noise_gain: Floats, amplifier: Amplifier | None) -> Floats:
    """Time constant of a virtual ground with a noise gain of 1 + what is given, s."""
    if amplifier is None:
        return np.zeros_like(noise_gain)
    return (1.0 + noise_gain) / (2 * math.pi * amplifier.gain_bandwidth.value)
