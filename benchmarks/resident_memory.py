"""Peak memory of a convolution on noisy tiles beside exact ones: 3 to 16 channels, 7 x 7, one image.

Each figure is what the resident memory of a fresh process grows by at its peak (Linux).

python benchmarks/resident_memory.py
"""

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import ffebm

SIDES = (256, 512, 1024)


def status(key: str) -> float:
    """A figure of this process, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measured(hardware: str, side: int, kind: str) -> float:
    """Growth of this process at its peak, MiB."""
    model = nn.Sequential(nn.Conv2d(3, 16, 7, padding=3))
    x = torch.rand(1, 3, side, side)
    net = ffebm.Executor(ffebm.compile(model, (x,), hardware=hardware))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    if kind == "forward":
        with torch.no_grad():
            net(x)
    else:
        net(x).square().mean().backward()
    return status("VmHWM") - before


def main() -> None:
    if len(sys.argv) > 1:
        hardware, side, kind = sys.argv[1:]
        print(measured(hardware, int(side), kind))
        return
    for kind in ("forward", "training"):
        for side in SIDES:
            grown = {
                hardware: float(
                    subprocess.check_output([sys.executable, __file__, hardware, str(side), kind])
                )
                for hardware in ("ideal", "reference")
            }
            exact, noisy = grown["ideal"], grown["reference"]
            print(
                f"{kind:8} {side:5} x {side:<5} exact {exact:6.0f} MiB, noisy {noisy:6.0f} MiB: "
                f"{noisy / exact:.2f} times"
            )


if __name__ == "__main__":
    main()
