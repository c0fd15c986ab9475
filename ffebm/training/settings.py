"""How a network is trained: plain settings, from options, a settings file or a recipe."""

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ffebm.errors import Location, UsageError, reason_of
from ffebm.limits import as_number

SettingCount = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""What torch counts or seeds with."""
Factor = Annotated[float, Meta(ge=-3.4e38, le=3.4e38)]
"""What weights in 32 bits can be multiplied with."""


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network is trained.

    Attributes:
        data: Name of the data.
        epochs: Passes over the training samples.
        batch: Samples a step.
        optimizer: Name of a class in torch.optim.
        lr: Learning rate.
        min_lr: Learning rate that the schedules "cosine", "linear" and "plateau" end with.
        weight_decay: L2 penalty; None leaves it to the optimiser.
        momentum: Momentum; None leaves it to the optimiser.
        clip_norm: Longest gradient, over all weights together, that a step takes; a longer one is shortened.
            None leaves all as they are. Where an equilibrium jumps under a nudge, a gradient by "ep" is far
            too long.
        hold_norm: Largest spectral norm that weights keep after each step, a larger one being scaled down: of
            the couplings between free layers of one block; or (norm, name), of weights of energy blocks by
            that name, where * stands for anything. None holds nothing.
        remap: Steps of the optimiser after which cells that learn in place are written anew, in ranges that
            follow the weights. None leaves ranges as they are first programmed.
        schedule: Learning rate over the run, by a class of torch: "constant", "cosine", "step", "multistep",
            "exponential", "linear", "onecycle" or "plateau".
        schedule_by: What the schedule counts: "epochs", or "steps" of the optimiser.
        warmup: Epochs or steps in which the rate grows linearly from a hundredth to its value.
        drop_every: Epochs or steps between two drops of "step"; epochs without an improvement before one of
            "plateau".
        milestones: Epochs or steps at which "multistep" drops.
        drop_factor: What a drop multiplies the rate by, and "exponential" after each epoch or step.
        score: Output that the loss reads; empty for the first.
        loss: Name of the loss; empty for cross-entropy of class numbers, mean squared error of other numbers.
        class_weights: "balanced", or the weight of each class; empty weighs all alike.
        ignore_label: Class number of labels that are left out.
        accumulate: Batches whose gradients make one step; their mean is that of the larger batch.
        ema: Decay of an average of the weights over steps, which is evaluated and saved beside them.
        validation: Share of the training samples that are held out to validate on.
        patience: Epochs without an improvement after which training stops; the best weights are kept.
        precision: "fp32"; or "bf16" or "fp16", in which digital ops run under torch's autocast.
        gradient: Estimator: "ep", "implicit", "unrolled", or one that an installed package offers.
        beta: Nudging strength of "ep"; "auto" finds it from the noise of the tiles.
        cost: "ep" nudges the last block with the cost itself, evaluated anew in each sweep, and all blocks in
            the unit of the loss, as the published method does.
        settling: How blocks are simulated, "sweeps" or "circuit"; None is as the plan says.
        sync_batch_statistics: Batch normalisation sees the whole batch where several processes share it, and
            not the share of its own process.
        freeze: Names of weights that are not trained; * stands for anything.
        pad: Images smaller than the model's are padded with zeros, one channel is repeated to the model's.
        mean: Subtracted from each channel; empty leaves samples as they are.
        std: Each channel is divided by it; empty leaves samples as they are.
        flip: Half of the training images are mirrored left to right.
        crop: Training images are padded by that many pixels of their edge and cropped at random.
        dither: Standard deviation of normal noise that is added to samples, in a test too, before `mean` and
            `std`: values that would tie in a maximum inside a block then differ.
        seed: Seed of sample order, augmentation, dither and noise.
    """

    data: str
    epochs: SettingCount = 10
    batch: SettingCount = 32
    optimizer: str = "Adam"
    lr: Factor = 1e-3
    min_lr: Factor = 0.0
    weight_decay: Factor | None = None
    momentum: Factor | None = None
    clip_norm: float | None = None
    hold_norm: float | tuple[float, str] | None = None
    remap: int | None = None
    schedule: str = "constant"
    schedule_by: str = "epochs"
    warmup: int = 0
    drop_every: int | None = None
    milestones: tuple[int, ...] = ()
    drop_factor: float | None = None
    score: str = ""
    loss: str = ""
    class_weights: Literal["balanced"] | tuple[float, ...] = ()
    ignore_label: int | None = None
    accumulate: int = 1
    ema: float | None = None
    validation: float = 0.0
    patience: int | None = None
    precision: str = "fp32"
    gradient: str = "ep"
    beta: float | Literal["auto"] = 0.1
    cost: bool = False
    settling: Literal["sweeps", "circuit"] | None = None
    sync_batch_statistics: bool = False
    freeze: tuple[str, ...] = ()
    pad: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    flip: bool = False
    crop: SettingCount = 0
    dither: Factor = 0.0
    seed: SettingCount = 0


def strength(text: str) -> float | Literal["auto"]:
    """A nudging strength as a user writes it.

    Raises:
        UsageError: If it is neither a number nor "auto".
    """
    if text == "auto":
        return "auto"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number == 0:
        raise UsageError(f"beta is {text}", allowed="a finite number other than 0, or auto")
    return number


def held_norm(text: str) -> float | tuple[float, str]:
    """A largest norm as a user writes it, a number or a number and a name.

    Raises:
        UsageError: If it is neither.
    """
    number, comma, name = text.partition(",")
    try:
        norm = float(number)
    except ValueError:
        norm = math.nan
    if not 0 < norm < math.inf or (comma and not name):
        allowed = "a finite number above 0, or one and a name: 0.8,layer1.*"
        raise UsageError(f"hold_norm is {text}", allowed=allowed)
    return (norm, name) if comma else norm


def _check_types(training: Training) -> None:
    """Refuse settings of another type, which those made in Python may have; bounds are others' to check.

    Raises:
        UsageError: If one is of another type.
    """
    try:
        msgspec.convert(msgspec.structs.asdict(training), Training)
    except msgspec.ValidationError as error:
        if ", got `" in str(error):  # the rest is about bounds
            raise UsageError(f"settings of training: {error}") from None


def check_settings(training: Training) -> None:
    """Refuse settings that no run can have; those of one part, such as the schedule, are its own to check.

    Raises:
        UsageError: If there are any.
    """
    for name, value, least in (
        ("epochs", training.epochs, 1),
        ("batch", training.batch, 1),
        ("accumulate", training.accumulate, 1),
        ("lr", training.lr, 0),
    ):
        if not least <= as_number(value) < math.inf:
            raise UsageError(f"{name} is {value!r}", allowed=f"at least {least}")
    _check_types(training)
    if training.clip_norm is not None and not 0 < training.clip_norm < math.inf:
        raise UsageError(
            f"clip_norm is {training.clip_norm}", allowed="a finite number above 0", hint="leave it out"
        )
    for name, share, most in (("ema", training.ema or 0.0, 1), ("validation", training.validation, 1)):
        if not 0 <= share < most:
            raise UsageError(f"{name} is {share}", allowed=f"from 0 to below {most}")
    if training.patience is not None and training.patience < 1:
        raise UsageError(f"patience is {training.patience}", allowed="at least 1")


def training_from(settings: dict[str, object], where: str = "") -> Training:
    """Settings by name, checked.

    Args:
        settings: Values by name.
        where: The file that they come from, if any.

    Raises:
        UsageError: If one is unknown or of another type.
    """
    try:
        return msgspec.convert(settings, Training)
    except msgspec.ValidationError as error:
        location = Location(where) if where else None
        known = ", ".join(Training.__struct_fields__)
        raise UsageError(f"settings of training: {error}", allowed=known, location=location) from None


def read_settings(path: Path) -> dict[str, object]:
    """The settings of a TOML file, by name; what it leaves out keeps its default.

    Raises:
        UsageError: If it cannot be read, or holds something else.
    """
    where = Location(str(path))
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot be read: {reason_of(error)}", location=where) from None
    training_from({"data": "", **settings}, str(path))
    return dict(settings)


def settings_text(training: Training) -> str:
    """The settings that are not the default ones, as TOML; `read_settings` reads it."""
    default = Training(data="")
    settings = msgspec.structs.asdict(training)
    return toml_of({n: v for n, v in settings.items() if n == "data" or v != getattr(default, n)})


def toml_of(settings: Mapping[str, object]) -> str:
    """Some settings by name as TOML, whose texts, numbers and lists are JSON's; none of them is None."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
