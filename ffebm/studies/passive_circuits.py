"""Deep resistive blocks in ngspice against the runtime: states, energy, gradients."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ffebm.exporters.spice.control import TOLERANCE
from ffebm.exporters.spice.ngspice import operating_points
from ffebm.exporters.spice.passive import PassiveCircuit, PassiveNetlist, held_weight
from ffebm.exporters.spice.stimulus import FREE, PHASES, Stimulus
from ffebm.graph.tensor import Floats
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
    """

    block: str
    cells: int
    samples: int
    errors: dict[str, float]
    slope: float
    power: float
    cosine: float

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
    circuit, found = made.circuit, operating_points(made)
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
    )


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
