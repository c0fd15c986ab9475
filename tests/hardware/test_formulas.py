"""Formulas against the figures of their sources, computed there or read from their tables."""

import pytest

from ffebm.hardware.formulas import FORMULAS


@pytest.mark.parametrize(("bits", "picojoules"), [(4, 0.324), (6, 0.489), (8, 0.701), (10, 1.659)])
def test_an_adc_of_zigzag(bits: int, picojoules: float) -> None:
    found = FORMULAS["zigzag_adc_energy"].compute({"bits": bits, "supply": 0.9})
    assert found == pytest.approx(picojoules * 1e-12, rel=2e-3)


def test_times_and_drivers_of_zigzag() -> None:
    assert FORMULAS["zigzag_adc_time"].compute({"bits": 8, "rows": 128}) == pytest.approx(11.807e-9, rel=1e-3)
    assert FORMULAS["zigzag_dac_energy"].compute({"bits": 8, "supply": 0.9}) == pytest.approx(0.324e-12)
    assert FORMULAS["zigzag_adder_energy"].compute({"width": 16, "supply": 0.9}) == pytest.approx(
        54.4e-15, 1e-3
    )


@pytest.mark.parametrize(
    ("bits", "rate", "joules"),
    [
        (8, 1e8, 10 ** ((49.92 - 180.1416) / 10) / 2),  # the best figure of merit there is
        (8, 1e9, 10 ** ((49.92 - 168.8505) / 10) / 2),  # 302.7387 - 6.460791 x 20.72327
        (10, 1e9, 10 ** ((61.96 - 168.8505) / 10) / 2),
    ],
)
def test_an_adc_by_bits_and_rate(bits: int, rate: float, joules: float) -> None:
    found = FORMULAS["survey_adc_energy"].compute({"bits": bits, "rate": rate})
    assert found == pytest.approx(joules, rel=1e-3)


@pytest.mark.parametrize(("lines", "picojoules"), [(128, 38.4), (256, 307.2)])
def test_an_array_of_puma(lines: int, picojoules: float) -> None:
    """0.3 mW for 128 ns; 1.2 mW for 256 ns."""
    seen = {"rows": lines, "cols": lines}
    assert FORMULAS["puma_read_time"].compute(seen) == pytest.approx(lines * 1e-9)
    cell = FORMULAS["puma_cell_read_energy"].compute(seen)
    assert cell * lines * lines == pytest.approx(picojoules * 1e-12, rel=1e-3)


def test_the_area_of_a_tile() -> None:
    given = {"adcs": 1, "bits": 8, "rows": 128, "cols": 128, "arrays": 1}
    adc = 10 ** (1.206 - 0.0369 * 8) * 256 * 1e-6
    assert FORMULAS["tile_area"].compute(given) == pytest.approx(adc + 128 * 0.167e-6 + 2.5e-5)
    assert FORMULAS["conversion_period"].compute({"rate": 1.28e9, "conversions": 128}) == pytest.approx(1e-7)
