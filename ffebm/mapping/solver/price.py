"""What an option costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Price:
    """What one option costs in one inference.

    Attributes:
        seconds: From when its inputs are made until its result is.
        joules: Energy.
        interval: How long its own tiles are busy, seconds.
        busy: How long it keeps units busy that others use too, seconds by name.
        tiles: Tiles of its own, by analog group; parts of tiles count as such where blocks may share one.
        area: Of its tiles, mm2.
        work: Multiply-accumulates that it does on tiles.
    """

    seconds: float = 0.0
    joules: float = 0.0
    interval: float = 0.0
    busy: Mapping[str, float] = field(default_factory=dict)
    tiles: Mapping[str, float] = field(default_factory=dict)
    area: float = 0.0
    work: float = 0.0
