"""Energy blocks in ngspice against the runtime: states, settling time, power, gradients."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from ffebm.errors import UsageError
from ffebm.exporters.export import held_matrix
from ffebm.exporters.spice.circuit import BlockCircuit
from ffebm.exporters.spice.control import BILLED, EDGE, GIVEN, RUNS, TOLERANCE
from ffebm.exporters.spice.export import Netlist
from ffebm.exporters.spice.names import Wired
from ffebm.exporters.spice.ngspice import Waveforms, simulate
from ffebm.exporters.spice.stimulus import FREE, MINUS, PHASES, PLUS, Stimulus
from ffebm.graph.energy_block import EnergyBlock
from ffebm.graph.tensor import Floats
from ffebm.limits import CIRCUIT_SAMPLES
from ffebm.mapping.circuit.equations import output_shapes, seeded_currents
from ffebm.mapping.circuit.moving import as_circuit
from ffebm.plan.conductance import from_matrix
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.circuit_time import CircuitTime
from ffebm.runtime.blocks.estimators.contrast import FreePoint, Gradients
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.estimators.nudge import ErrorCurrent
from ffebm.runtime.blocks.settling.settling import Outcome
from ffebm.runtime.executor import Executor
from ffebm.studies.inference import read_inputs

RESOLVED = 1e-4
"""Largest element of a gradient, for a largest error current of 1, that the difference of two simulated
states still resolves; what is smaller, as behind units at the ends of their range, is left out."""

SWEEPS, STILL = 5000, 1e-11
"""The runtime settles to this residual, or gives up after so many sweeps."""


@dataclass(frozen=True)
class SettledBlock:
    """What the runtime makes of a block with the weights that its cells hold.

    Attributes:
        stimulus: What drives it, with the states of every phase.
        gradients: Of its weights and biases by equilibrium propagation, by source name.
        settled: Its sweeps came to rest in every phase.
    """

    stimulus: Stimulus
    gradients: dict[str, Tensor]
    settled: bool


@dataclass(frozen=True)
class CircuitComparison:
    """A block in ngspice beside the same block in the runtime; of several samples the worst.

    Attributes:
        block: Name of the block.
        cells: Of its circuit.
        samples: How many were run.
        errors: Norm of the difference of the states over their norm, by run and phase.
        seconds: Until the free phase stays within 1 % of where it goes, s.
        billed: Phases as the plan bills them, s: free and read out, free before a nudge, nudged.
        watts: Of all cells at the end of the free phase, mean over the samples, as ngspice has it.
        expected_watts: The same from conductances and the runtime's states.
        billed_watts: As the plan bills them.
        cosines: Smallest over weights of the cosine of the gradients of both, by run; nan if all vanish.
    """

    block: str
    cells: int
    samples: int
    errors: dict[str, dict[str, float]]
    seconds: float
    billed: tuple[float, float, float]
    watts: float
    expected_watts: float
    billed_watts: float
    cosines: dict[str, float]

    @property
    def agrees(self) -> bool:
        """The circuit goes where the runtime says, in every phase."""
        return all(error <= TOLERANCE for error in self.errors[GIVEN].values())


def sampled_inputs(plan: Plan, path: Path) -> dict[int, dict[str, Floats]]:
    """What the samples of a file clamp each block to, by its id and the input's value name.

    Blocks before it are computed without noise and converters.

    Raises:
        UsageError: If the file does not fit, or holds more samples than a circuit is driven with.
    """
    inputs = read_inputs(plan, path)
    count = max((len(values) for values in inputs.values() if values.ndim), default=1)
    if count > CIRCUIT_SAMPLES.value:
        raise UsageError(
            f"{path} holds {count} samples", allowed=CIRCUIT_SAMPLES.allowed, hint=CIRCUIT_SAMPLES.hint
        )
    net = Executor(plan, tiles=dict.fromkeys(plan.groups_of_weights()))
    net.notices.enabled = False
    with torch.no_grad():
        net(*(torch.from_numpy(values.copy()) for values in inputs.values()))
    return {
        block.id: {name: x.double().numpy() for name, x in found.inputs.items()}
        for block, found in zip(plan.blocks, net.equilibria, strict=True)
    }


def held_weights(plan: Plan, circuit: BlockCircuit) -> dict[str, Tensor]:
    """Weights and biases of a block as its cells stand for them, by source name."""
    block = circuit.block
    found = {name: torch.from_numpy(plan.weights[name].astype(np.float64)) for name in block.weights()}
    for _, interaction in block.interactions():
        linear = interaction.linear
        if linear is not None:
            held = from_matrix(linear, held_matrix(plan, linear), plan.weights[linear.weight].shape)
            found[linear.weight] = torch.from_numpy(np.ascontiguousarray(held, np.float64))
    return found


class _Kept:
    """Equilibrium propagation that keeps its nudged states."""

    def __init__(self, beta: float) -> None:
        self._ep = EP(beta=beta, relative=True)
        self.states: list[list[Tensor]] = []

    def gradients(self, free: FreePoint, current: ErrorCurrent) -> tuple[Gradients, Outcome]:
        nudged = self._ep.nudge(free, current)
        self.states = nudged.states()
        return nudged.gradients(free), nudged.outcome


def expected(plan: Plan, circuit: BlockCircuit, stimulus: Stimulus) -> SettledBlock:
    """Settle a block in the runtime, freely and under both nudges, in double precision."""
    return settled_block(plan, circuit.block, held_weights(plan, circuit), stimulus)


def settled_block(
    plan: Plan, block: EnergyBlock, weights: Mapping[str, Tensor], stimulus: Stimulus
) -> SettledBlock:
    """As `expected`, with given weights and biases by source name."""
    settle = msgspec.structs.replace(
        plan.settle, free_sweeps=SWEEPS, nudged_sweeps=SWEEPS, tol=STILL, strict=False, settling="sweeps"
    )
    return _in_runtime(BlockRuntime(block), weights, stimulus, settle)


def moved(plan: Plan, circuit: BlockCircuit, stimulus: Stimulus) -> SettledBlock:
    """Move a block in the runtime as the circuit that it is, in double precision.

    Returns:
        Its states when they are looked at: the free one when an inference reads it, the nudged ones at the
        end of their phases in a training step.
    """
    settle = as_circuit(msgspec.structs.replace(plan.settle, strict=False))
    time = CircuitTime(circuit.block, plan.hardware.analog_group(circuit.block.group))
    runtime, weights = BlockRuntime(circuit.block, time=time), held_weights(plan, circuit)
    with torch.no_grad():
        read = _in_runtime(runtime, weights, stimulus, settle)
    nudged = _in_runtime(runtime, weights, stimulus, settle)
    states = {**nudged.stimulus.expected, FREE: read.stimulus.expected[FREE]}
    return replace(nudged, stimulus=replace(stimulus, expected=states))


def _in_runtime(
    runtime: BlockRuntime, weights: Mapping[str, Tensor], stimulus: Stimulus, settle: Settle
) -> SettledBlock:
    """A block in the runtime; where nothing records gradients its free phase alone."""
    block, kept = runtime.block, _Kept(stimulus.beta)
    weights = {n: w.requires_grad_(w.is_floating_point()) for n, w in weights.items()}
    inputs = {name: torch.from_numpy(values) for name, values in stimulus.inputs.items()}
    outputs, equilibrium = runtime.run(inputs, weights, settle, kept)
    by_phase = {FREE: [equilibrium.state[layer.value] for layer in block.layers]}
    if torch.is_grad_enabled():
        wanted = [torch.from_numpy(stimulus.currents[name]) for name in outputs]
        torch.autograd.backward(list(outputs.values()), wanted)
        by_phase |= dict(zip((PLUS, MINUS), kept.states, strict=True))
    states = {
        phase: {layer.value: s.numpy() for layer, s in zip(block.layers, found, strict=True)}
        for phase, found in by_phase.items()
    }
    back = equilibrium.backward
    settled = bool(equilibrium.converged.all()) and back is not None and bool(back.converged.all())
    gradients = {name: w.grad for name, w in weights.items() if w.grad is not None}
    return SettledBlock(replace(stimulus, expected=states), gradients, settled)


def stimulus_of(circuit: Wired, inputs: Mapping[str, Floats]) -> Stimulus:
    """What drives a block that is clamped to some samples."""
    samples = len(next(iter(inputs.values())))
    return Stimulus(dict(inputs), seeded_currents(output_shapes(circuit.block), samples))


def compare(plan: Plan, made: Netlist, known: SettledBlock) -> CircuitComparison:
    """Run a netlist in ngspice and hold it against the runtime.

    Raises:
        UsageError: If ngspice is missing, takes too long, or does not get through.
    """
    circuit = made.circuit
    waves = simulate(made)
    samples = range(made.stimulus.samples)
    ends = {run: dict(zip(PHASES, _states_at(made, waves, run), strict=True)) for run in RUNS}
    target = {phase: flat(circuit, known.stimulus.expected[phase]) for phase in PHASES}
    errors = {run: {phase: apart(ends[run][phase], target[phase]) for phase in PHASES} for run in RUNS}
    free_end = made.timeline.given
    watts = float(np.mean([waves[sample, GIVEN].watts_at(free_end) for sample in samples]))
    return CircuitComparison(
        block=circuit.block.name,
        cells=circuit.cells,
        samples=len(samples),
        errors=errors,
        seconds=max(_time_to(waves[s, GIVEN], made.timeline.given, TOLERANCE) for s in samples),
        billed=(made.timeline.read, made.timeline.before_nudge, made.timeline.nudged),
        watts=watts,
        expected_watts=float(np.mean(cell_watts(circuit, known.stimulus))),
        billed_watts=_billed_watts(circuit),
        cosines={
            run: smallest_cosine(circuit, held_weights(plan, circuit), known, ends[run]) for run in RUNS
        },
    )


def _billed_watts(circuit: BlockCircuit) -> float:
    """Power of the cells as a phase is billed: by what the block was seen to need, or by their number."""
    relaxation, needs = circuit.relaxation, circuit.block.relaxed
    if needs is not None:
        return needs.siemens * float(relaxation.voltage.value) ** 2
    placed = sum(array.cells for array in circuit.arrays if not array.transposed)
    return float(placed * relaxation.conductance.value * relaxation.voltage.value**2)


def cell_watts(circuit: BlockCircuit, stimulus: Stimulus) -> Floats:
    """Power of all cells at the free states of a stimulus, [samples]: conductance times voltage squared."""
    held = {name: values.reshape(stimulus.samples, -1) for name, values in stimulus.inputs.items()}
    for name, values in stimulus.expected[FREE].items():
        held[name] = values.reshape(stimulus.samples, -1)
    total = np.zeros(stimulus.samples)
    for array in circuit.arrays:
        line = array.plus.sum(1) + array.minus.sum(1)
        padded = np.concatenate([held[array.source], np.zeros((stimulus.samples, 1))], axis=1)
        total += (padded[:, array.drivers] ** 2 @ line).sum(1)
    return np.asarray(total * circuit.relaxation.voltage.value**2)


def _states_at(made: Netlist, waves: Mapping[tuple[int, str], Waveforms], run: str) -> Iterator[Floats]:
    """The states by phase, when they are looked at, just before a nudge changes, [samples, units]."""
    edge = EDGE * made.circuit.relaxation.time_constant.value
    for second in made.timeline.looks(run):
        yield np.stack([waves[k, run].at(second - edge) for k in range(made.stimulus.samples)])


def flat(circuit: Wired, states: Mapping[str, Floats]) -> Floats:
    """States of all layers side by side, [samples, units]."""
    found = [states[layer.value] for layer in circuit.block.layers]
    return np.concatenate([values.reshape(len(values), -1) for values in found], axis=1)


def apart(found: Floats, target: Floats) -> float:
    """Norm of the difference over the norm, of the worst sample."""
    sizes = np.linalg.norm(target, axis=1)
    return float((np.linalg.norm(found - target, axis=1) / np.where(sizes > 0, sizes, 1.0)).max())


def _time_to(waves: Waveforms, phase: float, accuracy: float) -> float:
    """Time after which the free phase stays within a share of its end, s."""
    inside = waves.times <= phase
    states, end = waves.states[inside], waves.at(phase)
    far = np.linalg.norm(states - end, axis=1) > accuracy * (float(np.linalg.norm(end)) or 1.0)
    last = int(np.flatnonzero(far)[-1]) if far.any() else -1
    return float(waves.times[inside][min(last + 1, len(states) - 1)])


def smallest_cosine(
    circuit: Wired, held: Mapping[str, Tensor], known: SettledBlock, ends: Mapping[str, Floats]
) -> float:
    """Smallest cosine, over weights, of gradients by nudged states of ngspice and the runtime's.

    Args:
        circuit: The block's circuit.
        held: Weights and biases by source name.
        known: The block in the runtime.
        ends: States of ngspice by phase, [samples, units].
    """
    block, beta = circuit.block, known.stimulus.beta
    runtime = BlockRuntime(block)
    inputs = {name: torch.from_numpy(values) for name, values in known.stimulus.inputs.items()}
    total: dict[str, Tensor] = {}
    for phase, sign in ((PLUS, 1.0), (MINUS, -1.0)):
        weights = {n: w.clone().requires_grad_(n in known.gradients) for n, w in held.items()}
        energy = runtime.energy(inputs, weights, named(circuit, ends[phase])).sum()
        wanted = list(known.gradients)
        for name, grad in zip(wanted, torch.autograd.grad(energy, [weights[n] for n in wanted]), strict=True):
            part = sign * grad / (2 * beta)
            total[name] = total[name] + part if name in total else part
    cosines = [
        float(torch.nn.functional.cosine_similarity(total[n].flatten(), g.flatten(), dim=0, eps=1e-30))
        for n, g in known.gradients.items()
        if float(g.abs().max()) >= RESOLVED
    ]
    return min(cosines, default=math.nan)


def named(circuit: Wired, flat: Floats) -> dict[str, Tensor]:
    """The layers of states side by side."""
    found, start = {}, 0
    for layer in circuit.block.layers:
        size = int(np.prod(layer.shape))
        found[layer.value] = torch.from_numpy(flat[:, start : start + size].reshape(-1, *layer.shape).copy())
        start += size
    return found


__all__ = [
    "BILLED",
    "GIVEN",
    "CircuitComparison",
    "SettledBlock",
    "compare",
    "expected",
    "moved",
    "sampled_inputs",
    "stimulus_of",
]
