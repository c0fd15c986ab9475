"""`ffebm run`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from ffebm.commands.console import LARGEST, DataFolder, PlanPath, err, out
from ffebm.commands.settling import SettlingOption, settled_by
from ffebm.errors import UsageError
from ffebm.plan.plan import load_plan
from ffebm.visible import visible


def run(  # noqa: PLR0913 - a command's options are its arguments
    plan: PlanPath,
    input: Annotated[Path, Option("--input", help=".npz with one array for each input, by name.")],  # noqa: A002
    output: Annotated[Path | None, Option("--output", help="Where outputs go, as .npz.")] = None,
    check: Annotated[Path | None, Option(help="Compare with this ONNX model in onnxruntime.")] = None,
    tolerance: Annotated[float | None, Option(help="Largest relative error that --check accepts.")] = None,
    calibrate: Annotated[
        str | None, Option(help="Labelled data as for train, whose training samples set the ADC ranges.")
    ] = None,
    data_folder: DataFolder = None,
    settling: SettlingOption = None,
    seed: Annotated[int, Option(help="Seed of noise.", min=0, max=LARGEST)] = 0,
    device: Annotated[str, Option(help="Where to compute: cpu, cuda …")] = "cpu",
) -> None:
    """Run a plan on the samples of a file."""
    from ffebm.studies.inference import check_outputs, described, infer, read_inputs, write_outputs
    from ffebm.training.classification import data_for

    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"--tolerance {tolerance}", allowed="0 or more")
    if tolerance is not None and check is None:
        raise UsageError("--tolerance without --check", hint="name the model with --check MODEL.onnx")
    if data_folder is not None and calibrate is None:
        raise UsageError("--data-folder without --calibrate", hint="name the data with --calibrate")
    loaded = settled_by(load_plan(plan), settling)
    inputs = read_inputs(loaded, input)
    data = None if calibrate is None else data_for(loaded, calibrate, data_folder)
    outputs, notes = infer(loaded, inputs, seed, device, data)
    for line in notes:
        err.print(visible(line), markup=False)
    if check is None:
        for name, values in outputs.items():
            out.print(visible(described(name, values)), markup=False)
    else:
        for comparison in check_outputs(inputs, outputs, check):
            out.print(visible(str(comparison)), markup=False)
            if tolerance is None or comparison.relative_error <= tolerance:
                continue  # a NaN is within no tolerance
            raise UsageError(
                f"{comparison.name} differs from {check.name} by "
                f"{comparison.relative_error:.3g} of its largest value",
                allowed=f"{tolerance:g}",
                hint="block sizes above 1, noise and converters change what a plan computes",
            )
    if output is not None:
        write_outputs(outputs, output)
        out.print(f"outputs written to {output}", markup=False)
