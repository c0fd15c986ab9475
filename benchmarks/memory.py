"""How full memories get with well-known networks: peak beside the bound, spills and what they cost.

Each network is compiled for each machine as it is shipped, at block size 1, with one copy of each weight. The
peak is the end of the highest buffer in a memory, the bound the most bytes alive at once there, below which
no placement comes. On `ideal` nothing is ever too full; on the others, what does not fit on the chip lies in
DRAM, and the bound is that of what stays. Networks are those of `benchmarks/mapping.py` and all light models
of the onnx package. A row is printed as soon as it is measured.

python benchmarks/memory.py --networks squeezenet gpt2 --machines ideal reference
"""

import argparse
import time
from collections.abc import Callable, Iterator

from mapping import LIGHT, Made, gpt2, light, mobilenet_v2, vit_b16

import ffebm
from ffebm.plan.memory.memory_plan import MemoryPlan
from ffebm.plan.summary import binary, engineering

NETWORKS: dict[str, Callable[[], Made]] = {
    **{
        path.stem.removeprefix("light_"): light(path.stem.removeprefix("light_"))
        for path in sorted(LIGHT.glob("*.onnx"))
    },
    "mobilenet_v2": mobilenet_v2,
    "vit_b16": vit_b16,
    "gpt2": gpt2,
}
MACHINES = ("ideal", "reference", "scratchpads", "isaac-edram")
MOST = 1.10
"""Peak over bound that every row must keep."""
HEADS = (
    "network",
    "machine",
    "schedule",
    "buffers",
    "memory",
    "peak",
    "bound",
    "peak / bound",
    "spills",
    "CPU s",
)


def rows(network: str, machine: str) -> Iterator[tuple[float, str]]:
    """For each schedule and memory the peak over its bound, and a line of Markdown."""
    model, example = NETWORKS[network]()
    start = time.process_time()
    plan = ffebm.compile(model, example, hardware=machine, replicas=1)
    cpu = time.process_time() - start
    for name, memory in (("inference", plan.memory.inference), ("training", plan.memory.training)):
        for use in memory.uses:
            ratio = use.peak / use.bound
            cells = (
                network,
                machine,
                name,
                f"{sum(buffer.memory == use.memory for buffer in memory.buffers):,}",
                f"{use.memory} of {binary(use.capacity)}",
                binary(use.peak),
                binary(use.bound),
                f"{ratio:.3f}",
                spilt(memory, use.memory),
                f"{cpu:.1f}",
            )
            yield ratio, f"| {' | '.join(cells)} |"


def spilt(memory: MemoryPlan, name: str) -> str:
    """What found no room in a memory: how many buffers, bytes that steps move for them, and their energy."""
    gone = [spill for spill in memory.spills if spill.wanted == name]
    if not gone:
        return "0"
    joules = engineering(sum(spill.joules for spill in gone), "J")
    return f"{len(gone):,}: {binary(sum(spill.traffic for spill in gone))}, {joules}"


def main() -> None:
    """Print the table, and the largest ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--machines", nargs="+", choices=MACHINES, default=list(MACHINES))
    chosen = parser.parse_args()

    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    worst = 1.0
    for network in chosen.networks:
        for machine in chosen.machines:
            for ratio, line in rows(network, machine):
                worst = max(worst, ratio)
                print(line, flush=True)
    print(f"\nlargest peak / bound: {worst:.3f} (at most {MOST})")
    raise SystemExit(worst > MOST)


if __name__ == "__main__":
    main()
