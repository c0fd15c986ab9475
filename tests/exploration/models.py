"""Small explorations."""

from pathlib import Path
from typing import Any

import onnx

from ffebm.commands.compiling import Compiling
from ffebm.exploration.knobs import knobs_of
from ffebm.exploration.request import Request
from ffebm.plan.schema import Settle

BITS = "analog.tiles.tile.adc.bits"


def small_model(path: Path) -> Path:
    """Two dense layers, as a file; not written again."""
    if path.exists():
        return path
    from tests.models import Builder  # loads torch, which processes that find the file need not

    path.parent.mkdir(parents=True, exist_ok=True)
    b = Builder()
    x = b.node("Relu", b.node("MatMul", b.input("x", 1, 8), b.weight(8, 12)))
    onnx.save(b.model(b.node("MatMul", x, b.weight(12, 4))), path)
    return path


def request_of(where: Path, *vary: str, **changes: Any) -> Request:
    """An exploration of the small model on `reference`."""
    asked: dict[str, Any] = {
        "model": small_model(where / "model.onnx"),
        "folder": where / "out",
        "hardware": "reference",
        "settings": Compiling().settings(),
        "settle": Settle(),
        "batch": 1,
        "passes": (),
        "knobs": knobs_of(vary),
        "front": ("inference_s", "inference_j"),
    }
    return Request(**{**asked, **changes})
