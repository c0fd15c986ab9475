"""Digits by hybrid gradients at block sizes 1, 2 and 3, on two machines, beside plain backpropagation.

The baseline is the same network with everything digital, trained by the same loop in the same run. With
`--seeds N` each row is the mean over N seeds of the model's weights and of the noise.
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ffebm
from ffebm.training.data import load_data
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from digits_model import digits_model

SETTLE = ffebm.Settle(free_sweeps=8, nudged_sweeps=5)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    hardware: str
    block_size: int
    boundary: Literal["tile", "digital"]
    beta: float
    least: float


ROWS = (
    Row("plain backpropagation", "ideal", 1, "digital", 0.1, 97.0),
    *(Row(f"ideal, block size {size}", "ideal", size, "tile", 0.1, 97.0) for size in (1, 2, 3)),
    *(Row(f"reference, block size {size}", "reference", size, "tile", 0.5, 95.0) for size in (1, 2, 3)),
)


def train(row: Row, seed: int, epochs: int) -> tuple[float, float]:
    """Test accuracy in per cent, and seconds."""
    plan = ffebm.compile(
        digits_model(seed),
        hardware=row.hardware,
        block_size=row.block_size,
        boundary=row.boundary,
        settle=SETTLE,
        replicas=1,
    )
    training = Training(data="digits", epochs=epochs, lr=4e-3, schedule="cosine", beta=row.beta, seed=seed)
    net = ffebm.Executor(plan, gradient=estimator(training), seed=seed)
    trainer = Trainer(net, load_data("digits"), training)
    started = time.perf_counter()
    *_, last = trainer.run()
    return 100 * (last.test_accuracy or 0.0), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    base = 0.0
    for row in ROWS:
        results = [train(row, seed, options.epochs) for seed in range(options.seeds)]
        accuracies, seconds = zip(*results, strict=True)
        mean = statistics.fmean(accuracies)
        spread = statistics.stdev(accuracies) if options.seeds > 1 else 0.0
        took = statistics.fmean(seconds)
        base = base or took
        print(
            f"{row.name:<25} test accuracy {mean:5.2f} +- {spread:.2f} % (wanted {row.least:.0f})  "
            f"{took:6.1f} s, {took / base:5.1f} x plain backpropagation",
            flush=True,
        )


if __name__ == "__main__":
    main()
