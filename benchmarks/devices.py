"""What several processes that train together gain over one, on this machine.

The digits network trains on scikit-learn's digits as `ffebm train --devices N` has it, each process with one
thread. The first epoch, which compiles and loads, does not count. The first process also tests behind each
epoch. Where others use the machine, wall time says what is gained here and now, and the processor time of the
slowest process what there would be to gain without them, waiting for each other aside.

python benchmarks/devices.py
python benchmarks/devices.py --hardware ideal --devices 2 4
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import ffebm
from examples.digits_model import digits_model
from ffebm.training.classification import data_for
from ffebm.training.devices.ranks import joined
from ffebm.training.estimator import estimator
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

BEGINS = "epochs took "


@dataclass(frozen=True)
class Took:
    """What an epoch took.

    Attributes:
        processor: Seconds of processor time of each process.
        wall: Seconds that passed.
    """

    processor: list[float]
    wall: float


def train(path: Path, batch: int, epochs: int) -> None:
    """What each process does: train, and tell the time of its epochs but the first."""
    torch.set_num_threads(1)
    training = Training(data="digits", batch=batch, epochs=1 + epochs)
    plan = ffebm.load_plan(path)
    with joined("cpu") as (ranks, device):
        net = ffebm.Executor(plan, gradient=estimator(training), seed=training.seed)
        trainer = Trainer(net, data_for(plan, "digits", None), training, device=device, ranks=ranks)
        running = trainer.run()
        next(running)
        used, passed = time.process_time(), time.perf_counter()
        for _ in running:
            pass
        used, passed = time.process_time() - used, time.perf_counter() - passed
        each = ranks.summed([used * (rank == ranks.rank) for rank in range(ranks.size)])
        if ranks.is_first:
            print(BEGINS + json.dumps([[seconds / epochs for seconds in each], passed / epochs]))


def measured(plan: Path, devices: int, batch: int, epochs: int) -> Took:
    """An epoch of several processes."""
    words = [__file__, "--train", str(plan), "--batch", str(batch), "--epochs", str(epochs)]
    if devices > 1:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(devices), *words]
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith(BEGINS))
    processor, wall = json.loads(line.removeprefix(BEGINS))
    return Took(processor, wall)


def compare(hardware: str, counts: list[int], batch: int, epochs: int) -> None:
    """Print what each number of processes gains."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch) / "digits.plan"
        ffebm.compile(digits_model(), hardware=hardware, replicas=1).save(plan)
        cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
        print(f"{cores} processors, load {load:.1f}; {hardware}, batches of {batch}; seconds an epoch")
        alone = measured(plan, 1, batch, epochs)
        print(f"1 process: processor {alone.processor[0]:.2f}, wall {alone.wall:.2f}", flush=True)
        for count in counts:
            found = measured(plan, count, batch, epochs)
            each = ", ".join(f"{seconds:.2f}" for seconds in found.processor)
            gained = alone.processor[0] / max(found.processor)
            print(
                f"{count} processes: processor {each}, wall {found.wall:.2f}; {gained:.2f} times by "
                f"processor time of the slowest, {alone.wall / found.wall:.2f} times by the clock",
                flush=True,
            )


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", default="reference")
    parser.add_argument("--devices", type=int, nargs="+", default=[2])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3, help="epochs that count")
    parser.add_argument("--train", type=Path, metavar="PLAN", help="be one of the processes")
    asked = parser.parse_args()
    if asked.train is not None:
        train(asked.train, asked.batch, asked.epochs)
    else:
        compare(asked.hardware, asked.devices, asked.batch, asked.epochs)


if __name__ == "__main__":
    main()
