import re
import subprocess
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Crossbar, Resistance, Wires
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.wires import conducted, conducted_pairs, first_order, nodal
from tests.exporters.spice.models import needs_ngspice
from tests.runtime.tiles.bench import fine, random, source


def ohms(value: float) -> Resistance:
    return Resistance(value=value, unit="Ohm", source="chosen for a test")


def wires(row: float, column: float, *, fast: bool = False) -> Wires:
    return Wires(row=ohms(row), column=ohms(column), solver="fast" if fast else "exact")


def cells(n_out: int, n_in: int, seed: int = 0) -> Tensor:
    """Between 0 and 25 uS."""
    return torch.rand(n_out, n_in, generator=source(seed), dtype=torch.float64) * 25e-6


def all_nodes(conductance: Tensor, row: float, column: float) -> Tensor:
    """Every node of the array in one dense system: those of the word lines, then those of the bit lines."""
    n_out, n_in = conductance.shape
    n = n_out * n_in
    matrix = torch.zeros(2 * n, 2 * n, dtype=torch.float64)
    feeds = torch.zeros(2 * n, n_in, dtype=torch.float64)

    def join(a: int, b: int | None, siemens: float) -> None:
        matrix[a, a] += siemens
        if b is not None:
            matrix[b, b] += siemens
            matrix[a, b] -= siemens
            matrix[b, a] -= siemens

    for i in range(n_in):
        for j in range(n_out):
            here = i * n_out + j
            join(here, n + here, float(conductance[j, i]))
            join(here, here - 1 if j else None, 1 / row)
            join(n + here, n + here + n_out if i < n_in - 1 else None, 1 / column)
        feeds[i * n_out, i] = 1 / row
    volts: Tensor = torch.linalg.solve(matrix, feeds)
    return volts[-n_out:] / column


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 8), (8, 5)])
@pytest.mark.parametrize("ohm", [(1.0, 2.0), (300.0, 100.0), (1e4, 3e4)])
def test_the_solver_satisfies_every_node(shape: tuple[int, int], ohm: tuple[float, float]) -> None:
    conductance = cells(*shape)
    torch.testing.assert_close(nodal(conductance, *ohm), all_nodes(conductance, *ohm), rtol=1e-10, atol=0)


def test_one_cell_is_in_series_with_its_wires() -> None:
    g = torch.tensor([[20e-6]], dtype=torch.float64)
    expected = 1 / (1 / g + 100 + 300)
    torch.testing.assert_close(nodal(g, 100.0, 300.0), expected)
    torch.testing.assert_close(first_order(g, 100.0, 300.0), expected)


@pytest.mark.parametrize("solve", [nodal, first_order])
def test_wires_without_resistance_do_nothing(solve: object) -> None:
    g = cells(6, 5)
    found = nodal(g, 0.0, 0.0) if solve is nodal else first_order(g, 0.0, 0.0)
    torch.testing.assert_close(found, g)
    small = nodal(g, 1e-3, 0.0) if solve is nodal else first_order(g, 1e-3, 0.0)
    torch.testing.assert_close(small, all_nodes(g, 1e-3, 1e-9), rtol=1e-6, atol=0)
    small = nodal(g, 0.0, 1e-3) if solve is nodal else first_order(g, 0.0, 1e-3)
    torch.testing.assert_close(small, all_nodes(g, 1e-9, 1e-3), rtol=1e-6, atol=0)


@pytest.mark.parametrize("solve", [nodal, first_order])
def test_read_the_other_way_round_the_array_conducts_the_transpose(solve: object) -> None:
    """Driven at the grounds and sensed at the drivers: mirrored, that is an array like any other."""
    g = cells(6, 5)
    mirrored = g.T.flip(0, 1)
    if solve is nodal:
        back = nodal(mirrored, 300.0, 100.0).flip(0, 1)
        torch.testing.assert_close(back, nodal(g, 100.0, 300.0).T)
    else:
        back = first_order(mirrored, 300.0, 100.0).flip(0, 1)
        torch.testing.assert_close(back, first_order(g, 100.0, 300.0).T)


def test_arrays_side_by_side_do_not_feel_each_other() -> None:
    g = torch.stack([cells(4, 6, seed) for seed in range(6)]).reshape(2, 3, 4, 6)
    found = nodal(g, 200.0, 100.0)
    for a in range(2):
        for b in range(3):
            torch.testing.assert_close(found[a, b], nodal(g[a, b], 200.0, 100.0))


def test_the_fast_solution_is_right_to_first_order() -> None:
    g = cells(20, 30)
    errors = []
    for ohm in (1.0, 2.0, 4.0):
        error = (first_order(g, ohm, ohm) - nodal(g, ohm, ohm)).norm() / g.norm()
        errors.append(float(error))
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.1)
    assert errors[2] / errors[1] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    ("size", "ohm", "ignored", "fast"),
    [(64, 1.0, 0.038, 3e-4), (64, 3.0, 0.12, 2.5e-3), (128, 1.0, 0.15, 4e-3)],
)
def test_how_far_the_fast_solution_is_off(size: int, ohm: float, ignored: float, fast: float) -> None:
    """Against ignoring the wires: relative errors of the conductances as vectors."""
    g = cells(size, size)
    truth = nodal(g, ohm, ohm)
    assert float((g - truth).norm() / truth.norm()) == pytest.approx(ignored, rel=0.1)
    assert float((first_order(g, ohm, ohm) - truth).norm() / truth.norm()) < fast


@pytest.mark.parametrize("mapping", ["differential", "offset"])
@pytest.mark.parametrize("fast", [False, True])
def test_a_tile_reads_what_its_wires_conduct(mapping: str, fast: bool) -> None:
    described: Crossbar = replace(fine(), mapping=mapping)
    weight, x, y = random(6, 8), random(3, 8, seed=1), random(3, 6, seed=2)
    plain, wired = (
        CrossbarTile(kind, source())
        for kind in (described, replace(described, wires=wires(500, 700, fast=fast)))
    )
    plain.program(weight)
    wired.program(weight)
    scale = float(weight.abs().max())
    low, high = described.cell.g_min.value, described.cell.g_max.value
    held, ours = weight / scale * (high - low), wires(500, 700, fast=fast)
    if mapping == "differential":
        pair = low + held.clamp(min=0), low - held.clamp(max=0)
        lines = torch.empty(12, 8, dtype=torch.float64)
        lines[0::2], lines[1::2] = pair
        plus, minus = conducted(lines, ours)[0::2], conducted(lines, ours)[1::2]
        expected = (plus - minus) / (high - low) * scale
    else:  # half a range up and down from the middle, and the column as one more bit line
        middle = torch.full((1, 8), (low + high) / 2, dtype=torch.float64)
        currents = conducted(torch.cat([middle + held / 2, middle]), ours)
        expected = (currents[:-1] - currents[-1:]) * 2 / (high - low) * scale
    torch.testing.assert_close(wired.read(), expected, rtol=1e-5, atol=1e-5)
    assert (wired.read() - plain.read()).abs().max() > 0.01
    torch.testing.assert_close(wired.mvm(x), x @ expected.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wired.mvm_t(y), y @ expected, rtol=1e-4, atol=1e-4)


def spice(lines: Tensor, row: float, column: float, volts: Tensor, folder: Path) -> Tensor:
    """Currents of all bit lines into their grounds, amperes, by ngspice: [n_lines, n_in], [n_in]."""
    n_lines, n_in = lines.shape
    card = ["an array of cells with wires"]
    for i in range(n_in):
        card.append(f"v{i} d{i} 0 dc {float(volts[i])!r}")
        for c in range(n_lines):
            card.append(f"rw{i}_{c} {f'r{i}_{c - 1}' if c else f'd{i}'} r{i}_{c} {row!r}")
            card.append(f"rg{i}_{c} r{i}_{c} b{i}_{c} {1.0 / float(lines[c, i])!r}")
            card.append(f"rb{i}_{c} b{i}_{c} {f'b{i + 1}_{c}' if i < n_in - 1 else f's{c}'} {column!r}")
    card += [f"vs{c} s{c} 0 dc 0" for c in range(n_lines)]
    card += [".control", "set numdgt=16", "op", *(f"print i(vs{c})" for c in range(n_lines)), ".endc", ".end"]
    (folder / "array.cir").write_text("\n".join(card), encoding="utf-8")
    done = subprocess.run(
        ["ngspice", "-n", "-b", "array.cir"], cwd=folder, capture_output=True, text=True, check=False
    )
    found = {int(n): float(v) for n, v in re.findall(r"i\(vs(\d+)\) = (\S+)", done.stdout)}
    return torch.tensor([found[c] for c in range(n_lines)], dtype=torch.float64)


def of_weights(n_out: int, n_in: int) -> tuple[Tensor, Tensor]:
    """Cells of normal weights as differences, from 0.25 to 25 uS, one of each pair at rest."""
    weight = random(n_out, n_in)
    held = weight / weight.abs().max() * 24.75e-6
    return 0.25e-6 + held.clamp(min=0), 0.25e-6 - held.clamp(max=0)


@needs_ngspice
@pytest.mark.parametrize(("n_out", "n_in", "ohm"), [(1, 1, 100.0), (5, 7, 300.0), (16, 16, 10.0)])
def test_pairs_are_one_array_in_ngspice(n_out: int, n_in: int, ohm: float, tmp_path: Path) -> None:
    plus, minus = of_weights(n_out, n_in)
    volts = random(n_in, seed=3)
    lines = torch.stack([plus, minus], 1).flatten(0, 1)
    currents = spice(lines, ohm, 2 * ohm, volts, tmp_path)
    up, down = conducted_pairs(plus, minus, wires(ohm, 2 * ohm))
    torch.testing.assert_close(up @ volts, currents[0::2], rtol=1e-9, atol=0)
    torch.testing.assert_close(down @ volts, currents[1::2], rtol=1e-9, atol=0)


@pytest.mark.parametrize("size", [16, 32])
def test_fast_pairs_are_within_a_tenth_of_the_effect(size: int) -> None:
    """Wires of 10 Ohm; solved as two arrays apart they would not be."""
    plus, minus = of_weights(size, size)
    exact, fast = (conducted_pairs(plus, minus, wires(10.0, 10.0, fast=f)) for f in (False, True))
    truth = exact[0] - exact[1]
    effect = (plus - minus - truth).norm()
    assert float((fast[0] - fast[1] - truth).norm() / effect) < 0.1
    apart = nodal(plus, 10.0, 10.0) - nodal(minus, 10.0, 10.0)
    assert float((apart - truth).norm() / effect) > 0.2
