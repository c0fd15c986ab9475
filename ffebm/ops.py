"""What an op is, without saying how it is computed.

`OPS` holds every op that a graph may contain; the runtime has one kernel for each.
"""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an op may be inside an energy block; the value is the reason why it is digital otherwise."""

    LINEAR = "no stationary weight: both operands are computed at run time"
    POOL = "pooling that does not directly follow a linear map with a stationary weight"
    LAYOUT = "layout change between digital ops"
    SUM = "sum of values that drives no layer of an energy block"
    SCALE = "product that scales no drive by a positive constant"
    ACTIVATION = "activation of a value computed digitally, with no stationary weight before it"
    NOT_MONOTONE = "not monotone, so no convex potential has it as its activation"
    COUPLES_UNITS = "couples the units of a layer, so it is no activation of an energy"
    COUPLES_SAMPLES = "couples the samples of a batch in training, so it is no activation of an energy"
    PRODUCT = "product or quotient of activations: no stationary weight"
    REDUCTION = "reduction over units: no stationary weight"
    MOVE = "moves data without computing"
    INTEGER = "integer, logical or index arithmetic"
    SHAPE = "computes shapes or constants"
    RANDOM = "random numbers"
    CONTROL = "control flow: which ops run is known only at run time"
    RECURRENT = "recurrence over time with gates that multiply activations"
    QUANTISED = "integer arithmetic with zero points and rounding, so it has no energy"
    TRANSFORM = "linear transform without a stored weight"


@dataclass(frozen=True)
class Op:
    """Facts about an op.

    Attributes:
        kind: What it may be inside an energy block.
        work: Digital operations an output element, beside multiply-accumulates.
        weights: Input positions that hold trainable weights when they are constant.
        buffers: Input positions that hold running statistics.
        random: The result depends on random numbers, so it must not be folded.
    """

    kind: Kind
    work: float = 1.0
    weights: tuple[int, ...] = ()
    buffers: tuple[int, ...] = ()
    random: bool = False


OPS: dict[str, Op] = {
    # linear maps
    "Conv": Op(Kind.LINEAR, weights=(1, 2)),
    "ConvTranspose": Op(Kind.LINEAR, weights=(1, 2)),
    "Gemm": Op(Kind.LINEAR, weights=(1, 2)),
    "MatMul": Op(Kind.LINEAR, weights=(0, 1)),
    # pooling
    "AveragePool": Op(Kind.POOL),
    "GlobalAveragePool": Op(Kind.POOL),
    "GlobalMaxPool": Op(Kind.POOL),
    "MaxPool": Op(Kind.POOL),
    # layout
    "Flatten": Op(Kind.LAYOUT, work=0),
    "Identity": Op(Kind.LAYOUT, work=0),
    "Reshape": Op(Kind.LAYOUT, work=0),
    "Squeeze": Op(Kind.LAYOUT, work=0),
    "Transpose": Op(Kind.LAYOUT, work=0),
    "Unsqueeze": Op(Kind.LAYOUT, work=0),
    # sums and scales
    "Add": Op(Kind.SUM, weights=(0, 1)),
    "Mul": Op(Kind.SCALE, weights=(0, 1)),
    "Sum": Op(Kind.SUM, weights=(0, 1)),
    # monotone activations
    "Clip": Op(Kind.ACTIVATION),
    "Elu": Op(Kind.ACTIVATION, work=4),
    "HardSigmoid": Op(Kind.ACTIVATION, work=2),
    "LeakyRelu": Op(Kind.ACTIVATION),
    "Relu": Op(Kind.ACTIVATION),
    "Sigmoid": Op(Kind.ACTIVATION, work=4),
    "Softplus": Op(Kind.ACTIVATION, work=4),
    "Tanh": Op(Kind.ACTIVATION, work=4),
    # normalisation
    "BatchNormalization": Op(Kind.COUPLES_SAMPLES, work=2, weights=(1, 2), buffers=(3, 4)),
    "LRN": Op(Kind.COUPLES_UNITS, work=8),
    "Softmax": Op(Kind.COUPLES_UNITS, work=6),
    # moves
    "Concat": Op(Kind.MOVE, work=0),
    "Dropout": Op(Kind.RANDOM, work=1, random=True),
}
