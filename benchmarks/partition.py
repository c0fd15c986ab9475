"""Partitions that keep an accuracy: `ffebm sensitivity`'s search beside the order of work, its baseline.

A digits network of nine layers and a Fashion-MNIST one of seven, with several seeds of weights, are trained
exactly and put on `reference` with coarse converters, 3 % programming and 2 % read noise. The table shows the
share of the work that each search leaves on tiles; its passes, samples run over those of one accuracy (the
baseline takes one pass a layer); and how many points the accuracy of what it found is above the target, with
fresh noise over the whole test set. Fashion-MNIST is Debian's dataset-fashion-mnist.
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import nn
from torch.nn import functional

import ffebm
from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.description import Hardware
from ffebm.hardware.quantity import Ratio
from ffebm.studies.sensitivity.meter import Effort, Meter
from ffebm.studies.sensitivity.record import Offer, StudyRecord, load_record, save_record, setup_of
from ffebm.studies.sensitivity.study import Study
from ffebm.studies.sensitivity.units import units_of
from ffebm.training.classification import fitted
from ffebm.training.data import Data, load_data
from ffebm.training.data.samples import floats

PROGRAMMING, READING = 0.03, 0.02
"""Deviations as shares of the range of conductances."""
BATCH = 64
FRESH = 8
"""Runs with noise that no search has seen."""
swap = msgspec.structs.replace


@dataclass(frozen=True)
class Network:
    """Convolutions of 3 x 3 with rectifiers, and a dense readout.

    Attributes:
        name: In the table.
        data: Name of the data.
        side: Of an image.
        channels: Of each convolution.
        strides: Of each convolution.
        epochs: Of its training.
        trained: Training samples.
        tested: Test samples, the first ones.
        samples: Of these, samples of an accuracy of the search.
    """

    name: str
    data: str
    side: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    epochs: int
    trained: int
    tested: int
    samples: int


NETWORKS = (
    Network(
        "digits, 9 layers",
        "digits",
        8,
        (8, 8, 16, 16, 16, 32, 32, 32),
        (1, 1, 2, 1, 1, 2, 1, 1),
        12,
        1438,
        359,
        359,
    ),
    Network(
        "Fashion, 7 layers",
        "fashion-mnist",
        28,
        (8, 16, 16, 32, 32, 32),
        (2, 1, 2, 1, 1, 2),
        2,
        12000,
        2000,
        500,
    ),
)


def trained(network: Network, data: Data, seed: int) -> nn.Module:
    """The network, trained exactly by Adam."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    width, side = 1, network.side
    for channels, stride in zip(network.channels, network.strides, strict=True):
        conv = nn.Conv2d(width, channels, 3, stride=stride, padding=1)
        nn.init.kaiming_normal_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.ReLU()]
        width, side = channels, -(-side // stride)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, 10))
    optimizer = torch.optim.Adam(net.parameters())
    steps = network.epochs * -(-len(data.x_train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(network.epochs):
        for part in torch.randperm(len(data.x_train)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(net(floats(data.x_train[part])), data.y_train[part]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def machine(bits: int) -> Hardware:
    """`reference` with converters of so many bits and more noise."""
    hardware = ffebm.load_hardware("reference")
    tile = hardware.analog[0].tile
    assert isinstance(tile, Crossbar)
    programming, reading = (
        Ratio(value=value, unit="1", source="benchmarks/partition.py", assumption=True)
        for value in (PROGRAMMING, READING)
    )
    cell = swap(tile.cell, programming_noise=programming, read_noise=reading)
    dac, adc = swap(tile.dac, bits=bits), swap(tile.adc, bits=bits)
    return swap(hardware, analog=(swap(hardware.analog[0], tile=swap(tile, cell=cell, dac=dac, adc=adc)),))


def fresh(study: Study, offer: Offer) -> float:
    """Accuracy of a partition on the whole test set, with noise of its own."""
    tile = study.crossbar
    units = study.record.units
    tiles = {w: tile if unit.name in offer.on_tiles else None for unit in units for w in unit.weights}
    effort = swap(study.meter.effort, seeds=FRESH)
    return Meter(study.meter.plan, study.meter.data, effort).confirmed(tiles)


def compared(study: Study, label: str, drop: float) -> tuple[Offer, Offer]:
    """One row of the table, printed."""
    target = study.exact() - drop / 100
    one = study.pass_of(len(study.meter.labels()))
    cells = []
    offers = []
    for method in ("by superposition", "by work"):
        offer = study.offer("by work" if method == "by work" else "by superposition", target, lambda _: None)
        above = 100 * (fresh(study, offer) - (study.meter.confirmed(nothing(study)) - drop / 100))
        cells.append(f"{100 * offer.work:.1f} % | {offer.passes / one:.1f} | {above:+.1f}")
        offers.append(offer)
    print(f"| {label} | {drop:g} | {cells[0]} | {cells[1]} |", flush=True)
    return offers[0], offers[1]


def nothing(study: Study) -> dict[str, Crossbar | None]:
    """Nothing on tiles."""
    return {weight: None for unit in study.record.units for weight in unit.weights}


def study_of(network: Network, data: Data, net: nn.Module, bits: int, seeds: int) -> Study:
    """A study that keeps nothing beyond this run."""
    example = floats(data.x_test[:1])
    plan = ffebm.compile(net, example, hardware=machine(bits), replicas=1)
    fit, effort = fitted(plan, data), Effort(samples=network.samples, seeds=seeds)
    setup, units = setup_of(plan, fit, "block", effort), units_of(plan, "block")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        record: StudyRecord = load_record(path, setup, units)
        save_record(record, path)
    return Study(Meter(plan, fit, effort), record, lambda _: None)


def main() -> None:
    """Print the table, and how often each search found more work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, nargs="+", default=[0, 1], help="places in the list")
    parser.add_argument("--weights", type=int, nargs="+", default=[0, 1, 2], help="seeds of the weights")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 5])
    parser.add_argument("--drops", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="points")
    parser.add_argument("--seeds", type=int, default=2, help="runs of one accuracy")
    options = parser.parse_args()
    print("| network, weights, bits | drop | superposition: work | passes | above | work | passes | above |")
    print("|---|---|---|---|---|---|---|---|")
    pairs = []
    for network in (NETWORKS[place] for place in options.networks):
        loaded = load_data(network.data).shaped((1, network.side, network.side))
        data = Data(
            network.name,
            loaded.x_train[: network.trained],
            loaded.y_train[: network.trained],
            loaded.x_test[: network.tested],
            loaded.y_test[: network.tested],
        )
        for seed in options.weights:
            net = trained(network, data, seed)
            for bits in options.bits:
                study = study_of(network, data, net, bits, options.seeds)
                pairs += [compared(study, f"{network.name}, {seed}, {bits}", drop) for drop in options.drops]
    ahead = [round(ours.work - theirs.work, 6) for ours, theirs in pairs]
    more, less = sum(a > 0 for a in ahead), sum(a < 0 for a in ahead)
    cost = statistics.fmean(ours.passes / theirs.passes for ours, theirs in pairs)
    print(
        f"\nmore work on tiles in {more} of {len(pairs)} cases, as much in {len(pairs) - more - less}, less "
        f"in {less}; {100 * statistics.fmean(ahead):+.1f} points on average; {cost:.2f} times the samples"
    )


if __name__ == "__main__":
    main()
