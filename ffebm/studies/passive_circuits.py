"""Deep resistive blocks in ngspice against the runtime: states, energy, gradients."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ffebm.exporters.spice.control import BILLED, TOLERANCE
from ffebm.exporters.spice.ngspice import PassiveRun, passive_run
from ffebm.exporters.spice.passive import PassiveNetlist, held_weight
from ffebm.exporters.spice.stimulus import FREE, PHASES, Stimulus
from ffebm.graph.tensor import Floats
from ffebm.mapping.circuit.passive import PassiveCircuit
from ffebm.plan.conductance import linears_of
from ffebm.plan.plan import Plan
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.physics.catalogue import physics_of
from ffebm.studies.circuits import SettledBlock, apart, flat, named, settled_block, smallest_cosine


@dataclass(frozen=True)
class PassiveComparison:
    """A deep resistive block in ngspice beside the same block in the runtime; of several samples the worst.

    Attributes:
        block: Name of the block.
        cells: Conductances of its circuit.
        samples: How many there were.
        errors: Distance of the states over their norm, all layers together, by phase.
        slope: Largest slope of the energy at ngspice's free state, over that at rest with all layers at 0;
            nodes that a diode holds count only where it would let them go.
        power: Of the conductances at ngspice's free state over that at the runtime's, less one.
        cosine: Smallest cosine of EP gradients by the nudged states, over weights; NaN where all vanish.
        late: The same distances at the ends of phases as they are billed.
        seconds: Until the free phase stays within 1 % of its operating point, s; infinite if it does not in
            the time that a phase before a nudge is billed.
        billed: Phases as the plan bills them, s: free and read out, free before a nudge, nudged.
        late_cosine: The cosine by nudged states at the ends of phases as they are billed.
        watts: Of the conductances at ngspice's free state, mean over samples, and as the plan bills them.
    """

    block: str
    cells: int
    samples: int
    errors: dict[str, float]
    slope: float
    power: float
    cosine: float
    late: dict[str, float]
    seconds: float
    billed: tuple[float, float, float]
    late_cosine: float
    watts: tuple[float, float]

    @property
    def agrees(self) -> bool:
        """The circuit goes where the runtime says, in every phase."""
        return all(error <= TOLERANCE for error in self.errors.values())


def exact_weights(plan: Plan, circuit: PassiveCircuit) -> dict[str, Tensor]:
    """Conductances, as the circuit has them, and biases of a block, by source name."""
    linears = linears_of([circuit.block])
    return {
        name: torch.from_numpy(
            held_weight(plan, linears[name]) if name in linears else plan.weights[name].astype(np.float64)
        )
        for name in circuit.block.weights()
    }


def passive_expected(plan: Plan, circuit: PassiveCircuit, stimulus: Stimulus) -> SettledBlock:
    """Settle a block in the runtime, freely and under both nudges, in double precision."""
    return settled_block(plan, circuit.block, exact_weights(plan, circuit), stimulus)


def passive_compare(plan: Plan, made: PassiveNetlist, known: SettledBlock) -> PassiveComparison:
    """Run a netlist in ngspice and hold it against the runtime.

    Raises:
        UsageError: If ngspice is missing, takes too long, or does not get through.
    """
    circuit, run = made.circuit, passive_run(made)
    found, times = run.points, made.timeline
    ends = [_at(run, second) for second in times.looks(BILLED)]
    late = dict(zip(PHASES, ends, strict=True))
    target = {phase: flat(circuit, known.stimulus.expected[phase]) for phase in PHASES}
    weights = exact_weights(plan, circuit)
    return PassiveComparison(
        block=circuit.block.name,
        cells=circuit.cells,
        samples=made.stimulus.samples,
        errors={phase: apart(found[phase], target[phase]) for phase in PHASES},
        slope=energy_slope(circuit, weights, made.stimulus, found[FREE]),
        power=_watts(circuit, made.stimulus, found[FREE]) / _watts(circuit, made.stimulus, target[FREE]) - 1,
        cosine=smallest_cosine(circuit, weights, known, found),
        late={phase: apart(late[phase], target[phase]) for phase in PHASES},
        seconds=_seconds(run, times.ends(BILLED)[0]),
        billed=(times.read, times.before_nudge, times.nudged),
        late_cosine=smallest_cosine(circuit, weights, known, late),
        watts=(_watts(circuit, made.stimulus, found[FREE]), billed_watts(plan, circuit)),
    )


def billed_watts(plan: Plan, circuit: PassiveCircuit) -> float:
    """Power of the cells as a phase is billed; if it is not simulated, by the number of its cells."""
    relaxation, needs = plan.hardware.analog_group(circuit.block.group).relaxation, circuit.block.relaxed
    assert relaxation is not None
    siemens = circuit.cells * relaxation.conductance.value if needs is None else needs.siemens
    return float(siemens * circuit.volts**2)


def _at(run: PassiveRun, second: float) -> Floats:
    """The states of all samples at a time, [samples, units]."""
    pairs = zip(run.times, run.courses, strict=True)
    return np.stack([[np.interp(second, times, column) for column in course.T] for times, course in pairs])


def _seconds(run: PassiveRun, end: float) -> float:
    """Until the free phase of the slowest sample stays within 1 % of its operating point, s."""
    found = 0.0
    for times, course, goal in zip(run.times, run.courses, run.points[FREE], strict=True):
        inside = times <= end
        off = np.linalg.norm(course[inside] - goal, axis=1) > TOLERANCE * np.linalg.norm(goal)
        last = int(np.flatnonzero(off)[-1]) if off.any() else -1
        found = max(found, float(times[last + 1]) if last + 1 < inside.sum() else np.inf)
    return found


def energy_slope(
    circuit: PassiveCircuit, weights: Mapping[str, Tensor], stimulus: Stimulus, states: Floats
) -> float:
    """How far from stationary the energy is at some states, over its slope where all layers are at 0."""
    inputs = {name: torch.from_numpy(values) for name, values in stimulus.inputs.items()}
    physics, runtime = physics_of(circuit.block.physics), BlockRuntime(circuit.block)

    def slopes(at: Floats) -> list[Tensor]:
        """Those that no diode holds back, by layer."""
        state = {
            layer.value: s.clamp(*physics.bounds(layer)).requires_grad_()
            for layer, s in zip(circuit.block.layers, named(circuit, at).values(), strict=True)
        }
        found = torch.autograd.grad(runtime.energy(inputs, weights, state).sum(), list(state.values()))
        kept = []
        for layer, s, slope in zip(circuit.block.layers, state.values(), found, strict=True):
            low, high = physics.bounds(layer)
            near = 1e-6 * float(s.detach().abs().max())
            held = ((s <= low + near) & (slope >= 0)) | ((s >= high - near) & (slope <= 0))
            kept.append(torch.where(held, 0.0, slope))
        return kept

    largest, at_rest = (max(float(s.abs().max()) for s in slopes(at)) for at in (states, 0 * states))
    return largest / at_rest if at_rest else largest


def _watts(circuit: PassiveCircuit, stimulus: Stimulus, states: Floats) -> float:
    """Power of all conductances, mean over samples."""
    held = {name: values.reshape(stimulus.samples, -1) for name, values in stimulus.inputs.items()}
    for name, values in named(circuit, states).items():
        held[name] = values.numpy().reshape(stimulus.samples, -1)
    gains = {layer.value: layer.activation.scale for layer in circuit.block.layers}
    total = 0.0
    for joint in circuit.joints:
        across = (
            held[joint.source][:, joint.sources] - held[joint.target][:, joint.targets] / gains[joint.target]
        )
        total += float((across**2 @ joint.siemens).mean())
    return total * circuit.volts**2
