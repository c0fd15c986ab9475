"""Networks beyond the paper's chains: each by equilibrium propagation beside backpropagation, at equal steps.

    python benchmarks/beyond.py run                             # goes on where records and checkpoints end
    python benchmarks/beyond.py run --only transformer-ep-seed0 # one run
    python benchmarks/beyond.py list                            # the runs, and how far each has got
    python benchmarks/beyond.py table --report docs/beyond.md

The networks and their settings are those of `ffebm recipe transformer` and `ffebm recipe residual`. "ep"
trains energy blocks, "implicit" the same blocks by the exact adjoint where the free sweeps end, "bp" the same
network as an ordinary feedforward one, without held norms unless its name ends in "held"; "equal" and
"norm0.7" train blocks whose layers feel those above as strongly as those below, with other held norms. Seeds
decide initial weights and order; all runs of a seed begin with the same weights and see the same batches.

Runs go one after the other, in the order of `RUNS`. After each epoch a run leaves its checkpoint below
--work, and its record in benchmarks/records/beyond/NAME.json. Times are processor seconds of one thread:
others may share the machine.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import torch
from beyond_table import Record, by_name, report, table, write
from fashion_probe import probed
from fashion_table import Measured
from training_runs import TrainingRuns

import ffebm
from ffebm.recipes.beyond import BEYOND
from ffebm.training.data import load_data
from ffebm.training.data.python_manual import manual
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

Method = Literal["bp", "ep", "implicit"]
RECORDS = Path(__file__).parent / "records" / "beyond"
LOOKED_AT = 16
"""Training samples whose gradients are held against the exact adjoint: a thousand characters."""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        network: A name of `BEYOND`.
        method: "bp" backpropagation of the feedforward network, "ep", "implicit" the exact adjoint where the
            free sweeps end.
        seed: Of initial weights, order and noise.
        odd: What differs from the recipe, a name of `ODD`; empty for nothing.
    """

    network: str
    method: Method
    seed: int = 0
    odd: str = ""

    @property
    def name(self) -> str:
        """Network, method and seed, and what differs from the recipe."""
        return "-".join(filter(None, [self.network, self.method, f"seed{self.seed}", self.odd]))

    def plan(self) -> ffebm.Plan:
        """The network with its initial weights, which depend on the seed alone."""
        recipe = BEYOND[self.network]
        if recipe.weaker and (self.method == "bp" or self.odd in EQUAL):
            recipe = recipe.with_feedback(1.0)
        if self.method == "bp":
            recipe = replace(recipe, block_size=1, digital=recipe.digital if self.odd else ("*",))
        return recipe.plan(self.seed)

    def training(self) -> Training:
        """The recipe's settings; backpropagation has no couplings to hold."""
        training = BEYOND[self.network].settings(self.seed)
        if self.method == "bp":
            held = HELD[self.network] if self.odd == "held" else None
            return msgspec.structs.replace(
                training, hold_norm=held, beta=BETA.get(self.network, training.beta)
            )
        changed = {**ODD.get(self.odd, {}), **EQUAL.get(self.odd, {})}
        return msgspec.structs.replace(training, gradient=self.method, **changed)


ODD: dict[str, dict[str, float | None]] = {"free": {"hold_norm": None}}
"""Settings of EP that differ from the recipe's, one factor at a time, by what a run's name says."""

BETA = {"residual": 0.5}
EQUAL: dict[str, dict[str, float | None]] = {
    "equal": {"beta": BETA["residual"], "hold_norm": 0.4},
    "norm0.7": {"beta": BETA["residual"], "hold_norm": 0.7},
}
"""The same of the residual network whose layers feel those above as strongly as those below."""

HELD: dict[str, tuple[float, str]] = {
    "transformer": (0.8, "layer?.output.weight"),
    "residual": (0.4, "[abi][23n]*"),  # a2, b2, b3 and inside
}
"""Norms, with names of the maps that blocks hold: what "bp" is held to in runs "held"; those of "equal"."""

_METHODS: tuple[Method, ...] = ("ep", "bp")
RUNS: tuple[Run, ...] = (
    *(Run("transformer", method, seed) for seed in range(3) for method in _METHODS),
    *(Run("residual", method, seed) for seed in range(3) for method in _METHODS),
    Run("residual", "bp", odd="held"),
    Run("transformer", "bp", odd="held"),
    *(Run("residual", "ep", seed, odd) for odd in EQUAL for seed in range(3)),
    Run("transformer", "implicit"),
    Run("residual", "implicit"),
    Run("transformer", "ep", odd="free"),
    Run("residual", "ep", odd="free"),
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


def digest_of(network: str) -> str:
    """Of the text, which follows the version of Python; empty where data are the same everywhere."""
    return manual().digest if BEYOND[network].training.data == "python-manual" else ""


def train(run: Run, work: Path) -> Iterator[Record]:
    """Go on with a run; yields its record after each epoch."""
    training, digest = run.training(), digest_of(run.network)
    record = by_name(RECORDS).get(run.name) or Record(run=run.name, text=digest, training=training)
    if (record.text, record.training) != (digest, training):
        raise SystemExit(f"{run.name}: its record is of another text ({record.text}) or of other settings")
    if len(record.epochs) >= training.epochs:
        return
    # blocks of one layer have backpropagation as their exact adjoint
    gradient = ffebm.EP(beta=training.beta) if run.method == "ep" else ffebm.Implicit(tol=1e-5)
    net = ffebm.Executor(run.plan(), gradient=gradient, seed=run.seed)
    folder = work / run.name
    trainer = Trainer(net, load_data(training.data), training, folder)
    if folder.exists():
        trainer.resume()
    known = {row.figures.epoch: row for row in record.epochs}
    watch = Stopwatch()
    for epoch in trainer.run(watch):
        is_seen = run.method != "bp" and epoch.epoch in {1, training.epochs // 2, training.epochs}
        probe = probed(trainer, net.gradient, LOOKED_AT) if is_seen else None
        known[epoch.epoch] = Measured(figures=epoch, step=watch.taken(), probe=probe)
        # an epoch whose checkpoint is there and whose record was lost has its figures alone
        rows = [known.get(e.epoch, Measured(figures=e)) for e in trainer.epochs]
        yield msgspec.structs.replace(record, epochs=tuple(rows))


def show(runs: list[Run]) -> None:
    """How far each run has got."""
    found = by_name(RECORDS)
    for run in runs:
        record = found.get(run.name)
        last = "" if record is None else f"  {record.words()}"
        done = 0 if record is None else len(record.epochs)
        print(f"{run.name:<28} {done:>2} of {run.training().epochs} epochs{last}")


def work_off(runs: list[Run], work: Path) -> None:
    """Go on with each run that has not ended, one after the other."""
    torch.set_num_threads(1)
    for run in runs:
        for record in train(run, work):
            write(record, RECORDS)
            row = record.epochs[-1]
            print(
                f"{run.name}  epoch {row.figures.epoch}  {record.words()}  {1e3 * row.step:.0f} ms a step  "
                f"{100 * (1 - row.figures.unsettled):.0f} % settled",
                flush=True,
            )


if __name__ == "__main__":
    TrainingRuns(
        text=__doc__,
        runs=RUNS,
        work=Path("out/beyond"),
        show=show,
        work_off=work_off,
        lines=lambda: table(list(by_name(RECORDS).values())),
        report=report,
    ).main()
