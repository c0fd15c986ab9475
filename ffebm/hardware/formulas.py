"""Formulas of constants: energy, time and area of converters and arrays against bits, rate, rows and columns.

A description may give `formula = { name, … }` in place of `value` and `source`. The constant is then computed
from what the description says about the same tile, and its source is the formula with its citation. Which
formulas there are is a closed set; a description cannot bring one of its own.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FEMTO, PICO, NANO = 1e-15, 1e-12, 1e-9
MICRO2 = 1e-6
"""Square millimetres of a square micrometre."""

ZIGZAG = "KULeuven-MICAS/zigzag, hardware/architecture/imc_array.py, 28 nm"
PUMA = "Aayush-Ankit/puma-simulator, include/constants.py"
SURVEY = (
    "regression on Murmann's ADC survey, the best designs: Accelergy-Project/accelergy-adc-plug-in, "
    "adc_data/model.yaml"
)


@dataclass(frozen=True)
class Formula:
    """How a constant follows from others.

    Attributes:
        unit: What it gives.
        text: The formula as text.
        citation: Where it comes from.
        reads: What it takes from the tile: `bits`, `rows`, `cols`, or `arrays` of cells.
        parameters: What is given with it, beside what the tile says.
        compute: Gives the value from what it reads and its parameters.
    """

    unit: str
    text: str
    citation: str
    reads: tuple[str, ...]
    parameters: tuple[str, ...]
    compute: Callable[[Mapping[str, float]], float]


def _charge(capacitance: float, given: Mapping[str, float]) -> float:
    """Energy of charging femtofarads to the supply."""
    return capacitance * FEMTO * given["supply"] ** 2


def _best_schreier(given: Mapping[str, float]) -> float:
    """Energy of a conversion at the best published figure of merit for its rate.

    FOM = min(180.14, 302.74 - 6.4608 ln f) dB, of which E = 10^((SNDR - FOM) / 10) / 2 and
    SNDR = 6.02 b + 1.76 dB.
    """
    merit = min(180.14159078904734, 302.7387019052544 - 6.460790934271676 * math.log(given["rate"]))
    return float(0.5 * 10.0 ** ((6.02 * given["bits"] + 1.76 - merit) / 10.0))


def _adc_area(bits: float) -> float:
    """Square millimetres of one ADC."""
    return float(10.0 ** (1.206 - 0.0369 * bits) * 2.0**bits * MICRO2)


FORMULAS: dict[str, Formula] = {
    "zigzag_adc_energy": Formula(
        unit="J",
        text="(100 fF x bits + 0.001 fF x 4^bits) x supply^2",
        citation=ZIGZAG,
        reads=("bits",),
        parameters=("supply",),
        compute=lambda given: _charge(100.0 * given["bits"] + 0.001 * 4.0 ** given["bits"], given),
    ),
    "zigzag_adc_time": Formula(
        unit="s",
        text="bits x (0.00653 x rows + 0.64) ns",
        citation=ZIGZAG,
        reads=("bits", "rows"),
        parameters=(),
        compute=lambda given: given["bits"] * (0.00653 * given["rows"] + 0.64) * NANO,
    ),
    "survey_adc_energy": Formula(
        unit="J",
        text="10^((6.02 bits + 1.76 - min(180.14, 302.74 - 6.4608 ln(rate))) / 10) / 2",
        citation=SURVEY,
        reads=("bits",),
        parameters=("rate",),
        compute=_best_schreier,
    ),
    "conversion_period": Formula(
        unit="s",
        text="conversions / rate",
        citation="one ADC that takes so many lines in turn",
        reads=(),
        parameters=("rate", "conversions"),
        compute=lambda given: given["conversions"] / given["rate"],
    ),
    "zigzag_dac_energy": Formula(
        unit="J",
        text="50 fF x bits x supply^2",
        citation=ZIGZAG,
        reads=("bits",),
        parameters=("supply",),
        compute=lambda given: _charge(50.0 * given["bits"], given),
    ),
    "zigzag_adder_energy": Formula(
        unit="J",
        text="width x 4.2 fF x supply^2, three NAND and two XOR gates a bit",
        citation="KULeuven-MICAS/zigzag, hardware/architecture/imc_unit.py, 28 nm",
        reads=(),
        parameters=("width", "supply"),
        compute=lambda given: _charge(4.2 * given["width"], given),
    ),
    "zigzag_cell_read_energy": Formula(
        unit="J",
        text="0.7 fF x supply^2: half a NAND gate switches for the product of a bit, and a bit line's share",
        citation=f"{ZIGZAG}; capacitances: imc_unit.py",
        reads=(),
        parameters=("supply",),
        compute=lambda given: _charge(0.7, given),
    ),
    "puma_read_time": Formula(
        unit="s",
        text="rows x 1 ns",
        citation=PUMA,
        reads=("rows",),
        parameters=(),
        compute=lambda given: given["rows"] * NANO,
    ),
    "puma_cell_read_energy": Formula(
        unit="J",
        text="0.3 mW / 128^2 x rows x 1 ns: an array draws 0.3 mW x rows x cols / 128^2 all through a read",
        citation=PUMA,
        reads=("rows",),
        parameters=(),
        compute=lambda given: 0.3e-3 / 128**2 * given["rows"] * NANO,
    ),
    "tile_area": Formula(
        unit="mm2",
        text="(adcs x 10^(1.206 - 0.0369 bits) x 2^bits + 0.167 rows + 0.001526 arrays x rows x cols) um2",
        citation=f"ADCs: {ZIGZAG}; drivers and cells: {PUMA}",
        reads=("bits", "rows", "cols", "arrays"),
        parameters=("adcs",),
        compute=lambda given: (
            given["adcs"] * _adc_area(given["bits"])
            + given["rows"] * 0.167 * MICRO2
            + given["arrays"] * given["rows"] * given["cols"] * 2.5e-5 / 128**2
        ),
    ),
}
"""Every formula by its name."""
