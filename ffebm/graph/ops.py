"""What an op is, without saying how it is computed.

`OPS` holds every op that a graph may contain; the runtime has one kernel for each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from ffebm.graph.own_ops import own_op


class Kind(Enum):
    """What an op may be inside an energy block; the value is the reason why it is digital otherwise."""

    LINEAR = "no stationary weight: both operands are computed at run time"
    POOL = "pooling that does not directly follow a linear map with a stationary weight"
    LAYOUT = "layout change between digital ops"
    SUM = "sum of values that drives no layer of an energy block"
    SCALE = "product that scales no drive by a positive constant"
    ACTIVATION = "activation of a value computed digitally, with no stationary weight before it"
    FUNCTION = "function of one value that no layer of an energy block has as its activation"
    NOT_MONOTONE = "not monotone, so no convex potential has it as its activation"
    STEP = "jumps, so no layer can settle through it"
    COUPLES_UNITS = "couples the units of a layer, so it is no activation of an energy"
    COUPLES_SAMPLES = "couples the samples of a batch in training, so it is no activation of an energy"
    ARITHMETIC = "arithmetic between values that drives no layer of an energy block"
    PRODUCT = "product or quotient of activations: no stationary weight"
    OTHER_LINEAR = "linear in its weight, but of a form that no tile computes"
    REDUCTION = "reduction over units: no stationary weight"
    MOVE = "moves data without computing"
    CAST = "changes the element type"
    INTEGER = "integer, logical or index arithmetic"
    SHAPE = "computes shapes or constants"
    RANDOM = "random numbers"
    CONTROL = "control flow: which ops run is known only at run time"
    RECURRENT = "recurrence: its gates multiply activations, step after step"
    QUANTISED = "integer arithmetic with zero points and rounding, so it has no energy"
    STATE = "keeps a value for the next run"
    TRANSFORM = "linear transform without a stored weight"
    OWN = "op of an installed package, which no tile computes"
    LOSS = "loss: compares an output with its target"


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


_OPS: dict[str, Op] = {
    # linear maps
    "Conv": Op(Kind.LINEAR, weights=(1, 2)),
    "ConvTranspose": Op(Kind.LINEAR, weights=(1, 2)),
    "Gemm": Op(Kind.LINEAR, weights=(1, 2)),
    "MatMul": Op(Kind.LINEAR, weights=(0, 1)),
    # linear maps that no tile computes
    "CausalConvWithState": Op(Kind.OTHER_LINEAR, weights=(1, 2)),
    "DeformConv": Op(Kind.OTHER_LINEAR, weights=(1, 3)),
    "Einsum": Op(Kind.OTHER_LINEAR, weights=(0, 1)),
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
    "Celu": Op(Kind.ACTIVATION, work=4),
    "Clip": Op(Kind.ACTIVATION),
    "Elu": Op(Kind.ACTIVATION, work=4),
    "HardSigmoid": Op(Kind.ACTIVATION, work=2),
    "LeakyRelu": Op(Kind.ACTIVATION),
    "Relu": Op(Kind.ACTIVATION),
    "Selu": Op(Kind.ACTIVATION, work=4),
    "Sigmoid": Op(Kind.ACTIVATION, work=4),
    "Softplus": Op(Kind.ACTIVATION, work=4),
    "Softsign": Op(Kind.ACTIVATION, work=2),
    "Tanh": Op(Kind.ACTIVATION, work=4),
    # other functions of one value
    "Abs": Op(Kind.NOT_MONOTONE),
    "Acos": Op(Kind.FUNCTION, work=4),
    "Acosh": Op(Kind.FUNCTION, work=4),
    "Asin": Op(Kind.FUNCTION, work=4),
    "Asinh": Op(Kind.FUNCTION, work=4),
    "Atan": Op(Kind.FUNCTION, work=4),
    "Atanh": Op(Kind.FUNCTION, work=4),
    "Ceil": Op(Kind.STEP),
    "Cos": Op(Kind.NOT_MONOTONE, work=4),
    "Cosh": Op(Kind.NOT_MONOTONE, work=4),
    "Erf": Op(Kind.FUNCTION, work=4),
    "Exp": Op(Kind.FUNCTION, work=4),
    "Floor": Op(Kind.STEP),
    "Gelu": Op(Kind.NOT_MONOTONE, work=4),
    "HardSwish": Op(Kind.NOT_MONOTONE, work=4),
    "Log": Op(Kind.FUNCTION, work=4),
    "Mish": Op(Kind.NOT_MONOTONE, work=4),
    "Neg": Op(Kind.FUNCTION),
    "PRelu": Op(Kind.FUNCTION, weights=(1,)),
    "Reciprocal": Op(Kind.NOT_MONOTONE, work=4),
    "Round": Op(Kind.STEP),
    "Shrink": Op(Kind.STEP),
    "Sign": Op(Kind.STEP),
    "Sin": Op(Kind.NOT_MONOTONE, work=4),
    "Sinh": Op(Kind.FUNCTION, work=4),
    "Sqrt": Op(Kind.FUNCTION, work=4),
    "Swish": Op(Kind.NOT_MONOTONE, work=4),
    "Tan": Op(Kind.FUNCTION, work=4),
    "ThresholdedRelu": Op(Kind.STEP),
    # normalisation, and what else couples the units
    "BatchNormalization": Op(Kind.COUPLES_SAMPLES, work=2, weights=(1, 2), buffers=(3, 4)),
    "com.microsoft.EmbedLayerNormalization": Op(Kind.COUPLES_UNITS, work=10, weights=(2, 3, 4, 5, 6)),
    "GroupNormalization": Op(Kind.COUPLES_UNITS, work=8, weights=(1, 2)),
    "Hardmax": Op(Kind.COUPLES_UNITS, work=2),
    "InstanceNormalization": Op(Kind.COUPLES_UNITS, work=8, weights=(1, 2)),
    "LRN": Op(Kind.COUPLES_UNITS, work=8),
    "LayerNormalization": Op(Kind.COUPLES_UNITS, work=8, weights=(1, 2)),
    "LogSoftmax": Op(Kind.COUPLES_UNITS, work=6),
    "LpNormalization": Op(Kind.COUPLES_UNITS, work=4),
    "MeanVarianceNormalization": Op(Kind.COUPLES_UNITS, work=6),
    "RMSNormalization": Op(Kind.COUPLES_UNITS, work=6, weights=(1,)),
    "Softmax": Op(Kind.COUPLES_UNITS, work=6),
    # arithmetic between values
    "Div": Op(Kind.ARITHMETIC, weights=(0, 1)),
    "Max": Op(Kind.ARITHMETIC),
    "Mean": Op(Kind.ARITHMETIC),
    "Min": Op(Kind.ARITHMETIC),
    "Mod": Op(Kind.ARITHMETIC),
    "Pow": Op(Kind.ARITHMETIC, work=4),
    "Sub": Op(Kind.ARITHMETIC, weights=(0, 1)),
    # products of activations
    "Attention": Op(Kind.PRODUCT, work=6),
    "Det": Op(Kind.PRODUCT, work=4),
    "LinearAttention": Op(Kind.PRODUCT, work=6),
    "RotaryEmbedding": Op(Kind.PRODUCT, work=3),
    "SwiGLU": Op(Kind.PRODUCT, work=6),
    "ai.onnx.preview.FlexAttention": Op(Kind.PRODUCT, work=6),
    "com.microsoft.MultiHeadAttention": Op(Kind.PRODUCT, work=6, weights=(3,)),
    # reductions
    "ArgMax": Op(Kind.REDUCTION),
    "ArgMin": Op(Kind.REDUCTION),
    "CumProd": Op(Kind.REDUCTION),
    "CumSum": Op(Kind.REDUCTION),
    "GlobalLpPool": Op(Kind.REDUCTION, work=2),
    "LpPool": Op(Kind.REDUCTION, work=2),
    "ReduceL1": Op(Kind.REDUCTION),
    "ReduceL2": Op(Kind.REDUCTION, work=2),
    "ReduceLogSum": Op(Kind.REDUCTION),
    "ReduceLogSumExp": Op(Kind.REDUCTION, work=4),
    "ReduceMax": Op(Kind.REDUCTION),
    "ReduceMean": Op(Kind.REDUCTION),
    "ReduceMin": Op(Kind.REDUCTION),
    "ReduceProd": Op(Kind.REDUCTION),
    "ReduceSum": Op(Kind.REDUCTION),
    "ReduceSumSquare": Op(Kind.REDUCTION, work=2),
    "TopK": Op(Kind.REDUCTION, work=8),
    # moves
    "CenterCropPad": Op(Kind.MOVE, work=0),
    "Compress": Op(Kind.MOVE, work=0),
    "Concat": Op(Kind.MOVE, work=0),
    "DepthToSpace": Op(Kind.MOVE, work=0),
    "Expand": Op(Kind.MOVE, work=0),
    "Gather": Op(Kind.MOVE, work=0, weights=(0,)),
    "GatherElements": Op(Kind.MOVE, work=0),
    "GatherND": Op(Kind.MOVE, work=0),
    "MaxUnpool": Op(Kind.MOVE, work=0),
    "Pad": Op(Kind.MOVE, work=0),
    "ReverseSequence": Op(Kind.MOVE, work=0),
    "Scatter": Op(Kind.MOVE, work=0),
    "ScatterElements": Op(Kind.MOVE, work=0),
    "ScatterND": Op(Kind.MOVE, work=0),
    "Slice": Op(Kind.MOVE, work=0),
    "SpaceToDepth": Op(Kind.MOVE, work=0),
    "Split": Op(Kind.MOVE, work=0),
    "TensorScatter": Op(Kind.MOVE, work=0),
    "Tile": Op(Kind.MOVE, work=0),
    "Trilu": Op(Kind.MOVE, work=0),
    "Where": Op(Kind.MOVE, work=0),
    # element types
    "BitCast": Op(Kind.CAST, work=0),
    "Cast": Op(Kind.CAST),
    "CastLike": Op(Kind.CAST),
    # integers, logic and indices
    "And": Op(Kind.INTEGER),
    "BitShift": Op(Kind.INTEGER),
    "BitwiseAnd": Op(Kind.INTEGER),
    "BitwiseNot": Op(Kind.INTEGER),
    "BitwiseOr": Op(Kind.INTEGER),
    "BitwiseXor": Op(Kind.INTEGER),
    "Equal": Op(Kind.INTEGER),
    "Greater": Op(Kind.INTEGER),
    "GreaterOrEqual": Op(Kind.INTEGER),
    "IsInf": Op(Kind.INTEGER),
    "IsNaN": Op(Kind.INTEGER),
    "Less": Op(Kind.INTEGER),
    "LessOrEqual": Op(Kind.INTEGER),
    "NonMaxSuppression": Op(Kind.INTEGER),
    "NonZero": Op(Kind.INTEGER),
    "Not": Op(Kind.INTEGER),
    "OneHot": Op(Kind.INTEGER),
    "Or": Op(Kind.INTEGER),
    "Unique": Op(Kind.INTEGER),
    "Xor": Op(Kind.INTEGER),
    # shapes and constants
    "BlackmanWindow": Op(Kind.SHAPE, work=0),
    "Constant": Op(Kind.SHAPE, work=0),
    "ConstantOfShape": Op(Kind.SHAPE, work=0),
    "EyeLike": Op(Kind.SHAPE, work=0),
    "HammingWindow": Op(Kind.SHAPE, work=0),
    "HannWindow": Op(Kind.SHAPE, work=0),
    "MelWeightMatrix": Op(Kind.SHAPE, work=0),
    "OptionalGetElement": Op(Kind.SHAPE, work=0),
    "OptionalHasElement": Op(Kind.SHAPE, work=0),
    "Range": Op(Kind.SHAPE, work=0),
    "Shape": Op(Kind.SHAPE, work=0),
    "Size": Op(Kind.SHAPE, work=0),
    # random numbers
    "Bernoulli": Op(Kind.RANDOM, work=4, random=True),
    "Dropout": Op(Kind.RANDOM, work=1, random=True),
    "Multinomial": Op(Kind.RANDOM, work=4, random=True),
    "RandomNormal": Op(Kind.RANDOM, work=4, random=True),
    "RandomNormalLike": Op(Kind.RANDOM, work=4, random=True),
    "RandomUniform": Op(Kind.RANDOM, work=4, random=True),
    "RandomUniformLike": Op(Kind.RANDOM, work=4, random=True),
    # control flow
    "If": Op(Kind.CONTROL, work=0),
    "Loop": Op(Kind.CONTROL, work=0),
    "Scan": Op(Kind.CONTROL, work=0),
    # recurrence
    "GRU": Op(Kind.RECURRENT, work=20, weights=(1, 2, 3)),
    "LSTM": Op(Kind.RECURRENT, work=25, weights=(1, 2, 3, 7)),
    "RNN": Op(Kind.RECURRENT, work=5, weights=(1, 2, 3)),
    # quantised arithmetic
    "ConvInteger": Op(Kind.QUANTISED, work=2, weights=(1,)),
    "DequantizeLinear": Op(Kind.QUANTISED, work=4),
    "DynamicQuantizeLinear": Op(Kind.QUANTISED, work=4),
    "MatMulInteger": Op(Kind.QUANTISED, work=2, weights=(0, 1)),
    "QLinearConv": Op(Kind.QUANTISED, work=4, weights=(3, 8)),
    "QLinearMatMul": Op(Kind.QUANTISED, work=4, weights=(0, 3)),
    "QuantizeLinear": Op(Kind.QUANTISED, work=4),
    # what onnxruntime's quantiser writes
    "com.microsoft.DynamicQuantizeMatMul": Op(Kind.QUANTISED, work=6, weights=(1,)),
    "com.microsoft.MatMulIntegerToFloat": Op(Kind.QUANTISED, work=4, weights=(0, 1)),
    "com.microsoft.NhwcMaxPool": Op(Kind.QUANTISED),
    "com.microsoft.QGemm": Op(Kind.QUANTISED, work=4, weights=(0, 3, 6)),
    "com.microsoft.QLinearAdd": Op(Kind.QUANTISED, work=6),
    "com.microsoft.QLinearAveragePool": Op(Kind.QUANTISED, work=4),
    "com.microsoft.QLinearConcat": Op(Kind.QUANTISED, work=2),
    "com.microsoft.QLinearGlobalAveragePool": Op(Kind.QUANTISED, work=4),
    "com.microsoft.QLinearLeakyRelu": Op(Kind.QUANTISED, work=4),
    "com.microsoft.QLinearMul": Op(Kind.QUANTISED, work=6),
    "com.microsoft.QLinearSigmoid": Op(Kind.QUANTISED, work=8),
    "com.microsoft.QLinearSoftmax": Op(Kind.QUANTISED, work=8),
    "com.microsoft.QLinearWhere": Op(Kind.QUANTISED, work=2),
    # what scikit-learn's and LightGBM's converters write
    "ai.onnx.ml.ArrayFeatureExtractor": Op(Kind.MOVE, work=0),
    "ai.onnx.ml.Binarizer": Op(Kind.STEP),
    "ai.onnx.ml.FeatureVectorizer": Op(Kind.MOVE, work=0),
    "ai.onnx.ml.Imputer": Op(Kind.MOVE),
    "ai.onnx.ml.LabelEncoder": Op(Kind.INTEGER),
    "ai.onnx.ml.LinearClassifier": Op(Kind.OTHER_LINEAR, work=6),
    "ai.onnx.ml.Normalizer": Op(Kind.COUPLES_UNITS, work=4),
    "ai.onnx.ml.OneHotEncoder": Op(Kind.INTEGER),
    "ai.onnx.ml.SVMClassifier": Op(Kind.OTHER_LINEAR, work=20),
    "ai.onnx.ml.SVMRegressor": Op(Kind.OTHER_LINEAR, work=20),
    "ai.onnx.ml.TreeEnsemble": Op(Kind.STEP, work=20),
    "ai.onnx.ml.TreeEnsembleClassifier": Op(Kind.STEP, work=20),
    "ai.onnx.ml.TreeEnsembleRegressor": Op(Kind.STEP, work=20),
    # what a model keeps between runs
    "UpdateBuffer": Op(Kind.STATE, work=0, buffers=(0,)),
    # transforms
    "AffineGrid": Op(Kind.TRANSFORM, work=6),
    "Col2Im": Op(Kind.TRANSFORM),
    "DFT": Op(Kind.TRANSFORM, work=20),
    "GridSample": Op(Kind.TRANSFORM, work=8),
    "Resize": Op(Kind.TRANSFORM, work=4),
    "RoiAlign": Op(Kind.TRANSFORM, work=8),
    "STFT": Op(Kind.TRANSFORM, work=20),
    # losses
    "NegativeLogLikelihoodLoss": Op(Kind.LOSS),
    "SoftmaxCrossEntropyLoss": Op(Kind.LOSS, work=6),
}


class _Catalogue(Mapping[str, Op]):
    """The ops of ffebm, which it lists, and those of installed packages, which it finds by name."""

    def __getitem__(self, name: str) -> Op:
        if name in _OPS:
            return _OPS[name]
        own = own_op(name)
        if own is None:
            raise KeyError(name)
        return Op(Kind.OWN, own.work, own.weights, random=own.random)

    def __iter__(self) -> Iterator[str]:
        return iter(_OPS)

    def __len__(self) -> int:
        return len(_OPS)


OPS: Mapping[str, Op] = _Catalogue()
"""By name; an op of another domain than ONNX's own is `domain.Name`."""

TORCH_KINDS: dict[str, Kind] = {
    "addbmm": Kind.PRODUCT,
    "baddbmm": Kind.PRODUCT,
    "bilinear": Kind.OTHER_LINEAR,
    "conv1d": Kind.OTHER_LINEAR,
    "conv2d": Kind.OTHER_LINEAR,
    "conv3d": Kind.OTHER_LINEAR,
    "conv_transpose1d": Kind.OTHER_LINEAR,
    "conv_transpose2d": Kind.OTHER_LINEAR,
    "conv_transpose3d": Kind.OTHER_LINEAR,
    "convolution": Kind.OTHER_LINEAR,
    "cumsum": Kind.REDUCTION,
    "einsum": Kind.OTHER_LINEAR,
    "embedding": Kind.MOVE,
    "expand": Kind.MOVE,
    "expand_as": Kind.MOVE,
    "gru": Kind.RECURRENT,
    "gru_cell": Kind.RECURRENT,
    "index": Kind.MOVE,
    "index_put": Kind.MOVE,
    "index_select": Kind.MOVE,
    "instance_norm": Kind.COUPLES_UNITS,
    "linear": Kind.OTHER_LINEAR,
    "linalg_vector_norm": Kind.REDUCTION,
    "lstm": Kind.RECURRENT,
    "lstm_cell": Kind.RECURRENT,
    "masked_fill": Kind.MOVE,
    "max": Kind.REDUCTION,
    "mean": Kind.REDUCTION,
    "narrow": Kind.MOVE,
    "pad": Kind.MOVE,
    "rnn_relu": Kind.RECURRENT,
    "rnn_relu_cell": Kind.RECURRENT,
    "rnn_tanh": Kind.RECURRENT,
    "rnn_tanh_cell": Kind.RECURRENT,
    "scaled_dot_product_attention": Kind.PRODUCT,
    "select": Kind.MOVE,
    "slice": Kind.MOVE,
    "split": Kind.MOVE,
    "chunk": Kind.MOVE,
    "stack": Kind.MOVE,
    "sum": Kind.REDUCTION,
    "sym_size": Kind.SHAPE,
    "type_as": Kind.CAST,
    "unbind": Kind.MOVE,
    "where": Kind.MOVE,
}
"""Kinds of frequent ops of torch that have no ONNX name, by their name without namespace and overload."""


def kind_of(op: str) -> Kind | None:
    """The kind of an op; None for one of torch that is not listed here."""
    if op in OPS:
        return OPS[op].kind
    return TORCH_KINDS.get(op.split(".")[1]) if op.count(".") == 2 else None


def is_activation(op: str) -> bool:
    """Whether an op is one of ffebm's own monotone activations; they may still depend on parameters."""
    return op in OPS and OPS[op].kind is Kind.ACTIVATION
