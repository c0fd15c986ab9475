"""Training by the published loop and by energy blocks, side by side in 64 bits, step by step.

    python benchmarks/agreement.py                 # Fashion-MNIST, dithered, block sizes 2, 3 and 6
    python benchmarks/agreement.py --dither 0      # as it is: ties of maxima that rounding decides

Both start from the same weights, see the same images and take each its own steps of plain descent. They agree
until a winner of a maximum flips: where the two largest values of a window lie nearer than the two networks
do, either may win, and the blocks settle elsewhere. The loop tells the least margin of all windows that
matter, those whose layer sends something back; steps before the first margin below that distance are certain.
"""

import argparse
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from hybrid_step import Network, fashion, make
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.training.data.samples import floats

SWEEPS = {2: (8, 4), 3: (16, 6), 6: (20, 8)}
"""Free and nudged, by block size: those of the narrow recipes."""
ROUNDINGS = 64
"""Roundings of a value by which two sums of the same products may differ, as in `tied_windows`."""

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Step:
    """A step of both.

    Attributes:
        ours: Our loss.
        theirs: That of the published loop.
        cosine: Of our gradients with theirs, the smallest over matrices and kernels.
        margin: Least margin of a winner whose layer sends something back, of the largest value of its map.
        apart: Largest distance of matrices or kernels from the other network's, of their size, before it.
    """

    ours: float
    theirs: float
    cosine: float
    margin: float
    apart: float

    @property
    def is_certain(self) -> bool:
        """No winner lies within the distance of the two networks, or within rounding."""
        return self.margin > ROUNDINGS * max(self.apart, torch.finfo(torch.float64).eps)


class Margins:
    """The least margin of the winners that a loop has told of.

    Equal bits are no margin: the first value wins in both.
    """

    def __init__(self) -> None:
        self.least = math.inf

    def __call__(self, y: Tensor, s: Tensor) -> None:
        """See what a maximum over 2x2 windows chooses from, [batch, channels, *], and what comes back."""
        windows = y.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        best = windows.topk(2).values
        margin = (best[..., 0] - best[..., 1]) / y.abs().amax()
        matters = margin[(s != 0) & (margin > 0)]
        if len(matters):
            self.least = min(self.least, float(matters.min()))


def steps(network: Network, size: int, batches: Iterator[Batch], rate: float) -> Iterator[Step]:
    """Train twice from the weights of a network, by plain descent.

    Args:
        network: In 64 bits.
        size: Its block size.
        batches: Images and classes.
        rate: Of the descent.
    """
    free, nudged = SWEEPS[size]
    settle = Settle(free_sweeps=free, nudged_sweeps=nudged)
    ours, theirs = ({name: w.clone() for name, w in network.weights.items()} for _ in range(2))
    for x, target in batches:
        margins = Margins()
        loop = replace(network.loop, free_sweeps=free, nudged_sweeps=nudged, watch=margins)
        matrices = [(w, theirs[name]) for name, w in ours.items() if w.dim() > 1]
        apart = max(float((a - b).norm() / a.norm()) for a, b in matrices)
        blocks = replace(network, weights=ours, x=x, target=target)
        our_loss, g = blocks.loss_and_hybrid(EP(loop.beta, cost=True), settle)
        their_loss, h = loop.loss_and_step(x, target, theirs)
        cosine = min(
            float(cosine_similarity(g[name].flatten(), h[name].flatten(), dim=0))
            for name in h
            if h[name].dim() > 1
        )
        yield Step(our_loss, their_loss, cosine, margins.least, apart)
        for weights, grads in ((ours, g), (theirs, h)):
            for name, grad in grads.items():
                weights[name] = weights[name] - rate * grad


def dithered(batch: int, dither: float) -> Iterator[Batch]:
    """Training images of Fashion-MNIST, 0 to 1, with noise; in 64 bits."""
    data, random = fashion(), torch.Generator().manual_seed(0)
    for start in itertools.count(0, batch):
        x = floats(data.x_train[start : start + batch]).double()
        noise = torch.randn(x.shape, generator=random, dtype=torch.float64)
        yield x + dither * noise, data.y_train[start : start + batch]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--block-sizes", type=int, nargs="+", default=list(SWEEPS), choices=list(SWEEPS))
    parser.add_argument("--width", type=float, default=1 / 8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--dither", type=float, default=0.05)
    options = parser.parse_args()
    print(
        "| block size | step | loss | difference | smallest cosine | least margin | weights apart | certain |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size in options.block_sizes:
        network = make(size, options.width, options.batch, "cpu").double()
        batches = itertools.islice(dithered(options.batch, options.dither), options.steps)
        for number, step in enumerate(steps(network, size, batches, options.rate), 1):
            far = abs(step.ours - step.theirs)
            print(
                f"| {size} | {number} | {step.ours:.4f} | {far:.1e} | {step.cosine:.7f} | {step.margin:.1e} "
                f"| {step.apart:.1e} | {'yes' if step.is_certain else 'no'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
