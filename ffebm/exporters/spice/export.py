"""The SPICE exporter: one netlist a block."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import get_args

import msgspec

from ffebm.errors import UsageError
from ffebm.exporters.export import Export, effects, sharing_notes, source_line
from ffebm.exporters.spice.circuit import BlockCircuit, block_circuit
from ffebm.exporters.spice.control import PhaseTimes, control
from ffebm.exporters.spice.names import NodeNames
from ffebm.exporters.spice.netlist import elements, sources
from ffebm.exporters.spice.passive import PassiveNetlist, passive_circuit, passive_netlist
from ffebm.exporters.spice.stimulus import Stimulus
from ffebm.graph.energy_block import EnergyBlock, PhaseKind
from ffebm.limits import CIRCUIT_SAMPLES
from ffebm.mapping.circuit.dynamics import Dynamics
from ffebm.mapping.circuit.equations import nudges, output_shapes, seeded_currents, seeded_inputs
from ffebm.mapping.circuit.passive import PHYSICS, PassiveCircuit
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.plan import Plan

DONE = frozenset({"continuous settling", "learning in place"})
"""What of a description the netlists have, or what does not act while a block settles."""

NODES = "nodes.json"
"""Beside the netlists: the node of each unit, in units of which voltage, and how long phases last."""

FULLY = 1e-6
"""Share of its state that a circuit may still be off when it is held against where it goes."""


@dataclass(frozen=True)
class Netlist:
    """A block as a circuit, its drive, and its text.

    Attributes:
        circuit: The circuit.
        stimulus: What drives it.
        timeline: How long its phases last.
        settled: It comes to rest within what is simulated.
        text: What ngspice reads.
    """

    circuit: BlockCircuit
    stimulus: Stimulus
    timeline: PhaseTimes
    settled: bool
    text: str

    @property
    def file(self) -> str:
        """Its name."""
        return f"{self.circuit.block.name}.cir"


def chosen_blocks(plan: Plan, block: int | None = None) -> list[EnergyBlock]:
    """Blocks of a plan.

    Args:
        plan: The plan.
        block: This one alone; None is all.

    Raises:
        UsageError: If there is no such block, or the plan has no weights.
    """
    needs_weights(plan)
    chosen = [b for b in plan.blocks if block is None or b.id == block]
    if not chosen:
        found = "the plan has no energy block" if block is None else f"--block {block}"
        raise UsageError(found, allowed=f"one of its {len(plan.blocks)} blocks, counted from 0")
    return chosen


def circuits(plan: Plan, block: int | None = None) -> list[BlockCircuit]:
    """The circuits of a plan's Hopfield blocks.

    Args:
        plan: The plan.
        block: Of this one alone; None is of all.

    Raises:
        UsageError: If there is no such block, or it cannot be wired.
    """
    return [block_circuit(plan, b) for b in chosen_blocks(plan, block)]


def is_passive(plan: Plan) -> bool:
    """Its blocks are deep resistive ones; a plan has one physics."""
    return plan.options.physics == PHYSICS


def passive_circuits(plan: Plan, block: int | None = None) -> list[PassiveCircuit]:
    """The circuits of a plan's deep resistive blocks, as `circuits`."""
    return [passive_circuit(plan, b) for b in chosen_blocks(plan, block)]


def passive_seeded(circuit: PassiveCircuit) -> Stimulus:
    """One sample of either sign, spread evenly over [-1, 1) with a fixed seed, and no expected states."""
    currents = seeded_currents(output_shapes(circuit.block), 1)
    return Stimulus({name: 2 * x - 1 for name, x in seeded_inputs(circuit.inputs, 1).items()}, currents)


def passive_export(plan: Plan, netlists: list[PassiveNetlist]) -> Export:
    """The folder of some netlists of a plan of deep resistive blocks."""
    files = {found.file: found.text.encode("ascii") for found in netlists}
    described = [found.described() for found in netlists]
    files[NODES] = msgspec.json.format(msgspec.json.encode(described), indent=1)
    largest = max(
        found.circuit.volts * float(max(abs(x).max() for x in found.stimulus.inputs.values()))
        for found in netlists
    )
    single = all(
        plan.hardware.analog_group(n.circuit.block.group).tile.crossbar().is_single for n in netlists
    )
    cells = (
        "cells are at their targets, one a weight and window, without noise"
        if single
        else "conductances are exact, one a weight and window, the largest weight of a block at g_max; the "
        "plan places pairs of cells, of which one would do"
    )
    lines = (
        cells,
        f"diodes and amplifiers are ideal; a node has {netlists[0].circuit.farads:g} F",
        f"the largest clamped voltage is {largest:.3g} V",
    )
    missing = [name for name in effects(plan) if name not in DONE]
    left = [f"left out of what the hardware description asks for: {', '.join(missing)}"] if missing else []
    return Export(marker=NODES, files=files, notes=(*lines, *left))


def seeded(circuit: BlockCircuit) -> Stimulus:
    """One sample, drawn with a fixed seed, and no expected states."""
    currents = seeded_currents(output_shapes(circuit.block), 1)
    return Stimulus(seeded_inputs(circuit.inputs, 1), currents)


def netlist(plan: Plan, circuit: BlockCircuit, stimulus: Stimulus, *, ideal: bool = False) -> Netlist:
    """The netlist of a block.

    Args:
        plan: Whose block it is.
        circuit: Of the block.
        stimulus: What drives it.
        ideal: Its amplifiers are ideal, whatever the description says.

    Raises:
        UsageError: If there are more samples than one circuit is driven with.
    """
    if stimulus.samples > CIRCUIT_SAMPLES.value:
        raise UsageError(
            f"{stimulus.samples} samples", allowed=CIRCUIT_SAMPLES.allowed, hint=CIRCUIT_SAMPLES.hint
        )
    amplifier = None if ideal else circuit.relaxation.amplifier
    names = NodeNames(circuit)
    dynamics = Dynamics(circuit.equations(), circuit.relaxation, amplifier)
    relaxed = dynamics.relax(stimulus.inputs, nudges(stimulus.currents, stimulus.beta))
    courses = list(itertools.chain.from_iterable(relaxed))
    read, before, nudged = (
        circuit.relaxation.lasting(circuit.block.time_constants(kind)) for kind in get_args(PhaseKind)
    )
    needed = max(course.time_to(FULLY) for course in courses)
    timeline = PhaseTimes(read, before, nudged, given=max(1.5 * needed, read, before, nudged))
    lines = [f"* {circuit.block.name}: an energy block, written by ffebm export --to spice"]
    lines += elements(circuit, names, amplifier, source_line(plan))
    lines += sources(circuit, names, stimulus)
    lines += [".options reltol=1e-6 abstol=1e-15 vntol=1e-10 method=gear maxord=2 gmin=1e-15"]
    lines += control(circuit, names, stimulus, timeline)
    lines += [".end"]
    settled = all(course.settled for course in courses)
    return Netlist(circuit, stimulus, timeline, settled, "\n".join(lines) + "\n")


def spice_export(plan: Plan, netlists: list[Netlist]) -> Export:
    """The folder of some netlists of a plan."""
    files = {found.file: found.text.encode("ascii") for found in netlists}
    files[NODES] = msgspec.json.format(msgspec.json.encode([_nodes(found) for found in netlists]), indent=1)
    return Export(marker=NODES, files=files, notes=tuple(notes(plan, netlists)))


def _nodes(found: Netlist) -> dict[str, object]:
    """Which node stands for what, for programs."""
    names, circuit = NodeNames(found.circuit), found.circuit
    return {
        "netlist": found.file,
        "block": circuit.block.name,
        "volts": circuit.relaxation.voltage.value,
        "phase_seconds": asdict(found.timeline),
        "beta": found.stimulus.beta,
        "inputs": {name: names.units(name) for name in circuit.inputs},
        "layers": {layer.value: names.units(layer.value) for layer in circuit.block.layers},
    }


def export_spice(plan: Plan, stimuli: Mapping[int, Stimulus] | None = None) -> Export:
    """A plan's blocks as netlists for ngspice.

    Args:
        plan: The plan.
        stimuli: What drives each block, by its id; None draws one sample a block.
    """
    if is_passive(plan):
        return passive_export(plan, _passive_netlists(plan, stimuli))
    made = []
    for circuit in circuits(plan):
        stimulus = seeded(circuit) if stimuli is None else stimuli[circuit.block.id]
        made.append(netlist(plan, circuit, stimulus))
    return spice_export(plan, made)


def _passive_netlists(plan: Plan, stimuli: Mapping[int, Stimulus] | None) -> list[PassiveNetlist]:
    made = []
    for circuit in passive_circuits(plan):
        stimulus = passive_seeded(circuit) if stimuli is None else stimuli[circuit.block.id]
        made.append(passive_netlist(plan, circuit, stimulus))
    return made


def notes(plan: Plan, netlists: list[Netlist]) -> list[str]:
    """What the netlists do not show."""
    missing = [name for name in effects(plan) if name not in DONE]
    found = ["cells are at their targets, without noise, and converters at the edge are exact"]
    if missing:
        found.append(f"left out of what the hardware description asks for: {', '.join(missing)}")
    windows = [f"{n.circuit.block.name} {max(len(a.drivers) for a in n.circuit.arrays)}" for n in netlists]
    many = [
        text
        for text, n in zip(windows, netlists, strict=True)
        if any(len(a.drivers) > 1 for a in n.circuit.arrays)
    ]
    if many:
        found.append(f"each window of a convolution has arrays of its own, most in {', '.join(many)}")
    found += sharing_notes(plan)
    moving = [n.circuit.block.name for n in netlists if not n.settled]
    if moving:
        found.append(f"warning: {', '.join(moving)} does not come to rest")
    return found
