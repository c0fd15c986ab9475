from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from ffebm.graph.ops import OPS, Kind
from ffebm.runtime.kernels import KERNELS, Call, Subgraph
from ffebm.runtime.kernels.call import Value

GENERATOR = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Example:
    """Small inputs for an op; its gradient is checked for every float64 one."""

    op: str
    inputs: tuple[Tensor | None, ...]
    attrs: Mapping[str, Value] = field(default_factory=dict)
    graphs: Mapping[str, Subgraph] = field(default_factory=dict)
    training: bool = False
    n_outputs: int = 1

    def __str__(self) -> str:
        attrs = ",".join(f"{name}={value}" for name, value in self.attrs.items())
        return f"{self.op}({attrs})".replace(" ", "")


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=GENERATOR)


def between(low: float, high: float, *shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=GENERATOR) * (high - low) + low


def distinct(*shape: int) -> Tensor:
    """Numbers far enough apart that a small step changes no order and crosses no zero."""
    n = torch.Size(shape).numel()
    return ((torch.randperm(n, generator=GENERATOR) - n / 2 + 0.25) / 4).double().reshape(shape)


def ints(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def one(number: int) -> Tensor:
    return torch.tensor(number)


FUNCTIONS = [
    *(
        Example(op, (distinct(2, 3),))
        for op in [
            "Abs",
            "Asinh",
            "Atan",
            "Celu",
            "Cos",
            "Cosh",
            "Elu",
            "Erf",
            "Exp",
            "Gelu",
            "HardSigmoid",
            "HardSwish",
            "Identity",
            "LeakyRelu",
            "Mish",
            "Neg",
            "Relu",
            "Selu",
            "Shrink",
            "Sigmoid",
            "Sin",
            "Sinh",
            "Softplus",
            "Softsign",
            "Swish",
            "Tan",
            "Tanh",
            "ThresholdedRelu",
        ]
    ),
    *(Example(op, (between(-0.8, 0.8, 4),)) for op in ("Acos", "Asin", "Atanh")),
    *(Example(op, (between(1.5, 3, 4),)) for op in ("Acosh", "Log", "Reciprocal", "Sqrt")),
    Example("Celu", (distinct(6),), {"alpha": 2.0}),
    Example("Clip", (distinct(6), torch.tensor(-0.5), torch.tensor(0.5))),
    Example("Clip", (distinct(6), None, torch.tensor(0.6, dtype=torch.float64))),
    Example("Gelu", (normal(4),), {"approximate": "tanh"}),
    Example("PRelu", (distinct(2, 3), normal(3))),
    Example("SwiGLU", (normal(4), normal(4)), {"alpha": 0.5}),
    Example("Cast", (normal(3),), {"to": 11}),
    Example("CastLike", (normal(3), torch.zeros(1, dtype=torch.float64))),
]

ARITHMETIC = [
    *(Example(op, (normal(2, 3), normal(3))) for op in ("Add", "Mul", "Sub")),
    *(Example(op, (distinct(2, 3), distinct(2, 3) + 0.11)) for op in ("Max", "Min")),
    *(Example(op, (normal(2, 3), normal(3), normal(1))) for op in ("Mean", "Sum")),
    Example("Div", (normal(2, 3), between(1, 2, 3))),
    Example("Mod", (between(2.2, 2.8, 3), between(0.9, 1.05, 3)), {"fmod": 1}),
    Example("Pow", (between(1, 2, 2, 3), normal(3))),
    Example("Where", (torch.tensor([True, False]), normal(2), normal(2))),
]

LINEAR = [
    Example("Conv", (normal(1, 2, 5), normal(3, 2, 2), normal(3)), {"pads": (1, 0), "strides": (2,)}),
    Example("Conv", (normal(1, 2, 4, 4), normal(4, 1, 3, 2)), {"group": 2, "auto_pad": "SAME_UPPER"}),
    Example("Conv", (normal(1, 1, 3, 3, 3), normal(1, 1, 2, 2, 2)), {"dilations": (1, 2, 1)}),
    Example(
        "ConvTranspose",
        (normal(1, 2, 2, 3), normal(2, 2, 3, 2), normal(2)),
        {"strides": (2, 1), "pads": (1, 0, 0, 0), "output_padding": (1, 0)},
    ),
    Example("Gemm", (normal(3, 2), normal(4, 3), normal(4)), {"transA": 1, "transB": 1, "alpha": 0.5}),
    Example("MatMul", (normal(2, 2, 3), normal(3, 2))),
    Example("Einsum", (normal(2, 3), normal(3, 2)), {"equation": "ij, jk -> ik"}),
    Example(
        "DeformConv",
        (
            normal(1, 2, 4, 4),
            normal(2, 2, 2, 2),
            between(0.1, 0.4, 1, 8, 3, 3),
            normal(2),
            normal(1, 4, 3, 3),
        ),
    ),
    Example("CausalConvWithState", (normal(1, 2, 4), normal(2, 1, 3), normal(2)), {"activation": "silu"}),
    Example("Det", (normal(2, 2, 2),)),
]

REGION = torch.tensor([[0.7, 0.9, 2.3, 3.1]], dtype=torch.float64)
POOLING = [
    Example("AveragePool", (normal(1, 1, 5),), {"kernel_shape": (2,), "strides": (2,), "ceil_mode": 1}),
    Example("AveragePool", (normal(1, 1, 4, 4),), {"kernel_shape": (3, 2), "pads": (1, 0, 0, 1)}),
    Example("MaxPool", (distinct(1, 2, 4, 4),), {"kernel_shape": (2, 2), "pads": (1, 1, 0, 0)}, n_outputs=2),
    Example("LpPool", (between(0.5, 1, 1, 1, 4, 4),), {"kernel_shape": (2, 2), "p": 3}),
    Example("GlobalAveragePool", (normal(1, 2, 3, 3),)),
    Example("GlobalLpPool", (distinct(1, 2, 3),)),
    Example("GlobalMaxPool", (distinct(1, 2, 3, 3),)),
    Example(
        "MaxUnpool",
        (normal(1, 1, 2, 2), ints(5, 7, 13, 15).reshape(1, 1, 2, 2)),
        {"kernel_shape": (2, 2), "strides": (2, 2)},
    ),
    Example("RoiAlign", (normal(1, 1, 4, 4), REGION, ints(0)), {"output_width": 2}),
]

NORMALISATION = [
    Example(
        "BatchNormalization",
        (normal(3, 2, 2), normal(2), normal(2), torch.zeros(2), torch.ones(2)),
        training=True,
        n_outputs=3,
    ),
    Example("BatchNormalization", (normal(3, 2), normal(2), normal(2), torch.zeros(2), torch.ones(2))),
    Example("GroupNormalization", (normal(2, 4, 2), normal(4), normal(4)), {"num_groups": 2}),
    Example("InstanceNormalization", (normal(2, 2, 3), normal(2), normal(2))),
    Example("LRN", (normal(1, 4, 2),), {"size": 3, "alpha": 0.5}),
    Example("LayerNormalization", (normal(2, 2, 3), normal(2, 3), normal(2, 3)), {"axis": 1}),
    Example("LogSoftmax", (normal(2, 3),), {"axis": 0}),
    Example("LpNormalization", (normal(2, 3),)),
    Example("MeanVarianceNormalization", (normal(2, 2, 2, 2),)),
    Example("RMSNormalization", (normal(2, 3), normal(3))),
    Example("Softmax", (normal(2, 3),)),
]

REDUCTION = [
    *(Example(f"Reduce{name}", (normal(2, 3, 2), ints(-1, 0)), {"keepdims": 0}) for name in ("Mean", "Sum")),
    *(
        Example(f"Reduce{name}", (distinct(2, 3, 2), ints(1)))
        for name in ("L1", "L2", "LogSumExp", "Max", "Min", "Prod", "SumSquare")
    ),
    Example("ReduceLogSum", (between(1, 2, 2, 3),)),
    Example("CumProd", (normal(2, 3), one(1)), {"exclusive": 1}),
    Example("CumSum", (normal(2, 3), one(1)), {"reverse": 1}),
    Example("TopK", (distinct(2, 4), ints(2)), n_outputs=2),
]

MOVES = [
    Example("CenterCropPad", (normal(3, 2), ints(2, 4))),
    Example("Compress", (normal(3, 2), torch.tensor([True, False, True])), {"axis": 0}),
    Example("Concat", (normal(2, 1), normal(2, 2)), {"axis": -1}),
    Example("DepthToSpace", (normal(1, 4, 1, 2),), {"blocksize": 2, "mode": "CRD"}),
    Example("Expand", (normal(2, 1), ints(3, 1, 2))),
    Example("Flatten", (normal(2, 2, 2),), {"axis": 2}),
    Example("Gather", (normal(3, 2), ints(-1, 0, 0))),
    Example("GatherElements", (normal(2, 2), ints(0, 1, 1, 0).reshape(2, 2))),
    Example("GatherND", (normal(2, 2, 2), ints(1, 0).reshape(2, 1)), {"batch_dims": 1}),
    *(Example("Pad", (normal(2, 3), ints(0, 1, 1, 2)), {"mode": m}) for m in ("constant", "edge", "wrap")),
    Example("Pad", (normal(2, 3), ints(1, 2), None, ints(1)), {"mode": "reflect"}),
    Example("Reshape", (normal(2, 3), ints(0, -1, 1))),
    Example("ReverseSequence", (normal(3, 2), ints(2, 3))),
    *(
        Example(op, (normal(3, 2), ints(2, 0, 1, 2).reshape(2, 2), normal(2, 2)))
        for op in ("Scatter", "ScatterElements")
    ),
    Example(
        "ScatterElements",
        (normal(3, 2), ints(2, 0, 2, 2).reshape(2, 2), normal(2, 2)),
        {"reduction": "add"},
    ),
    Example("ScatterND", (normal(3, 2), ints(2, 0).reshape(2, 1), normal(2, 2))),
    Example("ScatterND", (normal(3, 2), ints(2, 2).reshape(2, 1), normal(2, 2)), {"reduction": "mul"}),
    Example("Slice", (normal(4, 3), ints(3, 0), ints(-5, 2), ints(0, 1), ints(-2, 1))),
    Example("SpaceToDepth", (normal(1, 1, 2, 2),), {"blocksize": 2}),
    Example("Split", (normal(4, 2), ints(1, 3)), n_outputs=2),
    Example("Squeeze", (normal(1, 2, 1), ints(0))),
    Example("TensorScatter", (normal(1, 3, 2), normal(1, 2, 2), ints(1))),
    Example("Tile", (normal(2, 1), ints(1, 3))),
    Example("Transpose", (normal(2, 3, 1),), {"perm": (2, 0, 1)}),
    Example("Trilu", (normal(3, 3), one(1))),
    Example("Unsqueeze", (normal(2), ints(0, 2))),
    Example("OptionalGetElement", (normal(2),)),
]

TRANSFORMS = [
    Example("AffineGrid", (normal(1, 2, 3), ints(1, 1, 2, 3))),
    Example("Col2Im", (normal(1, 4, 4), ints(3, 3), ints(2, 2))),
    Example("DFT", (normal(1, 4, 1),), {"onesided": 1}),
    Example("DFT", (normal(1, 4, 2),), {"inverse": 1}),
    *(
        Example("GridSample", (normal(1, 1, 3, 3), between(-0.6, -0.1, 1, 2, 2, 2)), {"mode": mode})
        for mode in ("linear", "cubic")
    ),
    *(
        Example("Resize", (normal(1, 1, 3, 4), None, torch.tensor([1, 1, 2, 0.5])), {"mode": mode})
        for mode in ("nearest", "linear", "cubic")
    ),
    Example("STFT", (normal(1, 6, 1), one(2), normal(4), one(4))),
]

RECURRENT = [
    *(
        Example(
            op,
            (normal(2, 1, 2), normal(2, gates * 2, 2), normal(2, gates * 2, 2), normal(2, 2 * gates * 2)),
            {"hidden_size": 2, "direction": "bidirectional"},
            n_outputs=2,
        )
        for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
    ),
    Example(
        "GRU",
        (normal(2, 1, 2), normal(1, 6, 2), normal(1, 6, 2), None, ints(1), normal(1, 1, 2)),
        {"hidden_size": 2, "linear_before_reset": 1},
    ),
]

ATTENTION = [
    Example("Attention", (normal(1, 2, 2, 2), normal(1, 1, 3, 2), normal(1, 1, 3, 2)), {"is_causal": 1}),
    Example(
        "Attention",
        (normal(1, 2, 4), normal(1, 2, 4), normal(1, 2, 4)),
        {"q_num_heads": 2, "kv_num_heads": 2},
    ),
    Example(
        "LinearAttention",
        (normal(1, 2, 4), normal(1, 2, 2), normal(1, 2, 2), None, normal(1, 2, 1), normal(1, 2, 1)),
        {"q_num_heads": 2, "kv_num_heads": 1},
    ),
    Example("RotaryEmbedding", (normal(1, 1, 2, 4), normal(3, 2), normal(3, 2), ints(0, 2).reshape(1, 2))),
    Example(
        "ai.onnx.preview.FlexAttention",
        (normal(1, 1, 2, 2), normal(1, 1, 2, 2), normal(1, 1, 2, 2)),
        graphs={"score_mod": lambda scores: (scores * 2,)},
    ),
    Example(
        "com.microsoft.MultiHeadAttention",
        (*(normal(1, 3, 4) for _ in range(3)), normal(12), ints(1, 1, 0).reshape(1, 3)),
        {"num_heads": 2, "unidirectional": 1},
    ),
    Example(
        "com.microsoft.EmbedLayerNormalization",
        (
            ints(0, 2, 1).reshape(1, 3),
            ints(0, 1, 0).reshape(1, 3),
            *(normal(3, 4), normal(5, 4), normal(2, 4), normal(4), normal(4)),
        ),
        n_outputs=3,
    ),
]

LEARNING = [
    Example("ai.onnx.ml.ArrayFeatureExtractor", (normal(3, 4), ints(2, 0))),
    Example(
        "ai.onnx.ml.Imputer",
        (torch.tensor([[0.5, torch.nan], [torch.nan, 0.2]], dtype=torch.float64),),
        {"imputed_value_floats": (1.0, 2.0), "replaced_value_float": float("nan")},
    ),
]

LOSSES = [
    Example("NegativeLogLikelihoodLoss", (normal(2, 3), ints(0, 2))),
    Example(
        "SoftmaxCrossEntropyLoss", (normal(2, 3, 2), ints(0, 2, 1, 1).reshape(2, 2)), {"ignore_index": 1}
    ),
]

FACTOR = normal(2)
CONTROL = [
    Example("If", (torch.tensor(True),), graphs={"then_branch": lambda: (FACTOR * FACTOR,)}),
    Example("Loop", (one(3), None, normal(2)), graphs={"body": lambda i, go, s: (go, s * s)}),
    Example(
        "Scan",
        (normal(2), normal(3, 2)),
        {"num_scan_inputs": 1},
        {"body": lambda s, x: (s * x, s + x)},
        n_outputs=2,
    ),
]

DROPOUT = [Example("Dropout", (normal(4), torch.tensor(0.5)), training=True)]

EXAMPLES = [
    *FUNCTIONS,
    *ARITHMETIC,
    *LINEAR,
    *POOLING,
    *NORMALISATION,
    *REDUCTION,
    *MOVES,
    *TRANSFORMS,
    *RECURRENT,
    *ATTENTION,
    *LEARNING,
    *LOSSES,
    *CONTROL,
    *DROPOUT,
]

SUPPORTS: dict[str, Value] = {
    "support_vectors": (0.5, -1.0, 0.3, 1.2, -0.4, 0.8, 1.0, 0.1),
    "coefficients": (0.7, -0.5, 1.1, -0.9),
    "kernel_type": "RBF",
    "kernel_params": (0.4, 0.0, 0.0),
    "rho": (0.2,),
}
PLANE: dict[str, Value] = {"coefficients": (0.5, -1.0, 0.3, 0.2, 0.7, -0.4), "intercepts": (0.1, 0.2, 0.3)}
IN_32_BITS = [
    *(
        Example("ai.onnx.ml.Normalizer", (between(0.5, 2, 3, 4),), {"norm": norm})
        for norm in ("MAX", "L1", "L2")
    ),
    Example("ai.onnx.ml.FeatureVectorizer", (normal(3, 2), normal(3, 3)), {"inputdimensions": (2, 2)}),
    Example(
        "ai.onnx.ml.LinearClassifier",
        (normal(4, 2),),
        {**PLANE, "classlabels_ints": (1, 2, 3), "post_transform": "SOFTMAX"},
    ),
    Example("ai.onnx.ml.SVMRegressor", (normal(3, 2),), {**SUPPORTS, "n_supports": 4}),
    Example(
        "ai.onnx.ml.SVMClassifier",
        (normal(3, 2),),
        {**SUPPORTS, "vectors_per_class": (2, 2), "classlabels_ints": (1, 2)},
    ),
]
"""Ops of ai.onnx.ml whose results have 32 bits, whatever their inputs have."""


@pytest.mark.parametrize("example", IN_32_BITS, ids=str)
def test_gradient_is_the_slope_in_32_bits(example: Example) -> None:
    inputs = [x.float().requires_grad_() for x in example.inputs if x is not None]

    def run(*values: Tensor) -> Tensor:
        result = KERNELS[example.op](Call(example.op, example.attrs), *values)
        y = result if isinstance(result, Tensor) else result[1]
        return (y * torch.linspace(1, 2, y.numel()).reshape(y.shape)).sum()

    gradients = torch.autograd.grad(run(*inputs), inputs)
    for position, gradient in enumerate(gradients):
        for index, found in enumerate(gradient.reshape(-1).tolist()):
            step = torch.zeros(gradient.numel()).index_fill(0, torch.tensor([index]), 1e-2)
            ends = []
            for sign in (1, -1):
                moved = [x.detach().clone() for x in inputs]
                moved[position] += sign * step.reshape(gradient.shape)
                ends.append(float(run(*moved)))
            slope = (ends[0] - ends[1]) / 2e-2
            assert abs(slope - found) <= 1e-2 * max(1.0, abs(slope))


WITHOUT_GRADIENT = {
    *(f"ai.onnx.ml.TreeEnsemble{kind}" for kind in ("", "Classifier", "Regressor")),
    "ai.onnx.ml.Binarizer",
    *("ArgMax", "ArgMin"),  # an index
    *("Ceil", "Floor", "Round", "Sign", "Hardmax"),  # constant between its steps
    "BitCast",
}
KINDS_WITHOUT_GRADIENT = {Kind.INTEGER, Kind.QUANTISED, Kind.RANDOM, Kind.SHAPE, Kind.STATE}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_gradient_is_the_slope(example: Example) -> None:
    leaves = [
        x.clone().requires_grad_() for x in example.inputs if x is not None and x.dtype == torch.float64
    ]

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        left = iter(values)
        inputs = [next(left) if x is not None and x.dtype == torch.float64 else x for x in example.inputs]
        generator = torch.Generator().manual_seed(1)
        call = Call(
            example.op,
            example.attrs,
            example.n_outputs,
            training=example.training,
            graphs=example.graphs,
            generator=generator,
        )
        result = KERNELS[example.op](call, *inputs)
        outputs = (result,) if isinstance(result, Tensor) else result
        return tuple(y for y in outputs if y.dtype == torch.float64 and y.requires_grad)

    if leaves:
        assert run(*leaves), "no output has a gradient"
        assert gradcheck(run, leaves)


def test_every_differentiable_op_has_an_example() -> None:
    exempt = {op for op in OPS if OPS[op].kind in KINDS_WITHOUT_GRADIENT} | WITHOUT_GRADIENT
    assert set(OPS) - exempt - {example.op for example in (*EXAMPLES, *IN_32_BITS)} == set()
