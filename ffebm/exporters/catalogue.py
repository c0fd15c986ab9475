"""The exporters by the name that `ffebm export --to` takes: our own, and those of installed packages."""

from collections.abc import Callable

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.exporters.aihwkit import export_aihwkit
from ffebm.exporters.crosssim import export_crosssim
from ffebm.exporters.export import Export
from ffebm.exporters.qonnx import export_qonnx
from ffebm.exporters.spice.export import export_spice
from ffebm.exporters.zigzag import export_zigzag
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.plan import Plan

EXPORTERS: dict[str, Callable[[Plan], Export]] = {
    "crosssim": export_crosssim,
    "aihwkit": export_aihwkit,
    "zigzag": export_zigzag,
    "qonnx": export_qonnx,
    "spice": export_spice,
}


def exporter(name: str) -> Callable[[Plan], Export]:
    """The exporter of a name.

    Raises:
        UsageError: If there is none; from what it returns, if that is no `Export`.
    """
    own = EXPORTERS.get(name)
    if own is not None:
        return own
    if plugins.package_of(plugins.EXPORTERS, name) is None:
        known = (*EXPORTERS, *plugins.names(plugins.EXPORTERS))
        raise UsageError(f"--to {name}", allowed=", ".join(dict.fromkeys(known)))
    outside = plugins.load(plugins.EXPORTERS, name)
    if not callable(outside):
        raise UsageError(f"the exporter {name!r} is {outside!r}", allowed="a function of a plan")

    def export(plan: Plan) -> Export:
        needs_weights(plan)
        made = outside(plan)
        if not isinstance(made, Export) or made.marker not in made.files:
            raise UsageError(f"the exporter {name!r} returns {made!r}", allowed="an Export with its marker")
        return made

    return export
