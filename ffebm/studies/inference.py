"""Runs a plan on the samples of a file, and compares it with onnxruntime."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ffebm.errors import Location, UsageError
from ffebm.files.write_file import replacing
from ffebm.graph.tensor import Array, Floats
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Port
from ffebm.runtime.blocks.settling.settling import listed_samples
from ffebm.runtime.executor import Executor
from ffebm.runtime.tiles.tile import limits_met
from ffebm.training.calibration import calibrated_on, calibration_batch, follows_data
from ffebm.training.classification import as_inputs, fitted
from ffebm.training.data import Data
from ffebm.training.data.npz import npz_names, read_npz

BESIDE = ("y", "x_test", "y_test")
"""Arrays of a file of labelled samples that are no inputs."""


@dataclass(frozen=True)
class Deviation:
    """How far an output is from onnxruntime's.

    Attributes:
        name: The output.
        relative_error: Largest difference over the largest magnitude of onnxruntime's output.
        agreement: Share of samples with the same largest element.
    """

    name: str
    relative_error: float
    agreement: float

    def __str__(self) -> str:
        return (
            f"{self.name}: largest error {self.relative_error:.3g} of the largest value, "
            f"same largest element in {100 * self.agreement:.2f} % of samples"
        )


def read_inputs(plan: Plan, path: Path) -> dict[str, Array]:
    """Read one array for each input of a plan.

    Raises:
        UsageError: If the file cannot be read, or arrays are missing, unknown or of another type.
    """
    where = Location(str(path))
    held = npz_names(path, "an .npz file")
    names = [port.name for port in plan.inputs]
    wanted = dict(zip(names, names, strict=True))
    if len(names) == 1 and names[0] not in held and "x" in held:
        wanted = {names[0]: "x"}  # a file of labelled samples calls them so
    unknown = set(held) - set(BESIDE) - set(wanted.values())
    if unknown or not set(wanted.values()) <= set(held):
        raise UsageError(
            f"it holds arrays {sorted(held)}", allowed=f"one for each input: {names}", location=where
        )
    arrays = read_npz(path, wanted.values(), "an .npz file")
    return {port.name: _as_declared(port, arrays[wanted[port.name]], where) for port in plan.inputs}


def _as_declared(port: Port, array: Array, where: Location) -> Array:
    """An input of the model's type; a single number has the model's number of axes."""
    shape = port.type.shape
    if shape is not None and array.size == 1 and max(len(shape), array.ndim) == 1:
        array = array.reshape((1,) * len(shape))
    if array.dtype == port.type.dtype:
        return array
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(port.type.dtype)
    whole = port.type.dtype.startswith(("int", "uint", "bool"))
    if whole and not np.array_equal(cast.astype(array.dtype), array):
        raise UsageError(
            f"{port.name!r} is {array.dtype} and holds numbers that are not {port.type.dtype}",
            allowed=f"{port.type.dtype}",
            location=where,
        )
    return cast


def infer(
    plan: Plan, inputs: Mapping[str, Array], seed: int, device: str, data: Data | None = None
) -> tuple[dict[str, Array], list[str]]:
    """Run a plan.

    Args:
        plan: The plan.
        inputs: By name.
        seed: Of noise.
        device: Where to compute.
        data: Its training samples set ADC ranges; without, they are those for uniform inputs.

    Returns:
        Outputs by name, and what the user should know: what ADC ranges are, blocks that did not settle.

    Raises:
        UsageError: If the device cannot be used, or the data does not fit or has nothing to set.
    """
    seen = None if data is None else _calibration(plan, data)
    net = Executor(plan, seed=seed)
    net.notices.enabled = False  # the notes tell it
    try:
        net.to(device)
        tensors = [torch.from_numpy(array.copy(order="C")).to(device) for array in inputs.values()]
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used: {first}", hint="--device cpu") from None
    if any(tensor.ndim and not len(tensor) for tensor in tensors):
        raise UsageError("an input holds no samples", allowed="at least one")
    if seen is not None:
        net.calibrate(tuple(x.to(device) for x in seen))
    with torch.no_grad():
        result = net(*tensors)
    outputs = result if isinstance(result, tuple) else (result,)
    ranges = calibrated_on(plan, 0 if seen is None else len(seen[0]))
    notes = [ranges] if ranges else []
    for block, equilibrium in zip(plan.blocks, net.equilibria, strict=True):
        loose = float((~equilibrium.converged).float().mean())
        if loose:
            worst = float(equilibrium.residual.max())
            hint = "compile with --relaxation 0.5 or more --free-sweeps"
            if equilibrium.timed:
                hint = "it still moves when its time is over"
            notes.append(
                f"warning: {block.name} did not settle in {100 * loose:.1f} % of samples "
                f"(residual up to {worst:.2g}); {hint}"
            )
    notes += limits_met(net.health())
    names = [port.name for port in plan.outputs]
    notes += _not_finite(dict(zip(names, outputs, strict=True)))
    return {n: v.detach().cpu().numpy() for n, v in zip(names, outputs, strict=True)}, notes


def _not_finite(outputs: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Names outputs with a NaN or an infinite number, and their samples."""
    for name, value in outputs.items():
        lost = ~torch.isfinite(value)
        if bool(lost.any()):
            samples = lost.flatten(1).any(1).nonzero()[:, 0].tolist() if lost.ndim else []
            where = f" in {listed_samples(samples)} of {len(lost)}" if samples else ""
            yield f"warning: output {name!r} is not finite{where}"


def _calibration(plan: Plan, data: Data) -> tuple[torch.Tensor, ...]:
    """Samples that ADC ranges are calibrated on, [batch, …] of each input."""
    if not follows_data(plan):
        raise UsageError(
            "the plan has no ADC ranges that follow data",
            allowed="weights on crossbars, clocked settling, range 'calibrated' or 'column', "
            "calibration 'data'",
            hint="leave --calibrate out",
        )
    return as_inputs(plan, calibration_batch(fitted(plan, data))[0])


def described(name: str, values: Array) -> str:
    """What an output is, in a line: its type, its shape, and the range of its finite values.

    >>> described("y", np.array([[0.5, -2.0]], np.float32))
    'y: float32 [1, 2], -2 to 0.5'
    """
    said = f"{name}: {values.dtype} {list(values.shape)}"
    if values.dtype.kind == "c":
        return said
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    ends = [finite.min(), finite.max()] if finite.size else []
    words = [f"{end:.4g}" if values.dtype.kind == "f" else str(end) for end in ends]
    return ", ".join([said, " to ".join(words)] if words else [said])


def check_outputs(
    inputs: Mapping[str, Array], outputs: Mapping[str, Array], model: Path
) -> Iterator[Deviation]:
    """Compare outputs with those of a model in onnxruntime.

    Raises:
        UsageError: If onnxruntime is not installed, or cannot run the model on these inputs.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "--check needs onnxruntime, which is not installed", hint="pip install ffebm[check]"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        expected = session.run(list(outputs), dict(inputs))
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base but this
        text = " ".join(str(error).split())
        raise UsageError(f"onnxruntime cannot run it: {text}", location=Location(str(model))) from None
    for (name, ours), theirs in zip(outputs.items(), expected, strict=True):
        yield _compare(name, ours.astype(np.float64), theirs.astype(np.float64))


def _compare(name: str, ours: Floats, theirs: Floats) -> Deviation:
    if ours.shape != theirs.shape:
        raise UsageError(f"output {name!r} is {list(ours.shape)}", allowed=f"{list(theirs.shape)}")
    if ours.size == 0:
        return Deviation(name, 0.0, 1.0)
    scale = float(np.abs(theirs).max()) or 1.0
    error = float(np.abs(ours - theirs).max()) / scale
    rows = ours.reshape(len(ours), -1) if ours.ndim else ours.reshape(1, 1)
    same = rows.argmax(1) == theirs.reshape(rows.shape).argmax(1)
    return Deviation(name, error, float(same.mean()))


def write_outputs(outputs: Mapping[str, Array], path: Path) -> None:
    """Write outputs as .npz; whole or not at all."""
    if not path.name:
        raise UsageError(
            "it is no regular file", allowed="a new file, or one to replace", location=Location(str(path))
        )
    with replacing(path) as fresh, zipfile.ZipFile(fresh, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
