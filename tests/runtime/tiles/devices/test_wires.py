import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from ffebm.hardware.description import Crossbar, Resistance, Wires
from ffebm.runtime.tiles.crossbar import CrossbarTile
from ffebm.runtime.tiles.devices.wires import conducted, first_order, nodal
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
        plus, minus = conducted(low + held.clamp(min=0), ours), conducted(low - held.clamp(max=0), ours)
        expected = (plus - minus) / (high - low) * scale
    else:  # half a range up and down from the middle, and the column as one more bit line
        middle = torch.full((1, 8), (low + high) / 2, dtype=torch.float64)
        currents = conducted(torch.cat([middle + held / 2, middle]), ours)
        expected = (currents[:-1] - currents[-1:]) * 2 / (high - low) * scale
    torch.testing.assert_close(wired.read(), expected, rtol=1e-5, atol=1e-5)
    assert (wired.read() - plain.read()).abs().max() > 0.01
    torch.testing.assert_close(wired.mvm(x), x @ expected.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(wired.mvm_t(y), y @ expected, rtol=1e-4, atol=1e-4)
