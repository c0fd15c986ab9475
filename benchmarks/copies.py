"""A batch in blocks of several layers on `isaac`: replicas that share windows out, beside one of each weight.

Recipes of the paper at their block sizes, at full width, with their sweeps. Replicas share out the windows of
a block, whatever sample they are of; copies of whole blocks would share out samples.

python benchmarks/copies.py --batch 8
"""

import argparse

from schedule import recipe

import ffebm
from ffebm.plan.summary import engineering

NETWORKS = ("splitting-small-1", "splitting-small-2")
HEADS = (
    "network",
    "copies of a weight",
    "tiles",
    "training step of one sample",
    "of the batch",
    "inferences of the batch",
)


def line(network: str, batch: int, replicas: int | None) -> str:
    """One network as a row of Markdown."""
    model, arguments = recipe(network)
    one, all_of_them = (
        ffebm.compile(model, hardware="isaac", replicas=replicas, batch=runs, **arguments)
        for runs in (1, batch)
    )
    cells = (
        network,
        "as many as help" if replicas is None else f"{replicas}",
        f"{len(all_of_them.tiles):,}",
        engineering(one.training.makespan_s, "s"),
        engineering(all_of_them.training.makespan_s, "s"),
        engineering(all_of_them.inference.makespan_s, "s"),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=8, help="samples")
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for network in options.networks:
        for replicas in (None, 1):
            print(line(network, options.batch, replicas), flush=True)


if __name__ == "__main__":
    main()
