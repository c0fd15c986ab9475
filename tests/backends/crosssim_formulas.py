"""What CrossSim documents of its parameters and of a balanced core, as far as our export uses it.

A stand-in for the `simulator` package, so that what is exported can be loaded and computed without CrossSim:
keys are checked as CrossSim's parameter classes do, and products follow the formulas of its documentation.
"""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[np.floating[Any]]


PAIRED = {"_match", "mvm", "vmm"}
MAPPING = {"clipping", "min", "max", "percentile"}
NOISE = {"enable", "model", "magnitude"}
ADC = {
    "model",
    "bits",
    "signed",
    "stochastic_rounding",
    "adc_per_ibit",
    "calibrated_range",
    "adc_range_option",
}
DAC = {"model", "bits", "signed", "input_bitslicing", "slice_size"}
KEYS: dict[str, set[str]] = {
    "": {"core", "simulation", "xbar"},
    "core": {
        "style",
        "rows_max",
        "cols_max",
        "weight_bits",
        "complex_matrix",
        "complex_input",
        "balanced",
        "bit_sliced",
        "offset",
        "mapping",
    },
    "core.balanced": {"style", "interleaved_posneg", "subtract_current_in_xbar"},
    "core.mapping": {"weights", "inputs"},
    "core.mapping.weights": MAPPING
    | {f"{line}_partition_{what}" for line in ("row", "col") for what in ("priority", "strategy")},
    "core.mapping.inputs": PAIRED,
    "core.mapping.inputs.mvm": MAPPING,
    "core.mapping.inputs.vmm": MAPPING,
    "simulation": {
        "convolution",
        "analytics",
        "useGPU",
        "gpu_id",
        "Niters_max_parasitics",
        "Verr_th_mvm",
        "relaxation_gamma",
        "disable_fast_balanced",
        "disable_fast_matmul",
        "hide_convergence_msg",
    },
    "xbar": {"device", "array", "adc", "dac"},
    "xbar.device": {
        "cell_bits",
        "Rmin",
        "Rmax",
        "time",
        "infinite_on_off_ratio",
        "clip_conductance",
        "read_noise",
        "programming_error",
        "drift_error",
    },
    "xbar.device.read_noise": NOISE,
    "xbar.device.programming_error": NOISE,
    "xbar.adc": PAIRED,
    "xbar.adc.mvm": ADC,
    "xbar.adc.vmm": ADC,
    "xbar.dac": PAIRED,
    "xbar.dac.mvm": DAC,
    "xbar.dac.vmm": DAC,
}
"""Published in `simulator/parameters/*.py` and `simulator/configs/default.json`."""


class CrossSimParameters:
    """Nested parameters; an unknown key is an error, as there."""

    def __init__(self, values: dict[str, Any]) -> None:
        _check(values, "")
        for name in ("core.mapping.inputs", "xbar.dac", "xbar.adc"):
            pair = _at(values, name)
            if pair and pair["_match"]:
                assert pair["mvm"] == pair["vmm"], f"{name} is to match"
        self.values = values

    @classmethod
    def from_json(cls, path: Path) -> "CrossSimParameters":
        return cls(json.loads(Path(path).read_text()))

    def update(self, changes: dict[str, Any]) -> None:
        for name, value in changes.items():
            parent, _, key = name.rpartition(".")
            assert key in KEYS[parent], name
            _at(self.values, parent)[key] = value


def _check(values: dict[str, Any], path: str) -> None:
    for key, value in values.items():
        if key not in KEYS[path]:
            raise KeyError(f"{path} does not contain key {key}")
        if isinstance(value, dict):
            _check(value, f"{path}.{key}".strip("."))


def _at(values: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        values = values.get(key, {})
    return values


class AnalogCore:
    """One balanced core: signed cells between sign-magnitude converters; one vector at a time."""

    def __init__(self, matrix: Array, parameters: CrossSimParameters) -> None:
        assert matrix.ndim == 2
        assert min(matrix.shape) > 1, "older versions take no vectors"
        core, device = (_at(parameters.values, name) for name in ("core", "xbar.device"))
        assert matrix.shape[1] <= core["rows_max"]
        assert matrix.shape[0] <= core["cols_max"]
        self.shape = matrix.shape
        self._xbar = _at(parameters.values, "xbar")
        self._largest = core["mapping"]["weights"]["max"]
        off = 0.0 if device["infinite_on_off_ratio"] else device["Rmin"] / device["Rmax"]
        normal = np.clip(np.asarray(matrix, np.float64) / self._largest, -1, 1)
        steps = 2 ** device.get("cell_bits", 0) - 1
        levels = np.rint(normal * steps) / steps if steps else normal
        self._span = 1.0 - off
        self._cells = self._span * levels

    __array_priority__ = 101  # numpy leaves a product from the left to `__rmatmul__`

    def __matmul__(self, x: Array) -> Array:
        return self.product(x, "mvm", self._cells)

    def __rmatmul__(self, y: Array) -> Array:
        return self.product(y.T, "vmm", self._cells.T).T

    def product(self, x: Array, direction: str, cells: Array) -> Array:
        if x.ndim == 2:
            return np.stack([self.product(column, direction, cells) for column in x.T], 1)
        largest = np.abs(x).max()
        dac, adc = (self._xbar.get(name, {}).get(direction) for name in ("dac", "adc"))
        limit = adc["calibrated_range"][1] if adc else np.inf
        if dac and dac.get("input_bitslicing"):
            assert adc["adc_per_ibit"]
            lines = self._serial(x / largest, dac, lambda part: _converted(cells @ part, limit, adc))
        else:
            lines = _converted(cells @ _converted(x / largest, 1.0, dac), limit, adc)
        found: Array = lines * largest * self._largest / self._span
        return found

    def _serial(self, x: Array, dac: dict[str, Any], read: Callable[[Array], Array]) -> Array:
        """Slices of the magnitude, lowest first, each converted by itself; shifted right after each."""
        bits, size = dac["bits"] - 1, dac["slice_size"]
        rest = np.rint(np.abs(x) * (2**bits - 1))
        count = -(-bits // size)
        total: Array = np.zeros(1)
        for _ in range(count):
            total = (total + read(np.sign(x) * (rest % 2**size) / (2**size - 1))) / 2**size
            rest = rest // 2**size
        found: Array = total * (2**size - 1) * 2.0 ** (size * count - bits) * 2**bits / (2**bits - 1)
        return found


def _converted(values: Array, limit: float, converter: dict[str, Any] | None) -> Array:
    """A sign-magnitude converter: 2^bits - 1 levels over [-limit, limit]."""
    if converter is None:
        return values
    assert converter["model"] in {"SignMagnitudeADC", "SignMagnitudeDAC"}
    step = 2 * limit / (2 ** converter["bits"] - 2)
    found: Array = np.rint(np.clip(values, -limit, limit) / step) * step
    return found


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import this as `simulator`."""
    module = types.ModuleType("simulator")
    module.AnalogCore = AnalogCore  # type: ignore[attr-defined]
    module.CrossSimParameters = CrossSimParameters  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "simulator", module)
