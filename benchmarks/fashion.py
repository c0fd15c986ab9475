"""Fashion-MNIST at a size that counts: the paper's networks in blocks of several sizes, epoch by epoch.

    python benchmarks/fashion.py run                             # goes on where records and checkpoints end
    python benchmarks/fashion.py run --only ep-2-seed0           # one run
    python benchmarks/fashion.py list                            # the runs, and how far each has got
    python benchmarks/fashion.py table --report docs/splitting.md

All 60,000 training images, as they are unless a run's name says mirrored, all 10,000 test images after every
epoch. Settings are those of `ffebm recipe splitting-small-N --width 0.125 --data fashion-mnist`, of twelve
layers splitting-large-N, without their validation samples, since these runs choose nothing; backpropagation
trains the same layers as a feedforward network.

Runs go one after the other, in the order of `RUNS`. After each epoch a run leaves its checkpoint below
--work, and its record in benchmarks/records/fashion/NAME.json, so that an interrupted one loses an epoch at
most. Times are processor seconds of one thread: others may share the machine.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import torch
from fashion_probe import probed
from fashion_table import Measured, Record, by_name, read, report, table, write
from training_runs import TrainingRuns

import ffebm
from ffebm.recipes.narrow import NORM, VALIDATION
from ffebm.recipes.paper import RECIPES, SPLITTING_LARGE, SPLITTING_SMALL
from ffebm.recipes.recipe import Recipe
from ffebm.training.data import Data, load_data
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

Method = Literal["bp", "ep", "implicit", "unrolled"]
DATA = "fashion-mnist"
HELD = {"2": "layer[135].weight", "3": "layer[1245].weight"}
"""The maps inside the blocks of a size, which "bp" holds."""
RECORDS = Path(__file__).parent / "records" / "fashion"


@dataclass(frozen=True)
class Run:
    """One run: what its name does not say is the recipe's.

    Attributes:
        method: "bp" backpropagation of the feedforward network, "ep", "implicit" the exact adjoint where the
            free sweeps end, "unrolled" back through the nudged sweeps.
        block_size: Free layers of a block; of "bp" 1, and with twelve layers the size whose batch
            normalisation the feedforward network has: one at the start of every block.
        seed: Of initial weights, order and dither.
        epochs: Of the cosine schedule.
        stop: Epochs after which the run ends; the schedule goes on as if it did not.
        width: Factor of the channels.
        hold: Where couplings are held: "" as in the recipe, "free" nowhere; of "bp", where blocks of that
            size would have them, "2" or "3".
        feedback: Of each layer from the one above it in its block, of the published strength.
        val: A tenth of the training images is held out, to choose settings by.
        beta: Nudge of "ep" where it is not the recipe's.
        sweeps: Free and nudged ones where they are not the recipe's.
        depth: Layers of the network, 6 or 12.
        mirrored: Half of the training images are mirrored left to right, drawn anew in each epoch.
    """

    method: Method
    block_size: int
    seed: int = 0
    epochs: int = 10
    stop: int = 10
    width: float = 1 / 8
    hold: str = ""
    feedback: float = 1.0
    val: bool = False
    beta: float | None = None
    sweeps: tuple[int, int] | None = None
    depth: Literal[6, 12] = 6
    mirrored: bool = False

    @property
    def name(self) -> str:
        """Method, block size and seed, and what differs from the other runs."""
        odd = [f"width{self.width:g}"] if self.width != 1 / 8 else []
        odd += [f"held{self.hold}" if self.method == "bp" else self.hold] if self.hold else []
        odd += [f"feedback{self.feedback:g}"] if self.feedback != 1 else []
        odd += [f"epochs{self.epochs}"] if self.epochs != 10 else []
        odd += [f"beta{self.beta:g}"] if self.beta is not None else []
        odd += ["sweeps{}+{}".format(*self.sweeps)] if self.sweeps else []
        odd += ["mirrored"] if self.mirrored else []
        odd += ["val"] if self.val else []
        network = [] if self.depth == 6 else [f"depth{self.depth}"]
        return "-".join([self.method, str(self.block_size), *network, f"seed{self.seed}", *odd])

    @property
    def recipe(self) -> Recipe:
        """The paper's network at this block size."""
        names = SPLITTING_SMALL if self.depth == 6 else SPLITTING_LARGE
        return RECIPES[names[self.block_size]].with_feedback(self.feedback)

    def plan(self) -> ffebm.Plan:
        """The network with its initial weights, which depend on the seed alone."""
        return ffebm.compile(
            self.recipe.model(self.width, DATA, self.seed),
            hardware="ideal",
            block_size=1 if self.method == "bp" else self.recipe.block_size,
            digital=self.recipe.digital,
            boundary="digital" if self.method == "bp" and not self.hold else self.recipe.boundary,
            settle=self.settling,
        )

    @property
    def settling(self) -> ffebm.Settle:
        """How its blocks settle."""
        settle = self.recipe.settling(self.width)
        if self.sweeps is None:
            return settle
        free, nudged = self.sweeps
        return msgspec.structs.replace(settle, free_sweeps=free, nudged_sweeps=nudged)

    def training(self) -> Training:
        """The recipe's settings, on all training images."""
        training = self.recipe.settings(DATA, self.seed, self.width)
        return msgspec.structs.replace(
            training,
            validation=VALIDATION if self.val else 0.0,
            epochs=self.epochs,
            beta=training.beta if self.beta is None else self.beta,
            hold_norm=self.norm(training),
            gradient="ep" if self.method == "bp" else self.method,
            flip=self.mirrored,
        )

    def norm(self, training: Training) -> float | tuple[float, str] | None:
        """The largest norm that is kept, and of which maps."""
        if self.method != "bp":
            return None if self.hold == "free" else training.hold_norm
        return (NORM, HELD[self.hold]) if self.hold else None

    def gradient(self, training: Training) -> ffebm.EP | ffebm.Implicit | ffebm.Unrolled:
        """The estimator of blocks; the exact adjoint of blocks of one layer is backpropagation."""
        if self.method in ("implicit", "bp"):
            return ffebm.Implicit(tol=1e-5)
        if self.method == "unrolled":
            return ffebm.Unrolled(self.settling.nudged_sweeps)
        return ffebm.EP(beta=training.beta, cost=True)


_MAIN = (Run("ep", 2), Run("bp", 1), Run("ep", 3))
WEAKER = 0.05
_WEAKER = tuple(Run("ep", 2, seed, feedback=WEAKER) for seed in range(3))
RUNS: tuple[Run, ...] = (
    *_MAIN,
    Run("ep", 1),
    *_WEAKER,
    *(Run("implicit", 2, seed, stop=3, feedback=WEAKER) for seed in range(3)),
    Run("ep", 2, stop=3, feedback=WEAKER, beta=0.05),
    *(Run("ep", 3, seed, feedback=WEAKER, sweeps=(6, 3)) for seed in range(3)),
    Run("unrolled", 2, stop=3, feedback=WEAKER),
    *(Run("implicit", 3, seed, stop=3, feedback=WEAKER, sweeps=(6, 3)) for seed in range(3)),
    Run("unrolled", 3, stop=3, feedback=WEAKER, sweeps=(6, 3)),
    Run("ep", 2, feedback=WEAKER, sweeps=(4, 2)),
    Run("ep", 2, epochs=15, stop=15, width=1 / 4, feedback=WEAKER, sweeps=(4, 2)),
    Run("ep", 2, epochs=20, stop=20, width=1 / 4, feedback=WEAKER, sweeps=(4, 2), mirrored=True),
    Run("bp", 1, epochs=20, stop=20, width=1 / 4, mirrored=True),
    Run("ep", 3, feedback=WEAKER),
    Run("ep", 6, feedback=0.1),
    Run("bp", 2, stop=2, depth=12),
    Run("ep", 2, stop=2, depth=12, feedback=WEAKER),
    Run("ep", 1, seed=1),
    Run("ep", 4, stop=1, depth=12, feedback=0.1),
    Run("ep", 3, stop=1, depth=12, feedback=WEAKER),
    Run("ep", 1, seed=2),
    *(Run("bp", 1, hold=size) for size in ("2", "3")),
    *(replace(run, seed=seed) for seed in (1, 2) for run in _MAIN),
    *(Run(method, size, stop=3) for size in (2, 3) for method in ("implicit", "unrolled")),
    *(Run("ep", size, stop=3, hold="free") for size in (2, 3)),
    Run("ep", 6, stop=3),
    Run("bp", 1, stop=2, val=True),
    *(Run("ep", 2, stop=2, feedback=feedback, val=True) for feedback in (1.0, 0.25, 0.1, 0.05)),
)
"""In the order in which they run: what says most first."""


class Stopwatch:
    """Processor seconds of an epoch's training steps, told by the trainer's progress."""

    def __init__(self) -> None:
        self.seconds, self.steps = 0.0, 0
        self._last: float | None = None

    def __call__(self, seen: int, total: int, _loss: float) -> None:
        """Note that a step has ended."""
        now = time.process_time()
        if self._last is not None:
            self.seconds, self.steps = self.seconds + now - self._last, self.steps + 1
        self._last = None if seen == total else now  # what follows an epoch's last step is a test

    def taken(self) -> float:
        """Mean seconds of a step since it was asked last."""
        mean = self.seconds / max(self.steps, 1)
        self.seconds, self.steps = 0.0, 0
        return mean


def train(run: Run, data: Data, work: Path) -> Iterator[Record]:
    """Go on with a run; yields its record after each epoch."""
    plan, training = run.plan(), run.training()
    net = ffebm.Executor(plan, gradient=run.gradient(training), seed=run.seed)
    folder = work / run.name
    trainer = Trainer(net, data, training, folder)
    if folder.exists():
        trainer.resume()
    record = by_name(RECORDS).get(run.name) or Record(run=run.name, stop=run.stop, training=training)
    known = {row.figures.epoch: row for row in record.epochs}
    watch = Stopwatch()
    if len(trainer.epochs) >= run.stop:
        return
    for epoch in trainer.run(watch):
        probe = None if run.method == "bp" else probed(trainer, net.gradient)
        known[epoch.epoch] = Measured(figures=epoch, step=watch.taken(), probe=probe)
        # an epoch whose checkpoint is there and whose record was lost has its figures alone
        rows = [known.get(e.epoch, Measured(figures=e, step=0.0)) for e in trainer.epochs]
        yield msgspec.structs.replace(record, epochs=tuple(rows))
        if epoch.epoch >= run.stop:
            return


def show(runs: list[Run]) -> None:
    """How far each run has got."""
    found = by_name(RECORDS)
    for run in runs:
        record = found.get(run.name)
        done = [] if record is None else record.epochs
        last = f"  {100 * done[-1].accuracy:.2f} %" if done else ""
        print(f"{run.name:<20} {len(done):>2} of {run.stop} epochs{last}")


def work_off(runs: list[Run], work: Path) -> None:
    """Go on with each run that has not ended, one after the other."""
    torch.set_num_threads(1)
    data = load_data(DATA, None)
    for run in runs:
        for record in train(run, data, work):
            write(record, RECORDS)
            row = record.epochs[-1]
            held_out = row.figures.validation_accuracy
            print(
                f"{run.name}  epoch {row.figures.epoch} of {run.stop}  loss {row.figures.loss:.4f}  "
                f"test {100 * row.accuracy:.2f} %  "
                f"{'' if held_out is None else f'held out {100 * held_out:.2f} %  '}"
                f"{1e3 * row.step:.0f} ms a step  {100 * (1 - row.figures.unsettled):.0f} % settled",
                flush=True,
            )


if __name__ == "__main__":
    TrainingRuns(
        text=__doc__,
        runs=RUNS,
        work=Path("out/fashion"),
        show=show,
        work_off=work_off,
        lines=lambda: table(read(RECORDS)),
        report=report,
    ).main()
