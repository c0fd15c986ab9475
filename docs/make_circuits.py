"""Makes docs/circuits-transient.svg, and prints the table of docs/circuits.md; needs ngspice.

Usage: python docs/make_circuits.py
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

import ffebm
from ffebm.exporters.spice.control import BILLED, GIVEN
from ffebm.exporters.spice.export import Netlist, circuits, netlist, seeded
from ffebm.exporters.spice.ngspice import Waveforms, simulate
from ffebm.exporters.spice.stimulus import PHASES
from ffebm.plan.summary import engineering
from ffebm.studies.circuits import CircuitComparison, compare, expected

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 230, 60, 34, 56
POINTS = 150
"""Of a line in the picture, about."""

COLOURS = ("#1f6fb4", "#c2570c", "#2e8540")


def hidden(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.Hardtanh(0.0, 1.0)]


def models() -> dict[str, tuple[nn.Module, tuple[int, ...], int]]:
    """A model, the shape of its input and its block size, by name; torch's own initialisation, seed 0."""
    torch.manual_seed(0)
    images = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=2),
        nn.Hardtanh(0.0, 1.0),
        nn.Conv2d(4, 6, 3),
        nn.Hardtanh(0.0, 1.0),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    return {
        "8-12-10-6, clipped": (
            nn.Sequential(*hidden(8, 12), *hidden(12, 10), nn.Linear(10, 6)), (8,), 3
        ),
        "the same, tanh": (
            nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 6)),
            (8,), 3
        ),
        "64-24-16-10, clipped": (
            nn.Sequential(*hidden(64, 24), *hidden(24, 16), nn.Linear(16, 10)), (64,), 3
        ),
        "four layers of 12": (
            nn.Sequential(*hidden(12, 12), *hidden(12, 12), *hidden(12, 12), nn.Linear(12, 12)), (12,), 4
        ),
        "convolutions of 16 and 4 windows, dense": (images, (1, 8, 8), 3),
        "one layer of 64": (nn.Sequential(*hidden(32, 64)), (32,), 1),
    }  # fmt: skip


def main() -> None:
    print("| block | cells | needs | billed | off as billed | off in the end, ideal | power | cosine |")
    print("|---|---|---|---|---|---|---|---|")
    drawn = False
    for name, (model, shape, size) in models().items():
        plan = ffebm.compile(model, (torch.rand(2, *shape),), hardware="resistive", block_size=size)
        circuit = circuits(plan, 0)[0]
        known = expected(plan, circuit, seeded(circuit))
        made = netlist(plan, circuit, known.stimulus)
        exact = compare(plan, netlist(plan, circuit, known.stimulus, ideal=True), known)
        print(row(name, compare(plan, made, known), exact), flush=True)
        if not drawn:
            waves = simulate(made)[0, BILLED]
            states = known.stimulus.expected
            (ROOT / "docs/circuits-transient.svg").write_text(picture(made, waves, states), encoding="utf-8")
            drawn = True


def row(name: str, found: CircuitComparison, exact: CircuitComparison) -> str:
    """A line of the table."""
    off, end = max(found.errors[BILLED].values()), max(found.errors[GIVEN].values())
    watts = " / ".join(engineering(w, "W") for w in (found.watts, found.expected_watts, found.billed_watts))
    cells = (
        name,
        f"{found.cells:,}",
        engineering(found.seconds, "s"),
        " / ".join(engineering(seconds, "s") for seconds in found.billed),
        f"{100 * off:.2f} %",
        f"{end:.1e}, {max(exact.errors[GIVEN].values()):.0e}",
        watts,
        f"{found.cosines[BILLED]:.6f}, {found.cosines[GIVEN]:.6f}",
    )
    return f"| {' | '.join(cells)} |"


# --- the picture -------------------------------------------------------------------------------------


def picture(made: Netlist, waves: Waveforms, expected_states: dict[str, dict[str, np.ndarray]]) -> str:
    """States of all units through the three phases, and how far the free phase still is from its end."""
    total = 2 * TOP + 2 * HEIGHT + GAP + 34
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 130} {total}" '
        'font-family="sans-serif" font-size="12" fill="#444">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_states(made, waves, expected_states),
        *_distance(made, waves, TOP + HEIGHT + GAP + TOP),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _states(
    made: Netlist, waves: Waveforms, expected_states: dict[str, dict[str, np.ndarray]]
) -> Iterator[str]:
    starts = [0.0, *made.timeline.ends(BILLED)]
    low, high = float(waves.states.min()), float(waves.states.max())
    x = LEFT + waves.times / starts[-1] * WIDTH

    def y(values: np.ndarray) -> np.ndarray:
        return np.asarray(TOP + HEIGHT - (values - low) / (high - low) * HEIGHT)

    yield f'<text x="{LEFT}" y="20" font-size="14">States in ngspice (lines), in the runtime (circles)</text>'
    yield from _frame(TOP)
    for value in (0.0, 0.5, 1.0):
        if low <= value <= high:
            at = float(y(np.array(value)))
            yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    for index, name in enumerate(PHASES):
        left = LEFT + starts[index] / starts[-1] * WIDTH
        said = {"free": "free", "plus": "nudged by +0.1", "minus": "nudged by -0.1"}[name]
        yield f'<text x="{left + 6:.1f}" y="{TOP + 14}">{said}</text>'
        yield f'<path d="M{left:.1f} {TOP}v{HEIGHT}" stroke="#bbb"/>'
    start = 0
    for number, layer in enumerate(made.circuit.block.layers):
        colour, size = COLOURS[number], int(np.prod(layer.shape))
        label = TOP + 20 + 20 * number
        yield f'<path d="M{LEFT + WIDTH + 14} {label}h22" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{LEFT + WIDTH + 42}" y="{label + 4}">layer {number + 1}</text>'
        for unit in range(start, start + size):
            yield _line(x, y(waves.states[:, unit]), colour)
        for index, name in enumerate(PHASES):
            at = LEFT + starts[index + 1] / starts[-1] * WIDTH
            for value in expected_states[name][layer.value][0].reshape(-1):
                place = f'cx="{at:.1f}" cy="{float(y(value)):.1f}" r="3"'
                yield f'<circle {place} fill="none" stroke="{colour}"/>'
        start += size


def _distance(made: Netlist, waves: Waveforms, top: int) -> Iterator[str]:
    """The distance of the free phase to where it goes, on a logarithmic scale."""
    phase, decades = made.timeline.before_nudge, 3.0
    target = made.stimulus.expected["free"]
    end = np.concatenate([target[layer.value][0].reshape(-1) for layer in made.circuit.block.layers])
    inside = waves.times <= phase
    far = np.linalg.norm(waves.states[inside] - end, axis=1) / np.linalg.norm(end)
    x = LEFT + waves.times[inside] / phase * WIDTH
    y = top - np.log10(np.clip(far, 10**-decades, 1)) / decades * HEIGHT
    title = "Free phase: distance to the state of the runtime"
    yield f'<text x="{LEFT}" y="{top - 14}" font-size="14">{title}</text>'
    yield from _frame(top)
    for power in range(int(decades) + 1):
        at = top + power / decades * HEIGHT
        said = ("100 %", "10 %", "1 %", "0.1 %")[power]
        dash = ' stroke-dasharray="5 4"' if power == 2 else ""
        yield f'<path d="M{LEFT} {at:.1f}h{WIDTH}" stroke="#bbb"{dash}/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{said}</text>'
    yield _line(x, y, "#222")
    for second in np.arange(0, phase, 100e-9):
        at = LEFT + second / phase * WIDTH
        yield f'<text x="{at:.1f}" y="{top + HEIGHT + 18}" text-anchor="middle">{second * 1e9:.0f} ns</text>'
    tens = LEFT + 10 * made.circuit.relaxation.time_constant.value / phase * WIDTH
    yield f'<path d="M{tens:.1f} {top}v{HEIGHT}" stroke="#c00" stroke-dasharray="3 3"/>'
    yield f'<text x="{tens + 5:.1f}" y="{top + 16}" fill="#c00">10 time constants</text>'
    read = LEFT + made.timeline.read / phase * WIDTH
    yield f'<path d="M{read:.1f} {top}v{HEIGHT}" stroke="#2e8540" stroke-dasharray="3 3"/>'
    said = f"read out: {made.timeline.read * 1e9:.0f} ns"
    yield f'<text x="{read + 5:.1f}" y="{top + 32}" fill="#2e8540">{said}</text>'
    yield f'<text x="{LEFT + WIDTH + 8}" y="{top + HEIGHT + 4}">before a nudge: {phase * 1e9:.0f} ns</text>'


def _frame(top: int) -> Iterator[str]:
    yield f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#888"/>'


def _line(x: np.ndarray, y: np.ndarray, colour: str) -> str:
    every = max(1, len(x) // POINTS)
    x, y = np.append(x[:-1:every], x[-1]), np.append(y[:-1:every], y[-1])
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>'


if __name__ == "__main__":
    main()
