"""The paper's splitting table: one network in blocks of several sizes, by three gradients.

    python benchmarks/splitting.py --data fashion-mnist

trains the six-layer network of the recipes `splitting-small-N` (see `ffebm recipe`) at block sizes 1, 2, 3
and 6 by equilibrium propagation (ep) and by the exact adjoint of the equilibrium (implicit), and at block
size 1, where the network is an ordinary feedforward one, by plain backpropagation (bp). Every run keeps its
result below --out and is not repeated; an interrupted one goes on behind its last epoch. Runs are processes
of one thread each, --jobs at once.

The defaults are a scale for two CPU cores. The paper's: --width 1 --epochs 200 --batch 128 --lr 1e-4
--samples 0 --slope 1 --beta 0.2 --free-sweeps 60 --nudged-sweeps 20 --device cuda. `--validate 5000` measures
on held-out training samples instead of the test set, to choose settings by.

Source: Nest & Ernoult 2024 (arXiv 2409.03306), the table of the splitting experiment.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import torch

import ffebm
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.recipes.recipe import IMAGES
from ffebm.runtime.data import Data, load_data
from ffebm.runtime.gradient import Gradient
from ffebm.runtime.training import Trainer
from ffebm.training import Training

Method = Literal["bp", "ep", "implicit"]
NAMES: dict[Method, str] = {"bp": "backpropagation", "ep": "EP", "implicit": "exact adjoint"}
WATCHED = 500
"""Training samples held out to show progress by, besides those of --validate."""
BOUND = 0.3
"""Points by which EP may differ from the exact adjoint and from backpropagation."""


@dataclass(frozen=True)
class Run:
    """One run: everything that its result depends on."""

    method: Method
    block_size: int
    seed: int
    data: str
    width: float
    slope: float
    samples: int
    validate: int
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    augment: bool
    beta: float
    free_sweeps: int
    nudged_sweeps: int
    tol: float | None
    adjoint_tol: float
    device: str

    @property
    def name(self) -> str:
        """For people; the digest tells settings apart."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]
        return f"{self.method}-{self.block_size}-seed{self.seed}-{digest}"

    def plan(self) -> ffebm.Plan:
        """The network with its initial weights, which depend on the seed alone."""
        recipe = RECIPES[SPLITTING_SMALL[self.block_size]]
        network = replace(recipe.network, slope=self.slope).narrowed(self.width)
        return ffebm.compile(
            network.model(IMAGES[self.data].classes, self.seed),
            hardware="ideal",
            block_size=recipe.block_size,
            boundary="digital" if self.method == "bp" else recipe.boundary,
            settle=ffebm.Settle(free_sweeps=self.free_sweeps, nudged_sweeps=self.nudged_sweeps, tol=self.tol),
        )

    def training(self) -> Training:
        """The recipe's settings at this scale."""
        recipe = RECIPES[SPLITTING_SMALL[self.block_size]].settings(self.data, self.seed)
        return msgspec.structs.replace(
            recipe,
            epochs=self.epochs,
            batch=self.batch,
            lr=self.lr,
            min_lr=self.lr / 100,
            weight_decay=self.weight_decay,
            flip=self.augment,
            crop=4 if self.augment else 0,
            beta=self.beta,
            gradient="implicit" if self.method == "implicit" else "ep",
        )

    def gradient(self) -> Gradient:
        """The estimator."""
        if self.method == "implicit":
            return ffebm.Implicit(tol=self.adjoint_tol)
        return ffebm.EP(beta=self.beta, cost=True)

    def samples_of(self, data: Data) -> tuple[Data, tuple[torch.Tensor, torch.Tensor]]:
        """The training samples, with those that show progress as test set; and those that are measured on."""
        order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(0))
        shown, held, rest = torch.tensor_split(order, (WATCHED, WATCHED + self.validate))
        rest = rest[: self.samples] if self.samples else rest
        part = Data(
            data.name, data.x_train[rest], data.y_train[rest], data.x_train[shown], data.y_train[shown]
        )
        measured = (data.x_test, data.y_test)
        return part, (data.x_train[held], data.y_train[held]) if self.validate else measured


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        accuracy: Per cent of the test set, after the last epoch.
        sweeps: Mean sweeps of a block's free phase in the last epoch.
        unsettled: Per cent of samples and blocks that did not settle in the last epoch.
        step: Median seconds of a training step.
        epoch: Mean seconds of an epoch's training steps.
        memory: MiB above the idle process with its data.
        loss: Training loss of the last epoch.
    """

    accuracy: float
    sweeps: float
    unsettled: float
    step: float
    epoch: float
    memory: float
    loss: float


class Stopwatch:
    """Seconds of each step, told by the trainer's progress."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._last: float | None = None

    def __call__(self, seen: int, total: int, _loss: float) -> None:
        """Note that a step has ended."""
        now = time.perf_counter()
        if self._last is not None:
            self.steps.append(now - self._last)
        self._last = None if seen == total else now  # what follows an epoch's last step is a test


def train(run: Run, data_folder: Path | None, out: Path) -> Result:
    """Train one run to its end."""
    torch.set_num_threads(1)
    data, (x, y) = run.samples_of(load_data(run.data, data_folder))
    plan, training = run.plan(), run.training()
    net = ffebm.Executor(plan, gradient=run.gradient(), seed=run.seed)
    folder = out / run.name
    trainer = Trainer(net, data, training, folder, run.device)
    if folder.exists():
        trainer.resume()
    idle, watch = _memory(run.device), Stopwatch()
    for epoch in trainer.run(watch):
        print(
            f"{run.name}  epoch {epoch.epoch:>3} of {run.epochs}  loss {epoch.loss:.4f}  "
            f"held out {100 * epoch.test_accuracy:.1f} %  {epoch.sweeps:.1f} sweeps  {epoch.seconds:.0f} s",
            flush=True,
        )
    memory, last = _memory(run.device) - idle, trainer.epochs[-1]
    measured = Data(data.name, x, y, x, y).shaped(plan.inputs[0].type.shape[1:], training.pad)
    steps = watch.steps or [float("nan")]  # nothing is timed where the last epoch was done before
    return Result(
        accuracy=100 * trainer.accuracy_on(measured.x_test, y),
        sweeps=last.sweeps,
        unsettled=100 * last.unsettled,
        step=statistics.median(steps),
        epoch=statistics.fmean(steps) * -(-len(data.x_train) // run.batch),
        memory=memory,
        loss=last.loss,
    )


def _memory(device: str) -> float:
    """Peak memory so far, MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def runs_of(options: argparse.Namespace) -> list[Run]:
    """All runs, seed by seed; backpropagation once a seed."""
    shared = {
        name: getattr(options, name)
        for name in Run.__dataclass_fields__
        if name not in {"method", "block_size", "seed"}
    }
    runs = []
    for seed in options.seeds:
        runs += [Run(method="bp", block_size=1, seed=seed, **shared)] if "bp" in options.methods else []
        for size in sorted(options.block_sizes, reverse=True):  # the longest first
            for method in ("ep", "implicit"):
                if method in options.methods:
                    runs.append(Run(method=method, block_size=size, seed=seed, **shared))
    return runs


def found(run: Run, out: Path) -> Result | None:
    """The result of a run that has ended."""
    path = out / f"{run.name}.json"
    return Result(**json.loads(path.read_text())["result"]) if path.is_file() else None


def work_on(run: Run, options: argparse.Namespace) -> None:
    """One run in this process; its result is kept."""
    result = train(run, options.data_folder, options.out)
    path = options.out / f"{run.name}.json"
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps({"run": asdict(run), "result": asdict(result)}, indent=1))
    scratch.replace(path)
    print(f"{run.name}  accuracy {result.accuracy:.2f} %", flush=True)


def work_off(runs: list[Run], options: argparse.Namespace) -> None:
    """The runs that have no result yet, each in a process of its own."""
    waiting = [run for run in runs if found(run, options.out) is None]
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are there already", flush=True)
    busy: list[subprocess.Popen[bytes]] = []
    arguments = [a for a in sys.argv[1:] if a != "--table"]
    try:
        while waiting or busy:
            for done in [p for p in busy if p.poll() is not None]:
                busy.remove(done)
                if done.returncode:
                    raise SystemExit(f"a run ended with exit code {done.returncode}")
            while waiting and len(busy) < options.jobs:
                name = waiting.pop(0).name
                busy.append(subprocess.Popen([sys.executable, __file__, *arguments, "--one", name]))
            time.sleep(0.2)
    finally:
        for process in busy:
            process.terminate()
        for process in busy:
            process.wait()


@dataclass(frozen=True)
class Row:
    """One line of the table: the seeds of one network and gradient."""

    method: Method
    block_size: int
    results: tuple[Result, ...]

    @property
    def accuracies(self) -> list[float]:
        """Per cent, seed by seed."""
        return [result.accuracy for result in self.results]

    @property
    def accuracy(self) -> float:
        """Mean over seeds, per cent."""
        return statistics.fmean(self.accuracies)

    def mean(self, name: str) -> float:
        """Of one figure, over seeds."""
        return statistics.fmean(getattr(result, name) for result in self.results)

    def text(self, baseline: float) -> str:
        """As a line of Markdown."""
        spread = f" ± {statistics.stdev(self.accuracies):.2f}" if len(self.results) > 1 else ""
        settles = self.method != "bp"
        cells = (
            str(self.block_size),
            NAMES[self.method],
            f"{self.accuracy:.2f}{spread}",
            f"{self.mean('sweeps'):.1f}" if settles else "",
            f"{self.mean('unsettled'):.1f} %" if settles else "",
            f"{1e3 * self.mean('step'):.1f}",
            f"{self.mean('epoch'):.1f}",
            f"{self.mean('step') / baseline:.1f}",
            f"{self.mean('memory'):.0f}",
        )
        return f"| {' | '.join(cells)} |"


def table(runs: list[Run], out: Path) -> list[Row]:
    """The rows of which every seed has a result."""
    by_row: dict[tuple[Method, int], list[Result | None]] = {}
    for run in runs:
        by_row.setdefault((run.method, run.block_size), []).append(found(run, out))
    order = {"bp": 0, "ep": 1, "implicit": 2}
    rows = []
    for method, size in sorted(by_row, key=lambda key: (key[0] != "bp", key[1], order[key[0]])):
        results = [result for result in by_row[method, size] if result is not None]
        if len(results) == len(by_row[method, size]):
            rows.append(Row(method, size, tuple(results)))
    return rows


def print_table(rows: list[Row]) -> None:
    baseline = next((row.mean("step") for row in rows if row.method == "bp"), float("nan"))
    print(
        "| block size | gradient | accuracy, % | free sweeps | not settled | ms a step | s an epoch | "
        "x backpropagation | MiB |\n|---|---|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(row.text(baseline))


def difference(a: Row, b: Row) -> str:
    """Mean difference of two rows, seed by seed, with its standard error."""
    each = [x - y for x, y in zip(a.accuracies, b.accuracies, strict=True)]
    error = f" ± {statistics.stdev(each) / len(each) ** 0.5:.2f}" if len(each) > 1 else ""
    return f"{statistics.fmean(each):+.2f}{error}"


def print_claims(rows: list[Row]) -> None:
    """What the paper claims, in figures: differences seed by seed, in points, with their standard error."""
    by = {(row.method, row.block_size): row for row in rows}
    print()
    for size in sorted({row.block_size for row in rows}):
        for other in (("implicit", size), ("bp", 1)):
            ep, against = by.get(("ep", size)), by.get(other)
            if ep and against:
                is_within = abs(ep.accuracy - against.accuracy) <= BOUND
                verdict = "within" if is_within else "beyond"
                print(
                    f"block size {size}: EP - {NAMES[against.method]} {difference(ep, against)} points, "
                    f"{verdict} {BOUND}"
                )
    largest = max((row.block_size for row in rows if row.method == "ep"), default=0)
    for size in sorted(row.block_size for row in rows if row.method == "ep" and row.block_size < largest):
        whole, part = by["ep", largest], by["ep", size]
        print(
            f"block size {size} against {largest}: {difference(part, whole)} points, "
            f"{whole.mean('step') / part.mean('step'):.1f} times as fast"
        )


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="fashion-mnist", choices=list(IMAGES))
    parser.add_argument("--data-folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--block-sizes", type=int, nargs="+", default=[1, 2, 3, 6], choices=[1, 2, 3, 6])
    parser.add_argument("--methods", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--width", type=float, default=1 / 16, help="factor of the channels")
    parser.add_argument("--slope", type=float, default=1.0, help="of the clipped layers")
    parser.add_argument("--samples", type=int, default=6000, help="training samples; 0 takes all")
    parser.add_argument("--validate", type=int, default=0, help="measure on that many held-out samples")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=3e-4)
    parser.add_argument("--augment", action="store_true", help="mirror and shift training images")
    parser.add_argument("--beta", type=float, default=0.2)
    parser.add_argument("--free-sweeps", type=int, default=20)
    parser.add_argument("--nudged-sweeps", type=int, default=8)
    parser.add_argument("--tol", type=float, help="stop phases at this residual; else all sweeps are done")
    parser.add_argument("--adjoint-tol", type=float, default=1e-4, help="residual of the exact adjoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--out", type=Path, default=Path("out/splitting"))
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    options = arguments().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = runs_of(options)
    if options.one:
        work_on(next(run for run in runs if run.name == options.one), options)
        return
    if not options.table:
        try:
            work_off(runs, options)
        except KeyboardInterrupt:
            raise SystemExit("interrupted; the same command goes on") from None
    rows = table(runs, options.out)
    print_table(rows)
    print_claims(rows)


if __name__ == "__main__":
    main()
