"""Times a training step of the splitting networks of Nest & Ernoult 2024.

    python benchmarks/hybrid_step.py --width 0.5 --batch 8

Against the published loop, whose gradients must be the same, and against plain backprop. The networks are
those of the recipes `splitting-small-N`: six layers as one block, two or three. Equal sweeps means those of
the paper, 60 free and 20 nudged; "tol" stops each sample at a residual, with the step that suits it; "solved"
settles freely so and solves for the exact adjoint, to the same residual, instead of nudging. With `--trained`
the weights are those of a model that `splitting.py` has trained without a ladder, and the inputs images of
Fashion-MNIST; without, initial weights and random inputs.
"""

import argparse
import functools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import onnx
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from published_loop import Join, Loop, LoopBlock
from torch import Tensor

from ffebm.graph.energy_block import Activation, EnergyBlock, Interaction, Layer, Linear, Pool, Rearrangement
from ffebm.plan.schema import Settle
from ffebm.recipes.network import COLOURS, SIDE
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.runtime.blocks.block_run import Tail
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient, Implicit
from ffebm.training.data import Data, load_data
from ffebm.training.data.samples import floats

CLASSES = 10
BETA = 0.2

_clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True, eq=False)
class Network:
    """One split: the same weights for both implementations."""

    loop: Loop
    blocks: tuple[BlockRuntime, ...]
    weights: dict[str, Tensor]
    x: Tensor
    target: Tensor

    def hybrid(self, gradient: Gradient, settle: Settle) -> dict[str, Tensor]:
        """One step with energy blocks; gradients by name."""
        return self.loss_and_hybrid(gradient, settle)[1]

    def loss_and_hybrid(self, gradient: Gradient, settle: Settle) -> tuple[float, dict[str, Tensor]]:
        """One step with energy blocks: the loss at the free state, and gradients by name."""
        leaves = {name: w.detach().requires_grad_() for name, w in self.weights.items()}
        value = self.x
        for front, runtime in zip(self.loop.blocks, self.blocks, strict=True):
            value = _front(front.front, value, leaves)
            if runtime is self.blocks[-1]:
                break
            outputs, _ = runtime.run({"x": value}, leaves, settle, gradient)
            value = next(iter(outputs.values()))
        top = self.blocks[-1].block.outputs[0]
        names = self.loop.readout
        if isinstance(gradient, EP) and gradient.cost:
            tail = Tail(
                lambda out, given, w: F.cross_entropy(_logits(out[top], w, names), given["y"]),
                {"y": self.target},
                {name: leaves[name] for name in names},
            )
            loss, _ = self.blocks[-1].run_with_cost({"x": value}, leaves, tail, settle, gradient)
        else:
            outputs, _ = self.blocks[-1].run({"x": value}, leaves, settle, gradient)
            loss = F.cross_entropy(_logits(outputs[top], leaves, names), self.target)
        loss.backward()
        return float(loss.detach()), {name: w.grad for name, w in leaves.items() if w.grad is not None}

    def double(self) -> "Network":
        """The same in double precision."""
        weights = {name: w.double() for name, w in self.weights.items()}
        return replace(self, weights=weights, x=self.x.double())

    def published(self) -> dict[str, Tensor]:
        """One step of the published loop."""
        return self.loop.step(self.x, self.target, self.weights)

    def backprop(self) -> dict[str, Tensor]:
        """One step of plain backpropagation through the same layers run once, upwards."""
        leaves = {name: w.detach().requires_grad_() for name, w in self.weights.items()}
        value = self.x
        for block in self.loop.blocks:
            for k, join in enumerate((block.front, *block.joins)):
                value = _front(join, value, leaves)
                if block.clamp_last or k < len(block.joins):
                    value = (self.loop.slope * value).clamp(0, 1)
        F.cross_entropy(_logits(value, leaves, self.loop.readout), self.target).backward()
        return {name: w.grad for name, w in leaves.items() if w.grad is not None}

    def sweep_products(self) -> float:
        """Multiply-adds of one sweep of all blocks, of one sample: each coupling once in both directions."""
        total = 0
        for runtime in self.blocks:
            free = {layer.value for layer in runtime.block.layers}
            for _, interaction in runtime.block.interactions():
                if interaction.source in free and interaction.linear is not None:
                    w = self.weights[interaction.linear.weight]
                    places = math.prod(interaction.linear_shape[1:]) if w.dim() > 2 else 1
                    total += 2 * w.numel() * places
        return float(total)


def make(split: int, width: float, batch: int, device: str, trained: Path | None = None) -> Network:
    """A splitting network, as it is initialised or with the weights of a trained model."""
    torch.manual_seed(0)
    recipe = RECIPES[SPLITTING_SMALL[split]]
    network = recipe.network.narrowed(width)
    weights = {name: torch.from_numpy(array) for name, array in network.weights(CLASSES, seed=0).items()}
    if trained:
        weights = stored(trained, weights)
    shape: tuple[int, ...] = (COLOURS, SIDE, SIDE)
    loops, runtimes, position = [], [], 0
    for k, block in enumerate(network.blocks):
        joins, shapes = [], []
        for layer in block:
            name = f"layer{position}"
            norm = (f"{name}.norm.gamma", f"{name}.norm.beta") if layer.has_norm else None
            bias = None if layer.has_norm else f"{name}.bias"
            joins.append(Join(f"{name}.weight", bias, 1, 1, layer.has_pool, norm))
            sizes = (s // 2 if layer.has_pool else s for s in shape[1:])
            shape = (layer.size,) if layer.is_dense else (layer.size, *sizes)
            shapes.append(shape)
            position += 1
        loops.append(LoopBlock(joins[0], tuple(joins[1:]), tuple(shapes), block[-1].is_clipped))
        runtimes.append(BlockRuntime(_block(k, loops[-1], weights)))
    weights = {name: w.to(device) for name, w in weights.items() if not name.endswith((".mean", ".var"))}
    sweeps = (recipe.settle.free_sweeps, recipe.settle.nudged_sweeps)
    loop = Loop(tuple(loops), ("readout.weight", "readout.bias"), network.slope, *sweeps, BETA)
    x, target = torch.randn(batch, COLOURS, SIDE, SIDE), torch.arange(batch) % CLASSES
    if trained:
        x, target = images(batch, 0)
    return Network(loop, tuple(runtimes), weights, x.to(device), target.to(device))


def stored(path: Path, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a trained model, by the names and in the shapes of the network."""
    found = {
        entry.name: torch.from_numpy(onnx.numpy_helper.to_array(entry).copy())
        for entry in onnx.load(path).graph.initializer
    }
    apart = [name for name, w in expected.items() if name not in found or found[name].shape != w.shape]
    if apart:
        raise SystemExit(f"{path}: not this network: {', '.join(apart)}; see --width")
    return {name: found[name] for name in expected}


@functools.cache
def fashion() -> Data:
    """Fashion-MNIST as the networks take it."""
    return load_data("fashion-mnist").shaped((COLOURS, SIDE, SIDE), pad=True)


def images(batch: int, number: int) -> tuple[Tensor, Tensor]:
    """A batch of test images and their classes."""
    part = slice(number * batch, (number + 1) * batch)
    return floats(fashion().x_test[part]), fashion().y_test[part]


def _block(k: int, spec: LoopBlock, weights: dict[str, Tensor]) -> EnergyBlock:
    clip, linear = Activation("Clip", low=0.0, high=1.0), Activation("Identity")
    layers: list[Layer] = []
    for i, shape in enumerate(spec.shapes):
        is_last = i + 1 == len(spec.shapes)
        drive = Interaction("x", shape, shape) if i == 0 else _join(spec.joins[i - 1], layers[-1], weights)
        activation = linear if is_last and not spec.clamp_last else clip
        layers.append(Layer(f"s{i}", shape, activation, (drive,)))
    return EnergyBlock(k, ("x",), tuple(layers), (layers[-1].value,))


def _join(join: Join, below: Layer, weights: dict[str, Tensor]) -> Interaction:
    w = weights[join.weight]
    if w.dim() == 2:
        matrix = Linear("MatMul", join.weight, join.bias, transposed=True)
        flat = (Rearrangement("Reshape", (math.prod(below.shape),)),) if len(below.shape) > 1 else ()
        return Interaction(below.value, below.shape, (w.shape[0],), flat, matrix)
    conv = Linear("Conv", join.weight, join.bias, (1, 1), (1, 1, 1, 1), (1, 1))
    pool = Pool("MaxPool", (2, 2), (2, 2), (0, 0, 0, 0)) if join.has_pool else None
    return Interaction(below.value, below.shape, (w.shape[0], *below.shape[1:]), (), conv, pool)


def _front(join: Join, value: Tensor, weights: dict[str, Tensor]) -> Tensor:
    w, bias = weights[join.weight], weights[join.bias] if join.bias else None
    if w.dim() == 2:
        return F.linear(value.flatten(1), w, bias)
    value = F.conv2d(value, w, bias, 1, 1)
    value = F.max_pool2d(value, 2) if join.has_pool else value
    if join.norm is None:
        return value
    return F.batch_norm(value, None, None, weights[join.norm[0]], weights[join.norm[1]], training=True)


def _logits(value: Tensor, weights: dict[str, Tensor], names: tuple[str, str]) -> Tensor:
    return F.linear(value.flatten(1), weights[names[0]], weights[names[1]])


def seconds(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least time of each step, taken in turns: what others do on the machine only adds, and adds to all."""
    least = dict.fromkeys(steps, math.inf)
    for turn in range(repeats + 1):
        for name, step in steps.items():
            _wait()
            start = _clock()
            step()
            _wait()
            if turn:  # the first warms up
                least[name] = min(least[name], _clock() - start)
    return least


def least_seconds(step: Callable[[], object], repeats: int) -> float:
    """Least time of one step."""
    return seconds({"": step}, repeats)[""]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest relative distance of a gradient."""
    return max(float((found[k] - g).norm() / g.norm().clamp(min=1e-12)) for k, g in expected.items())


def assert_same_gradients(split: int) -> None:
    """Both loops give the same gradients; in double precision, where the published contrast loses nothing.

    In single precision it subtracts large sums, so its small gradients carry per cents of rounding.
    """
    network = make(split, 0.125, 2, "cpu").double()
    settle = Settle(free_sweeps=network.loop.free_sweeps, nudged_sweeps=network.loop.nudged_sweeps)
    worst = distance(network.hybrid(EP(BETA, cost=True), settle), network.published())
    assert worst < 1e-6, f"block size {split}: gradients differ by {worst:.1e}"


def matrix_peak(device: str) -> float:
    """Multiply-adds a second (counted as two) of a large matrix product."""
    a = torch.randn(2048, 2048, device=device)
    return 2 * 2048**3 / least_seconds(lambda: a @ a, 5)


def sweep_rate(network: Network) -> float:
    """Multiply-adds a second (counted as two) of free sweeps beyond the first ones."""
    drives = []
    with torch.no_grad():
        value = network.x
        for front, runtime in zip(network.loop.blocks, network.blocks, strict=True):
            value = _front(front.front, value, network.weights)
            drives.append(value)
            value = next(
                iter(runtime.run({"x": value}, network.weights, Settle(free_sweeps=10), EP())[0].values())
            )

        def run(sweeps: int) -> None:
            for value, runtime in zip(drives, network.blocks, strict=True):
                runtime.run({"x": value}, network.weights, Settle(free_sweeps=sweeps), EP())

        took = least_seconds(lambda: run(25), 3) - least_seconds(lambda: run(5), 3)
    return 20 * len(network.x) * 2 * network.sweep_products() / took


def cosines(networks: Sequence[Network], step: Callable[[Network], dict[str, Tensor]]) -> dict[str, float]:
    """Cosine of each weight's gradient with the exact one, mean over batches."""
    found: dict[str, list[float]] = {}
    for network, exact in zip(networks, map(_exact, networks), strict=True):
        for name, g in step(network).items():
            cosine = F.cosine_similarity(g.flatten(), exact[name].flatten(), dim=0)
            found.setdefault(name, []).append(float(cosine))
    return {name: statistics.mean(values) for name, values in found.items()}


@functools.cache
def _exact(network: Network) -> dict[str, Tensor]:
    return network.hybrid(Implicit(), Settle(free_sweeps=500, tol=1e-7))


def peak_memory(arguments: list[str]) -> float:
    """Peak memory of one step in a process of its own, in MB above that of the idle process."""
    command = [sys.executable, __file__, *arguments]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def report_split(split: int, options: argparse.Namespace) -> None:
    """Print the figures of one split."""
    network = make(split, options.width, options.batch, options.device, options.trained)
    fixed = Settle(free_sweeps=network.loop.free_sweeps, nudged_sweeps=network.loop.nudged_sweeps)
    if split == 1:
        steps = {"backprop": network.backprop, "one": lambda: network.hybrid(EP(BETA), fixed)}
        took = seconds(steps, 3 * options.repeats)
        one, backprop = took["one"], took["backprop"]
        print(f"block size 1: {one:.4f} s, {one / backprop:.2f} times backprop ({backprop:.4f} s)")
        return
    backprop = least_seconds(network.backprop, options.repeats)
    print(f"block size {split}: backprop {backprop:.3f} s; cosines with the exact gradients")
    print_steps(network, fixed, options)
    peak, rate = matrix_peak(options.device), sweep_rate(network)
    print(
        f"  a sweep reaches {rate / 1e9:.0f} of {peak / 1e9:.0f} Gflop/s, "
        f"{rate / peak:.0%} of a matrix product's"
    )
    if options.device == "cpu":
        same = ["--width", str(options.width), "--batch", str(options.batch)]
        same += ["--splits", str(split), "--memory"]
        ours, theirs = peak_memory([*same, "hybrid"]), peak_memory([*same, "published"])
        print(f"  peak memory of a step {ours:.0f} MB, of the published loop {theirs:.0f} MB")


def print_steps(network: Network, fixed: Settle, options: argparse.Namespace) -> None:
    """Print seconds and cosines of a step of the published loop, and of ours in three settings."""
    networks = [network]
    for number in range(1, options.batches if options.trained else 1):
        x, target = images(options.batch, number)
        networks.append(replace(network, x=x.to(options.device), target=target.to(options.device)))
    fewer = Settle(free_sweeps=options.free_sweeps, nudged_sweeps=options.nudged_sweeps)
    step: float | Literal["auto"] = 1.0 if options.anderson else "auto"
    most = Settle(free_sweeps=200, nudged_sweeps=60, relaxation=step, anderson=options.anderson)
    fast, rough = (msgspec.structs.replace(most, tol=tol) for tol in (options.tol, options.solved_tol))
    ep = EP(BETA, cost=True)
    settings: dict[str, tuple[Gradient, Settle]] = {
        "equal sweeps": (ep, fixed),
        f"{fewer.free_sweeps} and {fewer.nudged_sweeps} sweeps": (ep, fewer),
        f"tol {options.tol:g}": (ep, fast),
        f"solved {options.solved_tol:g}": (Implicit(options.solved_tol), rough),
    }
    steps: dict[str, Callable[[], object]] = {"published": network.published}
    steps |= {name: functools.partial(network.hybrid, *how) for name, how in settings.items()}
    took = seconds(steps, options.repeats)
    published = cosines(networks, Network.published)
    print(
        f"  published loop      {took['published']:8.3f} s           "
        f"mean {statistics.mean(published.values()):.4f}"
    )
    for name, how in settings.items():
        found = cosines(networks, lambda one, how=how: one.hybrid(*how))
        mean, apart = statistics.mean(found.values()), {key: found[key] - published[key] for key in found}
        lowest = min(apart, key=apart.__getitem__)
        print(
            f"  {name:18s}  {took[name]:8.3f} s {took['published'] / took[name]:6.2f} x  mean {mean:.4f}, "
            f"lowest against the published {apart[lowest]:+.4f} ({lowest})"
        )


def print_memory(split: int, options: argparse.Namespace) -> None:
    """Print how far one step raises this process's memory (Linux)."""
    network = make(split, options.width, options.batch, "cpu")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    idle = _memory("VmRSS")
    if options.memory == "hybrid":
        network.hybrid(EP(BETA, cost=True), Settle(free_sweeps=8, nudged_sweeps=4))
    else:
        replace(network, loop=replace(network.loop, free_sweeps=8, nudged_sweeps=4)).published()
    print(json.dumps(_memory("VmHWM") - idle))


def _memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=float, default=0.5, help="factor of the channels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--splits", type=int, nargs="*", default=[6, 3, 2, 1], choices=list(SPLITTING_SMALL))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--trained", type=Path, help="the trained.onnx of a run of splitting.py --ladder")
    parser.add_argument("--batches", type=int, default=8, help="of images, for cosines with --trained")
    parser.add_argument("--free-sweeps", type=int, default=20, help="of the setting with fewer sweeps")
    parser.add_argument("--nudged-sweeps", type=int, default=10, help="of the setting with fewer sweeps")
    parser.add_argument("--tol", type=float, default=1e-3, help="residual of the setting with steps found")
    parser.add_argument("--solved-tol", type=float, default=1e-2, help="residual of the solved setting")
    parser.add_argument("--anderson", type=int, default=0, help="memory, instead of steps found")
    parser.add_argument(
        "--cpu-time", action="store_true", help="measure processor time, for a shared machine"
    )
    parser.add_argument("--memory", choices=["hybrid", "published"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print_memory(options.splits[0], options)
        return
    if options.cpu_time:
        global _clock
        _clock = time.process_time
    for split in options.splits:
        if split > 1:
            assert_same_gradients(split)
        report_split(split, options)


if __name__ == "__main__":
    main()
