"""`ffebm export`."""

from pathlib import Path
from typing import Annotated

from msgspec.structs import replace
from typer import Option

from ffebm.commands.console import PlanPath, err, out
from ffebm.errors import PlanError, UsageError
from ffebm.files.folder import FolderKind, read_folder, write_folder
from ffebm.plan.plan import Plan, load_plan
from ffebm.plan.schema import Port
from ffebm.visible import visible

EXPORT = FolderKind("export", "ffebm export PLAN --to TOOL", "export the plan again")


def export(
    plan: PlanPath,
    to: Annotated[str, Option(help="crosssim, aihwkit, zigzag, qonnx, or one of an installed package.")],
    output: Annotated[Path | None, Option("-o", "--output", help="Folder. [default: PLAN.TO]")] = None,
    data: Annotated[
        Path | None, Option(help="Samples that fix the scales of QONNX, as for `ffebm run --input`.")
    ] = None,
) -> None:
    """Write a plan as other simulators and tools read it, and say what they cannot express."""
    from ffebm.exporters.catalogue import exporter
    from ffebm.exporters.qonnx import export_qonnx

    write = exporter(to)
    if data is not None and to != "qonnx":
        raise UsageError(f"--data with --to {to}", allowed="--to qonnx, whose scales can be measured")
    loaded = load_plan(plan)
    folder = output or plan.resolve().with_name(f"{plan.resolve().name}.{to}")
    exported = write(loaded) if data is None else export_qonnx(loaded, _peaks(loaded, data))
    _check_unchanged(folder, exported.marker)
    write_folder(folder, exported.files, exported.marker, EXPORT)
    for note in exported.notes:
        err.print(f"note: {visible(note)}", markup=False)
    out.print(f"{', '.join(sorted(exported.files))} written to {folder}", markup=False)


def _peaks(plan: Plan, data: Path) -> dict[str, float]:
    """Largest magnitude of each value that digital segments hand to DACs, over some samples."""
    from ffebm.exporters.qonnx import dac_edges
    from ffebm.studies.inference import infer, read_inputs

    inputs = read_inputs(plan, data)
    ports = tuple(Port(name, plan.types[name]) for name in dac_edges(plan))
    if not ports:
        raise UsageError("--data, but no digital segment drives a DAC", hint="leave it out")
    outputs, notes = infer(replace(plan, outputs=ports, structure=None), inputs, 0, "cpu")
    for line in notes:
        err.print(visible(line), markup=False)
    return {name: float(abs(value).max()) for name, value in outputs.items()}


def _check_unchanged(folder: Path, marker: str) -> None:
    """An earlier export is replaced only if nobody has edited it since."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        read_folder(folder, marker, EXPORT)
    except PlanError as error:
        raise UsageError(
            f"{folder} exists and is not an unchanged export of this kind: {error.found}",
            allowed="a new folder, an empty one, or an earlier export that nobody has edited",
            hint="move it away, or choose another path with -o",
        ) from None
