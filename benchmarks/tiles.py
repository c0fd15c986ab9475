"""Tiles beside plain torch and beside aihwkit's torch tiles.

Noisy convolutions beside exact ones by torch, exact tiles beside torch, and networks on noisy tiles beside
aihwkit's with the same converters, weights and noise (`make tools` installs it). Medians of interleaved runs.

python benchmarks/tiles.py
"""

import argparse
import copy
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from msgspec.structs import replace
from torch import Tensor, nn

import ffebm
from ffebm.exporters.aihwkit import export_aihwkit
from ffebm.graph.energy_block import Linear
from ffebm.hardware.description import Crossbar, Hardware, load_hardware
from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.projection import crossbar_projection

SHAPES = [  # batch, channels in and out, pixels a side, kernel, groups
    (32, 64, 128, 16, 3, 1),
    (32, 128, 256, 16, 3, 1),
    (128, 3, 64, 32, 3, 1),
    (32, 256, 512, 8, 3, 1),
    (32, 512, 512, 4, 3, 1),
    (32, 128, 128, 16, 3, 128),
    (32, 256, 256, 14, 1, 1),
]


def best(run: Callable[[], object]) -> float:
    """Milliseconds."""
    run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def spans(size: int, most: int) -> list[tuple[int, int]]:
    """An even split."""
    count = -(-size // most)
    return [(size * k // count, size * (k + 1) // count) for k in range(count)]


def measured(shape: tuple[int, ...], tile: Crossbar) -> list[float]:
    """Exact and noisy product, exact and noisy transposed product, programming."""
    batch, n_in, n_out, side, kernel, groups = shape
    weight = torch.randn(n_out, n_in // groups, kernel, kernel)
    pad = kernel // 2
    pieces = [
        Piece(id=0, weight="w", group=group, inputs=inputs, outputs=outputs, row=0, col=0)
        for group in range(groups)
        for inputs in spans(weight[0].numel(), tile.rows)
        for outputs in spans(n_out // groups, tile.cols)
    ]
    linear = Linear("Conv", "w", pads=(pad,) * 4, groups=groups)
    projection = crossbar_projection(linear, pieces, tile, torch.Generator().manual_seed(0))
    z, y = torch.randn(batch, n_in, side, side), torch.randn(batch, n_out, side, side)
    return [
        best(lambda: F.conv2d(z, weight, padding=pad, groups=groups)),
        best(lambda: projection.product(z, weight)),
        best(lambda: F.conv_transpose2d(y, weight, padding=pad, groups=groups)),
        best(lambda: projection.product_t(y, weight, z.shape[1:])),
        best(lambda: projection.array.holding(weight.mul_(1.0))),
    ]


_clock: Callable[[], float] = time.perf_counter


def together(runs: dict[str, Callable[[], object]], seconds: float = 4.0) -> dict[str, float]:
    """Median seconds of each, run in turn so that all meet the same machine."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(min(times.values(), key=len)) < 3:
        for name, run in runs.items():
            start = _clock()
            run()
            times[name].append(_clock() - start)
    return {name: statistics.median(found) for name, found in times.items()}


# --- exact tiles -------------------------------------------------------------------------------------


def exact_tiles() -> None:
    print("\nexact tiles: `IdealTile.mvm` beside `torch.matmul`")
    for batch, n_in, n_out in [(64, 784, 500), (256, 1024, 1024), (4096, 576, 64)]:
        weight, x = torch.randn(n_out, n_in), torch.randn(batch, n_in)
        tile = IdealTile()
        tile.program(weight)
        found = together(
            {
                "torch": lambda x=x, w=weight: torch.matmul(x, w.mT),
                "tile": lambda x=x, tile=tile: tile.mvm(x),
            }
        )
        ratio = found["tile"] / found["torch"]
        print(f"{batch:5} x {n_in} -> {n_out:5}: {1e3 * found['torch']:7.3f} ms, tile {ratio:.3f} times that")


# --- beside aihwkit ----------------------------------------------------------------------------------


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 10))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 10),
    )


def analog(model: nn.Module, plan: ffebm.Plan, *, each_sample: bool) -> nn.Module:
    """The network as aihwkit runs it, from our export.

    Args:
        model: The torch model.
        plan: Its plan.
        each_sample: Read noise of each cell for each sample, which is what our tiles compute; else one normal
            number an output, the cheapest noise that aihwkit has, of about the same size.
    """
    from aihwkit.nn.conversion import convert_to_analog

    module: dict[str, Any] = {}
    exec(export_aihwkit(plan).files["rpu.py"].decode(), module)
    for config in [module["BASE"], *module["RPU"].values()]:
        if not each_sample:
            config.modifier = type(config.modifier)()
            config.forward.out_noise = module["READ_NOISE"] * 5.0  # lines of five full-scale inputs, or more
    return convert_to_analog(
        copy.deepcopy(model),
        module["BASE"],
        specific_rpu_config_fun=module["config_of"],
        exclude_modules=module["EXCLUDE"],
    )


def steps(net: nn.Module, x: Tensor, target: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
    """A noisy forward and a training step."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def forward() -> Tensor:
        with torch.no_grad():
            return net(x)

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), target).backward()
        optimizer.step()

    return forward, train


def machine() -> Hardware:
    """The reference machine without programming noise, which aihwkit does not draw in training."""
    hardware = load_hardware("reference")
    tile = hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    cell = replace(tile.cell, programming_noise=replace(tile.cell.programming_noise, value=0.0))
    return replace(hardware, analog=(replace(hardware.analog[0], tile=replace(tile, cell=cell)),))


EQUAL = """
beside aihwkit's torch tiles: images a second, and ours as a multiple
Equal: weights, one copy of each, their pieces of at most 256 x 256, 8-bit converters scaled to each input
vector, no programming noise, the optimiser. Ours draws read noise anew for each window, and reads W^T through
converters with noise too; its training step is the hybrid one, with an error current into every block.
aihwkit draws noise of each cell once an image, or of each output for each window, and backpropagates exactly.
Torch computes exactly."""


def beside_aihwkit() -> None:
    print(EQUAL)
    print(f"threads: {torch.get_num_threads()}")
    for name, model, batch in [("dense 784-500-10", dense(), 64), ("convolutional", convolutional(), 64)]:
        x, target = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
        plan = ffebm.compile(model, (x,), hardware=machine(), replicas=1)
        nets = {
            "ours": ffebm.Executor(plan),
            "noise of each cell": analog(model, plan, each_sample=True),
            "noise of each output": analog(model, plan, each_sample=False),
            "torch": copy.deepcopy(model),
        }
        made = {key: steps(net.train(), x, target) for key, net in nets.items()}
        for position, kind in enumerate(("noisy forward", "training step")):
            found = together({key: runs[position] for key, runs in made.items()}, 6.0)
            rates = {key: batch / seconds for key, seconds in found.items()}
            others = ", ".join(
                f"{key} {rate:.0f} ({rates['ours'] / rate:.1f} times)"
                for key, rate in rates.items()
                if key.startswith("noise")
            )
            print(
                f"{name}, {kind}: ours {rates['ours']:.0f}; aihwkit with {others}; torch {rates['torch']:.0f}"
            )


def convolutions(tile: Crossbar) -> None:
    print("convolutions on noisy tiles beside exact ones by torch: milliseconds, the best of five runs")
    print(f"{'batch in out side kernel groups':34} exact   noisy | W^T exact   noisy | programming")
    for shape in SHAPES:
        exact, noisy, exact_t, noisy_t, programming = measured(shape, tile)
        print(f"{shape!s:34} {exact:5.1f} {noisy:7.1f} | {exact_t:9.1f} {noisy_t:7.1f} | {programming:11.1f}")


def main() -> None:
    global _clock
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time beside aihwkit, if others work too"
    )
    parser.add_argument("--beside", action="store_true", help="beside aihwkit alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _clock = time.process_time if options.cpu_time else time.perf_counter
    torch.manual_seed(0)
    if not options.beside:
        tile = load_hardware("reference").analog[0].tile
        assert isinstance(tile, Crossbar)
        convolutions(tile)
        exact_tiles()
    if importlib.util.find_spec("aihwkit") is None:
        print("\naihwkit is not installed, so nothing is held beside it: make tools")
    else:
        beside_aihwkit()


if __name__ == "__main__":
    main()
