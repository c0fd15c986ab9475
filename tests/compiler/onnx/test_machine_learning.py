"""Ops of ai.onnx.ml, which scikit-learn's and LightGBM's converters write: as onnxruntime computes them."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ffebm import Executor, load_plan
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
from ffebm.graph.tensor import Array
from tests.models import as_tuple, oracle, tensors

RNG = np.random.default_rng(0)
FLOAT, INT64, TEXT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
CLASSIFIER = (INT64, FLOAT)
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def model_of(
    op: str, feeds: Mapping[str, Array], outputs: Sequence[int], attrs: Mapping[str, Any], version: int = 3
) -> ModelProto:
    node = helper.make_node(
        op, list(feeds), [f"y{n}" for n in range(len(outputs))], "node", domain="ai.onnx.ml", **attrs
    )
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), ["N", *x.shape[1:]])
        for name, x in feeds.items()
    ]
    results = [helper.make_tensor_value_info(f"y{n}", kind, None) for n, kind in enumerate(outputs)]
    graph = helper.make_graph([node], "test", ports, results)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def run(model: ModelProto, feeds: Mapping[str, Array]) -> tuple[torch.Tensor, ...]:
    found = Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds))
    return tuple(x.detach() for x in as_tuple(found))


def check(model: ModelProto, feeds: Mapping[str, Array]) -> None:
    for found, expected in zip(run(model, feeds), oracle(model, feeds), strict=True):
        assert found.numpy().dtype == expected.dtype
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-4, atol=1e-5, equal_nan=True)


def floats(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def grown(
    n_trees: int, kind: str, ids: Sequence[int], *, positive: bool, modes: Sequence[str]
) -> dict[str, Any]:
    """Random trees of depth 3 at most over 4 features; leaves give weights to some of the targets."""
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids", "values", "modes")
    rows: dict[str, list[Any]] = {f"nodes_{name}": [] for name in (*names, "missing_value_tracks_true")}
    leaves: dict[str, list[Any]] = {f"{kind}_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(n_trees):
        count, queue = 1, [(0, 0)]
        for number, depth in queue:
            inner = depth < 3 and (depth == 0 or RNG.random() < 0.6)
            children = (count, count + 1) if inner else (0, 0)
            mode = str(RNG.choice(modes)) if inner else "LEAF"
            row = (tree, number, int(RNG.integers(4)), *children, float(RNG.choice([-0.5, 0, 0.5])), mode)
            for name, value in zip(names, row, strict=True):
                rows[f"nodes_{name}"].append(value)
            rows["nodes_missing_value_tracks_true"].append(int(RNG.integers(2)))
            if inner:
                queue += [(count, depth + 1), (count + 1, depth + 1)]
                count += 2
                continue
            for target in ids:
                weight = float(RNG.choice([0.1, 0.25, 0.05])) if positive else float(RNG.normal())
                for name, value in zip(leaves, (tree, number, target, weight), strict=True):
                    leaves[name].append(value)
    return {**rows, **leaves}


def samples(n: int = 40) -> Array:
    """Samples that meet thresholds exactly, some with missing values."""
    x = RNG.choice([-1, -0.5, -0.25, 0, 0.25, 0.5, 1], (n, 4)).astype(np.float32)
    x[RNG.random((n, 4)) < 0.15] = np.nan
    return x


LEQ = ("BRANCH_LEQ",)
ALL = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


@pytest.mark.parametrize(
    ("classes", "ids", "positive", "base"),
    [
        (3, (0, 1, 2), True, 0),
        (3, (0, 1, 2), False, 0),
        (3, (0, 2), False, 3),
        (2, (0, 1), True, 0),
        (2, (0, 1), False, 0),
        (2, (1,), True, 0),
        (2, (1,), False, 0),
        (2, (0,), True, 0),
        (2, (0,), False, 0),
        (2, (0,), False, 1),
        (2, (0,), False, 2),
        (2, (1,), False, 1),
        (2, (1,), False, 2),
        (2, (0, 1), False, 2),
    ],
)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_tree_classifiers(
    classes: int, ids: Sequence[int], positive: bool, base: int, transform: str
) -> None:
    trees = grown(3, "class", ids, positive=positive, modes=ALL)
    attrs = {**trees, "classlabels_int64s": list(range(7, 7 + classes)), "post_transform": transform}
    if base:
        attrs["base_values"] = [0.2, -0.3, 0.1][:base]
    x = samples()
    model = model_of("TreeEnsembleClassifier", {"x": x}, CLASSIFIER, attrs)
    if transform == "PROBIT" and classes == 2 and 1 not in ids and base < 2:
        with pytest.raises(ModelError, match="PROBIT of one score for two classes"):
            run(model, {"x": x})
        return
    (label, scores), (expected, probabilities) = run(model, {"x": x}), oracle(model, {"x": x})
    expected_scores = torch.from_numpy(probabilities)
    torch.testing.assert_close(scores, expected_scores, rtol=1e-4, atol=1e-5, equal_nan=True)
    if classes == len(ids) == 2:  # onnxruntime gives 1 where the second score is above 0, whatever the labels
        best = np.nan_to_num(probabilities, nan=-9).argmax(1)
        expected = np.asarray([7, 8])[best] if transform != "PROBIT" else label.numpy()
    np.testing.assert_array_equal(label.numpy(), expected)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("targets", "aggregate"), [*product((1, 3), ("SUM", "AVERAGE", "MIN", "MAX"))])
def test_tree_regressors(targets: int, aggregate: str, transform: str) -> None:
    trees = grown(3, "target", range(targets), positive=transform == "PROBIT", modes=ALL)
    attrs = {"n_targets": targets, "aggregate_function": aggregate, "post_transform": transform}
    if aggregate != "AVERAGE":
        attrs["base_values"] = [0.05] * targets
    model = model_of("TreeEnsembleRegressor", {"x": samples()}, (FLOAT,), {**trees, **attrs})
    check(model, {"x": samples()})


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_tree_classifier_of_other_inputs(dtype: type[np.number]) -> None:
    trees = grown(4, "class", (0, 1, 2), positive=False, modes=LEQ)
    attrs = {**trees, "classlabels_int64s": [0, 1, 2], "post_transform": "SOFTMAX"}
    x = np.nan_to_num(samples()).astype(dtype)
    check(model_of("TreeEnsembleClassifier", {"x": x}, CLASSIFIER, attrs), {"x": x})


def test_trees_beside_the_text_of_the_plan(tmp_path: Path) -> None:
    """Many numbers lie with the tensors of a plan."""
    trees = grown(400, "target", (0,), positive=False, modes=LEQ)
    assert len(trees["nodes_values"]) > 1024
    model = model_of("TreeEnsembleRegressor", {"x": samples()}, (FLOAT,), {**trees, "n_targets": 1})
    check(model, {"x": samples()})
    plan = compile_plan(model, hardware="ideal")
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan") == plan
    x = torch.from_numpy(samples())
    assert torch.equal(as_tuple(Executor(load_plan(tmp_path / "plan"))(x))[0], as_tuple(Executor(plan)(x))[0])


MISSING = np.array([[1, np.nan, 3], [np.nan, 0, -1]], np.float32)
ZEROED = np.array([[1, -2, 0.5], [0, 0, 0], [-1, -3, -2]], np.float32)
PREPARED: list[tuple[str, Sequence[Array], int, dict[str, Any]]] = [
    ("Scaler", [floats(3, 4)], FLOAT, {"offset": [1.0, 2.0, 3.0, 4.0], "scale": [0.5, 2.0, 1.0, 3.0]}),
    ("Scaler", [floats(3, 4)], FLOAT, {"offset": [1.0], "scale": [0.5]}),
    ("Scaler", [np.arange(6).reshape(2, 3)], FLOAT, {"offset": [1.0] * 3, "scale": [0.5] * 3}),
    *(("Normalizer", [ZEROED], FLOAT, {"norm": norm}) for norm in ("MAX", "L1", "L2")),
    ("Normalizer", [np.arange(6).reshape(2, 3)], FLOAT, {"norm": "L2"}),
    ("Binarizer", [floats(3, 4)], FLOAT, {"threshold": 0.3}),
    ("Binarizer", [floats(3, 4)], FLOAT, {}),
    ("Imputer", [MISSING], FLOAT, {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": np.nan}),
    ("Imputer", [MISSING], FLOAT, {"imputed_value_floats": [7.0], "replaced_value_float": np.nan}),
    ("Imputer", [MISSING], FLOAT, {"imputed_value_floats": [7.0, 8.0, 9.0], "replaced_value_float": -1.0}),
    (
        "Imputer",
        [np.array([[1, 2], [2, 1]])],
        INT64,
        {"imputed_value_int64s": [7, 8], "replaced_value_int64": 2},
    ),
    ("OneHotEncoder", [np.array([[1], [3], [9]])], FLOAT, {"cats_int64s": [1, 2, 3]}),
    ("OneHotEncoder", [np.array([1, 2, 2])], FLOAT, {"cats_int64s": [1, 2, 3], "zeros": 0}),
    ("OneHotEncoder", [np.array([[1.0], [3.0]], np.float32)], FLOAT, {"cats_int64s": [1, 2, 3]}),
    (
        "LabelEncoder",
        [np.array([[1, 5], [3, 4]])],
        INT64,
        {"keys_int64s": [5, 1, 3], "values_int64s": [50, 10, 30], "default_int64": -7},
    ),
    ("LabelEncoder", [np.array([1, 2])], FLOAT, {"keys_int64s": [1], "values_floats": [0.5]}),
    (
        "LabelEncoder",
        [np.array([1, np.nan, 3], np.float32)],
        FLOAT,
        {"keys_floats": [np.nan, 3.0], "values_floats": [0.5, 2.5], "default_float": 9.0},
    ),
    ("FeatureVectorizer", [floats(3, 2), floats(3, 1)], FLOAT, {"inputdimensions": [2, 1]}),
    ("ArrayFeatureExtractor", [floats(3, 4), np.array([2, 0, 2])], FLOAT, {}),
    ("ArrayFeatureExtractor", [np.arange(5), np.array([[4], [1]])], INT64, {}),
]


@pytest.mark.parametrize(("op", "inputs", "kind", "attrs"), PREPARED, ids=lambda value: str(value)[:40])
def test_preparation_of_features(op: str, inputs: Sequence[Array], kind: int, attrs: dict[str, Any]) -> None:
    feeds = {f"x{n}": x for n, x in enumerate(inputs)}
    version = 4 if op == "LabelEncoder" else 1  # of which NaN is a key
    check(model_of(op, feeds, (kind,), attrs, version), feeds)


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
@pytest.mark.parametrize("rows", [1, 3])
def test_linear_classifiers(rows: int, transform: str) -> None:
    weights = floats(rows, 4)
    attrs = {
        "coefficients": weights.ravel().tolist(),
        "intercepts": floats(rows).tolist(),
        "classlabels_ints": [5, 7, 9][: max(2, rows)],
        "post_transform": transform,
    }
    x = floats(20, 4)
    model = model_of("LinearClassifier", {"x": x}, CLASSIFIER, attrs, 1)
    check(model, {"x": x})


@pytest.mark.parametrize("transform", TRANSFORMS[:3])
@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressors_with_a_transform(targets: int, transform: str) -> None:
    attrs = {"coefficients": floats(targets * 4).tolist(), "targets": targets, "post_transform": transform}
    x = floats(6, 4)
    check(model_of("LinearRegressor", {"x": x}, (FLOAT,), attrs, 1), {"x": x})


@pytest.mark.parametrize("transform", TRANSFORMS[:4])
def test_support_vectors_of_two_classes_with_a_transform(transform: str) -> None:
    attrs = {
        "coefficients": floats(6).tolist(),
        "support_vectors": floats(24).tolist(),
        "vectors_per_class": [2, 4],
        "rho": [0.1],
        "kernel_type": "RBF",
        "kernel_params": [0.3, 0.0, 3.0],
        "classlabels_ints": [5, 7],
        "post_transform": transform,
    }
    x = floats(20, 4)
    check(model_of("SVMClassifier", {"x": x}, CLASSIFIER, attrs, 1), {"x": x})


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("intercepts", [True, False])
def test_linear_regressors_train_on_tiles(targets: int, intercepts: bool) -> None:
    attrs: dict[str, Any] = {"coefficients": floats(targets * 4).tolist(), "targets": targets}
    if intercepts:
        attrs["intercepts"] = floats(targets).tolist()
    x = floats(6, 4)
    model = model_of("LinearRegressor", {"x": x}, (FLOAT,), attrs, 1)
    check(model, {"x": x})
    plan = compile_plan(model, hardware="ideal")
    assert plan.trainable == ("node.coefficients", "node.intercepts")[: 1 + intercepts]
    assert [node.unit for node in plan.nodes if node.op == "Gemm"] == ["tile"]


KERNELS = [
    ("LINEAR", [0.0, 0.0, 0.0]),
    ("RBF", [0.3, 0.0, 0.0]),
    ("POLY", [0.5, 1.0, 2.0]),
    ("SIGMOID", [0.2, 0.1, 0.0]),
]


@pytest.mark.parametrize(("kernel", "parameters"), KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_support_vector_regressors(kernel: str, parameters: list[float], one_class: int) -> None:
    attrs = {
        "coefficients": floats(5).tolist(),
        "support_vectors": floats(20).tolist(),
        "n_supports": 5,
        "rho": [0.2],
        "kernel_type": kernel,
        "kernel_params": parameters,
        "one_class": one_class,
    }
    x = floats(9, 4)
    check(model_of("SVMRegressor", {"x": x}, (FLOAT,), attrs, 1), {"x": x})


@pytest.mark.parametrize(("kernel", "parameters"), KERNELS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("probabilities", [False, True])
def test_support_vector_classifiers(
    kernel: str, parameters: list[float], classes: int, probabilities: bool
) -> None:
    pairs = classes * (classes - 1) // 2
    attrs = {
        "coefficients": floats((classes - 1) * 3 * classes).tolist(),
        "support_vectors": floats(3 * classes * 4).tolist(),
        "vectors_per_class": [2, 4, 3][:classes] if classes == 3 else [2, 4],
        "rho": floats(pairs).tolist(),
        "kernel_type": kernel,
        "kernel_params": parameters,
        "classlabels_ints": [5, 7, 9][:classes],
    }
    if probabilities:
        attrs |= {"prob_a": (-np.abs(floats(pairs))).tolist(), "prob_b": floats(pairs).tolist()}
    x = floats(20, 4)
    check(model_of("SVMClassifier", {"x": x}, CLASSIFIER, attrs, 1), {"x": x})


def labelled(nodes: Sequence[NodeProto], outputs: Sequence[ValueInfoProto], *held: TensorProto) -> ModelProto:
    x = helper.make_tensor_value_info("x", FLOAT, ["N", 4])
    graph = helper.make_graph(list(nodes), "test", [x], list(outputs), list(held))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def classifier(**labels: Any) -> NodeProto:
    return helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=np.linspace(-1, 1, 12).tolist(),
        intercepts=[0.1, 0.0, -0.2],
        post_transform="SOFTMAX",
        **labels,
    )


def test_maps_and_texts_become_tensors_of_numbers() -> None:
    texts = ["one", "two", "six"]
    map_type = helper.make_map_type_proto(TEXT, helper.make_tensor_type_proto(FLOAT, None))
    outputs = [
        helper.make_tensor_value_info("label", TEXT, ["N"]),
        helper.make_value_info("probability", helper.make_sequence_type_proto(map_type)),
    ]
    zipped = helper.make_node(
        "ZipMap", ["scores"], ["probability"], domain="ai.onnx.ml", classlabels_strings=texts
    )
    model = labelled([classifier(classlabels_strings=texts), zipped], outputs)
    x = floats(9, 4)
    label, probability = run(model, {"x": x})
    expected, maps = oracle(model, {"x": x})
    assert [texts[number] for number in label.tolist()] == list(expected)
    np.testing.assert_allclose(probability, [[row[text] for text in texts] for row in maps], 1e-5)
    plan = compile_plan(model, hardware="ideal")
    assert plan.notes == (
        "'probability': a tensor in place of a map from label to probability;"
        " columns are 'one', 'two', 'six'",
        "'label': labels are numbers of classes, 0 for 'one', 1 for 'two', 2 for 'six'; texts are no tensors",
    )
    assert [str(port.type) for port in plan.outputs] == ["int64[N]", "float32[Nx3]"]


def test_texts_picked_from_a_constant() -> None:
    """As the converter of a network of scikit-learn writes them."""
    texts = helper.make_tensor("texts", TEXT, [3], np.array(["one", "two", "six"]))
    shape = numpy_helper.from_array(np.array([-1]), "shape")
    nodes = [
        helper.make_node("ArgMax", ["x"], ["best"], axis=1),
        helper.make_node("ArrayFeatureExtractor", ["texts", "best"], ["picked"], domain="ai.onnx.ml"),
        helper.make_node("Reshape", ["picked", "shape"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["label"], to=TEXT),
    ]
    model = labelled(nodes, [helper.make_tensor_value_info("label", TEXT, ["N"])], texts, shape)
    x = floats(9, 4)[:, :4]
    x[:, 3] = -9
    (label,), (expected,) = run(model, {"x": x}), oracle(model, {"x": x})
    assert [["one", "two", "six"][number] for number in label.tolist()] == list(expected)


MAPPED: tuple[tuple[str, dict[str, Any], int], ...] = (
    (
        "CategoryMapper",
        {"cats_int64s": [7, 0, 3], "cats_strings": ["a", "b", "c"], "default_string": "odd"},
        1,
    ),
    ("CategoryMapper", {"cats_int64s": [7, 0, 3], "cats_strings": ["a", "b", "a"]}, 3),
    ("LabelEncoder", {"classes_strings": ["a", "b", "c"], "default_string": "odd"}, 1),
)


@pytest.mark.parametrize(("op", "attrs", "version"), MAPPED)
def test_numbers_that_become_texts(op: str, attrs: dict[str, Any], version: int) -> None:
    """Each text is its number in the note."""
    feeds = {"x": np.array([0, 1, 2, 3, 7, -1])}
    model = model_of(op, feeds, (TEXT,), attrs, version)
    (expected,), (found,) = oracle(model, feeds), run(model, feeds)
    texts = [text for key, held in attrs.items() if key.endswith("_strings") for text in held]
    texts.append(attrs.get("default_string", "_Unused"))
    assert [texts[number] for number in found.tolist()] == list(expected)
    shown = ", ".join(f"{number} for {text!r}" for number, text in enumerate(texts))
    note = f"'y0': labels are numbers of classes, {shown}; texts are no tensors"
    assert compile_plan(model, hardware="ideal").notes == (note,)


@pytest.mark.parametrize("default", [{}, {"default_int64": -7}])
def test_texts_of_a_classifier_that_become_numbers(default: dict[str, Any]) -> None:
    mapper = helper.make_node(
        "CategoryMapper",
        ["flat"],
        ["number"],
        domain="ai.onnx.ml",
        cats_int64s=[30, 10],
        cats_strings=["six", "one"],
        **default,
    )
    nodes = [
        classifier(classlabels_strings=["one", "two", "six"]),
        helper.make_node("Reshape", ["label", "shape"], ["flat"]),
        mapper,
    ]
    shape = numpy_helper.from_array(np.array([-1, 1]), "shape")
    model = labelled(nodes, [helper.make_tensor_value_info("number", INT64, ["N", 1])], shape)
    x = floats(400, 4)
    (found,), (expected,) = run(model, {"x": x}), oracle(model, {"x": x})
    assert set(np.unique(expected)) == {30, 10, default.get("default_int64", -1)}
    assert np.array_equal(found.numpy(), expected)


MAPS: tuple[tuple[str, dict[str, Any], list[list[float]], str], ...] = (
    (
        "DictVectorizer",
        {"int64_vocabulary": [3, 1, 2]},
        [[1.0, 2.5, 0.0]],
        "3, 1, 2, 0 for a key that is absent",
    ),
    ("CastMap", {"cast_to": "TO_FLOAT"}, [[2.5, 1.0]], "its keys in order"),
    ("CastMap", {"cast_to": "TO_INT64"}, [[2.5, 1.0]], "its keys in order"),
    (
        "CastMap",
        {"cast_to": "TO_FLOAT", "map_form": "SPARSE", "max_map": 5},
        [[0, 2.5, 0, 1, 0]],
        "the keys 0 to 4, 0 for a key that is absent",
    ),
)


def mapped(op: str, attrs: dict[str, Any], key: int = INT64, value: int = FLOAT) -> ModelProto:
    node = helper.make_node(op, ["x"], ["y"], "node", domain="ai.onnx.ml", **attrs)
    kind = INT64 if attrs.get("cast_to") == "TO_INT64" else FLOAT
    port = helper.make_value_info(
        "x", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))
    )
    graph = helper.make_graph([node], "test", [port], [helper.make_tensor_value_info("y", kind, None)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize(("op", "attrs", "columns", "words"), MAPS)
def test_a_map_is_a_tensor_with_a_column_a_key(
    op: str, attrs: dict[str, Any], columns: list[list[float]], words: str
) -> None:
    model = mapped(op, attrs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": {1: 2.5, 3: 1.0}})
    (found,) = run(model, {"x": np.array(columns, np.float32)})
    assert found.numpy().dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected)
    plan = compile_plan(model, hardware="ideal")
    assert plan.notes == (f"'x': a tensor in place of a map from key to number; columns are {words}",)


def test_a_vocabulary_of_texts() -> None:
    model = mapped("DictVectorizer", {"string_vocabulary": ["b", "a"]}, TEXT)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": {"a": 2.0, "b": 3.0, "q": 1.0}})
    (found,) = run(model, {"x": np.array([[3.0, 2.0]], np.float32)})
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(
    ("op", "attrs", "value", "message"),
    [
        (
            "DictVectorizer",
            {"int64_vocabulary": [1]},
            TEXT,
            "model:x: the input is a map; a map to numbers that DictVectorizer or CastMap makes a tensor of,"
            " in one way\n  hint: give the model a tensor, and convert it again",
        ),
        ("DictVectorizer", {}, FLOAT, "model:x: DictVectorizer without a vocabulary"),
        (
            "CastMap",
            {"cast_to": "TO_STRING"},
            FLOAT,
            "model:x: CastMap to TO_STRING, DENSE; TO_FLOAT or TO_INT64, DENSE or SPARSE",
        ),
        (
            "CastMap",
            {"map_form": "SPARSE", "max_map": 0},
            FLOAT,
            "model:x: CastMap with max_map 0; at least 1",
        ),
    ],
)
def test_maps_that_are_refused(op: str, attrs: dict[str, Any], value: int, message: str) -> None:
    with pytest.raises(ModelError) as error:
        compile_plan(mapped(op, attrs, value=value), hardware="ideal")
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("op", "attrs", "found"),
    [
        (
            "CategoryMapper",
            {"cats_int64s": [1], "cats_strings": ["a"]},
            "CategoryMapper: cats_strings are texts",
        ),
        ("OneHotEncoder", {"cats_strings": ["a", "b"]}, "OneHotEncoder: cats_strings are texts"),
        (
            "LabelEncoder",
            {"keys_strings": ["a"], "values_int64s": [1]},
            "LabelEncoder: keys_strings are texts",
        ),
    ],
)
def test_other_texts_are_refused(op: str, attrs: dict[str, Any], found: str) -> None:
    model = model_of(op, {"x": floats(2, 1)}, (FLOAT,), attrs, 2)
    model.graph.input[0].type.tensor_type.elem_type = TEXT
    with pytest.raises(ModelError) as error:
        compile_plan(model, hardware="ideal")
    assert str(error.value) == (
        f"model:node: {found}; numbers; only the labels that a classifier gives may be texts\n"
        "  hint: encode texts as numbers before the model, and convert it without that step"
    )
