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
from ffebm.mapping.circuit.connections import Connections, Met
from ffebm.mapping.circuit.equations import Equations
from ffebm.mapping.circuit.sigma import sigma
from ffebm.mapping.circuit.wiring import Units

STEPS = 20
"""Steps in a time constant; what is fast is integrated exactly over a step."""

LARGEST = 1e100
"""State beyond which a phase is given up: it grows without end, and its square has no number."""
MOST = 500
"""Time constants after which a circuit that still moves is given up."""

CHECKED = 10
"""Steps after which is looked at who has come to rest, and when: looking takes as long as a small step."""

MOST_TOGETHER = 16384
"""Units of all samples that move together: more take memory for their courses, and are no faster."""


@dataclass(frozen=True)
class _Moment:
    """What moves, of some samples, after a step.

    Attributes:
        states: Of the free units, the clamped ones and ground, [samples, units + 1].
        drives: Of the free units, [samples, units].
        reads: What virtual grounds and identities have come to, [samples, lines].
    """

    states: Floats
    drives: Floats
    reads: Floats

    def of(self, samples: Units) -> "_Moment":
        """A copy of some of the samples."""
        return _Moment(self.states[samples], self.drives[samples], self.reads[samples])

    def put(self, sample: int, moment: "_Moment", row: int) -> None:
        """Take over where a sample has come to."""
        self.states[sample], self.drives[sample] = moment.states[row], moment.drives[row]
        self.reads[sample] = moment.reads[row]


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
        self._connections = Connections.of(equations, amplifier)
        self._starts, self._free = self._connections.starts, self._connections.free
        self._constants = np.concatenate([equations.constants[la.value] for la in equations.layers])
        self._follow = self._connections.follow(self.seconds)

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
    ) -> list[list[Course]]:
        """Settle from zero, and again under each nudge from where the one before has led.

        Args:
            inputs: By value name, [samples, *shape].
            nudges: What each phase adds to the drives of some layers, by value name, [samples, *layer].
            still: Change in a time constant, as a share of the state, at which a sample has come to rest.
            most: Time constants after which a phase is given up.

        Returns:
            The course of each phase, for each sample.
        """
        given = itertools.chain(inputs.values(), *(nudge.values() for nudge in nudges))
        samples = max((len(values) for values in given), default=1)
        together = max(1, MOST_TOGETHER // max(1, self._free))
        courses: list[list[Course]] = []
        for start in range(0, samples, together):
            part = slice(start, min(start + together, samples))
            pushed = [{name: values[part] for name, values in nudge.items()} for nudge in nudges]
            clamped = {name: values[part] for name, values in inputs.items()}
            courses += self._relax(clamped, pushed, part.stop - start, (still, most))
        return courses

    def _relax(
        self,
        inputs: Mapping[str, Floats],
        nudges: Sequence[Mapping[str, Floats]],
        samples: int,
        until: tuple[float, int],
    ) -> list[list[Course]]:
        """The same of samples that move together, each until it is still."""
        states = np.zeros((samples, self._connections.units + 1))  # the last one is ground
        for name, values in inputs.items():
            start = self._starts[name]
            states[:, start : start + math.prod(values.shape[1:])] = values.reshape(samples, -1)
        drives = np.zeros((samples, self._free))
        states[:, : self._free] = self._sigma(drives)
        moving = _Moment(states, drives, np.zeros((samples, self._connections.count)))
        phases = []
        for nudge in nudges:
            constants = np.tile(self._constants, (samples, 1))
            for name, pushes in nudge.items():
                start = self._starts[name]
                constants[:, start : start + math.prod(pushes.shape[1:])] += pushes.reshape(samples, -1)
            phases.append(self._phase(moving, constants, until))
        return [list(courses) for courses in zip(*phases, strict=True)]

    def _phase(self, moving: _Moment, constants: Floats, until: tuple[float, int]) -> list[Course]:
        """One phase, which moves what it is given: each sample until it is still, or for so long."""
        courses: list[list[Floats]] = [[] for _ in constants]
        settled = np.zeros(len(constants), np.bool_)
        left = np.arange(len(constants))  # samples that still move
        now, most = moving.of(left), until[1] * self._steps
        for done in range(0, most, CHECKED):
            run = self._advance(now, constants[left], min(CHECKED, most - done))
            states = np.stack([moment.states[:, : self._free] for moment in [now, *run]])
            lost, still = self._ends(states, until[0])
            still &= np.arange(done, done + len(run))[:, None] >= self._steps
            for row, sample in enumerate(left):
                last = next(iter(np.flatnonzero((lost | still)[:, row])), len(run) - 1)
                courses[sample].append(states[1 : last + 2, row])
                settled[sample] = still[last, row]
                moving.put(int(sample), run[last], row)
            moves = np.flatnonzero(~(lost | still).any(axis=0))
            left, now = left[moves], run[-1].of(moves)
            if not len(left):
                break
        watts = self._connections.watts(moving.states)
        found = zip(courses, settled, watts, strict=True)
        return [Course(self.seconds, np.concatenate(c), bool(rest), float(w)) for c, rest, w in found]

    def _ends(self, states: Floats, still: float) -> tuple[Met, Met]:
        """Whether samples are lost, and whether they are still, after each step, [steps, samples].

        Args:
            states: Before the first step and after each, [1 + steps, samples, units].
            still: Change in a time constant, as a share of the state.
        """
        after = states[1:]
        with np.errstate(over="ignore", invalid="ignore"):  # of samples that are lost
            moved = np.linalg.norm(after - states[:-1], axis=2) * self._steps
            rests = moved <= still * np.linalg.norm(after, axis=2)
            lost = ~(np.abs(after).max(axis=2, initial=0.0) < LARGEST)
        return lost, rests & ~lost

    @property
    def seconds(self) -> float:
        """Of a step, s."""
        return self._tau / self._steps

    def _advance(self, now: _Moment, constants: Floats, steps: int) -> list[_Moment]:
        """Some steps; what is fast is integrated exactly over a step."""
        run: list[_Moment] = []
        share = -math.expm1(-1 / self._steps)
        with np.errstate(over="ignore", invalid="ignore"):  # of samples that are lost
            for _ in range(steps):
                reads = now.reads + self._follow * (self._connections.asked(now.states) - now.reads)
                pushed = constants + self._connections.spread(reads)
                drives = now.drives + share * (pushed - now.drives)
                states = now.states.copy()
                states[:, : self._free] = self._sigma(drives)
                now = _Moment(states, drives, reads)
                run.append(now)
        return run

    def _sigma(self, drives: Floats) -> Floats:
        found = np.empty_like(drives)
        for layer, units in zip(self._equations.layers, self.layers, strict=True):
            found[:, units] = sigma(layer.activation, drives[:, units])
        return found
