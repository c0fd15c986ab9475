"""The exporters by the name that `ffebm export --to` takes."""

from collections.abc import Callable

from ffebm.exporters.aihwkit import export_aihwkit
from ffebm.exporters.crosssim import export_crosssim
from ffebm.exporters.export import Export
from ffebm.exporters.qonnx import export_qonnx
from ffebm.exporters.zigzag import export_zigzag
from ffebm.plan.plan import Plan

EXPORTERS: dict[str, Callable[[Plan], Export]] = {
    "crosssim": export_crosssim,
    "aihwkit": export_aihwkit,
    "zigzag": export_zigzag,
    "qonnx": export_qonnx,
}
