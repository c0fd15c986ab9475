"""Kills of processes that save and train: is anything lost?

A process that saves one of two plans over the other, again and again, is killed at random times (SIGKILL).
After each kill the folder must be there and whole, the old or the new one, and after the next command nothing
else may lie beside it. The same with a system that cannot swap two names in one step, where the next command
may have to put the folder into its place.

`ffebm train` is killed at random times on every shipped machine and resumed, until as many kills have hit.
Every run that ends must be bit-equal, in checkpoint and trained model, to one that nobody has killed.

Processes are forked from this one, so that a kill costs a fork and not a start of Python.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ffebm
import ffebm.files.folder
from ffebm.hardware.description import shipped_hardware
from ffebm.plan.plan import Plan, load_plan

MACHINES = tuple(shipped_hardware())
EPOCHS = 5
FIGURES = (
    "kills",
    "absent until the next command",
    "killed before the first checkpoint",
    "lost",
    "left something beside it",
    "litter behind the next command",
    "runs that ended",
    "other bits",
)
"""In the order in which they are shown."""


def small_model() -> ModelProto:
    """Two layers that settle together behind a digital normalisation and dropout."""
    rng = np.random.default_rng(0)
    arrays = {
        "scale": np.ones(6, np.float32),
        "shift": np.zeros(6, np.float32),
        "mean": np.zeros(6, np.float32),
        "var": np.ones(6, np.float32),
        "w1": rng.standard_normal((16, 6)).astype(np.float32) * 0.3,
        "w2": rng.standard_normal((6, 6)).astype(np.float32) * 0.3,
        "w3": rng.standard_normal((6, 3)).astype(np.float32) * 0.3,
        "b3": np.zeros(3, np.float32),
        "ratio": np.float32(0.2),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["n"], "norm"),
        helper.make_node("Dropout", ["n", "ratio"], ["d"], "dropout"),
        helper.make_node("MatMul", ["d", "w2"], ["u"], "second"),
        helper.make_node("Relu", ["u"], ["s"], "relu"),
        helper.make_node("Gemm", ["s", "w3", "b3"], ["y"], "third"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small_plan(machine: str) -> Plan:
    settle = ffebm.Settle(free_sweeps=4, nudged_sweeps=3)
    return ffebm.compile(small_model(), hardware=machine, block_size=2, settle=settle)


def forked(work: Callable[[], object]) -> int:
    """A process that works and ends; its number."""
    number = os.fork()
    if number:
        return number
    try:
        work()
    except SystemExit as leave:
        os._exit(int(leave.code or 0))
    except Exception:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)


def killed(number: int, after_s: float) -> bool:
    """Kill a process after a time; False if it had ended well before."""
    deadline = time.monotonic() + after_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(number, os.WNOHANG)
        if ended:
            assert status == 0, f"exit status {os.waitstatus_to_exitcode(status)}"
            return False
        time.sleep(min(0.002, max(0.0, deadline - time.monotonic())))
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return os.WIFSIGNALED(status)


def contents(folder: Path) -> str:
    """The digest of a whole folder, found without ffebm; "" if it is missing, "damaged" if a file is."""
    if not folder.is_dir():
        return ""
    listed = (folder / "SHA256SUMS").read_text(encoding="utf-8")
    for line in listed.splitlines():
        digest, name = line.split("  ", 1)
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            return "damaged"
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    return listed if found == {line[66:] for line in listed.splitlines()} else "damaged"


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def kill_saves(kills: int, rng: random.Random, *, one_step: bool) -> Counter[str]:
    """Figures of kills in saves over a plan."""
    seen: Counter[str] = Counter()
    plans = (small_plan("reference"), small_plan("ideal"))
    exchange = ffebm.files.folder.exchange
    if not one_step:
        ffebm.files.folder.exchange = lambda *_: False
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "small.plan"
        known = []
        for plan in plans:
            plan.save(path)
            known.append(contents(path))

        def save() -> None:
            while True:
                for plan in plans:
                    plan.save(path)

        for _ in range(kills):
            assert killed(forked(save), rng.uniform(0.002, 0.15))
            seen["kills"] += 1
            before = contents(path)
            seen["absent until the next command"] += not before
            seen["lost"] += before not in known if one_step else before not in (*known, "")
            seen["left something beside it"] += bool(hidden(path.parent))
            if rng.random() < 0.5:
                seen["lost"] += load_plan(path) not in plans
            else:
                plans[0].save(path)
            seen["lost"] += contents(path) not in known
            seen["litter behind the next command"] += bool(hidden(path.parent))
    ffebm.files.folder.exchange = exchange
    return seen


def train(arguments: list[str]) -> Callable[[], None]:
    def work() -> None:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        sys.argv = ["ffebm", "train", *arguments]
        from ffebm.cli import main

        main()

    return work


def kill_runs(machine: str, kills: int, rng: random.Random) -> Counter[str]:
    """Figures of kills in training on a machine."""
    from ffebm.training.runs.checkpoint import load_checkpoint

    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        plan, data, folder = scratch / "small.plan", scratch / "data.npz", scratch / "run"
        small_plan(machine).save(plan)
        x = np.random.default_rng(1).standard_normal((64, 16)).astype(np.float32)
        np.savez(data, x=x, y=x[:, :3].argmax(1))
        start = [str(plan), "--data", str(data), "--epochs", str(EPOCHS), "--batch", "8"]
        begun = time.monotonic()
        assert not killed(forked(train([*start, "--run", str(scratch / "whole")])), 600.0)
        span = time.monotonic() - begun
        expected = result(scratch / "whole")
        while True:
            options = [str(plan), "--resume"] if folder.exists() else start
            hit = killed(
                forked(train([*options, "--run", str(folder)])),
                rng.uniform(0.0, span) if seen["kills"] < kills else 600.0,
            )
            if hit:
                seen["kills"] += 1
                was = contents(folder)
                seen["killed before the first checkpoint"] += not was
                seen["lost"] += was == "damaged"
                seen["left something beside it"] += bool(hidden(scratch))
                if was:
                    load_checkpoint(folder)
                else:
                    load_plan(plan)
                seen["litter behind the next command"] += bool(hidden(scratch))
                continue
            seen["runs that ended"] += 1
            seen["other bits"] += result(folder) != expected
            shutil.rmtree(folder)
            if seen["kills"] >= kills:
                return seen


def result(folder: Path) -> tuple[bytes, bytes, object]:
    """Checkpoint, trained model and record, but for times."""
    record = json.loads((folder / "record.json").read_bytes())
    for epoch in record["epochs"]:
        del epoch["seconds"]
    return (
        (folder / "checkpoint.safetensors").read_bytes(),
        (folder / "trained.onnx").read_bytes(),
        record,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--saves", type=int, default=500, help="kills in saves")
    parser.add_argument("--two-steps", type=int, default=100, help="the same without a swap in one step")
    parser.add_argument("--runs", type=int, default=13, help="kills in training, on each machine")
    parser.add_argument("--machines", nargs="*", default=MACHINES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    bad = 0

    def show(name: str, seen: Counter[str]) -> None:
        nonlocal bad
        bad += seen["lost"] + seen["litter behind the next command"] + seen["other bits"]
        whats = [what for what in FIGURES if what in seen]
        print(f"{name}: {', '.join(f'{seen[what]} {what}' for what in whats)}", flush=True)

    if options.saves:
        show("saves", kill_saves(options.saves, rng, one_step=True))
    if options.two_steps:
        show("saves in two steps", kill_saves(options.two_steps, rng, one_step=False))
    if options.runs:
        # before the forks, so that all is loaded once; torch's optimisers load its compiler
        import torch._dynamo  # noqa: F401

        for machine in options.machines:
            show(f"training on {machine}", kill_runs(machine, options.runs, rng))
    print("nothing lost" if not bad else f"{bad} FAILURES")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
