"""The options of `ffebm train`, which are the settings of a run."""

from pathlib import Path
from typing import Annotated

from typer import Option

from ffebm.commands.console import LARGEST

SettingsOption = Annotated[
    Path | None, Option(help="TOML file of these settings, as `ffebm recipe` writes it; options win.")
]
EpochsOption = Annotated[
    int | None, Option(help="Passes over the samples. [default: 10]", min=1, max=LARGEST)
]
BatchOption = Annotated[int | None, Option(help="Samples a step. [default: 32]", min=1, max=LARGEST)]
OptimizerOption = Annotated[str | None, Option(help="Any of torch.optim. [default: Adam]")]
LrOption = Annotated[float | None, Option(help="Learning rate. [default: 0.001]")]
MinLrOption = Annotated[float | None, Option(help="Where the cosine schedule ends. [default: 0]")]
WeightDecayOption = Annotated[float | None, Option(help="L2 penalty, if the optimiser takes one.")]
MomentumOption = Annotated[float | None, Option(help="Momentum, if the optimiser takes one.")]
ClipNormOption = Annotated[
    float | None, Option(help="Longest gradient that a step takes, over all weights together.")
]
HoldNormOption = Annotated[
    str | None,
    Option(help="Largest spectral norm of the couplings inside blocks, or of other weights: 0.8,NAME."),
]
RemapOption = Annotated[
    int | None,
    Option(help="Steps after which cells that learn in place are written anew in new ranges.", min=1),
]
ScheduleOption = Annotated[
    str | None,
    Option(
        help="constant, cosine, step, multistep, exponential, linear, onecycle or plateau. "
        "[default: constant]"
    ),
]
ScheduleByOption = Annotated[
    str | None, Option(help="What the schedule counts: epochs or steps. [default: epochs]")
]
WarmupOption = Annotated[
    int | None, Option(help="Epochs or steps in which the rate grows to its value.", min=0)
]
DropEveryOption = Annotated[
    int | None,
    Option(help="step: epochs or steps between drops; plateau: epochs without an improvement.", min=1),
]
MilestonesOption = Annotated[
    str | None, Option(help="multistep: epochs or steps at which the rate drops: 30,60.")
]
DropFactorOption = Annotated[
    float | None,
    Option(help="What a drop multiplies the rate by. [default: 0.1; exponential needs it]"),
]
ScoreOption = Annotated[str | None, Option(help="Output that the loss reads. [default: the first]")]
LossOption = Annotated[
    str | None,
    Option(
        help="cross-entropy, nll, mse, l1, huber, bce or bce-with-logits. "
        "[default: cross-entropy for class numbers, mse for other numbers]"
    ),
]
ClassWeightsOption = Annotated[
    str | None, Option(help="balanced, a number for each class (1,2,0.5), or a file of them.")
]
IgnoreLabelOption = Annotated[int | None, Option(help="Class number of labels that are left out.")]
AccumulateOption = Annotated[
    int | None, Option(help="Batches whose gradients make one step. [default: 1]", min=1, max=LARGEST)
]
EmaOption = Annotated[
    float | None, Option(help="Decay of an average of the weights, tested and saved beside them.")
]
ValidationOption = Annotated[
    float | None, Option(help="Share of the training samples that are held out to validate on.")
]
PatienceOption = Annotated[
    int | None, Option(help="Epochs without an improvement before training stops.", min=1)
]
PrecisionOption = Annotated[
    str | None, Option(help="fp32, bf16 or fp16, for what is digital. [default: fp32]")
]
GradientOption = Annotated[str | None, Option(help="ep, implicit, unrolled, or a package's. [default: ep]")]
BetaOption = Annotated[str | None, Option(help="Nudging strength, or auto. [default: 0.1]")]
CostOption = Annotated[
    bool | None, Option("--cost/--no-cost", help="ep: the cost itself nudges the last block.")
]
FreezeOption = Annotated[
    list[str] | None, Option(help="Weights that are not trained; * stands for anything. Repeatable.")
]
PadOption = Annotated[
    bool | None, Option("--pad/--no-pad", help="Pad images to the model's size, repeat one channel.")
]
MeanOption = Annotated[str | None, Option(help="Subtracted from each channel: 0.49,0.48,0.45.")]
StdOption = Annotated[str | None, Option(help="Each channel is divided by it.")]
FlipOption = Annotated[bool | None, Option("--flip/--no-flip", help="Mirror half of the training images.")]
CropOption = Annotated[int | None, Option(help="Pixels by which training images are shifted at most.", min=0)]
DitherOption = Annotated[
    float | None,
    Option(help="Standard deviation of noise added to samples, in a test too, so that maxima do not tie."),
]
SeedOption = Annotated[
    int | None,
    Option(help="Seed of sample order, augmentation, dither and noise. [default: 0]", min=0, max=LARGEST),
]
DeviceOption = Annotated[str, Option(help="Where to compute: cpu, cuda …")]
RunOption = Annotated[Path | None, Option(help="Folder of the run's record. [default: PLAN.run]")]
ResumeOption = Annotated[bool, Option(help="Continue the run in that folder.")]
