"""Digits by hybrid gradients at block sizes 1, 2 and 3, on two machines, beside plain backpropagation.

The baseline is the same network with everything digital, trained by the same loop in the same run. With
`--seeds N` each row is the mean over N seeds of the model's weights and of the noise. `--validate 0.2` holds
a fifth of the training samples out and tells the accuracy on them instead: settings are chosen so.

python benchmarks/digits.py --seeds 3
python benchmarks/digits.py --seeds 2 --epochs 8 --validate 0.2 --rows "reference, block size 2"
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

import ffebm
from ffebm.training.data import load_data
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from digits_model import digits_model

Sweeps = tuple[int, int]
"""Free and nudged ones."""
SWEEPS: Sweeps = (8, 5)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: In words.
        hardware: Machine.
        block_size: Layers of a block.
        boundary: Where the first map of a block runs.
        beta: Strength of the nudge.
        least: Accuracy that is wanted, %.
        sweeps: Free and nudged ones.
    """

    name: str
    hardware: str
    block_size: int
    boundary: Literal["tile", "digital"]
    beta: float
    least: float
    sweeps: Sweeps = SWEEPS


ROWS = (
    Row("plain backpropagation", "ideal", 1, "digital", 0.1, 97.0),
    *(Row(f"ideal, block size {size}", "ideal", size, "tile", 0.1, 97.0) for size in (1, 2, 3)),
    *(Row(f"reference, block size {size}", "reference", size, "tile", 0.5, 95.0) for size in (1, 2, 3)),
    Row("reference, block size 2, 4 and 3 sweeps", "reference", 2, "tile", 0.5, 97.5, (4, 3)),
)


def train(row: Row, seed: int, epochs: int, validation: float) -> tuple[float, float]:
    """Accuracy in per cent, and seconds of processor time; of samples that are held out, if some are."""
    plan = ffebm.compile(
        digits_model(seed),
        hardware=row.hardware,
        block_size=row.block_size,
        boundary=row.boundary,
        settle=ffebm.Settle(free_sweeps=row.sweeps[0], nudged_sweeps=row.sweeps[1]),
        replicas=1,
    )
    training = Training(
        data="digits",
        epochs=epochs,
        lr=4e-3,
        schedule="cosine",
        beta=row.beta,
        seed=seed,
        validation=validation,
    )
    net = ffebm.Executor(plan, gradient=estimator(training), seed=seed)
    net.notices.enabled = False
    trainer = Trainer(net, load_data("digits"), training)
    started = time.process_time()
    *_, last = trainer.run()
    found = last.validation_accuracy if validation else last.test_accuracy
    return 100 * (found or 0.0), time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--validate", type=float, default=0.0, help="share of training samples held out")
    parser.add_argument("--rows", default="", help="only rows whose name has this in it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    base = 0.0
    for row in (row for row in ROWS if options.rows in row.name):
        results = [train(row, seed, options.epochs, options.validate) for seed in seeds]
        accuracies, seconds = zip(*results, strict=True)
        mean = statistics.fmean(accuracies)
        spread = statistics.stdev(accuracies) if options.seeds > 1 else 0.0
        took = statistics.fmean(seconds)
        base = base or took
        print(
            f"{row.name:<36} accuracy {mean:5.2f} +- {spread:.2f} % (wanted {row.least:g})  "
            f"{took:6.1f} s, {took / base:5.1f} x the first",
            flush=True,
        )


if __name__ == "__main__":
    main()
