"""ngspice against the runtime: the simulated circuits go where the runtime says."""

import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed

from ffebm.errors import UsageError
from ffebm.exporters.spice.circuit import BlockCircuit
from ffebm.exporters.spice.control import BILLED, GIVEN
from ffebm.exporters.spice.export import circuits, netlist, seeded
from ffebm.exporters.spice.neurons import buffer_of
from ffebm.exporters.spice.ngspice import ngspice_path, simulate
from ffebm.mapping.circuit.sigma import sigma
from ffebm.plan.plan import Plan
from ffebm.runtime.blocks import circuit_time
from ffebm.studies.circuits import CircuitComparison, compare, expected, moved
from tests.exporters.spice.models import HARD, SOFT, conv_plan, dense_plan, lasting, needs_ngspice
from tests.mapping.circuit.test_sigma import ACTIVATIONS
from tests.running import Run

BLOCKS = {
    "one layer": ([6, 5], ["Clip"]),
    "two layers": ([6, 5, 4], ["Clip", ""]),
    "soft layers": ([5, 6, 4], ["Tanh", "Sigmoid"]),
    "a chain of four": ([6, 5, 4, 5, 3], ["Clip", "Relu", "Clip", ""]),
}


def compared(plan: Plan, *, ideal: bool = False) -> CircuitComparison:
    """The first block of a plan, driven by a seeded sample."""
    circuit = circuits(plan)[0]
    known = expected(plan, circuit, seeded(circuit))
    assert known.settled
    return compare(plan, netlist(plan, circuit, known.stimulus, ideal=ideal), known)


def check(found: CircuitComparison, error: float, *, saturated: bool = False) -> None:
    """It agrees as billed and given time, and so do powers and, if there are any, gradients."""
    assert found.agrees
    assert max(found.errors[GIVEN].values()) <= error
    assert max(found.errors[BILLED].values()) <= 0.01
    assert found.watts == pytest.approx(found.expected_watts, rel=0.05)
    for run in (BILLED, GIVEN):
        assert found.cosines[run] >= 0.999 or (saturated and math.isnan(found.cosines[run]))


@needs_ngspice
@pytest.mark.parametrize("name", BLOCKS)
def test_dense_blocks_go_where_the_runtime_says(name: str) -> None:
    check(compared(dense_plan(*BLOCKS[name])), 2e-3)


@needs_ngspice
def test_with_ideal_amplifiers_they_go_there_exactly() -> None:
    check(compared(dense_plan(*BLOCKS["two layers"]), ideal=True), 1e-5)


@needs_ngspice
def test_a_block_of_convolutions_goes_where_the_runtime_says() -> None:
    check(compared(conv_plan()), 3e-3)


@needs_ngspice
@pytest.mark.parametrize("make", [partial(dense_plan, *BLOCKS["two layers"]), conv_plan])
def test_a_circuit_in_the_runtime_is_on_its_way_where_ngspice_is(
    make: Callable[[], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = lasting(make(), 1.5)  # far from settled, in every phase
    monkeypatch.setattr(circuit_time, "STEPS", 200)
    circuit = circuits(plan)[0]
    known = moved(plan, circuit, seeded(circuit))
    found = compare(plan, netlist(plan, circuit, known.stimulus), known)
    assert max(found.errors[GIVEN].values()) > 0.1
    assert max(found.errors[BILLED].values()) < 3e-3


def with_gain(plan: Plan, gain: float) -> Plan:
    """The same plan with amplifiers of another gain."""
    group = plan.hardware.analog[0]
    assert group.relaxation is not None
    assert group.relaxation.amplifier is not None
    amplifier = group.relaxation.amplifier
    amplifier = changed(amplifier, gain=changed(amplifier.gain, value=gain))
    group = changed(group, relaxation=changed(group.relaxation, amplifier=amplifier))
    return changed(plan, hardware=changed(plan.hardware, analog=(group,)))


@needs_ngspice
def test_what_finite_amplifiers_add_goes_with_the_inverse_of_their_gain() -> None:
    plan = dense_plan(*BLOCKS["two layers"])
    errors = [max(compared(with_gain(plan, gain)).errors[GIVEN].values()) for gain in (1e3, 1e4)]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert 1e-4 < errors[1] < 2e-3


@needs_ngspice
def test_all_neurons_are_what_the_expressions_say(tmp_path: Path) -> None:
    drives = np.linspace(-0.4, 0.4, 9)
    lines = ["* neurons", *(f"Vu{i} u{i} 0 {u:g}" for i, u in enumerate(drives))]
    nodes = []
    for a, activation in enumerate(ACTIVATIONS):
        for i in range(len(drives)):
            lines.append(f"Bs{a}_{i} s{a}_{i} 0 V={buffer_of(activation, f'u{i}', 0.1)}")
            nodes.append(f"v(s{a}_{i})")
    lines += [
        ".control",
        "set numdgt=12",
        "op",
        *(f"print {node}" for node in nodes),
        "quit 0",
        ".endc",
        ".end",
    ]
    (tmp_path / "neurons.cir").write_text("\n".join(lines) + "\n")
    command = [ngspice_path(), "-n", "-b", "neurons.cir"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = dict(line.split(" = ") for line in done.stdout.splitlines() if line.startswith("v(s"))
    found = np.array([float(said[node]) for node in nodes]).reshape(len(ACTIVATIONS), -1)
    expected_states = [0.1 * sigma(activation, drives / 0.1) for activation in ACTIVATIONS]
    np.testing.assert_allclose(found, expected_states, atol=1e-9)


def two_samples(circuit: BlockCircuit) -> "tuple[dict[str, np.ndarray], dict[str, np.ndarray]]":
    """Inputs and error currents of two samples that have nothing in common."""
    first = seeded(circuit)
    inputs = {n: np.concatenate([v, 1 - v]) for n, v in first.inputs.items()}
    return inputs, {n: np.concatenate([v, -v[..., ::-1]]) for n, v in first.currents.items()}


@needs_ngspice
def test_each_sample_has_its_own_drive() -> None:
    plan = dense_plan([4, 3, 2], ["Clip", ""])
    (circuit,) = circuits(plan)
    inputs, currents = two_samples(circuit)
    stimulus = replace(seeded(circuit), inputs=inputs, currents=currents)
    known = expected(plan, circuit, stimulus)
    states = next(iter(known.stimulus.expected["free"].values()))
    assert np.abs(states[0] - states[1]).max() > 0.1
    found = compare(plan, netlist(plan, circuit, known.stimulus), known)
    assert found.samples == 2
    check(found, 2e-3)


@needs_ngspice
def test_the_netlist_by_itself_exits_with_1_if_a_state_is_off(tmp_path: Path) -> None:
    plan = dense_plan([3, 2], ["Clip"])
    (circuit,) = circuits(plan)
    known = expected(plan, circuit, seeded(circuit))
    wrong = {p: {n: v + 0.02 for n, v in s.items()} for p, s in known.stimulus.expected.items()}
    for states, code in ((known.stimulus.expected, 0), (wrong, 1)):
        text = netlist(plan, circuit, replace(known.stimulus, expected=states)).text
        (tmp_path / "x.cir").write_text(text)
        command = [ngspice_path(), "-n", "-b", "x.cir"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert f"{0 if code else 3} of 3 settled states agree" in done.stdout


@needs_ngspice
def test_a_simulation_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dense_plan([40, 40, 40], ["Clip", "Clip"])
    (circuit,) = circuits(plan)
    monkeypatch.setenv("FFEBM_MAX_CIRCUIT_SECONDS", "1")
    with pytest.raises(UsageError, match="block0: ngspice is not through; at most 1 seconds"):
        simulate(netlist(plan, circuit, seeded(circuit)))


@needs_ngspice
def test_the_command_prints_what_ngspice_and_the_runtime_find(tmp_path: Path, run: Run) -> None:
    dense_plan([4, 3, 2], ["Clip", ""]).save(tmp_path / "net.plan")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((2, 4), np.float32))
    code, out, err = run(
        "export", tmp_path / "net.plan", "--to", "spice", "--data", tmp_path / "x.npz", "--run"
    )
    assert code == 0
    assert "block0.cir, nodes.json written to" in out
    for head in ("States:", "Phases:", "Power of the cells", "Cosine of EP gradients"):
        assert head in out
    assert "note: cells are at their targets" in err


@needs_ngspice
def test_the_command_leaves_with_1_if_they_disagree(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense_plan([4, 3, 2], ["Clip", ""]).save(tmp_path / "net.plan")
    monkeypatch.setattr("ffebm.studies.circuits.TOLERANCE", 1e-7)
    code, _, err = run("export", tmp_path / "net.plan", "--to", "spice", "--block", "0", "--run")
    assert code == 1
    assert err.endswith("ngspice and the runtime disagree by more than 1 %: block0\n")


def test_where_ngspice_is_missing_that_is_said(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense_plan([4, 3, 2], ["Clip", ""]).save(tmp_path / "net.plan")
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, err = run("export", tmp_path / "net.plan", "--to", "spice", "--run")
    assert (code, out) == (2, "")
    assert err.startswith("error: --run needs ngspice, which is not on the path\n  hint: install it (Debian:")
    assert run("export", tmp_path / "net.plan", "--to", "spice")[0] == 0  # written all the same


@pytest.mark.slow
@needs_ngspice
@pytest.mark.parametrize("seed", range(30))
def test_random_blocks_go_where_the_runtime_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(1, 5))
    sizes = [int(n) for n in np.exp(rng.uniform(math.log(4), math.log(65), layers + 1))]
    ops = [str(rng.choice((*HARD, *SOFT))) for _ in range(layers)]
    plan = dense_plan(sizes, ops, gain=float(rng.uniform(0.5, 1.0)), seed=seed)
    found, exact = compared(plan), compared(plan, ideal=True)
    check(found, 5e-3, saturated=True)
    check(exact, 1e-5, saturated=True)
