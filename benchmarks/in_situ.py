"""Learning in place: what pulses follow, and what is done about asymmetric ones.

One hidden layer, both weight matrices in one energy block, trained by plain gradient descent. Devices are
those of the `resistive` machine (soft bounds, asymmetric) and the same with equal pulses between hard bounds.
Each row's rate is that of SCANNED with the best accuracy on a fifth of the training samples of digits, held
out, with seed 0; Fashion-MNIST takes the same rates.

python benchmarks/in_situ.py rates          # the accuracy of each row at each rate
python benchmarks/in_situ.py run DATA       # each row at its best rate, seeds 0 to 2
python benchmarks/in_situ.py                # the table of the records, as in docs/in_situ.md
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace as of_dataclass
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace

import ffebm
from ffebm.hardware.description import Accumulate, Hardware, Ratio, Transfer, Update, load_hardware
from ffebm.hardware.devices.update import PulsedBy
from ffebm.training.data import Data, load_data
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

RECORDS = Path(__file__).parent / "records" / "in_situ"
SEEDS = (0, 1, 2)
HIDDEN = {"digits": 64, "fashion-mnist": 128}
EPOCHS = {"digits": 3, "fashion-mnist": 2}
SCANNED, SCANNED_EPOCHS = (0.25, 1.0), 3
SAMPLES = {"digits": (None, None), "fashion-mnist": (2_000, 1_000)}
"""Training and test samples, the first ones; None takes all."""
BATCH, BETA, EVERY = 32, 0.5, 4

Row = tuple[PulsedBy, str]
ROWS: dict[str, tuple[Row, ...]] = {
    "soft": (
        ("differences", "none"),
        ("differences", "transfer"),
        ("differences", "buffered"),
        ("states", "none"),
        ("states", "transfer"),
        ("matrix", "none"),
        ("matrix", "transfer"),
        ("states", "buffered"),
        ("matrix", "buffered"),
        ("matrix", "accumulate"),
    ),
    "hard": (("differences", "none"), ("states", "none"), ("matrix", "none")),
}


def chosen(value: float) -> Ratio:
    """A ratio of this benchmark's own."""
    return Ratio(value=value, source="chosen for a benchmark", unit="1", assumption=True)


def machine(device: str, pulsed_by: PulsedBy, remedy: str) -> Hardware:
    """The reference machine with cells that learn in place."""
    base, learns = load_hardware("reference"), load_hardware("resistive").analog[0].tile.crossbar()
    law, tile = learns.update, base.analog[0].tile.crossbar()
    assert isinstance(law, Update)
    transfer = Transfer(every=EVERY, rate=chosen(0.5), buffered=remedy == "buffered")
    remedies = {"none": None, "accumulate": Accumulate(), "transfer": transfer, "buffered": transfer}
    update = replace(law, pulsed_by=pulsed_by, remedy=remedies[remedy])
    if device == "hard":
        update = replace(update, bounds="hard", asymmetry=chosen(0.0))
    cell = replace(tile.cell, variation=learns.cell.variation)
    group = replace(base.analog[0], tile=replace(tile, cell=cell, update=update))
    return replace(base, name=f"in situ, {device}", analog=(group,))


def samples(name: str) -> Data:
    """The data of a row."""
    data, (train, test) = load_data(name), SAMPLES[name]
    return of_dataclass(
        data,
        x_train=data.x_train[:train],
        y_train=data.y_train[:train],
        x_test=data.x_test[:test],
        y_test=data.y_test[:test],
    )


def trained(name: str, device: str, row: Row, seed: int, lr: float, *, held: bool) -> dict[str, Any]:
    """Train one network; its epochs."""
    data = samples(name)
    size = data.x_train[0].numel()
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(size, HIDDEN[name]), torch.nn.Hardtanh(0.0, 1.0), torch.nn.Linear(HIDDEN[name], 10)
    ).eval()
    plan = ffebm.compile(
        model,
        (torch.zeros(2, size),),
        hardware=machine(device, *row),
        block_size=2,
        replicas=1,
        settle=ffebm.Settle(free_sweeps=4, nudged_sweeps=3),
    )
    training = Training(
        data=name,
        epochs=SCANNED_EPOCHS if held else EPOCHS[name],
        batch=BATCH,
        optimizer="SGD",
        lr=lr,
        schedule="cosine",
        beta=BETA,
        seed=seed,
        validation=0.2 if held else 0.0,
    )
    trainer = Trainer(ffebm.Executor(plan, gradient=estimator(training), seed=seed), data, training)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ffebm.errors.SmallStepWarning)
        epochs = list(trainer.run())
    figures = [[e.epoch, e.loss, e.train_accuracy, e.test_accuracy, e.validation_accuracy] for e in epochs]
    return {"lr": lr, "seconds": time.process_time() - started, "epochs": figures}


def name_of(device: str, row: Row) -> str:
    """Of a row in the records."""
    return " ".join((device, *row))


def rates() -> None:
    """Record the held-out accuracy of each row at each rate."""
    found: dict[str, dict[str, float]] = {}
    for device, rows in ROWS.items():
        for row in rows:
            scanned = found[name_of(device, row)] = {}
            for lr in SCANNED:
                scanned[str(lr)] = trained("digits", device, row, 0, lr, held=True)["epochs"][-1][4]
            print(device, row, scanned, flush=True)
    path = RECORDS / "digits-rates.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def best_rate(device: str, row: Row) -> float:
    """The first of those with the best accuracy."""
    scanned = json.loads((RECORDS / "digits-rates.json").read_text(encoding="utf-8"))[name_of(device, row)]
    return float(max(scanned, key=lambda lr: scanned[lr]))


def run(name: str) -> None:
    """Record each row at its rate, but those that are recorded already."""
    for device, rows in ROWS.items():
        for row in rows:
            path = RECORDS / f"{name}-{device}-{row[0]}-{row[1]}.json"
            if path.exists():
                continue
            lr = best_rate(device, row)
            runs = {str(seed): trained(name, device, row, seed, lr, held=False) for seed in SEEDS}
            record = {
                "data": name,
                "device": device,
                "pulsed_by": row[0],
                "remedy": row[1],
                "hidden": HIDDEN[name],
                "samples": len(samples(name).x_train),
                "batch": BATCH,
                "runs": runs,
            }
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(device, row, [one["epochs"][-1][3] for one in runs.values()], flush=True)


def table() -> Iterator[str]:
    """The records as Markdown."""
    scanned = json.loads((RECORDS / "digits-rates.json").read_text(encoding="utf-8"))
    names = [name for name in HIDDEN if any(RECORDS.glob(f"{name}-*-*-*.json"))]
    columns = [f"held out at {lr:g}, %" for lr in SCANNED] + [f"rate; test of {name}, %" for name in names]
    yield f"| device | pulses by | remedy | {' | '.join(columns)} |"
    yield f"|---|---|---|{'---|' * len(columns)}"
    for device, rows in ROWS.items():
        for row in rows:
            found = scanned[name_of(device, row)]
            shares = " | ".join(f"{100 * found[str(lr)]:.1f}" for lr in SCANNED)
            paths = (RECORDS / f"{name}-{device}-{row[0]}-{row[1]}.json" for name in names)
            tests = " | ".join(_figures(path) if path.exists() else "not run" for path in paths)
            yield f"| {device} | {row[0]} | {row[1]} | {shares} | {tests} |"


def _figures(path: Path) -> str:
    runs = list(json.loads(path.read_text(encoding="utf-8"))["runs"].values())
    last = [100 * one["epochs"][-1][3] for one in runs]
    return f"{runs[0]['lr']:g}; {statistics.fmean(last):.1f} ± {statistics.stdev(last):.1f}"


def main() -> None:
    what, name = (*sys.argv[1:], "", "")[:2]
    if what == "rates":
        rates()
    elif what == "run":
        run(name)
    else:
        print("\n".join(table()))


if __name__ == "__main__":
    main()
