"""The control section of a netlist: which transients ngspice runs, what it measures, and its verdict.

A sample runs twice: with phases as long as they are billed, and with all the time that the circuit needs. The
second is held against the expected states; if one is off by more than the tolerance, ngspice exits with 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ffebm.exporters.spice.circuit import BlockCircuit
from ffebm.exporters.spice.names import NodeNames
from ffebm.exporters.spice.netlist import NUDGE
from ffebm.exporters.spice.neurons import number
from ffebm.exporters.spice.stimulus import PHASES, Stimulus
from ffebm.graph.tensor import Floats

TOLERANCE = 0.01
"""Norm of the difference of a state to the expected one over the norm of that, all layers together."""

BILLED, GIVEN = "billed", "given"
RUNS = (BILLED, GIVEN)
"""Phases as long as they are billed, and with time to settle."""

EDGE = 1e-3
"""Of a change of the nudge, in time constants."""

STEP = 0.2
"""Longest step of the integration, in time constants."""


@dataclass(frozen=True)
class PhaseTimes:
    """How long phases last, s.

    Attributes:
        read: Billed of a free phase that is read out.
        before_nudge: Billed of a free phase that nudged ones follow; the longer of the two.
        nudged: Billed of a nudged phase.
        given: Of any phase, with time to settle.
    """

    read: float
    before_nudge: float
    nudged: float
    given: float

    def ends(self, run: str) -> list[float]:
        """When the phases of a run end."""
        free, nudged = (self.before_nudge, self.nudged) if run == BILLED else (self.given, self.given)
        return [free, free + nudged, free + 2 * nudged]

    def looks(self, run: str) -> list[float]:
        """When states are held against the expected ones, by phase: a free one when it would be read out."""
        first, *others = self.ends(run)
        return [min(self.read, first) if run == BILLED else first, *others]


def raw_file(block: str, sample: int, run: str) -> str:
    """Where ngspice writes the waveforms of a sample."""
    return f"{block}_sample{sample}_{run}.raw"


def watched(circuit: BlockCircuit, names: NodeNames) -> list[str]:
    """Nodes whose waveforms are kept: the states of all layers, in order."""
    return [node for layer in circuit.block.layers for node in names.units(layer.value)]


def drivers(circuit: BlockCircuit, names: NodeNames) -> dict[str, str]:
    """The element that drives each line, by its node."""
    held = {node: f"v_{node}" for name in circuit.inputs for node in names.units(name)}
    return held | {node: f"bs_{node}" for node in watched(circuit, names)}


def control(
    circuit: BlockCircuit, names: NodeNames, stimulus: Stimulus, timeline: PhaseTimes
) -> Iterator[str]:
    """The control section."""
    yield ".control"
    yield "set filetype=binary"
    yield "set noaskquit"
    driven = drivers(circuit, names)
    for some in _some([*driven, *(f"{element}#branch" for element in driven.values())]):
        yield f"save {' '.join(some)}"
    yield "set agreed = 0"
    for sample in range(stimulus.samples):
        yield from _altered(circuit, names, stimulus, sample)
        for run in RUNS:
            yield from _run(circuit, names, stimulus, timeline, sample, run)
    if stimulus.expected:
        count = stimulus.samples * len(PHASES)
        yield f"echo $agreed of {count} settled states agree with the expected ones"
        yield f"if $agreed < {count}"
        yield "  quit 1"
        yield "end"
    yield "quit 0"
    yield ".endc"


def _some(words: list[str], count: int = 8) -> Iterator[list[str]]:
    for start in range(0, len(words), count):
        yield words[start : start + count]


def _altered(circuit: BlockCircuit, names: NodeNames, stimulus: Stimulus, sample: int) -> Iterator[str]:
    """Sources set to a sample."""
    yield f"* sample {sample}"
    if not sample:
        return  # the netlist itself has the first one
    volts, siemens = circuit.relaxation.voltage.value, circuit.relaxation.conductance.value
    for name, values in stimulus.inputs.items():
        for node, value in zip(names.units(name), values[sample].reshape(-1).tolist(), strict=True):
            yield f"alter v_{node} dc = {number(volts * value)}"
    for name, values in stimulus.currents.items():
        for node, value in zip(names.units(name), values[sample].reshape(-1).tolist(), strict=True):
            yield f"alter ge_{node} gain = {number(-siemens * value)}"


def _run(
    circuit: BlockCircuit, names: NodeNames, stimulus: Stimulus, timeline: PhaseTimes, sample: int, run: str
) -> Iterator[str]:
    """One transient through all phases, and what it measures at their ends."""
    relaxation, (free, plus, minus) = circuit.relaxation, timeline.ends(run)
    tau, push = relaxation.time_constant.value, stimulus.beta * relaxation.voltage.value
    points = [(0.0, 0.0), (free, 0.0), (free + EDGE * tau, push)]
    points += [(plus, push), (plus + EDGE * tau, -push)]
    pairs = [f"{number(t)} {number(v)}" for t, v in points]
    yield f"alter @v{NUDGE}[pwl] = [ {' '.join(pairs)} ]"
    step = STEP * tau
    yield f"tran {number(step)} {number(minus)} 0 {number(step)} uic"
    yield f"write {raw_file(circuit.block.name, sample, run)}"
    expected = stimulus.expected
    for name, second in zip(PHASES, timeline.looks(run), strict=True):
        at = number(second if second == minus else second - EDGE * tau)
        yield f"echo {circuit.block.name} sample {sample}, {run} time, phase {name}"
        for node in watched(circuit, names):
            yield f"meas tran {name}_{node} find v({node}) at={at}"
        if expected:
            yield from _verdict(circuit, names, expected[name], sample, name, run)


def _verdict(
    circuit: BlockCircuit,
    names: NodeNames,
    expected: dict[str, Floats],
    sample: int,
    phase: str,
    run: str,
) -> Iterator[str]:
    """How far a measured state is from the expected one."""
    volts = circuit.relaxation.voltage.value
    yield "let off = 0"
    size = 0.0
    for layer in circuit.block.layers:
        states = volts * expected[layer.value][sample].reshape(-1)
        size += float(states @ states)
        for node, value in zip(names.units(layer.value), states.tolist(), strict=True):
            yield f"let off = off + ({phase}_{node} - ({number(value)}))^2"
    yield f"let error = sqrt(off / {number(size or 1.0)})"
    yield "print error"
    if run == GIVEN:
        yield f"if error <= {number(TOLERANCE)}"
        yield "  let count = $agreed + 1"
        yield '  set agreed = "$&count"'
        yield "end"
