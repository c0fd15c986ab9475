"""What exact and noisy tiles do to trained models: the drop in agreement with onnxruntime.

The three models of rapidocr-onnxruntime and magika's, on real inputs, at block size 1. `ideal` shows that the
plan computes what the model computes; `reference` adds converters and noise. A part of the noise at a time
shows where the drop comes from. Nothing is trained for the tiles; the ranges of the ADCs are calibrated on
the same inputs, without their answers. Agreements are means +- standard deviations over seeds of the noise.

`--blocks` compiles at block size 2 instead, on exact tiles and with a feedback of several strengths: how near
blocks of two layers that feel each other stay to a model that was not trained with them.
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
STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
"""Of the feedback in blocks of two layers."""
SETTLED = 1e-4
"""Residual below which a sample counts as settled in a block."""


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


def installed(name: str) -> tuple[Packaged, Path] | None:
    """A model and its file; None, which is said, if its package is not installed."""
    model = MODELS[name]
    path = model.path()
    if path is None:
        print(f"\n{name}: {model.package} is not installed (make venv)", flush=True)
        return None
    return model, path


def at_block_size_2(name: str, count: int) -> None:
    """One model in blocks of two layers, by how strongly the lower ones feel the upper ones."""
    found = installed(name)
    if found is None:
        return
    model, path = found
    x = model.inputs(count)
    dims = {**model.dims, "x_0": len(x)} if model.dims else {}
    plan = ffebm.compile(path, hardware="ideal", dims=dims, replicas=1, block_size=2)
    pairs = [index for index, block in enumerate(plan.blocks) if len(block.layers) == 2]
    print(f"\n{model.package}, {Path(model.file).name}: {len(x)} inputs, {model.decision}")
    print(f"{len(pairs)} of {len(plan.blocks)} blocks have two layers", flush=True)
    if not pairs:
        return

    expected = oracle(path, x)
    print("| feedback | settled, % | relative error | agreement, % |\n|---|---|---|---|")
    for feedback in STRENGTHS:
        plan = ffebm.compile(path, hardware="ideal", dims=dims, replicas=1, block_size=2, feedback=feedback)
        net = ffebm.Executor(plan)
        net.notices.enabled = False
        with torch.no_grad():
            result: Data = net(torch.from_numpy(x)).numpy()
        residuals = torch.cat([net.equilibria[index].residual for index in pairs])
        settled = 100 * float((residuals <= SETTLED).double().mean())
        error = float(np.abs(result - expected).max() / np.abs(expected).max())
        same = 100 * agreement(model.decide(result), model.decide(expected))
        print(f"| {feedback:g} | {settled:.0f} | {error:.1e} | {same:.1f} |", flush=True)


def spread(values: list[float]) -> str:
    """Mean and, of several, standard deviation."""
    bar = f" +- {statistics.stdev(values):.1f}" if len(set(values)) > 1 else ""
    return f"{statistics.fmean(values):.1f}{bar}"


def table(name: str, count: int, seeds: int) -> None:
    """One model on every machine."""
    found = installed(name)
    if found is None:
        return
    model, path = found
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
    parser.add_argument("--blocks", action="store_true", help="blocks of two layers, on exact tiles")
    args = parser.parse_args()
    for name, count in COUNTS.items():
        if args.model in {None, name} and args.blocks:
            at_block_size_2(name, count)
        elif args.model in {None, name}:
            table(name, count, args.seeds)


if __name__ == "__main__":
    main()
