"""Deep resistive networks: trained runs, on other machines too, and random blocks in ngspice.

python benchmarks/deep_resistive.py keep RUN…    # of `ffebm train`; what it trained is tested on MACHINES
python benchmarks/deep_resistive.py circuits     # 30 random blocks against ngspice
python benchmarks/deep_resistive.py              # tables of the records, as in docs/circuits.md
"""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ffebm
from ffebm.errors import NotSettledWarning
from ffebm.exporters.spice.export import passive_circuits, passive_seeded
from ffebm.exporters.spice.passive import passive_netlist
from ffebm.recipes.deep_resistive import DEEP_RESISTIVE
from ffebm.runtime.blocks.physics.deep_resistive import LEAST
from ffebm.studies.passive_circuits import passive_compare, passive_expected
from ffebm.training.data import load_data
from ffebm.training.runs.checkpoint import load_checkpoint

RECORDS = Path(__file__).parent / "records" / "deep_resistive"
MACHINES = ("ideal", "reference")
SHOWN = 1_000
"""Test samples on machines; the first ones."""
RANDOM = 30
PUBLISHED_EPOCHS = 100
FLOORS = 200
"""Of a power law, tried from 0 up to the least error that was seen."""


def keep(folder: Path) -> dict[str, object]:
    """The epochs of a run, and how what it trained does on other machines."""
    record = load_checkpoint(folder).record
    machines = MACHINES if (folder / "trained.onnx").exists() else ()  # a plan of a torch module leaves none
    return {
        "data": record.training.data,
        "seed": record.training.seed,
        "epochs": [
            [e.epoch, e.loss, e.train_accuracy, e.test_accuracy, e.unsettled, e.seconds]
            for e in record.epochs
        ],
        "machines": {machine: tested(folder, record.training.data, machine) for machine in machines},
    }


def tested(folder: Path, name: str, machine: str) -> float:
    """Accuracy of a trained network on the test samples of its data, on a machine."""
    data, recipe = load_data(name), DEEP_RESISTIVE["deep-resistive-1h"]
    plan = ffebm.compile(
        folder / "trained.onnx",
        hardware=machine,
        block_size=recipe.block_size,
        physics=recipe.physics,
        settle=recipe.settle,
    )
    shape = [int(size) for size in (plan.inputs[0].type.shape or ())[1:]]
    scale = 255.0 if data.x_test.dtype == torch.uint8 else 1.0
    x = data.x_test[:SHOWN].float().reshape(-1, *shape) / scale
    net = ffebm.Executor(plan).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotSettledWarning)  # four sweeps, as trained
        net.calibrate(data.x_train[:256].float().reshape(-1, *shape) / scale)
        hits = net(x).argmax(1) == data.y_test[:SHOWN]
    return float(hits.double().mean())


class RandomNetwork(torch.nn.Module):
    """Inputs, up to two layers of either sign behind amplifiers, and outputs."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self.sizes: list[int] = rng.integers(4, 65, size=rng.integers(2, 5)).tolist()
        self.gain = float(rng.choice([1.0, 2.0, 4.0]))
        self.maps = torch.nn.ModuleList()
        ways = [self.sizes[0]]
        for n in self.sizes[1:-1]:
            self.maps.extend(conductances(rng, n_in, n) for _ in range(2) for n_in in ways)
            ways = [n, n]
        self.maps.extend(conductances(rng, n_in, self.sizes[-1]) for n_in in ways)

    def forward(self, x: Tensor) -> Tensor:
        """Amplified and clipped by either sign, layer by layer."""
        values, at = [x], 0
        for _ in self.sizes[1:-1]:
            plus = self._driven(values, at).clamp(min=0.0)
            minus = self._driven(values, at + len(values)).clamp(max=0.0)
            values, at = [plus, minus], at + 2 * len(values)
        return self._driven(values, at)

    def _driven(self, values: list[Tensor], at: int) -> Tensor:
        total: Tensor = self.maps[at](values[0])
        for k, value in enumerate(values[1:], at + 1):
            total = total + self.maps[k](value)
        return total * self.gain


def conductances(rng: np.random.Generator, n_in: int, n_out: int) -> torch.nn.Linear:
    """Uniform within 1, clamped as after a step of training, with currents into the nodes."""
    layer = torch.nn.Linear(n_in, n_out)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.uniform(-1, 1, (n_out, n_in)).clip(LEAST, None)))
        layer.bias.copy_(torch.from_numpy(rng.uniform(-0.2, 0.2, n_out)))
    return layer


def circuits() -> dict[str, object]:
    """Random blocks in ngspice: the worst of each figure."""
    rng, found = np.random.default_rng(0), []
    for _ in range(RANDOM):
        network = RandomNetwork(rng).eval()
        x = torch.zeros(2, network.sizes[0])
        plan = ffebm.compile(network, (x,), hardware="resistive", block_size=9, physics="deep-resistive")
        (circuit,) = passive_circuits(plan)
        known = passive_expected(plan, circuit, passive_seeded(circuit))
        assert known.settled
        found.append(passive_compare(plan, passive_netlist(plan, circuit, known.stimulus), known))
    cells = [one.cells for one in found]
    return {
        "blocks": len(found),
        "cells": [min(cells), max(cells)],
        "state": max(max(one.errors.values()) for one in found),
        "slope": max(one.slope for one in found),
        "power": max(abs(one.power) for one in found),
        "cosine": min(one.cosine for one in found),
    }


def extrapolated(errors: np.ndarray, epochs: int) -> tuple[float, float]:
    """The error after so many epochs, by power laws of the epoch: down to 0, and to the floor that fits best.

    Args:
        errors: One an epoch from the first on, [epochs run].
        epochs: Of the whole training.
    """
    counted = np.log(np.arange(1, len(errors) + 1))
    found = []
    for floor in np.linspace(0, errors.min(), FLOORS, endpoint=False):
        slope, start = np.polyfit(counted, np.log(errors - floor), 1)
        law = floor + np.exp(start + slope * np.append(counted, np.log(epochs)))
        found.append((float(((law[:-1] - errors) ** 2).sum()), float(law[-1])))
    return found[0][1], min(found)[1]


def tables() -> Iterator[str]:
    """The records as Markdown."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDS.glob("*-seed*.json"))]
    yield f"| data, seed | epochs | best, last | {' | '.join(MACHINES)} |"
    yield f"|---|---|---|{'---|' * len(MACHINES)}"
    for run in runs:
        tests = [epoch[3] for epoch in run["epochs"]]
        shares = (run["machines"].get(name) for name in MACHINES)
        machines = " | ".join("not measured" if share is None else f"{100 * share:.1f} %" for share in shares)
        ends = f"{100 * max(tests):.2f} %, {100 * tests[-1]:.2f} %"
        yield f"| {run['data']}, {run['seed']} | {len(tests)} | {ends} | {machines} |"
    yield ""
    for run in runs:
        if run["data"] == "fashion-mnist":
            yield "| epoch | loss | training accuracy | test accuracy |"
            yield "|---|---|---|---|"
            for epoch, loss, train, test, *_ in run["epochs"]:
                yield f"| {epoch} | {loss:.4f} | {100 * train:.2f} % | {100 * test:.2f} % |"
            yield ""
            errors = 100 * (1 - np.array([test for _, _, _, test, *_ in run["epochs"]]))
            lowest, floored = extrapolated(errors, PUBLISHED_EPOCHS)
            yield (
                f"Extrapolated to {PUBLISHED_EPOCHS} epochs, by a power law of the epoch that ends at 0, "
                f"and by one with the floor that fits best: errors of {lowest:.1f} and {floored:.1f} %."
            )
            yield ""
    known = RECORDS / "circuits.json"
    if known.exists():
        one = json.loads(known.read_text(encoding="utf-8"))
        yield "| random blocks | cells | states off | slope of the energy | power off | cosine of gradients |"
        yield "|---|---|---|---|---|---|"
        cells = " to ".join(f"{count:,}" for count in one["cells"])
        figures = " | ".join(f"{one[name]:.1e}" for name in ("state", "slope", "power"))
        yield f"| {one['blocks']} | {cells} | {figures} | {one['cosine']:.6f} |"


def main(arguments: list[str]) -> None:
    """Keep, measure, or print."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    if arguments[:1] == ["keep"]:
        for folder in arguments[1:]:
            kept = keep(Path(folder))
            path = RECORDS / f"{kept['data']}-seed{kept['seed']}.json"
            path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    elif arguments == ["circuits"]:
        (RECORDS / "circuits.json").write_text(json.dumps(circuits(), indent=1) + "\n", encoding="utf-8")
    else:
        print("\n".join(tables()))


if __name__ == "__main__":
    main(sys.argv[1:])
