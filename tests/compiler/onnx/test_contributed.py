"""Ops of com.microsoft, which onnxruntime's quantiser and optimiser write: as onnxruntime computes them."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
from ffebm.graph.tensor import Array
from tests.models import as_tuple, oracle, relative_error, tensors

CASES = Path(__file__).parents[2] / "cases"
RNG = np.random.default_rng(0)
FLOAT, UINT8, INT8, INT32 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def bytes_of(kind: type[np.integer], *shape: int) -> Array:
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, shape, endpoint=True).astype(kind)


def scale(number: float) -> Array:
    return np.array(number, np.float32)


def zero(kind: type[np.integer], number: int) -> Array:
    return np.array(number, kind)


@dataclass(frozen=True)
class Example:
    """A node of com.microsoft.

    Attributes:
        op: Its op.
        fed: Inputs that are fed, by position.
        held: Inputs that are constants, by position; what is in neither is left out.
        attrs: Its attributes.
        outputs: Element types of its outputs; 0 leaves one out.
        domain: Its domain.
    """

    op: str
    fed: Mapping[int, Array]
    held: Mapping[int, Array] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[int, ...] = (FLOAT,)
    domain: str = "com.microsoft"

    def __str__(self) -> str:
        return f"{self.op}({','.join(map(str, sorted({**self.fed, **self.held})))};{dict(self.attrs)})"

    def model(self, opset: int = 17) -> tuple[ModelProto, dict[str, Array]]:
        given = {**self.fed, **self.held}
        names = [f"x{n}" if n in given else "" for n in range(max(given) + 1)]
        made = [f"y{n}" if kind else "" for n, kind in enumerate(self.outputs)]
        node = helper.make_node(self.op, names, made, name="node", domain=self.domain, **self.attrs)
        ports = [
            helper.make_tensor_value_info(
                f"x{n}",
                helper.np_dtype_to_tensor_dtype(array.dtype),
                _open(f"d{n}", array.shape),
            )
            for n, array in self.fed.items()
        ]
        results = [
            helper.make_tensor_value_info(f"y{n}", kind, None) for n, kind in enumerate(self.outputs) if kind
        ]
        constants = [numpy_helper.from_array(array, f"x{n}") for n, array in self.held.items()]
        graph = helper.make_graph([node], "test", ports, results, constants)
        domains = [helper.make_opsetid(d, 1) for d in {"com.microsoft", self.domain} - {""}]
        imports = [helper.make_opsetid("", opset), *domains]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        return model, {f"x{n}": array for n, array in self.fed.items()}


def _open(batch: str, shape: tuple[int, ...]) -> list[str | int | None]:
    """A shape whose first size has a name."""
    return [size if axis else batch for axis, size in enumerate(shape)]


def run(model: ModelProto, feeds: Mapping[str, Array]) -> tuple[torch.Tensor, ...]:
    """What we compute; the sizes of the first output are known before, or what follows gets on no tile."""
    plan = compile_plan(model, hardware="ideal")
    found = as_tuple(Executor(plan)(**tensors(feeds)))
    shape = plan.outputs[0].type.shape
    assert shape is not None
    assert len(shape) == found[0].ndim
    assert shape[-1] == found[0].shape[-1] or "QLinearConcat" in plan.nodes[0].op
    return found


def pair(kind: type[np.integer], a: Array, b: Array) -> dict[int, Array]:
    return {0: a, 3: b}


SCALES = {1: scale(0.02), 4: scale(0.011), 6: scale(0.037)}


def zeros(kind: type[np.integer], *numbers: int) -> dict[int, Array]:
    return {position: zero(kind, number) for position, number in zip((2, 5, 7), numbers, strict=False)}


QUANTISED = [
    *(
        Example(op, pair(kind, bytes_of(kind, 3, 4, 5), b), {**SCALES, **z}, outputs=(code,))
        for op in ("QLinearAdd", "QLinearMul")
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
        for b in (bytes_of(kind, 3, 4, 5), bytes_of(kind, 5), bytes_of(kind, 4, 1))
        for z in (zeros(kind, 0, 0, 0), zeros(kind, 3, 5, 7))
    ),
    *(
        Example(
            op,
            {0: bytes_of(kind, 3, 70)},
            {1: scale(0.05), 2: zero(kind, 9), 3: scale(s), 4: zero(kind, 4)},
            attrs,
            (code,),
        )
        for op, s, attrs in (
            ("QLinearSigmoid", 1 / 256, {}),
            ("QLinearLeakyRelu", 0.04, {}),
            ("QLinearLeakyRelu", 0.04, {"alpha": 0.3}),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
    ),
    *(
        Example(
            "QLinearSoftmax",
            {0: bytes_of(kind, 3, 4, 5)},
            {1: scale(0.02), 2: zero(kind, 9), 3: scale(1 / 256), 4: zero(kind, 0)},
            {"axis": axis, "opset": opset},
            (code,),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
        for axis, opset in ((-1, 13), (1, 13), (1, 12))
    ),
    *(
        Example(
            "QLinearConcat",
            {2: bytes_of(kind, 2, 3), 5: bytes_of(kind, 2, 4)},
            {
                **{0: scale(0.03), 1: zero(kind, 5), 3: scale(0.02), 4: zero(kind, 8)},
                **{6: scale(0.03), 7: zero(kind, 5)},
            },
            {"axis": axis},
            (code,),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
        for axis in (1, -1)
    ),
    *(
        Example(
            "QLinearAveragePool",
            {0: bytes_of(kind, *shape)},
            {1: scale(0.03), 2: zero(kind, 5), 3: scale(0.02), 4: zero(kind, 8)},
            {"kernel_shape": [3, 2], **attrs},
            (code,),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
        for shape, attrs in (
            ((2, 3, 6, 7), {"strides": [2, 1], "pads": [1, 0, 1, 1]}),
            ((2, 3, 6, 7), {"pads": [1, 0, 1, 1], "count_include_pad": 1}),
            ((2, 6, 7, 3), {"channels_last": 1, "strides": [2, 2]}),
            ((2, 3, 6, 7), {"auto_pad": "SAME_UPPER"}),
        )
    ),
    *(
        Example(
            "QLinearWhere",
            {0: RNG.random((3, 1)) > 0.5, 1: bytes_of(kind, 3, 40), 4: bytes_of(kind, 40)},
            {
                2: scale(0.03),
                3: zero(kind, 5),
                5: scale(0.05),
                6: zero(kind, 7),
                7: scale(0.04),
                8: zero(kind, 3),
            },
            {},
            (code,),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
    ),
    *(
        Example(
            "QLinearGlobalAveragePool",
            {0: bytes_of(kind, 2, 3, 6, 7)},
            {1: scale(0.03), 2: zero(kind, 5), 3: scale(0.02), 4: zero(kind, 8)},
            {"channels_last": last},
            (code,),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
        for last in (0, 1)
    ),
    *(
        Example(
            "NhwcMaxPool",
            {0: bytes_of(kind, 2, 6, 7, 3)},
            {},
            {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 1, 0, 1]},
            (code,),
        )
        for kind, code in ((np.uint8, UINT8), (np.int8, INT8))
    ),
    *(
        Example(
            "QGemm",
            {0: bytes_of(np.uint8, 3, 6)},
            {
                **{1: scale(0.03), 2: zero(np.uint8, 5), 3: RNG.integers(-60, 60, b).astype(np.int8)},
                **{4: s, 5: np.zeros(s.shape, np.int8), **more},
            },
            {"transB": turned},
            outputs,
        )
        for b, turned in (((6, 4), 0), ((4, 6), 1))
        for s in (scale(0.02), np.array([0.02, 0.04, 0.01, 0.03], np.float32))
        for more, outputs in (
            ({}, (FLOAT,)),
            ({6: np.arange(4, dtype=np.int32) * 100}, (FLOAT,)),
            ({6: np.arange(4, dtype=np.int32), 7: scale(0.04), 8: zero(np.uint8, 9)}, (UINT8,)),
        )
    ),
]

PRODUCTS = [
    *(
        Example(
            "MatMulIntegerToFloat",
            {0: bytes_of(np.uint8, 3, 6)},
            {1: RNG.integers(-60, 60, (6, 4)).astype(np.int8), 2: scale(0.02), 3: s, **more},
        )
        for s in (scale(0.02), np.array([1, 2, 3, 4], np.float32))
        for more in ({}, {4: zero(np.uint8, 7), 6: floats(4)}, {4: zero(np.uint8, 7), 5: zero(np.int8, 3)})
    ),
    *(
        Example(
            "DynamicQuantizeMatMul",
            {0: floats(*shape)},
            {1: RNG.integers(-60, 60, (6, 4)).astype(np.int8), 2: s, **more},
        )
        for shape in ((3, 6), (2, 3, 6))
        for s in (scale(0.02), np.array([1, 2, 3, 4], np.float32))
        for more in ({}, {4: floats(4)}, {3: zero(np.int8, 3)})
    ),
    Example("QuantizeLinear", {0: floats(3, 4)}, {1: scale(0.02), 2: zero(np.int8, 3)}, {}, (INT8,)),
    Example("QuantizeLinear", {0: floats(3, 4)}, {1: scale(0.02), 2: zero(np.uint8, 90)}, {}, (UINT8,)),
    Example(
        "DequantizeLinear",
        {0: bytes_of(np.int8, 3, 4)},
        {1: np.array([1, 2, 3], np.float32), 2: np.array([1, 2, 3], np.int8)},
        {"axis": 0},
    ),
    Example("DequantizeLinear", {0: bytes_of(np.uint8, 3, 4)}, {1: scale(0.5), 2: zero(np.uint8, 3)}),
]


@pytest.mark.parametrize("example", QUANTISED, ids=str)
def test_quantised_results_are_those_of_onnxruntime(example: Example) -> None:
    model, feeds = example.model()
    (expected,), (found,) = oracle(model, feeds), run(model, feeds)
    assert found.numpy().dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype == np.float32:
        assert relative_error([found], [expected]) <= 1e-5
        return
    apart = np.abs(found.numpy().astype(int) - expected.astype(int))
    # onnxruntime's vector units round sums in 32 bits, and its softmax is a table: ties may fall by one step
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= max(1, 0.02 * apart.size)
    assert len(np.unique(expected)) > 2


@pytest.mark.parametrize("example", PRODUCTS, ids=str)
def test_products_are_those_of_onnxruntime(example: Example) -> None:
    model, feeds = example.model()
    found, expected = run(model, feeds), oracle(model, feeds)
    assert [x.numpy().dtype for x in found] == [x.dtype for x in expected]
    assert relative_error(found, expected) <= 1e-5


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_a_zero_point_that_is_left_out_is_zero(op: str) -> None:
    """onnxruntime declares it optional, and refuses models without it."""
    fed = pair(np.uint8, bytes_of(np.uint8, 4, 5), bytes_of(np.uint8, 5))
    without, feeds = Example(op, fed, SCALES, outputs=(UINT8,)).model()
    with_zeros, _ = Example(op, fed, {**SCALES, **zeros(np.uint8, 0, 0, 0)}, outputs=(UINT8,)).model()
    assert torch.equal(run(without, feeds)[0], run(with_zeros, feeds)[0])


IMAGE, KERNEL, BIAS = floats(2, 3, 6, 6), floats(4, 3, 3, 3), floats(4)
ROWS, MATRIX = floats(5, 6), floats(6, 4)
TOKENS, ATTENTION = floats(2, 5, 8), floats(8, 24)
RAW = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], np.int32)
LENGTHS, WINDOWS = np.array([3, 5], np.int32), np.array([3, 5, 1, 0], np.int32)
IDS = np.array([[1, 4, 2], [3, 3, 0]], np.int32)
TABLES = {2: floats(5, 8), 3: floats(4, 8), 5: floats(8), 6: floats(8)}

FUSED = [
    *(
        Example("FusedConv", {0: IMAGE}, {1: KERNEL, 2: BIAS}, {"pads": [1] * 4, "activation": name, **more})
        for name, more in (
            ("Relu", {}),
            ("Sigmoid", {}),
            ("Tanh", {}),
            ("LeakyRelu", {"activation_params": [0.2]}),
            ("Clip", {"activation_params": [-0.3, 0.4]}),
            ("HardSigmoid", {"activation_params": [0.3, 0.4]}),
        )
    ),
    Example("FusedConv", {0: IMAGE}, {1: KERNEL}, {"activation": "Relu", "strides": [2, 2]}),
    Example("FusedConv", {0: IMAGE, 3: floats(2, 4, 4, 4)}, {1: KERNEL, 2: BIAS}, {"activation": "Relu"}),
    Example("FusedGemm", {0: ROWS}, {1: MATRIX, 2: BIAS}, {"activation": "Relu"}),
    Example("FusedGemm", {0: ROWS}, {1: MATRIX.T.copy()}, {"activation": "Tanh", "transB": 1, "alpha": 0.5}),
    Example(
        "FusedGemm",
        {0: ROWS},
        {1: MATRIX, 2: BIAS},
        {"activation": "LeakyRelu", "activation_alpha": 0.3, "beta": 2.0},
    ),
    Example("FusedMatMul", {0: ROWS}, {1: MATRIX}, {"alpha": 0.5}),
    Example("FusedMatMul", {0: ROWS}, {1: MATRIX.T.copy()}, {"transB": 1}),
    Example("FusedMatMul", {0: floats(6, 5), 1: MATRIX}, {}, {"transA": 1, "alpha": 2.0}),
    Example("FusedMatMul", {0: floats(2, 6, 3), 1: floats(2, 4, 6)}, {}, {"transA": 1, "transB": 1}),
    Example("FusedMatMul", {0: floats(5, 2, 6), 1: floats(2, 6, 3)}, {}, {"transBatchA": 1}),
    Example("Gelu", {0: floats(4, 5) * 3}),
    Example("BiasGelu", {0: TOKENS}, {1: floats(8)}),
    Example("FastGelu", {0: floats(4, 5) * 3}),
    Example("FastGelu", {0: TOKENS}, {1: floats(8)}),
    Example("QuickGelu", {0: floats(4, 5)}),
    Example("QuickGelu", {0: floats(4, 5)}, {}, {"alpha": 1.0}),
    *(
        Example(
            "SkipLayerNormalization",
            {0: TOKENS, 1: floats(2, 5, 8)},
            {2: floats(8), **held},
            {"epsilon": 1e-5},
            outputs,
        )
        for held in ({}, {3: floats(8)}, {3: floats(8), 4: floats(8)}, {4: floats(8)})
        for outputs in ((FLOAT,), (FLOAT, 0, 0, FLOAT))
    ),
    *(
        Example(
            "SkipSimplifiedLayerNormalization",
            {0: TOKENS, 1: floats(2, 5, 8)},
            {2: floats(8), **held},
            {},
            (FLOAT, 0, 0, FLOAT),
        )
        for held in ({}, {3: floats(8)})
    ),
    Example("SimplifiedLayerNormalization", {0: TOKENS}, {1: floats(8)}, {"epsilon": 1e-5}, domain=""),
    *(
        Example("Attention", {0: TOKENS, **fed}, {1: ATTENTION, 2: floats(24)}, {"num_heads": 2, **attrs})
        for fed, attrs in (
            ({}, {}),
            ({3: RAW}, {}),
            ({3: LENGTHS}, {}),
            ({3: WINDOWS}, {}),
            ({}, {"unidirectional": 1}),
            ({3: RAW}, {"unidirectional": 1}),
            ({5: floats(2, 2, 5, 5)}, {"scale": 0.3}),
            ({3: np.tril(np.ones((2, 5, 5), np.int32))}, {"mask_filter_value": -50.0}),
        )
    ),
    Example(
        "Attention",
        {0: TOKENS},
        {1: floats(8, 20), 2: floats(20)},
        {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]},
    ),
    *(
        Example(
            "MultiHeadAttention",
            {0: TOKENS, 1: floats(2, 4, 8), 2: floats(2, 4, 8), **fed},
            held,
            {"num_heads": 4, **attrs},
        )
        for fed, held, attrs in (
            ({}, {}, {}),
            ({}, {3: floats(24)}, {"scale": 0.5}),
            ({4: RAW[:, :4].copy()}, {}, {}),
            ({5: floats(1, 4, 5, 4)}, {}, {}),
        )
    ),
    Example(
        "MultiHeadAttention",
        {0: TOKENS, 1: floats(2, 5, 8), 2: floats(2, 5, 8), 6: floats(2, 4, 3, 2), 7: floats(2, 4, 3, 2)},
        {},
        {"num_heads": 4, "unidirectional": 1},
        (FLOAT, FLOAT, FLOAT),
    ),
    Example("EmbedLayerNormalization", {0: IDS}, TABLES, {"epsilon": 1e-5}, (FLOAT, INT32)),
    Example(
        "EmbedLayerNormalization",
        {0: IDS, 1: IDS % 2, 7: IDS % 2, 8: IDS % 4},
        {**TABLES, 4: floats(2, 8)},
        {},
        (FLOAT, INT32, FLOAT),
    ),
]


@pytest.mark.parametrize("example", FUSED, ids=str)
def test_fused_ops_are_those_of_onnxruntime(example: Example) -> None:
    model, feeds = example.model()
    found, expected = run(model, feeds), oracle(model, feeds)
    assert [x.detach().numpy().dtype for x in found] == [x.dtype for x in expected]
    assert relative_error(found, expected) <= 2e-5


def test_fused_layers_train_and_go_to_tiles() -> None:
    plan = compile_plan(CASES / "ort_ext.onnx", hardware="ideal")
    assert set(plan.trainable) == {"w", "b", "dw", "db", "fw", "fb"}
    assert {"Conv", "Relu", "MaxPool", "Gemm"} <= {node.op for node in plan.nodes}
    assert {node.unit for node in plan.nodes if node.op in {"Conv", "Gemm"}} == {"tile"}
    model, _ = Example("Attention", {0: TOKENS}, {1: ATTENTION, 2: floats(24)}, {"num_heads": 2}).model()
    plan = compile_plan(model, hardware="ideal")
    assert set(plan.trainable) == {"x1", "x2"}
    assert {node.op: node.unit for node in plan.nodes}["MatMul"] == "tile"


def test_layer_normalization_of_an_older_opset() -> None:
    """onnxruntime's optimiser writes it in ONNX's own domain, where opset 17 brings it."""
    attrs = {"axis": -1, "epsilon": 1e-5}
    model, feeds = Example(
        "LayerNormalization", {0: TOKENS}, {1: floats(8), 2: floats(8)}, attrs, domain=""
    ).model(14)
    assert relative_error(run(model, feeds), oracle(model, feeds)) <= 1e-5


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            Example(
                "QLinearAdd", {0: bytes_of(np.uint8, 4), 3: bytes_of(np.uint8, 4)}, {1: scale(1), 4: scale(1)}
            ),
            "model:node: QLinearAdd: 5 inputs; 7 to 8 are allowed",
        ),
        (
            Example("FusedConv", {0: IMAGE}, {1: KERNEL}, {"relu": 1}),
            "model:node: FusedConv: attribute 'relu' is unknown; its attributes are activation,"
            " activation_params, auto_pad, dilations, group, kernel_shape, pads, strides",
        ),
        (
            Example("FusedConv", {0: IMAGE}, {1: KERNEL}, {"activation": "Clip"}),
            "model:node: com.microsoft.FusedConv: its attributes do not fit: zip() argument 2 is shorter than"
            " argument 1; what onnxruntime runs",
        ),
        (
            Example("FusedConv", {0: IMAGE}, {1: KERNEL}, {"activation": "Odd"}),
            "model:node: com.microsoft.FusedConv: activation 'Odd'; Clip, Relu, Sigmoid, Tanh, LeakyRelu,"
            " HardSigmoid, Elu",
        ),
        (
            Example(
                "Attention",
                {0: TOKENS, 4: floats(2, 2, 2, 3, 4)},
                {1: ATTENTION, 2: floats(24)},
                {"num_heads": 2},
            ),
            "model:node: com.microsoft.Attention: keys and values of earlier runs; attention without a cache",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said(example: Example, message: str) -> None:
    model, _ = example.model()
    with pytest.raises(ModelError) as error:
        compile_plan(model, hardware="ideal")
    assert str(error.value) == message


def test_what_folds_constants_can_still_be_loaded() -> None:
    """In a new process: the reference evaluator refuses to load where two domains have an op of one name."""
    code = "from ffebm.compiler.onnx.contributed import register; register(); import onnx.reference"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
