"""Mappings by price beside a greedy one, all of them on one bill.

The greedy mapping knows no price: blocks in graph order, each on tiles of its own, one copy, cut evenly, as
long as it fits on what is left of the tiles; the rest is digital.

python benchmarks/greedy.py --network resnet50 --machine hermes
"""

import argparse

from mapping import MACHINES, NETWORKS, OBJECTIVES, Made, machine

import ffebm
from ffebm.plan.summary import engineering


def greedy(made: Made, hardware: ffebm.Hardware) -> ffebm.Plan:
    """The plan of the greedy mapping.

    Args:
        made: A model and its example inputs.
        hardware: A machine with one group of tiles.
    """
    model, example = made
    roomy = ffebm.compile(model, example, hardware=machine(hardware.name, enough=True), replicas=1)
    lying = {(piece.weight, piece.bundle) for _, piece in roomy.pieces()}
    left, digital = hardware.tile_count, []
    for block in roomy.blocks:
        weights = [weight for weight in block.weights() if any(weight == held for held, _ in lying)]
        needs = sum(held in weights for held, _ in lying)
        if needs <= left:
            left -= needs
        else:
            digital += weights
    return ffebm.compile(model, example, hardware=hardware, replicas=1, digital=digital)


def main() -> None:
    """Print a table: what is greedy, then each objective."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet50")
    parser.add_argument("--machine", choices=MACHINES, default="hermes")
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=["analog", "energy", "edp"])
    options = parser.parse_args()

    made, hardware = NETWORKS[options.network](), machine(options.machine, enough=False)
    plans = {"greedy": greedy(made, hardware)}
    for objective in options.objectives:
        plans[objective] = ffebm.compile(*made, hardware=hardware, objective=objective)
    first = plans["greedy"].inference
    print("| mapping | time | energy | greedy time x energy over that | tiles | blocks on tiles |")
    print(f"|{'---|' * 6}")
    for name, plan in plans.items():
        one = plan.inference
        better = first.makespan_s * first.cost.energy / (one.makespan_s * one.cost.energy)
        time, energy = engineering(one.makespan_s, "s"), engineering(one.cost.energy, "J")
        print(f"| {name} | {time} | {energy} | {better:.2f} | {len(plan.tiles)} | {len(plan.blocks)} |")


if __name__ == "__main__":
    main()
