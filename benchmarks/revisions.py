"""Two revisions side by side: do they make the same plans, and as fast?

    python benchmarks/revisions.py same BEFORE AFTER    ten models, byte for byte
    python benchmarks/revisions.py time BEFORE AFTER    compilation and a training step, in turn

Both are checked out below `out/revisions`; models are written once, by this tree, and each revision reads the
same files. What is timed is processor time of a process of its own, one thread, in pairs: before, after,
after, before … The ratio of each pair is what stands against drift of the machine. A training step is one of
digits: images to gradients of all weights, with `EP` on crossbars, the first step left out.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

ROOT = Path(__file__).resolve().parents[1]
TREES = ROOT / "out" / "revisions"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

MODELS: dict[str, int] = {
    "light_densenet121": 1, "light_inception_v1": 1, "light_inception_v2": 1, "light_resnet50": 2,
    "light_shufflenet": 1, "light_squeezenet": 2, "chain": 3, "branching": 1, "digits": 3, "splitting": 2,
}  # fmt: skip
"""Names of models, and the layers of a block of each."""
TIMED = ("light_inception_v2", "light_shufflenet", "digits")

COMPILE = """
import sys, time, onnx, ffebm
model, hardware, size, folder = sys.argv[1:]
started = time.process_time()
plan = ffebm.compile(model, hardware=hardware, block_size=int(size))
print(time.process_time() - started)
plan.save(folder)
"""
STEP = """
import sys, time, torch, ffebm
model, hardware, size, _ = sys.argv[1:]
torch.manual_seed(0)
net = ffebm.Executor(ffebm.compile(model, hardware=hardware, block_size=int(size)), seed=0)
x, y = torch.rand(32, 1, 8, 8), torch.randint(10, (32,))
for number in range(6):
    if number == 1:
        started = time.process_time()
    net.loss(x, y, torch.nn.functional.cross_entropy).backward()
print(time.process_time() - started)
"""


def models(folder: Path) -> dict[str, Path]:
    """The models as files."""
    sys.path += [str(ROOT / "examples"), str(ROOT / "benchmarks")]
    from compile import branching, chain  # type: ignore[import-not-found]
    from digits_model import digits_model  # type: ignore[import-not-found]

    from ffebm.recipes.paper import RECIPES

    made: dict[str, Callable[[], onnx.ModelProto]] = {
        "chain": lambda: chain(200),
        "branching": lambda: branching(210),
        "digits": digits_model,
        "splitting": lambda: RECIPES["splitting-small-2"].model(0.25, "cifar-10", 0),
    }
    found = {name: LIGHT / f"{name}.onnx" for name in MODELS if name not in made}
    for name, make in made.items():
        found[name] = folder / f"{name}.onnx"
        onnx.save(make(), found[name])
    return found


def tree(revision: str) -> Path:
    """A revision, checked out."""
    named = subprocess.run(
        ["git", "rev-parse", f"{revision}^{{commit}}"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    folder = TREES / named.stdout.strip()
    if not folder.exists():
        archive = subprocess.Popen(["git", "archive", folder.name], cwd=ROOT, stdout=subprocess.PIPE)
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
    return folder


def seconds(revision: Path, code: str, *arguments: object) -> float:
    """What a program prints that imports a revision."""
    environment = os.environ | {"PYTHONPATH": str(revision), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=scratch
        )
    return float(done.stdout)


def digests(folder: Path) -> dict[str, str]:
    """Of the files of a plan."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def same(before: Path, after: Path, machines: list[str]) -> bool:
    """Print whether the plans are the same; whether all are."""
    alike = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, model in models(Path(scratch)).items():
            for hardware in machines:
                plans = [Path(scratch, f"{name}-{hardware}-{n}.plan") for n in range(2)]
                for revision, plan in zip((before, after), plans, strict=True):
                    seconds(revision, COMPILE, model, hardware, MODELS[name], plan)
                old, new = map(digests, plans)
                apart = sorted(f for f in old.keys() | new.keys() if old.get(f) != new.get(f))
                size = sum(path.stat().st_size for path in plans[0].rglob("*") if path.is_file())
                told = "the same" if not apart else f"not the same: {', '.join(apart)}"
                print(f"{name:20} {hardware:10} {len(old):3} files {size:12,} bytes  {told}", flush=True)
                alike = alike and not apart
    return alike


def compare(before: Path, after: Path, hardware: str, rounds: int) -> None:
    """Print the ratio of times, after over before, pair by pair."""
    with tempfile.TemporaryDirectory() as scratch:
        files = models(Path(scratch))
        tasks = [(f"compile {name}", COMPILE, name) for name in TIMED]
        for what, code, name in [*tasks, ("hybrid step of digits", STEP, "digits")]:
            pairs = []
            for number in range(rounds):
                order = (before, after) if number % 2 == 0 else (after, before)
                arguments = (files[name], hardware, MODELS[name], Path(scratch, "plan"))
                took = {revision: seconds(revision, code, *arguments) for revision in order}
                pairs.append((took[before], took[after]))
            ratios = sorted(new / old for old, new in pairs)
            old, new = (statistics.median(times) for times in zip(*pairs, strict=True))
            spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}, {rounds} pairs"
            took_s = f"before {old:6.2f} s  after {new:6.2f} s"
            print(
                f"{what:26} {hardware:10} {took_s}  ratio {statistics.median(ratios):.3f} ({spread})",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=("same", "time"))
    parser.add_argument("before", help="a revision of git")
    parser.add_argument("after", help="a revision of git")
    parser.add_argument("--hardware", nargs="+", default=["ideal", "reference"], help="shipped machines")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs that are timed")
    options = parser.parse_args()
    before, after = tree(options.before), tree(options.after)
    if options.command == "same":
        return 0 if same(before, after, options.hardware) else 1
    for hardware in options.hardware:
        compare(before, after, hardware, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
