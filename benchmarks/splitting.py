"""The paper's splitting table: one network in blocks of several sizes, by three gradients.

    python benchmarks/splitting.py --data fashion-mnist

trains the six-layer network of the recipes `splitting-small-N` (see `ffebm recipe`) at block sizes 1, 2, 3
and 6 by equilibrium propagation (ep) and by the exact adjoint of the equilibrium (implicit), and at block
size 1, where the network is an ordinary feedforward one, by plain backpropagation (bp). Every run keeps its
result below --out and is not repeated; an interrupted one goes on behind its last epoch. Runs are processes
of one thread each, --jobs at once.

The defaults are a scale for two CPU cores, at which the paper's couplings do not settle: a ladder of slopes
weakens what comes back from above. The paper's: --width 1 --ladder --slope 1 --samples 0 --epochs 200
--batch 128 --lr 1e-4 --clip-norm 0 --beta 0.2 --start zero --free-sweeps 60 --nudged-sweeps 20 --augment
--device cuda.
`--validate 5000` measures on held-out training samples instead of the test set, to choose settings by.
`--report PAGE` writes the table into a page.

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
from splitting_table import NAMES, Method, Result, Row, claims, report, table_lines

import ffebm
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.recipes.recipe import IMAGES
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.training.data import Data, load_data
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

Start = Literal["zero", "feedforward"]
Winners = Literal["sharp", "shared"]
LAYERS = 6
WATCHED = 500
"""Training samples held out to show progress by, besides those of --validate."""


@dataclass(frozen=True)
class Run:
    """One run: everything that its result depends on."""

    method: Method
    block_size: int
    seed: int
    data: str
    width: float
    slope: float
    ladder: tuple[float, ...]
    samples: int
    validate: int
    epochs: int
    batch: int
    lr: float
    weight_decay: float
    clip_norm: float
    augment: bool
    beta: float | Literal["auto"]
    free_sweeps: int
    nudged_sweeps: int
    tol: float | None
    winners: Winners
    start: Start
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
        network = replace(recipe.network, slope=self.slope, ladder=self.ladder).narrowed(self.width)
        return ffebm.compile(
            network.model(IMAGES[self.data].classes, self.seed),
            hardware="ideal",
            block_size=recipe.block_size,
            boundary="digital" if self.method == "bp" else recipe.boundary,
            digital=("rescale",) if self.ladder else (),
            settle=ffebm.Settle(
                free_sweeps=self.free_sweeps,
                nudged_sweeps=self.nudged_sweeps,
                tol=self.tol,
                winners=self.winners,
                start=self.start,
            ),
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
            clip_norm=self.clip_norm or None,
            flip=self.augment,
            crop=4 if self.augment else 0,
            beta=self.beta,
            freeze=(*recipe.freeze, "layer*.bias") if self.ladder else recipe.freeze,
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


class Stopwatch:
    """Seconds of each step, told by the trainer's progress.

    On a CPU they are processor seconds: a run has one thread, and others may share the machine.
    """

    def __init__(self, device: str) -> None:
        self.steps: list[float] = []
        self._clock = time.process_time if device == "cpu" else time.perf_counter
        self._last: float | None = None

    def __call__(self, seen: int, total: int, _loss: float) -> None:
        """Note that a step has ended."""
        now = self._clock()
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
    idle, watch = _memory(run.device), Stopwatch(run.device)
    for epoch in trainer.run(watch):
        print(
            f"{run.name}  epoch {epoch.epoch:>3} of {run.epochs}  loss {epoch.loss:.4f}  "
            f"held out {100 * (epoch.test_accuracy or 0.0):.1f} %  {epoch.sweeps:.1f} sweeps  "
            f"{epoch.seconds:.0f} s",
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
    shared["ladder"] = tuple(options.ladder)
    runs = []
    for seed in options.seeds:
        runs += [Run(method="bp", block_size=1, seed=seed, **shared)] if "bp" in options.methods else []
        for size in sorted(options.block_sizes):  # the shortest first
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


def table(runs: list[Run], out: Path) -> list[Row]:
    """A row for each network and gradient of which a seed has ended."""
    by_row: dict[tuple[Method, int], dict[int, Result]] = {}
    for run in runs:
        result = found(run, out)
        if result is not None:
            by_row.setdefault((run.method, run.block_size), {})[run.seed] = result
    order = list(NAMES)
    ordered = sorted(by_row, key=lambda key: (key[0] != "bp", key[1], order.index(key[0])))
    return [Row(method, size, by_row[method, size]) for method, size in ordered]


def strength(text: str) -> float | Literal["auto"]:
    """A nudging strength."""
    return "auto" if text == "auto" else float(text)


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
    parser.add_argument(
        "--ladder", type=float, nargs="*", default=[1, 0.3, 0.3, 0.5, 0.2], help="further slopes"
    )
    parser.add_argument("--samples", type=int, default=6000, help="training samples; 0 takes all")
    parser.add_argument("--validate", type=int, default=0, help="measure on that many held-out samples")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=3e-4)
    parser.add_argument("--clip-norm", type=float, default=1.0, help="longest gradient of a step; 0: any")
    parser.add_argument("--augment", action="store_true", help="mirror and shift training images")
    parser.add_argument("--beta", type=strength, default=2e-4, help="of the nudge; auto finds one a block")
    parser.add_argument("--free-sweeps", type=int, default=8)
    parser.add_argument("--nudged-sweeps", type=int, default=8)
    parser.add_argument("--tol", type=float, help="stop phases at this residual; else all sweeps are done")
    parser.add_argument("--winners", default="sharp", choices=["sharp", "shared"], help="of max-pooling")
    parser.add_argument(
        "--start", default="feedforward", choices=["zero", "feedforward"], help="of free phases"
    )
    parser.add_argument("--adjoint-tol", type=float, default=1e-5, help="residual of the exact adjoint")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--out", type=Path, default=Path("out/splitting"))
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    parser.add_argument("--report", type=Path, metavar="PAGE", help="write the table between its markers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    if len(options.ladder) not in {0, LAYERS - 1} or any(step <= 0 for step in options.ladder):
        parser.error(f"--ladder {options.ladder}: {LAYERS - 1} numbers above 0, or none")
    options.out.mkdir(parents=True, exist_ok=True)
    runs = runs_of(options)
    if options.one:
        work_on(next(run for run in runs if run.name == options.one), options)
        return
    if not (options.table or options.report):
        try:
            work_off(runs, options)
        except KeyboardInterrupt:
            raise SystemExit("interrupted; the same command goes on") from None
    rows = table(runs, options.out)
    lines = [*table_lines(rows), "", *(f"- {claim}" for claim in claims(rows))]
    print("\n".join(lines))
    if options.report:
        report(lines, options.report)


if __name__ == "__main__":
    main()
