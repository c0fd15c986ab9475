"""Deep resistive blocks in ngspice: they go where the runtime says, and the energy rests there."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from ffebm.exporters.spice.export import export_spice, passive_circuits, passive_export, passive_seeded
from ffebm.exporters.spice.passive import PassiveNetlist, passive_netlist
from ffebm.hardware.description import Hardware
from ffebm.plan.plan import Plan
from ffebm.studies.passive_circuits import (
    PassiveComparison,
    energy_slope,
    exact_weights,
    passive_compare,
    passive_expected,
)
from tests.exporters.spice.models import needs_ngspice
from tests.models import Builder
from tests.running import Run


def conductances(b: Builder, *shape: int) -> str:
    """Half of them 0, as drawn weights that are clamped."""
    return b.constant(b.rng.uniform(-1, 1, shape).clip(0.0, None).astype(np.float32))


def network(
    sizes: tuple[int, ...],
    gain: float,
    seed: int = 0,
    limit: float | None = None,
    hardware: str | Hardware = "resistive",
) -> Plan:
    """Layers of either sign with biases; sizes[0] inputs, hidden layers, outputs."""
    b = Builder(seed)
    values = [b.input("x", "N", sizes[0])]

    def driven(n: int) -> str:
        found = ""
        for value, n_in in zip(values, widths, strict=True):
            bias = b.constant(b.rng.uniform(-0.2, 0.2, n).astype(np.float32))
            made = b.node("Gemm", value, conductances(b, n_in, n), bias)
            found = b.node("Add", found, made) if found else made
        return b.node("Mul", found, b.constant(gain))

    widths = [sizes[0]]
    for n in sizes[1:-1]:
        top = () if limit is None else (b.constant(limit),)
        plus = b.node("Clip", driven(n), b.constant(0.0), *top) if top else b.node("Relu", driven(n))
        values, widths = [plus, b.node("Clip", driven(n), "", b.constant(0.0))], [n, n]
    return compile_model(
        b.model(driven(sizes[-1])), hardware=hardware, block_size=9, physics="deep-resistive"
    )


def convolution(hardware: str | Hardware = "resistive") -> Plan:
    b = Builder(1)
    x = b.input("x", "N", 2, 4, 3)
    h = b.node("Relu", b.node("Conv", x, conductances(b, 3, 2, 3, 3), pads=[1] * 4, strides=[2, 2]))
    y = b.node("MatMul", b.node("Flatten", h), conductances(b, 12, 3))
    return compile_model(b.model(y), hardware=hardware, block_size=2, physics="deep-resistive")


def made(plan: Plan) -> tuple[PassiveNetlist, PassiveComparison]:
    (circuit,) = passive_circuits(plan)
    known = passive_expected(plan, circuit, passive_seeded(circuit))
    assert known.settled
    netlist = passive_netlist(plan, circuit, known.stimulus)
    return netlist, passive_compare(plan, netlist, known)


def check(found: PassiveComparison) -> None:
    """With ideal diodes and amplifiers: states to 1e-5, the energy at rest, its power, gradients."""
    assert found.agrees
    assert max(found.errors.values()) < 1e-5
    assert found.slope < 1e-5
    assert abs(found.power) < 1e-5
    assert found.cosine > 0.999
    assert found.late["free"] < 0.01
    assert found.late_cosine > 0.999


@needs_ngspice
@pytest.mark.parametrize(
    ("sizes", "gain", "limit"),
    [((6, 5, 3), 1.0, None), ((6, 5, 3), 4.0, None), ((5, 4, 4, 3), 2.0, 0.3), ((7, 3), 1.0, None)],
)
def test_blocks_go_where_the_runtime_says(sizes: tuple[int, ...], gain: float, limit: float | None) -> None:
    check(made(network(sizes, gain, limit=limit))[1])


@needs_ngspice
@pytest.mark.parametrize("dense", [True, False])
def test_single_cells_are_wired_as_the_plan_programs_them(dense: bool) -> None:
    """Each resistor is a cell of a piece; none is below g_min, and weights of 0 have one."""
    machine = "resistive-single"
    plan = network((6, 5, 3), 4.0, hardware=machine) if dense else convolution(machine)
    netlist, found = made(plan)
    check(found)
    cells = [np.asarray(plan.conductances(piece)[0]).reshape(-1) for _, piece in plan.pieces()]
    wired = np.concatenate([joint.siemens for joint in netlist.circuit.joints])
    assert set(np.concatenate(cells).astype(np.float32)) >= set(wired.astype(np.float32))
    assert wired.min() >= plan.hardware.analog[0].tile.crossbar().cell.g_min.value * (1 - 1e-6)
    assert passive_export(plan, [netlist]).notes[0] == (
        "cells are at their targets, one a weight and window, without noise"
    )


@needs_ngspice
def test_windows_of_a_convolution_have_conductances_of_their_own() -> None:
    netlist, found = made(convolution())
    check(found)
    weights = [w for w in netlist.circuit.block.weights() if not w.endswith("b")]
    assert found.cells > sum(
        int((exact_weights(convolution(), netlist.circuit)[w] > 0).sum()) for w in weights
    )


@needs_ngspice
@pytest.mark.slow
def test_30_random_blocks() -> None:
    rng = np.random.default_rng(5)
    for seed in range(30):
        sizes = tuple(rng.integers(4, 65, size=rng.integers(2, 5)).tolist())
        gain, limit = float(rng.choice([1.0, 2.0, 4.0])), float(rng.choice([0.2, 1.0]))
        check(made(network(sizes, gain, seed, limit))[1])


@needs_ngspice
def test_a_netlist_runs_by_itself_and_a_wrong_one_says_so(tmp_path: Path) -> None:
    netlist, _ = made(network((6, 5, 3), 2.0))
    lines = netlist.text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("R2_"))  # of the last layer
    wrong = "\n".join([*lines[:at], f"{lines[at].rsplit(' ', 1)[0]} 1", *lines[at + 1 :]])
    for text, code in ((netlist.text, 0), (wrong, 1)):
        (tmp_path / "block0.cir").write_text(text, encoding="ascii")
        done = subprocess.run(
            ["ngspice", "-n", "-b", "block0.cir"], cwd=tmp_path, capture_output=True, check=False
        )
        assert done.returncode == code, done.stdout[-500:]


def test_one_conductance_a_weight() -> None:
    plan = network((6, 5, 3), 1.0)
    exported = export_spice(plan)
    (nodes,) = json.loads(exported.files["nodes.json"])
    text = exported.files["block0.cir"].decode("ascii")
    positive = sum(
        np.count_nonzero(np.asarray(w, np.float64) > 0) for w in plan.weights.values() if w.ndim == 2
    )
    assert sum(line.startswith("R") for line in text.splitlines()) == positive
    tile = plan.hardware.analog[0].tile.crossbar()
    largest = max(float(w.max()) for w in plan.weights.values() if w.ndim == 2)
    assert nodes["siemens"] == pytest.approx(tile.cell.g_max.value / largest)
    assert len(nodes["layers"]) == 3
    assert "places pairs of cells, of which one would do" in exported.notes[0]


def test_the_energy_rests_at_the_runtime_s_state_alone() -> None:
    plan = network((6, 5, 3), 2.0)
    (circuit,) = passive_circuits(plan)
    known = passive_expected(plan, circuit, passive_seeded(circuit)).stimulus
    states = np.concatenate([known.expected["free"][layer.value] for layer in circuit.block.layers], axis=1)
    weights = exact_weights(plan, circuit)
    assert energy_slope(circuit, weights, known, states) < 1e-9
    assert energy_slope(circuit, weights, known, 0.9 * states) > 1e-2


def test_what_cannot_be_wired_is_refused() -> None:
    b = Builder()
    h = b.node("Relu", b.node("MatMul", b.input("x", "N", 4), conductances(b, 4, 4)))
    model = b.model(b.node("MatMul", h, conductances(b, 4, 3)))
    digital = compile_model(
        model, hardware="resistive", block_size=2, physics="deep-resistive", boundary="digital"
    )
    with pytest.raises(UsageError, match="which a digital unit drives; layers that conductances drive"):
        export_spice(digital)
    floating = Builder()
    node = floating.node("MatMul", floating.input("x", "N", 2), floating.constant([[1.0, 0.0], [0.5, 0.0]]))
    alone = compile_model(floating.model(node), hardware="resistive", physics="deep-resistive")
    with pytest.raises(UsageError, match="1 of the nodes of 'v0' without any conductance"):
        export_spice(alone)
    clocked = compile_model(model, hardware="reference", block_size=2, physics="deep-resistive")
    with pytest.raises(UsageError, match="settles by clocked reads on"):
        export_spice(clocked)


@needs_ngspice
def test_a_plan_is_exported_and_run_by_command(tmp_path: Path, run: Run) -> None:
    network((6, 5, 3), 2.0).save(tmp_path / "a.plan")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).uniform(-1, 1, (3, 6)).astype(np.float32))
    code, out, err = run(
        "export", tmp_path / "a.plan", "--to", "spice", "--run", "--data", tmp_path / "x.npz"
    )
    assert code == 0, err
    assert "ngspice off from the runtime: states by norm" in out
    assert "largest clamped voltage" in err
    row = next(
        line.split() for line in out.splitlines() if line.startswith("block0 ") and len(line.split()) == 8
    )
    assert row[1] == "3"
    assert float(row[3]) < 1e-5
