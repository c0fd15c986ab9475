"""What strength `beta="auto"` takes where converters are coarse, beside fixed strengths.

One block of three layers (digits, 64-48-32-10, clipped to [0, 1] but the last, initial weights) on tiles
that miss nothing but by their converters; ADC ranges are calibrated on the samples. Figures are means over
the weights of the cosine to the exact adjoint on 128 training samples.

python benchmarks/auto_beta.py
"""

import statistics

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

import ffebm
from ffebm.hardware.description import Crossbar, load_hardware
from ffebm.training.data import load_data

SETTLE = ffebm.Settle(free_sweeps=20, nudged_sweeps=15)
STRENGTHS = (0.02, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def network() -> nn.Module:
    """The layers, with torch's initial weights."""
    torch.manual_seed(0)
    clip = nn.Hardtanh(0.0, 1.0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), clip, nn.Linear(48, 32), clip, nn.Linear(32, 10)
    ).eval()


def machine(dac: int, adc: int) -> ffebm.Hardware:
    """`reference` with converters of so many bits and without noise."""
    base = load_hardware("reference")
    group = base.analog[0]
    tile = group.tile
    assert isinstance(tile, Crossbar)
    nothing = msgspec.structs.replace(tile.cell.read_noise, value=0.0)
    cell = msgspec.structs.replace(tile.cell, levels=2**16, programming_noise=nothing, read_noise=nothing)
    parts = {
        "cell": cell,
        "dac": msgspec.structs.replace(tile.dac, bits=dac),
        "adc": msgspec.structs.replace(tile.adc, bits=adc),
    }
    changed = msgspec.structs.replace(group, tile=msgspec.structs.replace(tile, **parts))
    return msgspec.structs.replace(base, analog=(changed,))


def gradients(
    hardware: "ffebm.Hardware | str", gradient: "ffebm.EP | ffebm.Implicit", x: Tensor, y: Tensor
) -> tuple[dict[str, Tensor], float | None]:
    """Those of the weights that lie in the block, and the strength that was found."""
    plan = ffebm.compile(network(), (x,), hardware=hardware, block_size=3, settle=SETTLE)
    net = ffebm.Executor(plan, gradient=gradient)
    net.notices.enabled = False
    net.calibrate(x, y, functional.cross_entropy)
    net.loss(x, y, functional.cross_entropy).backward()  # type: ignore[no-untyped-call]
    backward = net.equilibria[0].backward
    found = {name: w.grad for name, w in net.weights().items() if w.grad is not None and w.ndim > 1}
    return found, None if backward is None else backward.beta


def main() -> None:
    data = load_data("digits")
    x, y = data.x_train[:128], data.y_train[:128]
    exact, _ = gradients("ideal", ffebm.Implicit(), x, y)

    def cosine(found: dict[str, Tensor]) -> float:
        pairs = ((found[name].flatten(), grad.flatten()) for name, grad in exact.items())
        return statistics.fmean(float(torch.cosine_similarity(a, b, 0)) for a, b in pairs)

    for what, bits in (("4-bit converters", (4, 4)), ("3-bit ADCs", (8, 3)), ("2-bit ADCs", (8, 2))):
        for relative in (None, False):
            fixed = {
                beta: cosine(gradients(machine(*bits), ffebm.EP(beta, relative=relative), x, y)[0])
                for beta in STRENGTHS
            }
            found, beta = gradients(machine(*bits), ffebm.EP("auto", relative=relative), x, y)
            print(
                f"{what}, relative={relative}: auto takes {beta:g}, {cosine(found):.2f}; "
                + ", ".join(f"{b:g}: {c:.2f}" for b, c in fixed.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
