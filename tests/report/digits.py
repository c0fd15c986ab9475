"""The model of the examples, which are no package."""

import runpy
from collections.abc import Callable
from pathlib import Path

import onnx

EXAMPLE = Path(__file__).parents[2] / "examples/digits_model.py"
digits_model: Callable[[], onnx.ModelProto] = runpy.run_path(str(EXAMPLE))["digits_model"]
