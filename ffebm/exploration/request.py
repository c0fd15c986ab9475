"""What an exploration is asked for, and what the compiler is asked for at each of its points."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from ffebm.compiler.options import Settings, checked_batch, options_from
from ffebm.compiler.variants import Variant
from ffebm.errors import FfebmError, HardwareError, UsageError
from ffebm.exploration.figures import FIGURES, MEASURED, OF_TRAINING, PARTS
from ffebm.exploration.knobs import (
    OPTIONS,
    SETTLING,
    SIMULATED,
    Grid,
    Knob,
    Point,
    Value,
    settings_of,
    value_text,
)
from ffebm.exploration.machine import with_constants
from ffebm.exploration.metric import Metric
from ffebm.exploration.search import SampledSearch
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.plan.schema import Settle, checked_settle

SamplerName = Literal["grid", "nsga2", "tpe"]
"""Who says which point comes next."""
DEFAULT_TRIALS = 100
"""Points of a search."""


@dataclass(frozen=True)
class Request:
    """An exploration.

    Attributes:
        model: Path of an ONNX file.
        folder: Where the exploration lies.
        hardware: Shipped name of a machine, or path of a description.
        settings: What the compiler is asked for where nothing is varied; without the machine.
        settle: How blocks settle where that is not varied.
        batch: Runs in flight where they are not varied.
        passes: Names of passes of installed packages.
        knobs: What is varied.
        front: Names of the figures whose front is asked for.
        sampler: Who says which point comes next: "grid" all of them.
        trials: Points that a search looks at, a number; None for a grid.
        seed: Of a search.
        metric: What is measured beside the price; None: nothing.
        training: Figures of training steps are asked for too.
    """

    model: Path
    folder: Path
    hardware: str
    settings: Settings
    settle: Settle
    batch: int
    passes: tuple[str, ...]
    knobs: tuple[Knob, ...]
    front: tuple[str, ...]
    sampler: SamplerName = "grid"
    trials: int | None = None
    seed: int = 0
    metric: Metric | None = None
    training: bool = True
    _machines: dict[str, Hardware] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def grid(self) -> Grid:
        """All points."""
        return Grid(self.knobs)

    @property
    def search(self) -> SampledSearch | None:
        """Which points are looked at; None: all."""
        if self.sampler == "grid":
            return None
        return SampledSearch(self.sampler, self.trials or DEFAULT_TRIALS, self.seed)

    @property
    def parts(self) -> tuple[str, ...]:
        """What has figures: an inference, and a training step unless it is left out."""
        return PARTS if self.training else PARTS[:1]

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that points have."""
        asked = None if self.metric is None else self.metric.figure
        left_out = {name for name in MEASURED if name != asked} | set(() if self.training else OF_TRAINING)
        return tuple(name for name in FIGURES if name not in left_out)

    def runs(self, point: Point) -> int:
        """Runs of the model that each schedule of a point has in flight.

        Raises:
            UsageError: If there cannot be so many.
        """
        batch: Any = settings_of(point).get("batch", self.batch)
        return checked_batch(batch)

    def machine(self, point: Point) -> Hardware:
        """The machine of a point, whose parts may contradict each other.

        Raises:
            HardwareError: If there is no such machine.
            UsageError: If it has no such constant, or the constant no such value.
        """
        settings = settings_of(point)
        name = str(settings.pop("hardware", self.hardware))
        if name not in self._machines:
            self._machines[name] = load_hardware(name)
        return with_constants(self._machines[name], constants_of(settings))

    def variant(self, point: Point, passes: tuple[str, ...]) -> Variant:
        """What the compiler is asked for at a point.

        Args:
            point: The point.
            passes: Passes beside the compiler's own, as a plan names them.

        Raises:
            HardwareError: If the machine contradicts itself.
            UsageError: If an option is wrong.
        """
        settings = settings_of(point)
        machine = load_hardware(self.machine(point))
        asked: Any = dict(self.settings)
        asked |= {name: settings[name] for name in OPTIONS if name in asked and name in settings}
        settling = msgspec.structs.asdict(self.settle)
        settling |= {name: settings[name] for name in SETTLING if name in settings}
        options = msgspec.structs.replace(options_from(asked), batch=self.runs(point), passes=passes)
        return Variant(options, checked_settle(_settle(settling)), machine, self.training)

    def check(self) -> None:
        """Find what is wrong with single values of knobs, whatever the others stand at.

        Raises:
            HardwareError: If there is no such machine.
            UsageError: If something is wrong, with what is allowed.
        """
        unknown = [name for name in self.front if name not in self.figures]
        unmeasured = [name for name in unknown if name in MEASURED]
        if unmeasured:
            name = unmeasured[0]
            raise UsageError(
                f"--front {name}, which is not measured", allowed=f"with --data and --metric {name}"
            )
        left_out = [name for name in unknown if name in OF_TRAINING]
        if left_out:
            raise UsageError(
                f"--front {left_out[0]}, which is left out", allowed=f"with --figures {','.join(PARTS)}"
            )
        if unknown or not self.front:
            found = f"--front {unknown[0]}" if unknown else "--front without figures"
            raise UsageError(found, allowed=f"some of {', '.join(self.figures)}")
        if self.sampler == "grid" and self.trials is not None:
            raise UsageError(
                f"--trials {self.trials} of a grid, which has {len(self.grid):,} points",
                allowed="--sampler nsga2 or tpe, which look at some of them",
            )
        chosen = next((knob for knob in self.knobs if "hardware" in knob.key.split("+")), None)
        machines = [{}] if chosen is None else [{chosen.key: value} for value in chosen.values]
        first = self.grid[0]
        for machine in machines:
            load_hardware(str(settings_of(machine).get("hardware", self.hardware)))
            for knob in self.knobs:
                for value in knob.values:
                    self._check_value({**first, **machine, knob.key: value}, knob.key)
        self._check_looked_at()

    def _check_looked_at(self) -> None:
        """What only a simulation looks at is varied where points are simulated."""
        for knob in self.knobs if self.metric is None else ():
            if all(name in SIMULATED for name in knob.key.split("+")):
                raise UsageError(
                    f"--vary {knob.key}, which no price looks at",
                    allowed="with --data and --metric, which run the plans",
                )

    def _check_value(self, point: Point, key: str) -> None:
        try:
            self.variant(point, ())
        except HardwareError:
            return  # a contradiction, which may be none with other values
        except UsageError as error:
            if error.found.startswith("--vary"):
                raise
            wrong = next((k for k in (key, *point) if self._stands_without(point, k)), key)
            found = f"--vary {wrong}={value_text(point[wrong])}: {error.found}"
            raise UsageError(found, allowed=error.allowed, hint=error.hint) from None

    def _stands_without(self, point: Point, key: str) -> bool:
        """Nothing is wrong with a point where one knob is not turned."""
        try:
            self.variant({k: value for k, value in point.items() if k != key}, ())
        except FfebmError:
            return False
        return True

    def constants(self, point: Point) -> dict[str, Value]:
        """What of the machine a point changes."""
        return constants_of(settings_of(point))


def training_of(text: str) -> bool:
    """What `--figures` says: whether those of training steps are asked for beside those of an inference."""
    named = [part.strip() for part in text.split(",")]
    if "inference" not in named or set(named) - set(PARTS):
        raise UsageError(f"--figures {text}", allowed=f"inference, or {','.join(PARTS)}")
    return "training" in named


def sampler_of(text: str) -> SamplerName:
    """What `--sampler` says."""
    names: tuple[SamplerName, ...] = get_args(SamplerName)
    for name in names:
        if text == name:
            return name
    raise UsageError(f"--sampler {text}", allowed=f"one of {', '.join(names)}")


def constants_of(settings: dict[str, Value]) -> dict[str, Value]:
    """Constants of a machine among what is set."""
    return {name: value for name, value in settings.items() if name not in OPTIONS and name not in SETTLING}


def _settle(settings: dict[str, Any]) -> Settle:
    try:
        return msgspec.convert(settings, Settle)
    except msgspec.ValidationError as error:
        raise UsageError(f"settings of settling: {error}") from None


def digest_of(hardware: Hardware) -> str:
    """SHA-256 of a machine."""
    return hashlib.sha256(msgspec.json.encode(hardware)).hexdigest()
