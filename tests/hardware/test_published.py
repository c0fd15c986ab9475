"""Published figures of machines emerge from their descriptions: what a product of a full tile takes."""

import pytest

from ffebm import compile as compile_plan
from ffebm import load_hardware
from ffebm.plan.schedule import Step
from tests.models import Builder


def product(hardware: str, rows: int, cols: int) -> Step:
    """One product of a tile that is full."""
    b = Builder()
    model = b.model(b.node("MatMul", b.input("x", 1, rows), b.weight(rows, cols)))
    plan = compile_plan(model, hardware=hardware)
    assert len(plan.tiles) == 1
    (free,) = [step for step in plan.inference.steps if step.kind == "free"]
    return free


@pytest.mark.parametrize(
    ("hardware", "tera", "tera_per_watt", "nanojoules"),
    [("hermes", 16.1, 2.48, 52.9), ("hermes-fast", 63.1, 9.76, 13.4)],
)
def test_both_modes_of_hermes(hardware: str, tera: float, tera_per_watt: float, nanojoules: float) -> None:
    """Le Gallo et al. 2023 (arXiv 2212.02872), the whole chip of 64 cores of 256 x 256 counted."""
    step = product(hardware, 256, 256)
    seconds, operations = step.end_s - step.start_s, 2 * 256 * 256
    assert step.cost.energy == pytest.approx(nanojoules * 1e-9, rel=0.1)
    cores = load_hardware(hardware).analog[0].count
    assert cores * operations / seconds == pytest.approx(tera * 1e12, rel=0.1)
    assert operations / step.cost.energy == pytest.approx(tera_per_watt * 1e12, rel=0.1)


def test_the_precise_mode_is_less_noisy() -> None:
    precise, fast = (load_hardware(name).analog[0].tile.crossbar() for name in ("hermes", "hermes-fast"))
    assert precise.cell.read_deviation < fast.cell.read_deviation
    assert precise.cell.statistics == fast.cell.statistics


@pytest.mark.parametrize(
    ("kind", "milliwatts"),
    [("adc", 16.0), ("dac", 4.0), ("array", 2.4), ("adders", 0.2), ("buffer", 1.24 + 0.23)],
)
def test_the_unit_of_isaac(kind: str, milliwatts: float) -> None:
    """Shafiee et al. 2016, table of parameters: the power of one unit of eight arrays of 128 x 128."""
    step = product("isaac", 128, 128)
    seconds = step.end_s - step.start_s
    assert getattr(step.cost, kind) / seconds == pytest.approx(milliwatts * 1e-3, rel=0.1)
    assert seconds == pytest.approx(16 * 100e-9, rel=0.1)  # 15 bits of a magnitude, where ISAAC takes 16
    assert (step.cost.energy - step.cost.digital) / seconds == pytest.approx(24.08e-3, rel=0.1)
