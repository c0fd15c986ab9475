"""How fast explorations are, and how much of a front a search finds with a tenth of the points.

`--rate N` prices N points of a grid of 500 of ResNet-50 (tile size, bits of the ADCs, tiles, objective, block
size), drawn at random, and says what the whole grid would take on two processors that do nothing else.

`--search` prices the whole grid of small networks, then lets each sampler look at a tenth of it, with five
seeds or as many as `--seeds` says. Compared is the hypervolume of time, energy and area of what it found with
that of the grid: figures by their logarithms, from 0 at the least of the grid to 1 at the most, which is the
reference point.

python benchmarks/explore.py --rate 20 [--effort 50] [--figures-of inference]
python benchmarks/explore.py --search
python benchmarks/explore.py --search --figures FOLDER    # keeps the priced grids there, for the next time
"""

import argparse
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import onnx
from onnx import ModelProto

from examples.digits_model import digits_model
from ffebm.commands.compiling import Compiling
from ffebm.compiler.variants import Variants
from ffebm.errors import FfebmError
from ffebm.exploration.figures import figures_of
from ffebm.exploration.front import on_front
from ffebm.exploration.knobs import knobs_of
from ffebm.exploration.request import Request, training_of
from ffebm.exploration.run import Exploration
from ffebm.exploration.search import SEARCHERS, Searcher
from ffebm.plan.schema import Settle
from tests.models import Builder

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
FRONT = ("inference_s", "inference_j", "area_mm2")
SIZE = "analog.tiles.tile.rows+analog.tiles.tile.cols+analog.tiles.area.formula.adcs"
BITS = "analog.tiles.tile.adc.bits"
WHOLE = (
    f"{SIZE}=64,96,128,192,256",
    f"{BITS}=4,5,6,7,8",
    "analog.tiles.count=16,32,64,128,256",
    "objective=analog,latency",
    "block_size=1,2",
)
"""500 points."""
SMALL = (
    f"{SIZE}=64,128,256",
    f"{BITS}=4,6,8",
    "analog.tiles.count=2,4,8,16,64",
    "objective=analog,latency,energy",
    "replicas=1,none",
)
"""270 points."""
Figured = Mapping[str, float | None]


def request_of(model: Path, folder: Path, vary: Iterable[str], **search: object) -> Request:
    """An exploration on `reference`."""
    return Request(
        model=model,
        folder=folder,
        hardware="reference",
        settings=Compiling().settings(),
        settle=Settle(),
        batch=1,
        passes=(),
        knobs=knobs_of(vary),
        front=FRONT,
        **search,  # type: ignore[arg-type]
    )


# --- how fast ----------------------------------------------------------------------------------------


def rate(count: int, effort: int, figures: str) -> None:
    """Print the processor time of some points of the large grid, mapped with an effort, for some figures."""
    model = LIGHT / "light_resnet50.onnx"
    vary = (*WHOLE, f"effort={effort}")
    request = request_of(model, Path(), vary, training=training_of(figures))
    start = time.process_time()
    variants = Variants(model)
    print(f"ResNet-50 read in {time.process_time() - start:.2f} s of a processor")
    seconds = []
    for number in random.Random(0).sample(range(len(request.grid)), count):
        point = request.grid[number]
        start = time.process_time()
        variants.price(request.variant(point, ()))
        seconds.append(time.process_time() - start)
        print(f"  {seconds[-1]:6.2f} s  {', '.join(str(value) for value in point.values())}", flush=True)
    mean, middle = statistics.mean(seconds), statistics.median(seconds)
    whole = mean * len(request.grid) / 2
    print(
        f"{count} of {len(request.grid)} points: {mean:.2f} s of a processor each, median {middle:.2f} s; "
        f"all of them would take {whole / 60:.1f} minutes on two processors"
    )


# --- how good ----------------------------------------------------------------------------------------


def dense() -> ModelProto:
    """Three dense layers, 256-128-64-10."""
    b = Builder()
    x = b.input("x", 1, 256)
    for n_in, n_out in ((256, 128), (128, 64)):
        x = b.node("Relu", b.node("MatMul", x, b.weight(n_in, n_out)))
    return b.model(b.node("MatMul", x, b.weight(64, 10)))


def convolutions() -> ModelProto:
    """Two convolutions of 16 channels on 16 x 16 pixels, and a dense layer."""
    b = Builder()
    x = b.node("Relu", b.conv(b.input("x", 1, 3, 16, 16), 3, 16))
    x = b.node("Relu", b.conv(x, 16, 16))
    return b.model(b.node("MatMul", b.node("Flatten", x, axis=1), b.weight(16 * 16 * 16, 10)))


NETWORKS = {"digits": digits_model, "dense": dense, "convolutions": convolutions}


def known_grid(request: Request, path: Path | None) -> dict[int, Figured]:
    """Figures of every point of a grid, from a file that an earlier run has left, if any."""
    if path is None:
        return priced_grid(request)
    if not path.exists():
        rows = {str(index): figures for index, figures in priced_grid(request).items()}
        path.write_text(json.dumps({"points": len(request.grid), "figures": rows}))
    held = json.loads(path.read_text())
    if held["points"] != len(request.grid):
        raise SystemExit(f"{path}: {held['points']} points, not the {len(request.grid)} of this grid")
    return {int(index): figures for index, figures in held["figures"].items()}


def priced_grid(request: Request) -> dict[int, Figured]:
    """Figures of every point of a grid; those that are refused have none."""
    variants, found = Variants(request.model), {}
    for index, point in enumerate(request.grid):
        try:
            found[index] = figures_of(variants.price(request.variant(point, ())))
        except FfebmError:
            continue
    return found


def hypervolume(costs: Sequence[tuple[float, ...]]) -> float:
    """Volume between points of [0, 1]^n and (1, …, 1) that they dominate, in slices along the last axis."""
    if not costs:
        return 0.0
    if len(costs[0]) == 1:
        return 1.0 - min(cost[0] for cost in costs)
    levels = [*sorted({cost[-1] for cost in costs}), 1.0]
    return math.fsum(
        (above - level) * hypervolume([cost[:-1] for cost in costs if cost[-1] <= level])
        for level, above in pairwise(levels)
    )


def volume_of(rows: Sequence[Figured], every: Sequence[Figured]) -> float:
    """Hypervolume of some points, on the scale of all of them."""
    logs = {name: [math.log(row[name] or 1.0) for row in every] for name in FRONT}
    ends = {name: (min(values), max(values)) for name, values in logs.items()}
    kept = [row for row, front in zip(rows, on_front(rows, FRONT), strict=True) if front]
    scaled = [
        tuple(
            (math.log(row[name] or 1.0) - ends[name][0]) / (ends[name][1] - ends[name][0]) for name in FRONT
        )
        for row in kept
    ]
    return hypervolume(sorted(set(scaled)))


def searched(request: Request, known: Mapping[int, Figured]) -> list[Figured]:
    """What a search finds, with figures that are known."""
    ledger = Exploration(request).ledger
    found: list[Figured] = []
    with ledger.working():
        while (claim := ledger.claim()) is not None:
            figures = known.get(request.grid.index_of(claim.point))
            if figures is None:
                ledger.refuse(claim, "refused")
                continue
            ledger.finish(claim, dict(figures), [])
            found.append(figures)
    return found


def search(names: Iterable[str], seeds: int, figures: Path | None) -> None:
    """Print how much of each front each sampler finds.

    Args:
        names: Of the networks.
        seeds: Searches of each sampler, a number.
        figures: Folder in which priced grids are kept; None keeps none.
    """
    for name in names:
        make = NETWORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.onnx"
            onnx.save(make(), model)
            request = request_of(model, Path(folder), SMALL)
            known = known_grid(request, None if figures is None else figures / f"{name}.json")
            every = list(known.values())
            whole, count = volume_of(every, every), len(request.grid) // 10
            print(f"{name}: {len(every)} of {len(request.grid)} points, hypervolume {whole:.4f}", flush=True)
            for sampler in SEARCHERS:
                shares = [
                    share_of(request, Path(folder), (sampler, count, seed), known) for seed in range(seeds)
                ]
                told = ", ".join(f"{100 * share / whole:.1f}" for share in shares)
                middle = 100 * statistics.median(shares) / whole
                print(f"  {sampler}, {count} points: median {middle:.1f} % of it ({told})", flush=True)


def share_of(
    request: Request, folder: Path, asked: tuple[Searcher, int, int], known: Mapping[int, Figured]
) -> float:
    """The hypervolume that one search finds."""
    sampler, count, seed = asked
    own = folder / f"{sampler}-{seed}"
    again = request_of(request.model, own, SMALL, sampler=sampler, trials=count, seed=seed)
    return volume_of(searched(again, known), list(known.values()))


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, metavar="N", help="price so many points of ResNet-50")
    parser.add_argument("--effort", type=int, default=1000, help="of the mapping of these points")
    parser.add_argument(
        "--figures-of", default="inference,training", metavar="WORDS", help="as ffebm explore --figures"
    )
    parser.add_argument("--search", action="store_true", help="compare samplers with whole grids")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="searches of each sampler")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="where priced grids are kept")
    asked = parser.parse_args()
    if asked.figures is not None:
        asked.figures.mkdir(parents=True, exist_ok=True)
    if asked.rate:
        rate(asked.rate, asked.effort, asked.figures_of)
    if asked.search:
        search(asked.networks, asked.seeds, asked.figures)


if __name__ == "__main__":
    main()
