"""The settings of a training run as options of a command."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from ffebm.commands.console import DATA, LARGEST
from ffebm.commands.settling import SettlingOption


@dataclass(frozen=True)
class RunSettings:
    """What `ffebm train` sets of a run; None leaves it to the file of settings, or to its default."""

    data: Annotated[str | None, DATA] = None
    epochs: Annotated[
        int | None, Option(help="Passes over the samples. [default: 10]", min=1, max=LARGEST)
    ] = None
    batch: Annotated[int | None, Option(help="Samples a step. [default: 32]", min=1, max=LARGEST)] = None
    optimizer: Annotated[str | None, Option(help="Any of torch.optim. [default: Adam]")] = None
    lr: Annotated[float | None, Option(help="Learning rate. [default: 0.001]")] = None
    min_lr: Annotated[float | None, Option(help="Where the cosine schedule ends. [default: 0]")] = None
    weight_decay: Annotated[float | None, Option(help="L2 penalty, if the optimiser takes one.")] = None
    momentum: Annotated[float | None, Option(help="Momentum, if the optimiser takes one.")] = None
    clip_norm: Annotated[
        float | None, Option(help="Longest gradient that a step takes, over all weights together.")
    ] = None
    hold_norm: Annotated[
        str | None,
        Option(help="Largest spectral norm of the couplings inside blocks, or of other weights: 0.8,NAME."),
    ] = None
    remap: Annotated[
        int | None,
        Option(help="Steps after which cells that learn in place are written anew in new ranges.", min=1),
    ] = None
    schedule: Annotated[
        str | None,
        Option(
            help="constant, cosine, step, multistep, exponential, linear, onecycle or plateau. "
            "[default: constant]"
        ),
    ] = None
    schedule_by: Annotated[
        str | None, Option(help="What the schedule counts: epochs or steps. [default: epochs]")
    ] = None
    warmup: Annotated[
        int | None, Option(help="Epochs or steps in which the rate grows to its value.", min=0)
    ] = None
    drop_every: Annotated[
        int | None,
        Option(help="step: epochs or steps between drops; plateau: epochs without an improvement.", min=1),
    ] = None
    milestones: Annotated[
        str | None, Option(help="multistep: epochs or steps at which the rate drops: 30,60.")
    ] = None
    drop_factor: Annotated[
        float | None,
        Option(help="What a drop multiplies the rate by. [default: 0.1; exponential needs it]"),
    ] = None
    score: Annotated[str | None, Option(help="Output that the loss reads. [default: the first]")] = None
    loss: Annotated[
        str | None,
        Option(
            help="cross-entropy, nll, squared-error, mse, l1, huber, bce or bce-with-logits. "
            "[default: cross-entropy for class numbers, mse for other numbers]"
        ),
    ] = None
    class_weights: Annotated[
        str | None, Option(help="balanced, a number for each class (1,2,0.5), or a file of them.")
    ] = None
    ignore_label: Annotated[int | None, Option(help="Class number of labels that are left out.")] = None
    accumulate: Annotated[
        int | None, Option(help="Batches whose gradients make one step. [default: 1]", min=1, max=LARGEST)
    ] = None
    ema: Annotated[
        float | None, Option(help="Decay of an average of the weights, tested and saved beside them.")
    ] = None
    validation: Annotated[
        float | None, Option(help="Share of the training samples that are held out to validate on.")
    ] = None
    patience: Annotated[
        int | None, Option(help="Epochs without an improvement before training stops.", min=1)
    ] = None
    precision: Annotated[
        str | None, Option(help="fp32, bf16 or fp16, for what is digital. [default: fp32]")
    ] = None
    gradient: Annotated[str | None, Option(help="ep, implicit, unrolled, or a package's. [default: ep]")] = (
        None
    )
    beta: Annotated[str | None, Option(help="Nudging strength, or auto. [default: 0.1]")] = None
    cost: Annotated[
        bool | None, Option("--cost/--no-cost", help="ep: the cost itself nudges the last block.")
    ] = None
    settling: SettlingOption = None
    sync_batch_statistics: Annotated[
        bool | None,
        Option(
            "--sync-batch-statistics/--no-sync-batch-statistics",
            help="Batch normalisation sees the whole batch of all processes, not the share of its own.",
        ),
    ] = None
    freeze: Annotated[
        list[str] | None, Option(help="Weights that are not trained; * stands for anything. Repeatable.")
    ] = None
    pad: Annotated[
        bool | None, Option("--pad/--no-pad", help="Pad images to the model's size, repeat one channel.")
    ] = None
    mean: Annotated[str | None, Option(help="Subtracted from each channel: 0.49,0.48,0.45.")] = None
    std: Annotated[str | None, Option(help="Each channel is divided by it.")] = None
    flip: Annotated[bool | None, Option("--flip/--no-flip", help="Mirror half of the training images.")] = (
        None
    )
    crop: Annotated[
        int | None, Option(help="Pixels by which training images are shifted at most.", min=0)
    ] = None
    dither: Annotated[
        float | None,
        Option(
            help="Standard deviation of noise added to samples, in a test too, so that maxima do not tie."
        ),
    ] = None
    seed: Annotated[
        int | None,
        Option(help="Seed of sample order, augmentation, dither and noise. [default: 0]", min=0, max=LARGEST),
    ] = None
