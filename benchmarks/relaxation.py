"""Sweeps to a tolerance, with plain steps and with steps that follow the residual.

    python benchmarks/relaxation.py

The six-layer networks of the recipes `splitting-small-N` at an eighth of the width, initial weights, in 64
bits; 16 training images of Fashion-MNIST with a dither of 0.05. Trained couplings are stronger, so those
inside blocks are also taken two and four times as strong. Means over samples, the largest number, by block.
"""

import itertools
from dataclasses import replace

import torch
from agreement import dithered
from hybrid_step import Network, make

from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.settling.settling import Outcome

WIDTH, SAMPLES, DITHER, TOL = 1 / 8, 16, 0.05, 1e-5
SWEEPS = 1000
"""At most, of a phase."""


def stronger(network: Network, size: int, factor: float) -> Network:
    """The network with couplings inside its blocks so many times as strong."""
    inside = {f"layer{k}.weight" for k in range(6) if k % size}
    weights = {name: w * factor if name in inside else w for name, w in network.weights.items()}
    return replace(network, weights=weights)


def phases(network: Network, relaxation: float | str) -> tuple[list[Outcome], list[Outcome]]:
    """How the free and the nudged phases of the blocks went."""
    settle = Settle(free_sweeps=SWEEPS, nudged_sweeps=SWEEPS, tol=TOL, relaxation=relaxation)
    watched: list[Outcome] = []
    for runtime in network.blocks:
        runtime.watch = watched.append
    network.hybrid(EP(0.2, cost=True), settle)
    nudged = [outcome for outcome in watched if outcome.beta is not None]
    return [outcome for outcome in watched if outcome.beta is None], nudged[::-1]


def text(outcomes: list[Outcome]) -> str:
    """Mean and largest sweeps by block, and what did not settle."""
    cells = []
    for outcome in outcomes:
        lost = int((~outcome.converged).sum())
        sweeps = f"{float(outcome.sweeps.double().mean()):.1f} (to {int(outcome.sweeps.max())})"
        cells.append(sweeps + (f", {lost} of {len(outcome.converged)} not settled" if lost else ""))
    return "; ".join(cells)


def main() -> None:
    torch.set_num_threads(1)
    (x, target) = next(itertools.islice(dithered(SAMPLES, DITHER), 1))
    print("| block size | couplings | step | free sweeps | nudged sweeps |")
    print("|---|---|---|---|---|")
    for factor, size in itertools.product((1, 2, 4), (2, 3, 6)):
        network = replace(make(size, WIDTH, SAMPLES, "cpu").double(), x=x, target=target)
        for relaxation in (1.0, "auto"):
            free, nudged = phases(stronger(network, size, factor), relaxation)
            step = "plain" if relaxation == 1.0 else relaxation
            print(f"| {size} | x {factor} | {step} | {text(free)} | {text(nudged)} |", flush=True)


if __name__ == "__main__":
    main()
