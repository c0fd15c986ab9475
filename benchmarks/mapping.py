"""What each objective of the mapping makes of well-known networks, beside the same machine without tiles.

Each network is compiled for each machine with the tiles it has, or with enough of them (2,000 a group), and
for each objective. Time and energy are those of one inference of one sample as the schedule bills it; the
twin is the same machine without its tiles, in fp32. A ratio below 1 is a plan that takes less. CPU seconds
are those of the compilation in this process, the export of a torch module included.

Networks of the onnx package lie in its tests; the others are built by transformers with random weights, since
no figure depends on a weight. Every row is kept in the record with its revision as soon as it is measured;
the same command goes on from there. Delete the record to measure anew.

With --check the rows are held against each other: on each machine each objective's plan has to be the best
in its own figure among the plans of all objectives that were measured (for "analog" among those with as much
work on tiles), within the printed gap of the solver, and but for "analog" no plan for latency may take more
than 2 % longer than the twin. What does not keep that is told, and the exit code is 1.

python benchmarks/mapping.py --networks shufflenet --machines reference --objectives analog latency
python benchmarks/mapping.py --networks squeezenet --tiles own --check
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec
import onnx

import ffebm
from ffebm.plan.mapping import Objective
from ffebm.plan.summary import engineering, times_twin
from ffebm.plan.twin import COMPUTED

ENOUGH = 2000
"""Tiles of a group that holds every network here."""
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
MACHINES = ("reference", "hermes", "isaac")
RECORD = Path("out/mapping.json")
MOST_OF_TWIN = 1.02
"""Times the twin's latency that a plan for latency may take."""
ROUNDING = 1e-9
"""Of sums, as a share."""
Made = tuple[Any, tuple[Any, ...] | None]
"""A model and the example inputs that a torch module needs."""


# --- networks ----------------------------------------------------------------------------------------


def light(name: str) -> Callable[[], Made]:
    """A network of the onnx package."""
    return lambda: (LIGHT / f"light_{name}.onnx", None)


def image_example() -> tuple[Any, ...]:
    """One image, [1, 3, 224, 224]."""
    import torch

    return (torch.zeros(1, 3, 224, 224),)


def mobilenet_v2() -> Made:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(num_labels=1000, return_dict=False)
    return MobileNetV2ForImageClassification(config).eval(), image_example()


def efficientnet_b0() -> Made:
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        image_size=224,
        hidden_dim=1280,
        num_labels=1000,
        return_dict=False,
    )
    return EfficientNetForImageClassification(config).eval(), image_example()


def vit_b16() -> Made:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(num_labels=1000)).eval(), image_example()


def deit_tiny() -> Made:
    """A vision transformer of 12 layers of 192, whose weights take 5.4 million cells."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=1000)
    return ViTForImageClassification(config).eval(), image_example()


def mobilevit_xxs() -> Made:
    """Convolutions with attention over patches between them (arXiv 2110.02178, the smallest)."""
    import torch
    from transformers import MobileViTConfig, MobileViTForImageClassification

    config = MobileViTConfig(
        hidden_sizes=[64, 80, 96],
        neck_hidden_sizes=[16, 16, 24, 48, 64, 80, 320],
        expand_ratio=2.0,
        mlp_ratio=2.0,
        num_labels=1000,
        return_dict=False,
    )
    return MobileViTForImageClassification(config).eval(), (torch.zeros(1, 3, 256, 256),)


def bert(layers: int, width: int) -> Callable[[], Made]:
    """One of the small BERTs of arXiv 1908.08962, over all of its 512 tokens."""

    def make() -> Made:
        import torch
        from transformers import BertConfig, BertModel

        config = BertConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            intermediate_size=4 * width,
        )
        return BertModel(config, add_pooling_layer=False).eval(), (torch.zeros(1, 512, dtype=torch.long),)

    return make


def gpt2() -> Made:
    """The smallest GPT-2 over 64 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(use_cache=False)
    return GPT2LMHeadModel(config).eval(), (torch.zeros(1, 64, dtype=torch.long),)


NETWORKS: dict[str, Callable[[], Made]] = {
    **{name: light(name) for name in ("shufflenet", "squeezenet", "resnet50", "densenet121")},
    "inception_v1": light("inception_v1"),
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_b0": efficientnet_b0,
    "vit_b16": vit_b16,
    "gpt2": gpt2,
    "bert_2_256": bert(2, 256),
    "bert_4_128": bert(4, 128),
    "bert_4_256": bert(4, 256),
    "bert_6_128": bert(6, 128),
    "deit_tiny": deit_tiny,
    "mobilevit_xxs": mobilevit_xxs,
}


# --- measuring ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One network on one machine for one objective.

    Attributes:
        network: Its name.
        machine: The machine's name.
        count: Tiles of the machine, a number.
        objective: What the mapping makes small.
        seconds: Of one inference.
        joules: Of one inference.
        twin_seconds: Of one inference without tiles; 0 if no digital unit runs all ops.
        twin_joules: The same in energy.
        tiles: Tiles in use, a number.
        on_tiles: Energy blocks on tiles, a number; those that share a weight count as one.
        blocks: All that could be, a number.
        gap: Share by which the solver's choice may be above the best sum of prices.
        cpu: Seconds of a processor that compiling took.
        interval: What a further inference in flight adds at least, seconds.
        work: Multiply-accumulates on tiles.
        revision: That compiled it.
    """

    network: str
    machine: str
    count: int
    objective: str
    seconds: float
    joules: float
    twin_seconds: float
    twin_joules: float
    tiles: int
    on_tiles: int
    blocks: int
    gap: float
    cpu: float
    interval: float
    work: int
    revision: str

    def figure(self, objective: str) -> float:
        """What an objective makes small: s, J or J s."""
        figures = {"energy": self.joules, "edp": self.seconds * self.joules, "throughput": self.interval}
        return figures.get(objective, self.seconds)

    def text(self) -> str:
        """As a line of Markdown."""
        product, twin_product = self.seconds * self.joules, self.twin_seconds * self.twin_joules
        cells = (
            self.network,
            f"{self.machine}, {self.count:,}",
            self.objective,
            f"{engineering(self.seconds, 's')} ({engineering(self.twin_seconds, 's')})",
            times_twin(self.seconds, self.twin_seconds),
            f"{engineering(self.joules, 'J')} ({engineering(self.twin_joules, 'J')})",
            times_twin(self.joules, self.twin_joules),
            times_twin(product, twin_product),
            f"{self.tiles:,}",
            f"{self.on_tiles} of {self.blocks}",
            f"{100 * self.gap:.2f} %",
            f"{self.cpu:.1f}",
            self.revision,
        )
        return f"| {' | '.join(cells)} |"


def machine(name: str, *, enough: bool) -> ffebm.Hardware:
    """A shipped machine, or the same with at least `ENOUGH` tiles in each group."""
    hardware = ffebm.load_hardware(name)
    if not enough:
        return hardware
    groups = (msgspec.structs.replace(g, count=max(g.count, ENOUGH)) for g in hardware.analog)
    return msgspec.structs.replace(hardware, analog=tuple(groups))


def measured(network: str, made: Made, hardware: ffebm.Hardware, objective: Objective) -> Row:
    """Compile once, and read the plan's figures."""
    model, example = made
    start = time.process_time()
    plan = ffebm.compile(model, example, hardware=hardware, objective=objective)
    cpu = time.process_time() - start

    twin = plan.twin.get(COMPUTED)
    choices = plan.mapping.blocks if plan.mapping else ()
    on_tiles = sum(choice.options[choice.taken].replicas > 0 for choice in choices)
    return Row(
        network=network,
        machine=hardware.name,
        count=hardware.tile_count,
        objective=objective,
        seconds=plan.inference.makespan_s,
        joules=plan.inference.cost.energy,
        twin_seconds=twin.inference_s if twin else 0.0,
        twin_joules=twin.inference_j if twin else 0.0,
        tiles=len(plan.tiles),
        on_tiles=on_tiles,
        blocks=len(choices),
        gap=plan.mapping.gap if plan.mapping else 0.0,
        cpu=cpu,
        interval=plan.inference.interval_s,
        work=sum(node.macs for node in plan.nodes if node.unit != "digital"),
        revision=revision(),
    )


def revision() -> str:
    """Of the working tree, with a mark if files of the package differ from it."""
    where = Path(ffebm.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(where), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    return git("rev-parse", "--short=7", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")


class Record:
    """Rows in a file, by what they are of.

    Attributes:
        path: Where it lies.
        rows: By network, machine, tiles and objective.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.rows = {key: Row(**fields) for key, fields in kept.items()}

    def keep(self, key: str, measure: Callable[[], Row]) -> Row:
        """A row by its key; measured if it is not kept yet."""
        if key not in self.rows:
            self.rows[key] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            scratch = self.path.with_suffix(".part")
            kept = {name: dataclasses.asdict(row) for name, row in self.rows.items()}
            scratch.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            scratch.replace(self.path)
        return self.rows[key]


def rows_of(
    record: Record,
    networks: dict[str, Callable[[], Made]],
    machines: Iterable[ffebm.Hardware],
    objectives: Iterable[Objective],
) -> Iterable[Row]:
    """All rows, measured one after the other where the record does not have them."""
    machines, objectives = list(machines), list(objectives)
    for network, make in networks.items():
        made: list[Made] = []  # a model is built when the first of its rows is not kept

        def model(make: Callable[[], Made] = make, made: list[Made] = made) -> Made:
            if not made:
                made.append(make())
            return made[0]

        for hardware in machines:
            for objective in objectives:
                key = f"{network}, {hardware.name}, {hardware.tile_count}, {objective}"
                yield record.keep(key, lambda n=network, h=hardware, o=objective: measured(n, model(), h, o))


def table_lines(rows: Iterable[Row]) -> Iterable[str]:
    """The table as Markdown, line by line as rows come."""
    yield (
        "| network | machine, tiles | objective | time (twin) | ratio | energy (twin) | ratio "
        "| time x energy, ratio | tiles used | blocks on tiles | gap | CPU s | revision |"
    )
    yield f"|{'---|' * 13}"
    for row in rows:
        yield row.text()


# --- objectives against each other -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Checked:
    """One objective's plan in its own figure beside the plans of all.

    Attributes:
        row: Of the objective.
        best: The row with the least of that figure.
    """

    row: Row
    best: Row

    @property
    def behind(self) -> float:
        """Share by which the objective's own plan has more than the best."""
        return self.row.figure(self.row.objective) / self.best.figure(self.row.objective) - 1

    @property
    def loses(self) -> bool:
        """More than its gap behind."""
        return self.behind > self.row.gap + ROUNDING

    @property
    def slow(self) -> bool:
        """A plan for latency that takes longer than the twin may make it."""
        row = self.row
        return row.objective == "latency" and 0 < row.twin_seconds * MOST_OF_TWIN < row.seconds

    @property
    def verdict(self) -> str:
        """In a word or two."""
        faults = {"behind": self.loses, "slower than the twin": self.slow}
        return ", ".join(name for name, true in faults.items() if true) or "holds"

    def text(self) -> str:
        """As a line of Markdown."""
        row, unit = self.row, {"energy": "J", "edp": "J s"}.get(self.row.objective, "s")
        cells = (
            row.network,
            f"{row.machine}, {row.count:,}",
            row.objective,
            engineering(row.figure(row.objective), unit),
            f"{engineering(self.best.figure(row.objective), unit)} ({self.best.objective})",
            f"{100 * self.behind:.2f} %",
            f"{100 * row.gap:.2f} %",
            times_twin(row.seconds, row.twin_seconds),
            self.verdict,
            row.revision,
        )
        return f"| {' | '.join(cells)} |"


def checked(rows: Iterable[Row]) -> Iterable[Checked]:
    """Each row beside the best of the same network and machine in the figure of its objective."""
    alike: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.network, row.machine, row.count), []).append(row)
    for some in alike.values():
        for row in some:
            least_work = row.work if row.objective == "analog" else 0
            rivals = [row, *(other for other in some if other.work >= least_work)]
            yield Checked(row, min(rivals, key=lambda other: other.figure(row.objective)))


def print_check(rows: Iterable[Row]) -> bool:
    """Print each objective beside the best of all; whether all hold."""
    print(
        "| network | machine, tiles | objective | figure | best of all plans | behind | gap "
        "| time to the twin's | | revision |"
    )
    print(f"|{'---|' * 10}")
    found = list(checked(rows))
    for one in found:
        print(one.text())
    lost = [one for one in found if one.loses or one.slow]
    print(f"\n{len(found) - len(lost)} of {len(found)} hold", flush=True)
    return not lost


def main() -> None:
    """Print the table, or hold its rows against each other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument(
        "--tiles", nargs="+", choices=("own", "enough"), default=["own", "enough"], help="of each machine"
    )
    parser.add_argument("--record", type=Path, default=RECORD, help="where rows are kept")
    parser.add_argument("--check", action="store_true", help="hold objectives against each other")
    options = parser.parse_args()

    kinds = [machine(name, enough=tiles == "enough") for name in options.machines for tiles in options.tiles]
    machines = {(hardware.name, hardware.tile_count): hardware for hardware in kinds}.values()
    networks = {name: NETWORKS[name] for name in options.networks}
    rows = rows_of(Record(options.record), networks, machines, options.objectives)
    if options.check:
        sys.exit(0 if print_check(rows) else 1)
    for line in table_lines(rows):
        print(line, flush=True)


if __name__ == "__main__":
    main()
