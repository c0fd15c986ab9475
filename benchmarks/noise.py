"""What tiles do to inference, to gradients and to training: digits and Fashion-MNIST, one effect at a time.

Every figure is kept in out/noise/NETWORK.json as soon as it is measured; the same command goes on from there.
With `--report` nothing is measured: tables and pictures of docs/noise.md are written from what is kept.
Fashion-MNIST is Debian's dataset-fashion-mnist.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from noise_models import NETWORKS, Network
from torch.nn import functional

import ffebm
from ffebm.hardware.description import Crossbar, Drift
from ffebm.hardware.quantity import Ratio, Time
from ffebm.report.pictures.chart import Chart, Curve, draw
from ffebm.studies.sensitivity.meter import cosine
from ffebm.training.calibration import calibration_batch
from ffebm.training.classification import all_logits, hits, logits
from ffebm.training.data import Data, load_data
from ffebm.training.data.samples import floats
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
KEPT, DOCS = ROOT / "out" / "noise", ROOT / "docs"
SEEDS = (0, 1, 2)
BETA = 0.5
SETTLE = ffebm.Settle(free_sweeps=8, nudged_sweeps=6)
T0 = 20.0
"""Seconds after programming from which drift counts. Source: Nandakumar et al. 2019, PCM."""
swap = msgspec.structs.replace


def ratio(value: float) -> Ratio:
    return Ratio(value=value, unit="1", source="benchmarks/noise.py", assumption=True)


def seconds(value: float) -> Time:
    return Time(value=value, unit="s", source="benchmarks/noise.py", assumption=True)


# --- machines ----------------------------------------------------------------------------------------


def clean(uniform: bool = False) -> Crossbar:
    """The tile of `reference` with 10-bit weights and converters and nothing random.

    Args:
        uniform: ADC ranges are for uniform inputs, not calibrated on samples.
    """
    tile = ffebm.load_hardware("reference").analog[0].tile
    assert isinstance(tile, Crossbar)
    if uniform:
        tile = swap(tile, adc=swap(tile.adc, calibration="uniform"))
    return weight_bits(converter_bits(read_noise(programming_noise(tile, 0), 0), 10), 10)


def converter_bits(tile: Crossbar, bits: float) -> Crossbar:
    dac, adc = swap(tile.dac, bits=int(bits)), swap(tile.adc, bits=int(bits))
    return swap(tile, dac=dac, adc=adc)


def adc_bits(tile: Crossbar, bits: float) -> Crossbar:
    return swap(tile, adc=swap(tile.adc, bits=int(bits)))


def weight_bits(tile: Crossbar, bits: float) -> Crossbar:
    """Sign included: a pair of cells, each with half of the levels."""
    return swap(tile, cell=swap(tile.cell, levels=2 ** (int(bits) - 1)))


def read_noise(tile: Crossbar, share: float) -> Crossbar:
    return swap(tile, cell=swap(tile.cell, read_noise=ratio(share)))


def programming_noise(tile: Crossbar, share: float) -> Crossbar:
    return swap(tile, cell=swap(tile.cell, programming_noise=ratio(share)))


def mismatch(tile: Crossbar, share: float) -> Crossbar:
    return swap(tile, mismatch=ratio(share)) if share else tile


def drift(tile: Crossbar, after: float) -> Crossbar:
    """PCM: a mean exponent of 0.05 with a spread of 0.02; the mean decay is compensated digitally."""
    law = Drift(
        exponent=ratio(0.05),
        spread=ratio(0.02),
        start=seconds(T0),
        elapsed=seconds(max(after, T0)),
        compensation="global",
    )
    return swap(tile, cell=swap(tile.cell, drift=law))


@dataclass(frozen=True)
class Axis:
    """One effect: what it is called, its unit, how it changes a tile, and its levels."""

    name: str
    label: str
    change: Callable[[Crossbar, float], Crossbar]
    levels: tuple[float, ...]


SHARES = (0.0, 0.005, 0.01, 0.02, 0.05)
AXES = (
    Axis("adc-bits", "bits of the ADCs", adc_bits, (2, 3, 4, 5, 6, 8, 10)),
    Axis("weight-bits", "bits of a weight, sign included", weight_bits, (2, 3, 4, 5, 6, 8, 10)),
    Axis("read-noise", "read noise, share of the range", read_noise, SHARES),
    Axis("programming-noise", "programming noise, share of the range", programming_noise, SHARES),
    Axis("mismatch", "mismatch between directions, share of a conductance", mismatch, (0, 0.05, 0.1, 0.3, 1)),
    Axis("drift", "time since programming, seconds", drift, (20, 3600, 86400, 2.6e6, 3.2e7)),
)
FIGURES = {
    "inference": ("Inference, trained without noise", "accuracy, %"),
    "gradient1": ("Gradient, one layer a block", "cosine"),
    "gradient2": ("Gradient, two layers a block", "cosine"),
    "training": ("Training on such tiles", "accuracy, %"),
}


def machine(tile: Crossbar | None) -> ffebm.Hardware:
    """`reference` with this tile; without one, the exact machine."""
    if tile is None:
        return ffebm.load_hardware("ideal")
    hardware = ffebm.load_hardware("reference")
    return swap(hardware, analog=(swap(hardware.analog[0], tile=tile),))


# --- measuring ---------------------------------------------------------------------------------------


def kept(network: Network, uniform: bool) -> Path:
    """Where figures are kept."""
    return (KEPT / "uniform" if uniform else KEPT) / f"{network.name}.json"


class Bench:
    """Measures one network, with ADC ranges by data or for uniform inputs, and keeps what it measured."""

    def __init__(self, network: Network, uniform: bool = False) -> None:
        self.network = network
        self.uniform = uniform
        self.path = kept(network, uniform)
        self.figures = self.load(self.path)
        data = load_data(network.data)
        self.data = replace(data, x_test=data.x_test[: network.tested], y_test=data.y_test[: network.tested])
        self.whole = data
        self.bases: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
        self.ideals: dict[tuple[int, int], list[torch.Tensor]] = {}

    @staticmethod
    def load(path: Path) -> dict[str, float]:
        """What is kept of a network."""
        return json.loads(path.read_text()) if path.exists() else {}

    def keep(self, key: str, measure: Callable[[], float]) -> float:
        """A figure by its name; measured if it is not kept yet."""
        if key not in self.figures:
            figure = measure()
            self.figures = {**self.load(self.path), key: figure}  # another process may have written meanwhile
            self.path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self.path.with_suffix(".part")
            scratch.write_text(json.dumps(self.figures, indent=1))
            scratch.replace(self.path)
            print(f"{self.network.name} {key}: {self.figures[key]:.4f}", flush=True)
        return self.figures[key]

    def net(self, tile: Crossbar | None, size: int, seed: int, gradient: object = None) -> ffebm.Executor:
        """The untrained network on such tiles; None is the exact machine."""
        model = self.network.model(seed, 1.0 if size == 1 else self.network.slope)
        plan = ffebm.compile(model, hardware=machine(tile), block_size=size, settle=SETTLE, replicas=1)
        return ffebm.Executor(plan, gradient=gradient or ffebm.EP(beta=BETA), seed=seed)

    def train(
        self, net: ffebm.Executor, seed: int, count: int, epochs: int, data: Data, rate: float = 2e-3
    ) -> Trainer:
        """Train on the first samples."""
        cut = replace(data, x_train=data.x_train[:count], y_train=data.y_train[:count])
        settings = Training(
            data=data.name, epochs=epochs, batch=128, lr=rate, schedule="cosine", beta=BETA, seed=seed
        )
        trainer = Trainer(net, cut, settings)
        for _ in trainer.run():
            pass
        return trainer

    def trained(self, net: ffebm.Executor, size: int, seed: int) -> ffebm.Executor:
        """The network with weights that were trained exactly."""
        if (size, seed) not in self.bases:
            base = self.net(None, size, seed)
            self.train(base, seed, self.network.count, self.network.epochs, self.data)
            self.bases[size, seed] = {name: w.detach() for name, w in base.weights().items()}
        with torch.no_grad():
            for name, weight in net.weights().items():
                weight.copy_(self.bases[size, seed][name])
        return net

    def shaped(self, net: ffebm.Executor) -> Data:
        """The data in the network's shape, with the training samples of a sweep."""
        shape = net.plan.inputs[0].type.shape
        count = self.network.count
        cut = replace(self.data, x_train=self.data.x_train[:count], y_train=self.data.y_train[:count])
        return cut.shaped((shape or ())[1:])

    def inference(self, tile: Crossbar | None, seed: int) -> float:
        """Accuracy in per cent of exactly trained weights."""
        net = self.trained(self.net(tile, 1, seed), 1, seed)
        data = self.shaped(net)
        net.calibrate(floats(calibration_batch(data)[0][0]))
        return 100 * hits(all_logits(net, data.x_test), data.y_test) / len(data.x_test)

    def grads(self, tile: Crossbar | None, size: int, seed: int, gradient: object) -> list[torch.Tensor]:
        """Gradients of everything that blocks hold, on 256 training samples."""
        net = self.trained(self.net(tile, size, seed, gradient), size, seed)
        data = self.shaped(net)
        seen, classes = calibration_batch(data)
        net.calibrate(floats(seen[0]), classes, functional.cross_entropy)
        functional.cross_entropy(logits(net, data.x_train[:256]), data.y_train[:256]).backward()
        placed = {w for block in net.plan.blocks for w in block.weights()}
        return [w.grad for name, w in net.weights().items() if name in placed and w.grad is not None]

    def gradient(self, tile: Crossbar, size: int, seed: int, ours: object = None) -> float:
        """Cosine to the exact gradient of the exact machine."""
        if (size, seed) not in self.ideals:
            self.ideals[size, seed] = self.grads(None, size, seed, ffebm.Implicit())
        ours = ours or ffebm.EP(beta=BETA)
        return cosine(self.grads(tile, size, seed, ours), self.ideals[size, seed])

    def clipped(self, tile: Crossbar, seed: int) -> list[float]:
        """Per cent of the ADC readings of each weight that clip, forward on 256 training samples."""
        net = self.trained(self.net(tile, 1, seed), 1, seed)
        data = self.shaped(net)
        net.calibrate(floats(calibration_batch(data)[0][0]))
        all_logits(net, data.x_train[:256])
        return [100 * readings.share for readings in net.machine.readings().values()]

    def training(self, tile: Crossbar | None, seed: int) -> float:
        """Accuracy in per cent of weights that were trained on such tiles."""
        net = self.net(tile, 1, seed)
        trainer = self.train(net, seed, self.network.count, self.network.epochs, self.data)
        return 100 * trainer.accuracy()


def sweep(bench: Bench, figures: list[str]) -> None:
    """Every axis, level and seed."""
    measure = {
        "inference": bench.inference,
        "gradient1": lambda tile, seed: bench.gradient(tile, 1, seed),
        "gradient2": lambda tile, seed: bench.gradient(tile, 2, seed),
        "training": bench.training,
    }
    for figure in figures:
        for seed in SEEDS:
            if figure in {"inference", "training"}:
                bench.keep(f"{figure}/exact/0/{seed}", lambda f=figure, s=seed: measure[f](None, s))
            same: dict[bytes, float] = {}  # several axes begin or end with one and the same tile
            for axis in AXES:
                for level in axis.levels:
                    tile = axis.change(clean(bench.uniform), level)
                    key, kind = f"{figure}/{axis.name}/{level:g}/{seed}", msgspec.json.encode(tile)
                    known = same.get(kind)
                    same[kind] = bench.keep(
                        key, lambda f=figure, t=tile, s=seed, k=known: measure[f](t, s) if k is None else k
                    )


def key_tile() -> Crossbar:
    """128 x 128 cells, 10-bit weights, 4-bit converters; ADC ranges by column, for uniform inputs."""
    tile = converter_bits(clean(), 4)
    adc = swap(tile.adc, range="column", calibration="uniform")
    return swap(tile, rows=128, cols=128, adc=adc, adc_sigmas=ratio(3.5))


def key_point(bench: Bench, seeds: list[int]) -> None:
    """Trained from end to end on tiles of 10-bit weights and 4-bit converters, with the whole data."""
    for seed in seeds:

        def accuracy(seed: int = seed) -> float:
            net = bench.net(key_tile(), 1, seed)
            count, epochs = len(bench.whole.x_train), bench.network.whole_epochs
            return 100 * bench.train(net, seed, count, epochs, bench.whole, rate=1e-3).accuracy()

        bench.keep(f"key/{KEY}/0/{seed}", accuracy)


KEY = "4-bit converters, 10-bit weights"
BETAS: tuple[float | str, ...] = (0.02, 0.1, 0.5, "auto")
LOUDER = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


def betas(bench: Bench) -> None:
    """Gradient cosine under read noise, two layers a block, by nudging strength."""
    for beta in BETAS:
        try:
            estimator = ffebm.EP(beta=beta)
        except (TypeError, ffebm.FfebmError):
            print(f"this ffebm has no EP(beta={beta!r})")
            continue
        for seed in SEEDS:
            for level in LOUDER:
                tile = read_noise(clean(bench.uniform), level)
                key = f"beta/{beta}/{level:g}/{seed}"
                bench.keep(key, lambda t=tile, s=seed, e=estimator: bench.gradient(t, 2, s, e))


RANGES = {"uniform": ("uniform", None), "data": ("data", None), "data-wide": ("data", 4.0)}
"""What ADC ranges are calibrated on, and how many standard deviations they take; None: by the bits."""
RANGE_BITS = (4, 10)
RANGE_FIGURES = {
    "clip-first": "first matrix clips, %",
    "clip-last": "last matrix clips, %",
    "inference": "inference, %",
    "gradient1": "gradient, cosine",
    "training": "training, %",
}


def ranges(bench: Bench) -> None:
    """What the calibration of ADC ranges does, one layer a block."""
    measure = {
        "clip-first": lambda tile, seed: bench.clipped(tile, seed)[0],
        "clip-last": lambda tile, seed: bench.clipped(tile, seed)[-1],
        "inference": bench.inference,
        "gradient1": lambda tile, seed: bench.gradient(tile, 1, seed),
        "training": bench.training,
    }
    for name, (calibration, sigmas) in RANGES.items():
        for bits in RANGE_BITS:
            tile = adc_bits(clean(), bits)
            tile = swap(tile, adc=swap(tile.adc, calibration=calibration))
            tile = tile if sigmas is None else swap(tile, adc_sigmas=ratio(sigmas))
            for figure in RANGE_FIGURES:
                for seed in SEEDS:
                    key = f"range-{figure}/{name}/{bits}/{seed}"
                    bench.keep(key, lambda f=figure, t=tile, s=seed: measure[f](t, s))


# --- reporting ---------------------------------------------------------------------------------------


def found(figures: dict[str, float], name: str, axis: str, level: float) -> list[float]:
    keys = [f"{name}/{axis}/{level:g}/{seed}" for seed in SEEDS]
    return [figures[key] for key in keys if key in figures]


def spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def text(values: list[float], digits: int) -> str:
    if not values:
        return "-"
    bar = f" ± {spread(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{bar}"


def tables(held: dict[str, dict[str, float]]) -> Iterator[str]:
    for axis in AXES:
        yield f"### {axis.label[0].upper()}{axis.label[1:]}\n"
        yield f"![{axis.label}](noise-{axis.name}.svg)\n"
        yield "| network | figure | " + " | ".join(f"{level:g}" for level in axis.levels) + " |"
        yield "|---|---|" + "---|" * len(axis.levels)
        for network, figures in held.items():
            for name, (title, unit) in FIGURES.items():
                digits = 3 if unit == "cosine" else 1
                cells = [text(found(figures, name, axis.name, level), digits) for level in axis.levels]
                if any(cell != "-" for cell in cells):
                    yield f"| {network} | {title}, {unit.split(',')[-1].strip()} | {' | '.join(cells)} |"
        yield ""


def beta_table(held: dict[str, dict[str, float]]) -> Iterator[str]:
    yield "| network | beta | " + " | ".join(f"{level:g}" for level in LOUDER) + " |"
    yield "|---|---|" + "---|" * len(LOUDER)
    for network, figures in held.items():
        for beta in BETAS:
            cells = [text(found(figures, "beta", str(beta), level), 3) for level in LOUDER]
            if any(cell != "-" for cell in cells):
                yield f"| {network} | {beta} | {' | '.join(cells)} |"


def range_table(held: dict[str, dict[str, float]]) -> Iterator[str]:
    heads = [f"{title}, {bits} bits" for title in RANGE_FIGURES.values() for bits in RANGE_BITS]
    yield "| network | calibrated on | deviations | " + " | ".join(heads) + " |"
    yield "|---|---|---|" + "---|" * len(heads)
    for network, figures in held.items():
        for name, (calibration, sigmas) in RANGES.items():
            cells = [
                text(found(figures, f"range-{figure}", name, bits), 3 if figure == "gradient1" else 1)
                for figure in RANGE_FIGURES
                for bits in RANGE_BITS
            ]
            if any(cell != "-" for cell in cells):
                width = "by bits" if sigmas is None else f"{sigmas:g}"
                yield f"| {network} | {calibration} | {width} | {' | '.join(cells)} |"


def curve(name: str, figures: dict[str, float], figure: str, axis: str, levels: tuple[float, ...]) -> Curve:
    values = {level: found(figures, figure, axis, level) for level in levels}
    known = {level: v for level, v in values.items() if v}
    points = tuple((level, statistics.fmean(v)) for level, v in known.items())
    return Curve(name, points, tuple(spread(v) for v in known.values()))


def pictures(held: dict[str, dict[str, float]]) -> None:
    for axis in AXES:
        charts = []
        for name, (title, unit) in FIGURES.items():
            curves = [curve(n, f, name, axis.name, axis.levels) for n, f in held.items()]
            low, high = (0.0, 1.0) if unit == "cosine" else (0.0, 100.0)
            charts.append(Chart(title, axis.label, unit, tuple(c for c in curves if c.points), low, high))
        (DOCS / f"noise-{axis.name}.svg").write_text(draw(axis.label, charts), encoding="utf-8")
    charts = []
    for network, figures in held.items():
        curves = [curve(f"beta {beta}", figures, "beta", str(beta), LOUDER) for beta in BETAS]
        curves = [c for c in curves if c.points]
        if curves:
            charts.append(Chart(network, "read noise, share of the range", "cosine", tuple(curves), 0.0, 1.0))
    (DOCS / "noise-beta.svg").write_text(draw("Gradient under read noise", charts), encoding="utf-8")


def figures_held() -> dict[str, dict[str, float]]:
    """Figures by network; those with ranges for uniform inputs only where there are none by data."""
    held = {}
    for network in NETWORKS:
        data, other = (Bench.load(kept(network, uniform)) for uniform in (False, True))
        kinds = {key.split("/")[0] for key in data}
        rest = {key: figure for key, figure in other.items() if key.split("/")[0] not in kinds}
        held |= {network.name: data, f"{network.name} (u)": rest}
    return {name: figures for name, figures in held.items() if figures}


def report() -> None:
    """Write the tables between the markers of docs/noise.md, and the pictures beside it."""
    held = figures_held()
    pictures(held)
    page = DOCS / "noise.md"
    content = page.read_text(encoding="utf-8")
    keys = ["| network | seeds | test accuracy, % |", "|---|---|---|"]
    for network, figures in held.items():
        values = found(figures, "key", KEY, 0)
        if values:
            keys.append(f"| {network} | {len(values)} | {text(values, 2)} |")
    for name, lines in (
        ("key", keys),
        ("range", list(range_table(held))),
        ("beta", list(beta_table(held))),
        ("axes", list(tables(held))),
    ):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        head, _, rest = content.partition(begin)
        content = head + begin + "\n".join(lines).rstrip() + "\n" + end + rest.partition(end)[2]
    page.write_text(content, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [network.name for network in NETWORKS]
    parser.add_argument("--network", choices=names, action="append")
    parser.add_argument("--only", choices=[*FIGURES, "key", "beta", "range"], action="append")
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="of the key point")
    parser.add_argument("--uniform", action="store_true", help="ADC ranges for uniform inputs")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.report:
        report()
        return
    for network in NETWORKS:
        if options.network and network.name not in options.network:
            continue
        bench = Bench(network, options.uniform)
        wanted = options.only or [*FIGURES, "beta", "range", "key"]
        sweep(bench, [name for name in FIGURES if name in wanted])
        if "range" in wanted:
            ranges(bench)
        if "beta" in wanted:
            betas(bench)
        if "key" in wanted and network.whole_epochs:
            key_point(bench, options.seed or list(SEEDS))


if __name__ == "__main__":
    main()
