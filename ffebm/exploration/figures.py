"""Figures of a point: what they are, in which unit, and which way is better."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from ffebm.compiler.variants import PricedVariant
from ffebm.plan.schedule import ENERGY_KINDS
from ffebm.plan.summary import engineering, times_twin
from ffebm.plan.twin import Total


class FigureKind(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a plan.

    Attributes:
        name: Column of the table.
        unit: Of its numbers; "1" without.
        better: Which way is better.
        meaning: What it is.
    """

    name: str
    unit: str
    better: Literal["less", "more"] = "less"
    meaning: str


FIGURES: dict[str, FigureKind] = {
    figure.name: figure
    for figure in (
        FigureKind(
            name="inference_s", unit="s", meaning="time of one inference, or of a whole batch of them"
        ),
        FigureKind(
            name="inference_j", unit="J", meaning="energy of one inference, or of a whole batch of them"
        ),
        FigureKind(name="time_per_inference_s", unit="s", meaning="time of a batch over its inferences"),
        FigureKind(name="energy_per_inference_j", unit="J", meaning="energy of a batch over its inferences"),
        FigureKind(name="interval_s", unit="s", meaning="what a further inference in flight adds"),
        FigureKind(name="training_s", unit="s", meaning="time of one training step"),
        FigureKind(name="training_j", unit="J", meaning="energy of one training step"),
        FigureKind(name="area_mm2", unit="mm2", meaning="area of all units that the plan powers"),
        FigureKind(name="tiles", unit="1", meaning="tiles in use"),
        FigureKind(name="inference_s_ratio", unit="1", meaning="inference time over the digital twin's"),
        FigureKind(name="inference_j_ratio", unit="1", meaning="inference energy over the digital twin's"),
        FigureKind(name="training_s_ratio", unit="1", meaning="training time over the digital twin's"),
        FigureKind(name="training_j_ratio", unit="1", meaning="training energy over the digital twin's"),
        FigureKind(name="sample_s", unit="s", meaning="time of a training step over its samples"),
        FigureKind(name="sample_j", unit="J", meaning="energy of a training step over its samples"),
        FigureKind(
            name="accuracy",
            unit="1",
            better="more",
            meaning="share of test samples that are classified correctly",
        ),
        FigureKind(
            name="cosine",
            unit="1",
            better="more",
            meaning="of the gradient of all weights with the exact one",
        ),
    )
}
"""Every figure by its name."""
MEASURED = ("accuracy", "cosine")
"""Those that need data; the cost model gives the others."""
PARTS = ("inference", "training")
"""What has figures; an inference always has."""
OF_TRAINING = ("training_s", "training_j", "training_s_ratio", "training_j_ratio", "sample_s", "sample_j")
"""Those of a training step, which may be left out."""

FRONT = ("inference_s", "inference_j", "area_mm2")
"""Those whose front is shown unless others are asked for."""
FRONT_OF_BATCHES = ("inference_s", "time_per_inference_s", "energy_per_inference_j", "area_mm2")
"""The same where the batch is varied: a larger batch takes longer, and may take less of each inference."""
DIGITS = 12
"""Of what an inference of a batch takes; sums of seconds and joules are right to some more."""


def figures_of(price: PricedVariant) -> dict[str, float | None]:
    """The figures of a price; a ratio is None where the machine has no digital twin."""
    totals: dict[Total, float] = {
        "inference_s": price.inference.makespan_s,
        "inference_j": price.inference.cost.energy,
    }
    found: dict[str, float | None] = {
        "interval_s": price.inference.interval_s,
        "area_mm2": price.area,
        "tiles": price.tiles,
    }
    if price.training is not None:
        step = price.training
        totals |= {"training_s": step.makespan_s, "training_j": step.cost.energy}
        found |= {
            "sample_s": totals["training_s"] / price.samples,
            "sample_j": totals["training_j"] / price.samples,
        }
    twin = price.twin or {}
    for total, value in totals.items():
        digital = twin.get(total)
        found |= {total: value, f"{total}_ratio": value / digital if digital else None}
    return with_each(found, price.runs)


def with_each(figures: Mapping[str, float | None], runs: int) -> dict[str, float | None]:
    """Figures of a batch, and what each of its inferences takes of them.

    These are rounded to `DIGITS`: sums over batches differ by roundings, by which none is to beat another.

    Args:
        figures: By name, of all runs together.
        runs: Of the model in a batch, a number.

    >>> with_each({"inference_s": 8.0, "inference_j": 2.0}, 4)["time_per_inference_s"]
    2.0
    """
    each = {"time_per_inference_s": figures["inference_s"], "energy_per_inference_j": figures["inference_j"]}
    rounded = {
        name: None if whole is None else float(f"{whole / runs:.{DIGITS}g}") for name, whole in each.items()
    }
    found = {**figures, **rounded}
    return {name: found[name] for name in FIGURES if name in found}


def summary_of(price: PricedVariant) -> list[str]:
    """What else there is to know of a point, in lines."""
    lines = [
        f"{price.blocks} energy blocks on tiles, of {price.candidates} that could be; "
        f"{100 * price.on_tiles:.1f} % of the multiply-accumulates; {price.tiles:,} tiles in use",
        f"{price.samples} sample(s) in each schedule; {price.area:.4g} mm2 powered",
    ]
    if price.mapping is not None:
        unit = {"energy": "J", "edp": "J s"}.get(price.mapping.objective, "s")
        value = engineering(price.mapping.value, unit)
        lines.append(
            f"mapped for {price.mapping.objective}: {value}, solver's gap {100 * price.mapping.gap:.2f} %"
        )
    for name, schedule in (("inference", price.inference), ("training", price.training)):
        if schedule is None:
            continue
        cost = schedule.cost
        kinds = {kind: getattr(cost, kind) for kind in ENERGY_KINDS}
        told = ", ".join(f"{kind} {engineering(joules, 'J')}" for kind, joules in kinds.items() if joules)
        time = _beside_twin(price.twin, f"{name}_s", schedule.makespan_s, "s")
        interval = f"interval {engineering(schedule.interval_s, 's')} ({schedule.interval_limit or '-'})"
        lines.append(f"{name}: {time}, {interval}")
        lines.append(f"{name}: {_beside_twin(price.twin, f'{name}_j', cost.energy, 'J')}: {told}")
        if name == "inference" and price.runs > 1:
            each = [
                engineering(whole / price.runs, unit)
                for whole, unit in ((schedule.makespan_s, "s"), (cost.energy, "J"))
            ]
            lines.append(f"inference: {price.runs:,} in a batch, {each[0]} and {each[1]} each")
    return lines


def _beside_twin(twin: Mapping[Total, float] | None, figure: str, value: float, unit: str) -> str:
    """A figure, and what it is of the digital twin's."""
    shown = engineering(value, unit)
    if twin is None:
        return shown
    found = next(held for name, held in twin.items() if name == figure)
    return f"{shown} ({times_twin(value, found)} its digital twin)"
