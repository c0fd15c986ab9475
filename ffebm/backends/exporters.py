"""The exporters by the name that `ffebm export --to` takes."""

from collections.abc import Callable

from ffebm.backends.aihwkit import export_aihwkit
from ffebm.backends.crosssim import export_crosssim
from ffebm.backends.export import Export
from ffebm.backends.qonnx import export_qonnx
from ffebm.backends.zigzag import export_zigzag
from ffebm.plan import Plan

EXPORTERS: dict[str, Callable[[Plan], Export]] = {
    "crosssim": export_crosssim,
    "aihwkit": export_aihwkit,
    "zigzag": export_zigzag,
    "qonnx": export_qonnx,
}
