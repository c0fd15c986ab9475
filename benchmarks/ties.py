"""What ties of maxima change: one batch of Fashion-MNIST in 32 and in 64 bits, without and with dither.

The six-layer network of the recipes `splitting-small-2` and `-3` at an eighth of the width, initial weights,
128 training samples. Where only rounding decides which value of a window wins, the blocks settle elsewhere in
the other precision, as they would on another machine or with another number of threads. The cosine is that of
the gradients in 32 and in 64 bits, the smallest over matrices and kernels.

    python benchmarks/ties.py
"""

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

import ffebm
from ffebm.recipes.paper import RECIPES, SPLITTING_SMALL
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.tied_windows import TiedWindows
from ffebm.studies.gradcheck.certificate import SAME
from ffebm.training.classification import fitted
from ffebm.training.data import load_data
from ffebm.training.data.preparation import preparations

DATA, WIDTH, SAMPLES = "fashion-mnist", 1 / 8, 128
SWEEPS = {2: (8, 4), 3: (16, 6)}
"""Free and nudged, by block size: those of the narrow recipes."""
DITHERS = (0.0, 1e-4, 1e-3, 0.004, 0.05)


def batch(plan: ffebm.Plan, size: int, dither: float) -> tuple[Tensor, Tensor]:
    """Samples as the model sees them, in 64 bits, and their classes."""
    training = RECIPES[SPLITTING_SMALL[size]].settings(DATA, seed=0)
    training = msgspec.structs.replace(training, dither=dither)
    data = fitted(plan, load_data(DATA, None), training.pad)
    prepare = preparations(training, data, (torch.float64,))
    return prepare([data.x_train[:SAMPLES]])[0], data.y_train[:SAMPLES]


def step(
    plan: ffebm.Plan, x: Tensor, y: Tensor
) -> tuple[dict[str, Tensor], list[Equilibrium], list[TiedWindows]]:
    """Gradients, equilibria and ties in the precision of the samples."""
    net = ffebm.Executor(plan, gradient=ffebm.EP(beta=0.5, cost=True)).to(x.dtype)
    net.notices.enabled = False
    net.train()
    net.loss(x, y, cross_entropy).backward()  # type: ignore[no-untyped-call]
    grads = {name: w.grad.double() for name, w in net.weights().items() if w.grad is not None}
    return grads, net.equilibria, net.tied_windows()


def apart(here: Equilibrium, there: Equilibrium) -> float:
    """Share of samples whose states differ by more than `SAME` of their size."""
    pairs = [(here.state[name].double().flatten(1), s.flatten(1)) for name, s in there.state.items()]
    far = torch.cat([a - b for a, b in pairs], dim=1).norm(dim=1)
    size = torch.cat([b for _, b in pairs], dim=1).norm(dim=1)
    return float((far > SAME * size).double().mean())


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| block size | dither | windows tied | samples that settle elsewhere, by block | smallest cosine |"
    )
    print("|---|---|---|---|---|")
    for size, (free, nudged) in SWEEPS.items():
        recipe = RECIPES[SPLITTING_SMALL[size]]
        plan = ffebm.compile(
            recipe.model(WIDTH, DATA, seed=0),
            hardware="ideal",
            block_size=recipe.block_size,
            boundary=recipe.boundary,
            settle=ffebm.Settle(free_sweeps=free, nudged_sweeps=nudged),
        )
        for dither in DITHERS:
            x, y = batch(plan, size, dither)
            single, here, tied = step(plan, x.float(), y)
            double, there, _ = step(plan, x, y)
            cosines = [
                float(cosine_similarity(g.flatten(), double[name].flatten(), dim=0))
                for name, g in single.items()
                if g.dim() > 1
            ]
            shares = ", ".join(f"{apart(a, b):.0%}" for a, b in zip(here, there, strict=True))
            total = sum(tied, TiedWindows())
            cells = (f"{dither:g}", f"{total.first_share:.2%}", shares, f"{min(cosines):.4f}")
            print(f"| {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
