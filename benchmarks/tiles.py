"""Noisy convolutions on crossbars beside exact ones by torch: milliseconds, the best of five runs.

python benchmarks/tiles.py
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it

from ffebm.hardware import Crossbar, load_hardware
from ffebm.ir import Linear
from ffebm.plan import Piece
from ffebm.runtime.tiles.projection import crossbar_projection

SHAPES = [  # batch, channels in and out, pixels a side, kernel, groups
    (32, 64, 128, 16, 3, 1),
    (32, 128, 256, 16, 3, 1),
    (128, 3, 64, 32, 3, 1),
    (32, 256, 512, 8, 3, 1),
    (32, 512, 512, 4, 3, 1),
    (32, 128, 128, 16, 3, 128),
    (32, 256, 256, 14, 1, 1),
]


def best(run: Callable[[], object]) -> float:
    """Milliseconds."""
    run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def spans(size: int, most: int) -> list[tuple[int, int]]:
    """An even split."""
    count = -(-size // most)
    return [(size * k // count, size * (k + 1) // count) for k in range(count)]


def measured(shape: tuple[int, ...], tile: Crossbar) -> list[float]:
    """Exact and noisy product, exact and noisy transposed product, programming."""
    batch, n_in, n_out, side, kernel, groups = shape
    weight = torch.randn(n_out, n_in // groups, kernel, kernel)
    pad = kernel // 2
    pieces = [
        Piece(id=0, weight="w", group=group, inputs=inputs, outputs=outputs, row=0, col=0)
        for group in range(groups)
        for inputs in spans(weight[0].numel(), tile.rows)
        for outputs in spans(n_out // groups, tile.cols)
    ]
    linear = Linear("Conv", "w", pads=(pad,) * 4, groups=groups)
    projection = crossbar_projection(linear, pieces, tile, torch.Generator().manual_seed(0))
    z, y = torch.randn(batch, n_in, side, side), torch.randn(batch, n_out, side, side)
    return [
        best(lambda: F.conv2d(z, weight, padding=pad, groups=groups)),
        best(lambda: projection.product(z, weight)),
        best(lambda: F.conv_transpose2d(y, weight, padding=pad, groups=groups)),
        best(lambda: projection.product_t(y, weight, z.shape[1:])),
        best(lambda: projection.array.holding(weight.clone())),
    ]


def main() -> None:
    tile = load_hardware("reference").tiles.tile
    assert isinstance(tile, Crossbar)
    print(f"{'batch in out side kernel groups':34} exact   noisy | W^T exact   noisy | programming")
    for shape in SHAPES:
        exact, noisy, exact_t, noisy_t, programming = measured(shape, tile)
        print(f"{shape!s:34} {exact:5.1f} {noisy:7.1f} | {exact_t:9.1f} {noisy_t:7.1f} | {programming:11.1f}")


if __name__ == "__main__":
    main()
