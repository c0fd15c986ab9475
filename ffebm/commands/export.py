"""`ffebm export`."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec.structs import replace
from rich.table import Table
from typer import Exit, Option

from ffebm.commands.console import PlanPath, err, out, print_tables, tables
from ffebm.errors import PlanError, UsageError
from ffebm.exporters.export import Export
from ffebm.files.folder import FolderKind, read_folder, write_folder
from ffebm.plan.plan import Plan, load_plan
from ffebm.plan.schema import Port
from ffebm.plan.summary import engineering
from ffebm.visible import visible

if TYPE_CHECKING:
    from ffebm.studies.circuits import CircuitComparison
    from ffebm.studies.passive_circuits import PassiveComparison

EXPORT = FolderKind("export", "ffebm export PLAN --to TOOL", "export the plan again")

KINDS = ("read out", "before a nudge", "nudged")
"""What phases are billed as."""


def export(
    plan: PlanPath,
    to: Annotated[
        str, Option(help="crosssim, aihwkit, zigzag, qonnx, spice, or one of an installed package.")
    ],
    output: Annotated[Path | None, Option("-o", "--output", help="Folder. [default: PLAN.TO]")] = None,
    data: Annotated[
        Path | None,
        Option(help="Samples that fix the scales of QONNX or drive circuits, as for `ffebm run --input`."),
    ] = None,
    block: Annotated[int | None, Option(help="Of spice: one block alone, counted from 0.", min=0)] = None,
    run: Annotated[bool, Option("--run", help="Of spice: hold ngspice against the runtime.")] = False,
) -> None:
    """Write a plan as other simulators and tools read it, and say what they cannot express."""
    from ffebm.exporters.catalogue import exporter
    from ffebm.exporters.qonnx import export_qonnx

    write = exporter(to)
    _check_options(to, data=data is not None, circuit=run or block is not None)
    loaded = load_plan(plan)
    folder = output or plan.resolve().with_name(f"{plan.resolve().name}.{to}")
    if to == "spice":
        _export_circuits(loaded, folder, block, data, run=run)
        return
    exported = write(loaded) if data is None else export_qonnx(loaded, _peaks(loaded, data))
    _write(folder, exported)


def _check_options(to: str, *, data: bool, circuit: bool) -> None:
    """Refuse options that a format has no use for."""
    if data and to not in {"qonnx", "spice"}:
        allowed = "--to qonnx, whose scales can be measured, or --to spice"
        raise UsageError(f"--data with --to {to}", allowed=allowed)
    if circuit and to != "spice":
        raise UsageError(f"--block or --run with --to {to}", allowed="--to spice")


def _export_circuits(plan: Plan, folder: Path, block: int | None, data: Path | None, *, run: bool) -> None:
    """Write netlists; with `run`, hold ngspice against the runtime and leave with 1 if they disagree."""
    from ffebm.exporters.spice.export import circuits, is_passive, netlist, seeded, spice_export
    from ffebm.exporters.spice.ngspice import ngspice_path
    from ffebm.studies.circuits import compare, expected, sampled_inputs, stimulus_of

    if run:
        ngspice_path()  # before any work
    if is_passive(plan):
        _export_passive(plan, folder, block, data, run=run)
        return
    made = circuits(plan, block)
    held = {} if data is None else sampled_inputs(plan, data)
    stimuli = [seeded(c) if data is None else stimulus_of(c, held[c.block.id]) for c in made]
    known = [expected(plan, c, stimulus) for c, stimulus in zip(made, stimuli, strict=True)]
    netlists = [netlist(plan, c, found.stimulus) for c, found in zip(made, known, strict=True)]
    _warn_unsettled({c.block.name: found.settled for c, found in zip(made, known, strict=True)})
    _write(folder, spice_export(plan, netlists))
    if run:
        pairs = zip(netlists, known, strict=True)
        found_in = [compare(plan, netlist_, found) for netlist_, found in pairs]
        print_tables(tables(), circuit_tables(found_in))
        _leave_if_apart({found.block: found.agrees for found in found_in})


def _export_passive(plan: Plan, folder: Path, block: int | None, data: Path | None, *, run: bool) -> None:
    """The same of deep resistive blocks."""
    from ffebm.exporters.spice.export import passive_circuits, passive_export, passive_seeded
    from ffebm.exporters.spice.passive import passive_netlist
    from ffebm.studies.circuits import sampled_inputs, stimulus_of
    from ffebm.studies.passive_circuits import passive_compare, passive_expected

    made = passive_circuits(plan, block)
    held = {} if data is None else sampled_inputs(plan, data)
    stimuli = [passive_seeded(c) if data is None else stimulus_of(c, held[c.block.id]) for c in made]
    known = [passive_expected(plan, c, stimulus) for c, stimulus in zip(made, stimuli, strict=True)]
    netlists = [passive_netlist(plan, c, found.stimulus) for c, found in zip(made, known, strict=True)]
    _warn_unsettled({c.block.name: found.settled for c, found in zip(made, known, strict=True)})
    _write(folder, passive_export(plan, netlists))
    if run:
        pairs = zip(netlists, known, strict=True)
        found_in = [passive_compare(plan, netlist_, found) for netlist_, found in pairs]
        print_tables(tables(), passive_tables(found_in))
        _leave_if_apart({found.block: found.agrees for found in found_in})


def _warn_unsettled(settled: Mapping[str, bool]) -> None:
    for block in (name for name, rests in settled.items() if not rests):
        err.print(f"warning: {block} does not settle in the runtime's sweeps", markup=False)


def _leave_if_apart(agrees: Mapping[str, bool]) -> None:
    """Leave with 1 if ngspice and the runtime disagree over a block."""
    apart = [block for block, agree in agrees.items() if not agree]
    if apart:
        err.print(f"ngspice and the runtime disagree by more than 1 %: {', '.join(apart)}", markup=False)
        raise Exit(1)


def passive_tables(found: "list[PassiveComparison]") -> Iterator[Table]:
    """What ngspice says of each deep resistive block beside what the runtime and the plan say."""
    heads = ("samples", "cells", "free", "nudged", "phases as billed", "slope of the energy", "power")
    states = _table("ngspice off from the runtime: states by norm", "block", *heads)
    time = _table("Phases: free, within 1 % after; billed", "block", "within 1 %", *KINDS)
    power = _table("Power of the cells at the free state", "block", "ngspice", "billed")
    gradients = _table("Cosine of EP gradients, worst weight", "block", "phases as billed", "given time")
    for one in found:
        free, *nudged = one.errors.values()
        numbers = (free, max(nudged), max(one.late.values()), one.slope, one.power)
        states.add_row(one.block, f"{one.samples}", f"{one.cells:,}", *(f"{value:.2g}" for value in numbers))
        within = engineering(one.seconds, "s") if math.isfinite(one.seconds) else "later"
        time.add_row(one.block, within, *(engineering(s, "s") for s in one.billed))
        power.add_row(one.block, *(engineering(value, "W") for value in one.watts))
        gradients.add_row(one.block, f"{one.late_cosine:.6f}", f"{one.cosine:.6f}")
    yield from (states, time, power, gradients)


def circuit_tables(found: "list[CircuitComparison]") -> Iterator[Table]:
    """What ngspice says of each block beside what the runtime and the plan say."""
    states = _table(
        "States: off from the runtime's by norm",
        "block",
        "samples",
        "cells",
        "phases as billed",
        "given time",
    )
    time = _table("Phases: free, within 1 % after; billed", "block", "within 1 %", *KINDS)
    power = _table("Power of the cells at the free state", "block", "ngspice", "from states", "billed")
    gradients = _table("Cosine of EP gradients, worst weight", "block", "phases as billed", "given time")
    for one in found:
        billed, given = (max(one.errors[run].values()) for run in ("billed", "given"))
        states.add_row(one.block, f"{one.samples}", f"{one.cells:,}", f"{billed:.2g}", f"{given:.2g}")
        time.add_row(one.block, *(engineering(s, "s") for s in (one.seconds, *one.billed)))
        watts = (one.watts, one.expected_watts, one.billed_watts)
        power.add_row(one.block, *(engineering(value, "W") for value in watts))
        gradients.add_row(one.block, *(f"{one.cosines[run]:.6f}" for run in ("billed", "given")))
    yield from (states, time, power, gradients)


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head == "block" else "right", overflow="fold")
    return table


def _write(folder: Path, exported: Export) -> None:
    """Write the folder, and say what it holds and lacks."""
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
