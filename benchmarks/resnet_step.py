"""Times a training step of a residual network with energy blocks against torch's own.

    python benchmarks/resnet_step.py --width 16 --batch 32
    python benchmarks/resnet_step.py --network residual

"resnet8" has the layout of ResNet-8 for images of 32 x 32: a convolution, three basic blocks with batch
normalisation and a readout, at 1, 2 and 4 times the width. A ReLU and the convolution behind it settle
together, the first ReLU with the first convolution too; normalisation is digital. "residual" is the network
of `ffebm recipe residual` on images of that size, energy blocks of 2 and 3 layers with skips inside and
across, at 1 and 2 times the width. In either, layers feel those above with `--feedback` of their strength,
and a nudge is as much stronger, as in the recipe. Torch's is the feedforward network.

Random images, initial weights, one thread, processor time; steps are taken in turns and the fastest of each
counts. "sweeps" are 60 free and 20 nudged ones, the default; "few" are 8 and 4, those of narrow recipes,
"fewest" 4 and 2; "tol" stops each sample at a residual of 1e-3, with the step that suits it; "solved", on
exact tiles, settles so to 1e-2 and solves for the adjoint to 1e-2 instead of nudging.

Cosines are the lowest and the mean over matrices of weights, against the exact adjoint of a state that has
settled to 1e-7 on exact tiles in 64 bits.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

import ffebm
from ffebm.recipes.residual import BLOCK_SIZES, Residual
from ffebm.runtime.blocks.estimators.gradient import Gradient

SIDE, COLOURS, CLASSES = 32, 3, 10
AUTO = ffebm.Settle(tol=1e-3, relaxation="auto")
ROUGH = ffebm.Settle(tol=1e-2, relaxation="auto")
EXACT = ffebm.Settle(free_sweeps=2000, nudged_sweeps=2000, tol=1e-7)
WAYS: dict[str, tuple[Gradient, ffebm.Settle]] = {
    "sweeps": (ffebm.EP(), ffebm.Settle()),
    "few": (ffebm.EP(), ffebm.Settle(free_sweeps=8, nudged_sweeps=4)),
    "fewest": (ffebm.EP(), ffebm.Settle(free_sweeps=4, nudged_sweeps=2)),
    "tol": (ffebm.EP(), AUTO),
    "solved": (ffebm.Implicit(1e-2), ROUGH),
}
"""Estimator and settling by name."""


class Basic(nn.Module):
    """A basic block: two convolutions, and a skip."""

    def __init__(self, n: int, m: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n, m, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(m)
        self.second = nn.Conv2d(m, m, 3, 1, 1, bias=False)
        self.norm_second = nn.BatchNorm2d(m)
        self.skip = nn.Identity() if n == m else nn.Conv2d(n, m, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, n, H, W] to [N, m, H / stride, W / stride]."""
        hidden = self.norm(self.first(x)).relu()
        out: Tensor = (self.norm_second(self.second(hidden)) + self.skip(x)).relu()
        return out


def network(width: int) -> nn.Module:
    """ResNet-8, with its initial weights."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(COLOURS, width, 3, 1, 1),
        nn.ReLU(),
        Basic(width, width, 1),
        Basic(width, 2 * width, 2),
        Basic(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, CLASSES),
    )


class FeedforwardResidual(nn.Module):
    """The feedforward network of `ffebm.recipes.residual`."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n)
        self.a1, self.a1_norm = nn.Conv2d(n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n)
        self.a2 = nn.Conv2d(n, n, 3, 1, 1)
        self.b1 = nn.Conv2d(n, 2 * n, 3, 2, 1)
        self.b2, self.b3 = (nn.Conv2d(2 * n, 2 * n, 3, 1, 1) for _ in range(2))
        self.inside = nn.Conv2d(2 * n, 2 * n, 1, bias=False)
        self.across = nn.Conv2d(n, 2 * n, 1, 2, bias=False)
        self.mean, self.readout = nn.AdaptiveAvgPool2d(2), nn.Linear(8 * n, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, 1, H, W] to scores [N, 10]."""
        below = self.stem_norm(self.stem(x)).clamp(0, 1)
        a1 = self.a1_norm(self.a1(below)).clamp(0, 1)
        a2 = (self.a2(a1) + below).clamp(0, 1)
        b1 = self.b1(a2).clamp(0, 1)
        b2 = self.b2(b1).clamp(0, 1)
        b3 = (self.b3(b2) + self.inside(b1) + self.across(a2)).clamp(0, 1)
        scores: Tensor = self.readout(self.mean(b3).flatten(1))
        return scores


@dataclass(frozen=True)
class Case:
    """A network to be timed.

    Attributes:
        torch: The feedforward network.
        compiled: It with its energy blocks, on a machine and by settings of settling.
        colours: Of its images.
        beta: Of its nudges.
    """

    torch: nn.Module
    compiled: Callable[[str, ffebm.Settle], ffebm.Plan]
    colours: int
    beta: float | None = None

    def gradient(self, way: Gradient) -> Gradient:
        """An estimator with the nudges of the network."""
        return way if self.beta is None or not isinstance(way, ffebm.EP) else ffebm.EP(beta=self.beta)

    def executor(self, hardware: str, gradient: Gradient, settle: ffebm.Settle) -> ffebm.Executor:
        """The network in training mode."""
        return ffebm.Executor(self.compiled(hardware, settle), gradient=self.gradient(gradient)).train()


def resnet8(width: int, feedback: float) -> Case:
    """ResNet-8 as torch has it; its layers feel those above with a part of the strength."""
    model = network(width)

    def compiled(hardware: str, settle: ffebm.Settle) -> ffebm.Plan:
        example = (torch.zeros(1, COLOURS, SIDE, SIDE),)
        return ffebm.compile(
            model.eval(), example, hardware=hardware, block_size=2, settle=settle, feedback=feedback
        )

    return Case(model, compiled, COLOURS, None if feedback == 1 else ffebm.EP().beta / feedback)


def residual(width: int, feedback: float) -> Case:
    """The residual recipe's network on larger images."""
    made = Residual(side=SIDE, channels=width, feedback=feedback)

    def compiled(hardware: str, settle: ffebm.Settle) -> ffebm.Plan:
        return ffebm.compile(
            made.model(CLASSES),
            hardware=hardware,
            block_size=BLOCK_SIZES,
            digital=made.digital,
            settle=settle,
        )

    return Case(FeedforwardResidual(width), compiled, 1, 0.5 / feedback)


def gradients(net: ffebm.Executor, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Of one step."""
    for weight in net.weights().values():
        weight.grad = None
    net.loss(x, y, cross_entropy).backward()  # type: ignore[no-untyped-call]
    return {name: w.grad.double() for name, w in net.weights().items() if w.grad is not None and w.dim() > 1}


def torch_step(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """One step of torch's own."""
    model.train()
    model.zero_grad()
    cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]


def seconds(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least processor time of each step, taken in turns; the first one warms up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            taken[name].append(time.process_time() - start)
    return {name: min(found[1:]) for name, found in taken.items()}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=("resnet8", "residual"), default="resnet8")
    parser.add_argument("--feedback", type=float, help="to layers below: else 1, of residual 0.05")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hardware", nargs="+", default=["ideal", "reference"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.network == "residual":
        case = residual(options.width, options.feedback or 0.05)
    else:
        case = resnet8(options.width, options.feedback or 1.0)
    torch.manual_seed(0)
    x = torch.randn(options.batch, case.colours, SIDE, SIDE)
    y = torch.arange(options.batch) % CLASSES
    exact = case.executor("ideal", ffebm.Implicit(1e-7), EXACT).double()
    expected = gradients(exact, x.double(), y)
    nets = {
        (hardware, way): case.executor(hardware, gradient, settle)
        for hardware in options.hardware
        for way, (gradient, settle) in WAYS.items()
        if way != "solved" or hardware == "ideal"
    }
    steps: dict[str, Callable[[], object]] = {"torch": partial(torch_step, case.torch, x, y)}
    for (hardware, way), net in nets.items():
        steps[f"{hardware} {way}"] = partial(gradients, net, x, y)
    taken = seconds(steps, options.repeats)
    print(f"torch: {1e3 * taken['torch']:.1f} ms a step")
    print("| tiles | how | ms a step | times torch | free sweeps | cosine, lowest and mean |")
    print("|---|---|---|---|---|---|")
    for (hardware, way), net in nets.items():
        step, found = taken[f"{hardware} {way}"], gradients(net, x, y)
        cosines = [
            float(cosine_similarity(found[name].flatten(), g.flatten(), dim=0))
            for name, g in expected.items()
        ]
        free = statistics.fmean(float(e.sweeps.double().mean()) for e in net.equilibria)
        print(
            f"| `{hardware}` | {way} | {1e3 * step:.0f} | {step / taken['torch']:.1f} | {free:.0f} "
            f"| {min(cosines):.3f}, {statistics.fmean(cosines):.4f} |"
        )


if __name__ == "__main__":
    main()
