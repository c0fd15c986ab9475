"""How many test samples settle elsewhere on another way, with and without held norms, and what holding costs.

Dense blocks of clipped layers (the last one linear) on digits, trained exactly by equilibrium propagation;
mean over three seeds, of the shares the largest too. "Another's state" starts a sample where the one before
it has settled; "together" moves all layers at once from zero.

python benchmarks/several_equilibria.py
"""

import statistics
from itertools import pairwise

import torch
from torch import nn

import ffebm
from ffebm.training.data import load_data
from ffebm.training.settings import Training
from ffebm.training.trainer import Trainer

SEEDS, EPOCHS = 3, 10
SETTLE = ffebm.Settle(free_sweeps=20, nudged_sweeps=8)
BLOCKS = ((64, 24, 16, 10), (64, 48, 10))
NORMS = (None, 1.0, 0.7)


def network(sizes: tuple[int, ...], seed: int) -> nn.Module:
    """Dense layers with torch's initial weights."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.Hardtanh(0.0, 1.0)]
    return nn.Sequential(*layers[:-1]).eval()


def trained(
    sizes: tuple[int, ...], norm: float | None, seed: int
) -> tuple[float, float, float, float, float]:
    """Test accuracy, shares of test samples elsewhere and unknown, and the largest norm inside the block."""
    data = load_data("digits")
    plan = ffebm.compile(
        network(sizes, seed),
        (data.x_train[:2],),
        hardware="ideal",
        block_size=len(sizes) - 1,
        settle=SETTLE,
    )
    net = ffebm.Executor(plan, gradient=ffebm.EP(beta=0.1), seed=seed)
    training = Training(data="digits", epochs=EPOCHS, lr=2e-3, seed=seed, hold_norm=norm)
    *_, last = Trainer(net, data, training).run()
    net.eval()
    with torch.no_grad():
        net(data.x_test)
    (found,) = net.other_equilibria(most=len(data.x_test))
    inner = [w for name, w in net.weights().items() if w.ndim == 2][1:]
    size = max(float(torch.linalg.matrix_norm(w.detach(), 2)) for w in inner)
    assert last.test_accuracy is not None
    shares = (found.share(count) for count in (found.started, found.together, found.unknown))
    return (last.test_accuracy, *shares, size)  # type: ignore[return-value] # three shares


def main() -> None:
    print("| block | norm held at | test accuracy | another's state | together | unsettled | norm inside |")
    print("|---|---|---|---|---|---|---|")
    for sizes in BLOCKS:
        for norm in NORMS:
            runs = list(zip(*(trained(sizes, norm, seed) for seed in range(SEEDS)), strict=True))
            accuracy, started, together, unknown, size = (statistics.fmean(r) for r in runs)
            spread = statistics.stdev(runs[0])
            name = "-".join(map(str, sizes))
            print(
                f"| {name} | {norm or 'free'} | {100 * accuracy:.2f} +- {100 * spread:.2f} % | "
                f"{100 * started:.1f} % (to {100 * max(runs[1]):.1f} %) | "
                f"{100 * together:.1f} % (to {100 * max(runs[2]):.1f} %) | "
                f"{100 * unknown:.1f} % | {size:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
