"""What exact and noisy tiles do to trained models: the drop in agreement with onnxruntime.

The three models of rapidocr-onnxruntime and magika's, on real inputs, at block size 1. `ideal` shows that the
plan computes what the model computes; `reference` adds converters and noise. A part of the noise at a time
shows where the drop comes from. Nothing is trained for the tiles; the ranges of the ADCs are calibrated on
the same inputs, without their answers. Agreements are means +- standard deviations over seeds of the noise.
"""

import argparse
import statistics
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import torch

import ffebm
from ffebm.hardware.description import Crossbar, Hardware, load_hardware
from ffebm.plan.summary import share

sys.path.insert(0, str(Path(__file__).parents[1]))  # the inputs are those of the tests

from tests.packaged_models import MODELS, Data, Packaged, agreement

COUNTS = {"which way up": 40, "where text is": 10, "what text says": 20, "kinds of files": 200}
"""Inputs of each model."""
FINE_BITS = 16


def machines() -> dict[str, Hardware]:
    """Exact tiles, those of `reference`, and these with a part of their errors."""
    reference = load_hardware("reference")
    tile = reference.analog[0].tile
    assert isinstance(tile, Crossbar)
    replace = msgspec.structs.replace
    none = replace(tile.cell.read_noise, value=0.0)
    quiet = replace(tile, cell=replace(tile.cell, read_noise=none, programming_noise=none))
    fine = replace(tile, dac=replace(tile.dac, bits=FINE_BITS), adc=replace(tile.adc, bits=FINE_BITS))
    return {
        "ideal": load_hardware("ideal"),
        "reference": reference,
        "reference without noise": replace(reference, analog=(replace(reference.analog[0], tile=quiet),)),
        f"reference, {FINE_BITS}-bit converters": replace(
            reference, analog=(replace(reference.analog[0], tile=fine),)
        ),
    }


def oracle(path: Path, x: Data) -> Data:
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected: Data = session.run(None, {session.get_inputs()[0].name: x})[0]
    return expected


def run(model: Packaged, hardware: Hardware, x: Data, seed: int) -> tuple[Data, str]:
    """A plan's results, and the share of its multiply-accumulates on tiles."""
    dims = {**model.dims, "x_0": len(x)} if model.dims else {}
    plan = ffebm.compile(model.path(), hardware=hardware, dims=dims, replicas=1)
    net = ffebm.Executor(plan, seed=seed)
    net.calibrate(torch.from_numpy(x))
    with torch.no_grad():
        result: Data = net(torch.from_numpy(x)).numpy()
    on_tiles = sum(node.macs for node in plan.nodes if node.unit == "tile")
    return result, share(on_tiles, sum(node.macs for node in plan.nodes))


def spread(values: list[float]) -> str:
    """Mean and, of several, standard deviation."""
    bar = f" +- {statistics.stdev(values):.1f}" if len(set(values)) > 1 else ""
    return f"{statistics.fmean(values):.1f}{bar}"


def table(name: str, count: int, seeds: int) -> None:
    """One model on every machine."""
    model = MODELS[name]
    path = model.path()
    if path is None:
        print(f"\n{name}: {model.package} is not installed (make venv)", flush=True)
        return
    x = model.inputs(count)
    expected = oracle(path, x)
    print(f"\n{model.package}, {Path(model.file).name}: {len(x)} inputs, {model.decision}")
    print("| tiles | MACs on tiles | relative error, at most | agreement, % |\n|---|---|---|---|")
    for machine, hardware in machines().items():
        same, errors, on_tiles = [], [], ""
        for seed in range(1 if machine == "ideal" else seeds):
            result, on_tiles = run(model, hardware, x, seed)
            errors.append(float(np.abs(result - expected).max() / np.abs(expected).max()))
            same.append(100 * agreement(model.decide(result), model.decide(expected)))
        print(f"| {machine} | {on_tiles} | {max(errors):.1e} | {spread(same)} |", flush=True)


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of the tiles' noise")
    parser.add_argument("--model", choices=list(COUNTS), help="only this one")
    args = parser.parse_args()
    for name, count in COUNTS.items():
        if args.model in {None, name}:
            table(name, count, args.seeds)


if __name__ == "__main__":
    main()
