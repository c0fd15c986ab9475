"""Learning in place: what pulses follow, and what is done about asymmetric ones.

One hidden layer, both weight matrices in one energy block, trained by plain gradient descent. Devices are
those of the `resistive` machine (soft bounds, asymmetric) and the same with equal pulses between hard bounds.
Each row's rate is that of SCANNED with the best accuracy on a fifth of the training samples of digits, held
out, with seed 0; Fashion-MNIST takes the same rates. Rows of "aihwkit" train the same network by its analog
SGD, where its compiled tiles run. "exact" has no cells: the same blocks with a digital master copy, and
backpropagation by torch. What is recorded already is not run again.

python benchmarks/in_situ.py rates          # the accuracy of each row at each rate
python benchmarks/in_situ.py run DATA [BY]  # each row, or those pulsed BY, at its best rate, seeds 0 to 2
python benchmarks/in_situ.py                # the table of the records
python benchmarks/in_situ.py write          # the same, into docs/in_situ.md
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace as of_dataclass
from pathlib import Path
from typing import Any, Literal

import analog_sgd
import torch
from msgspec.structs import replace

import ffebm
from ffebm.hardware.description import Accumulate, Chopper, Hardware, Ratio, Transfer, Update, load_hardware
from ffebm.hardware.devices.update import PulsedBy
from ffebm.training.data import Data, load_data
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

RECORDS = Path(__file__).parent / "records" / "in_situ"
DOCUMENT = Path(__file__).parents[1] / "docs" / "in_situ.md"
SEEDS = (0, 1, 2)
HIDDEN = {"digits": 64, "fashion-mnist": 128}
EPOCHS = {"digits": 3, "fashion-mnist": 2}
SCANNED, SCANNED_EPOCHS = (0.25, 1.0), 3
SAMPLES = {"digits": (None, None), "fashion-mnist": (2_000, 1_000)}
"""Training and test samples, the first ones; None takes all."""
BATCH, BETA, EVERY, FLIPS = 32, 0.5, 4, 0.1

Row = tuple[PulsedBy | Literal["aihwkit", "blocks", "backpropagation"], str]
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
        ("differences", "chopped"),
        ("states", "chopped"),
        ("matrix", "chopped"),
        ("aihwkit", "none"),
        ("aihwkit", "transfer"),
        ("aihwkit", "buffered"),
        ("aihwkit", "chopped"),
        ("aihwkit", "accumulate"),
    ),
    "hard": (("differences", "none"), ("states", "none"), ("matrix", "none"), ("aihwkit", "none")),
    "exact": (("blocks", "none"), ("backpropagation", "none")),
}
ABSENT = "absent"
"""What the table has of aihwkit where it was not there."""


def chosen(value: float) -> Ratio:
    """A ratio of this benchmark's own."""
    return Ratio(value=value, source="chosen for a benchmark", unit="1", assumption=True)


def machine(device: str, row: Row) -> Hardware:
    """The reference machine with cells that learn in place; exact tiles where there are none."""
    if device == "exact":
        return load_hardware("ideal")
    pulsed_by, remedy = row
    base, learns = load_hardware("reference"), load_hardware("resistive").analog[0].tile.crossbar()
    law, tile = learns.update, base.analog[0].tile.crossbar()
    assert isinstance(law, Update)
    transfer = Transfer(every=EVERY, rate=chosen(0.5), buffered=remedy in {"buffered", "chopped"})
    remedies = {
        "none": None,
        "accumulate": Accumulate(),
        "transfer": transfer,
        "buffered": transfer,
        "chopped": replace(transfer, chopper=Chopper(inputs=chosen(FLIPS))),
    }
    # aihwkit takes outer products by itself; a plan for it says what its cells are
    update = replace(
        law, pulsed_by="matrix" if pulsed_by == "aihwkit" else pulsed_by, remedy=remedies[remedy]
    )
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
        hardware=machine(device, row),
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
    started = time.process_time()
    if row[0] in {"aihwkit", "backpropagation"}:
        figures = analog_sgd.trained(model, plan, data, training, analog=row[0] == "aihwkit")
    else:
        figures = by_plan(plan, data, training)
    return {"lr": lr, "seconds": time.process_time() - started, "epochs": figures}


def by_plan(plan: ffebm.Plan, data: Data, training: Training) -> list[list[float | None]]:
    """Train a plan; of each epoch its number, loss, and training, test and held-out accuracy."""
    net = ffebm.Executor(plan, gradient=estimator(training), seed=training.seed)
    trainer = Trainer(net, data, training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ffebm.errors.SmallStepWarning)
        epochs = list(trainer.run())
    return [[e.epoch, e.loss, e.train_accuracy, e.test_accuracy, e.validation_accuracy] for e in epochs]


def rows() -> Iterator[tuple[str, Row]]:
    """All that can be trained here, with their devices."""
    present = analog_sgd.is_present()
    if not present:
        print("aihwkit: absent, or its compiled tiles do not run with this torch; see docs/in_situ.md")
    for device, several in ROWS.items():
        yield from ((device, row) for row in several if present or row[0] != "aihwkit")


def name_of(device: str, row: Row) -> str:
    """Of a row in the records."""
    return " ".join((device, *row))


def rates() -> None:
    """Record the held-out accuracy of each row at each rate."""
    path = RECORDS / "digits-rates.json"
    found = scan()
    for device, row in rows():
        scanned = found.setdefault(name_of(device, row), {})
        for lr in SCANNED:
            if str(lr) not in scanned:
                scanned[str(lr)] = trained("digits", device, row, 0, lr, held=True)["epochs"][-1][4]
        print(device, row, scanned, flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def scan() -> dict[str, dict[str, float]]:
    """The held-out accuracies that are recorded, by row and rate."""
    path = RECORDS / "digits-rates.json"
    found: dict[str, dict[str, float]] = {}
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else found


def best_rate(device: str, row: Row) -> float:
    """The first of those with the best accuracy."""
    scanned = scan()[name_of(device, row)]
    return float(max(scanned, key=lambda lr: scanned[lr]))


def run(name: str, by: str) -> None:
    """Record each row at its rate, or those of one kind of pulses, but what is recorded already."""
    for device, row in rows():
        if by not in {"", row[0]}:
            continue
        path = record_of(name, device, row)
        record = {
            "data": name,
            "device": device,
            "pulsed_by": row[0],
            "remedy": row[1],
            "hidden": HIDDEN[name],
            "samples": len(samples(name).x_train),
            "batch": BATCH,
            "runs": {},
        }
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
        for seed in SEEDS:
            if str(seed) not in runs:
                runs[str(seed)] = trained(name, device, row, seed, best_rate(device, row), held=False)
                path.write_text(json.dumps({**record, "runs": runs}, indent=1) + "\n", encoding="utf-8")
        print(device, row, [one["epochs"][-1][3] for one in runs.values()], flush=True)


def record_of(name: str, device: str, row: Row) -> Path:
    """Where a row's runs are recorded."""
    return RECORDS / f"{name}-{device}-{row[0]}-{row[1]}.json"


def table() -> Iterator[str]:
    """The records as Markdown."""
    scanned = scan()
    names = [name for name in HIDDEN if any(RECORDS.glob(f"{name}-*-*-*.json"))]
    columns = [f"held out at {lr:g}, %" for lr in SCANNED] + [f"rate; test of {name}, %" for name in names]
    yield f"| device | pulses by | remedy | {' | '.join(columns)} |"
    yield f"|---|---|---|{'---|' * len(columns)}"
    for device, several in ROWS.items():
        for row in several:
            found = scanned.get(name_of(device, row), {})
            missing = ABSENT if row[0] == "aihwkit" else "not run"
            shares = [f"{100 * found[str(lr)]:.1f}" if str(lr) in found else missing for lr in SCANNED]
            paths = [record_of(name, device, row) for name in names]
            tests = [_figures(path) if path.exists() else missing for path in paths]
            yield f"| {device} | {row[0]} | {row[1]} | {' | '.join(shares + tests)} |"


def write() -> None:
    """Replace the table of the document."""
    before, head, after = DOCUMENT.read_text(encoding="utf-8").partition("| device | pulses by |")
    behind = after[after.index("\n\n") :]
    assert head, DOCUMENT
    DOCUMENT.write_text(before + "\n".join(table()) + behind, encoding="utf-8")


def _figures(path: Path) -> str:
    runs = list(json.loads(path.read_text(encoding="utf-8"))["runs"].values())
    last = [100 * one["epochs"][-1][3] for one in runs]
    if len(last) < len(SEEDS):
        return f"{runs[0]['lr']:g}; {len(last)} of {len(SEEDS)} seeds run"
    return f"{runs[0]['lr']:g}; {statistics.fmean(last):.1f} ± {statistics.stdev(last):.1f}"


def main() -> None:
    what, name, by = (*sys.argv[1:], "", "", "")[:3]
    if what == "rates":
        rates()
    elif what == "run":
        run(name, by)
    elif what == "write":
        write()
    else:
        print("\n".join(table()))


if __name__ == "__main__":
    main()
