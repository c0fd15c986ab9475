"""A figure that needs data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MetricName = Literal["accuracy", "cosine"]
"""Figures that need data."""


@dataclass(frozen=True)
class Metric:
    """What is measured at each point beside its price.

    Attributes:
        figure: "accuracy": share of test samples that are classified correctly; "cosine": of the gradient of
            all weights with that of the same plan without errors of tiles.
        data: Name or file of labelled samples.
        folder: Where the data's files are; None: where they usually are.
        samples: Test samples of an accuracy.
        probes: Training samples of a gradient.
        seeds: Runs with noise of their own for one accuracy.
    """

    figure: MetricName
    data: str
    folder: Path | None = None
    samples: int = 1000
    probes: int = 128
    seeds: int = 1
