"""What several processes of `ffebm train --devices N` gain over one, on this machine.

The digits network trains on scikit-learn's digits, each process with one thread. Two runs of different length
are taken off each other, so that starting and loading do not count; what counts are steps and one test an
epoch, which the first process alone computes. Wall time says what is gained here and now; where others use
the machine too, processor time a process says what there would be to gain without them.

python benchmarks/devices.py
python benchmarks/devices.py --hardware reference --devices 2 4
"""

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ffebm
from benchmarks.fresh_process import Used, used_by
from examples.digits_model import digits_model


@dataclass(frozen=True)
class Gained:
    """What epochs took.

    Attributes:
        devices: Processes.
        processor: Seconds of processor time an epoch, of all of them together.
        wall: Seconds that passed an epoch.
    """

    devices: int
    processor: float
    wall: float


def measured(plan: Path, devices: int, batch: int, epochs: int) -> Gained:
    """An epoch of several processes."""
    short, long = (_run(plan, devices, batch, count) for count in (1, 1 + epochs))
    return Gained(devices, (long.processor - short.processor) / epochs, (long.wall - short.wall) / epochs)


def _run(plan: Path, devices: int, batch: int, epochs: int) -> Used:
    folder = plan.with_name(f"{devices}-{epochs}.run")
    options = ("--data", "digits", "--batch", str(batch), "--epochs", str(epochs), "--seed", str(epochs))
    words = ("-m", "ffebm", "train", str(plan), *options, "--devices", str(devices), "--run", str(folder))
    return used_by(words)


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hardware", default="reference")
    parser.add_argument("--devices", type=int, nargs="+", default=[2])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2, help="epochs that are counted")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        plan = Path(scratch) / "digits.plan"
        ffebm.compile(digits_model(), hardware=asked.hardware, replicas=1).save(plan)
        load = os.getloadavg()[0]
        print(f"{os.cpu_count()} processors, load {load:.1f}; batches of {asked.batch}, {asked.hardware}")
        alone = measured(plan, 1, asked.batch, asked.epochs)
        print(f"1 process: {alone.processor:.2f} s of a processor an epoch, {alone.wall:.2f} s passed")
        for devices in asked.devices:
            found = measured(plan, devices, asked.batch, asked.epochs)
            each = found.processor / devices
            print(
                f"{devices} processes: {each:.2f} s of a processor each an epoch, {found.wall:.2f} s passed; "
                f"{alone.processor / each:.2f} times by processor time a process, "
                f"{alone.wall / found.wall:.2f} times by the clock"
            )


if __name__ == "__main__":
    main()
