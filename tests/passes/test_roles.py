"""What trains, from ONNX and from torch, and what is asked for beside."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import ffebm
from ffebm.errors import UsageError
from ffebm.report.terminal.words import compile_words, explain_lines
from tests.models import Builder, oracle, random_feeds, relative_error, tensors

Build = Callable[[Builder, str], str]


def written_norm(b: Builder, x: str, *, centred: bool, divides: bool) -> str:
    """A normalisation over the last axis, in parts."""
    if centred:
        x = b.node("Sub", x, b.node("ReduceMean", x, b.constant(np.array([-1]))))
        square = b.node("Mul", x, x)
    else:
        square = b.node("Pow", x, b.constant(2.0))
    mean = b.node("ReduceMean", square, b.constant(np.array([-1])))
    root = b.node("Sqrt", b.node("Add", mean, b.constant(1e-5)))
    if divides:
        return b.node("Div", x, root)
    return b.node("Mul", b.node("Div", b.constant(1.0), root), x)


def product(b: Builder, x: str) -> str:
    return b.node("MatMul", x, b.weight(8, 8, name="w"))


CASES: dict[str, tuple[Build, set[str]]] = {
    "bias": (lambda b, x: b.node("Add", product(b, x), b.weight(8, name="c")), {"w", "c"}),
    "bias in front": (lambda b, x: b.node("Add", b.weight(1, 1, 8, name="c"), product(b, x)), {"w", "c"}),
    "bias behind heads": (
        lambda b, x: b.node(
            "Add", b.node("Reshape", product(b, x), b.shape(0, 5, 2, 4)), b.weight(2, 4, name="c")
        ),
        {"w", "c"},
    ),
    "bias of a sum": (
        lambda b, x: b.node("Add", b.node("Add", x, product(b, x)), b.weight(8, name="c")),
        {"w", "c"},
    ),
    "bias of one output": (
        lambda b, x: b.node("Add", b.node("MatMul", x, b.weight(8, 1, name="w")), b.weight(1, name="c")),
        {"w", "c"},
    ),
    "turned bias": (
        lambda b, x: b.node(
            "Add", product(b, x), b.node("Reshape", b.weight(8, 1, name="c"), b.shape(1, 1, 8))
        ),
        {"w", "c"},
    ),
    "position table": (lambda b, x: b.node("Add", product(b, x), b.weight(5, 8, name="pos")), {"w"}),
    "position table alone": (lambda b, x: b.node("Add", x, b.weight(5, 8, name="pos")), set()),
    "mask": (
        lambda b, x: b.node("Add", product(b, x), b.constant(np.full(8, -np.inf, np.float32), "mask")),
        {"w"},
    ),
    "mean and deviation": (
        lambda b, x: product(
            b, b.node("Div", b.node("Sub", x, b.weight(8, name="mean")), b.weight(8, name="std"))
        ),
        {"w"},
    ),
    "batch normalisation in evaluation": (
        lambda b, x: b.node(
            "Add", b.node("Mul", product(b, x), b.weight(8, name="gain")), b.weight(8, name="shift")
        ),
        {"w", "gain", "shift"},
    ),
    "gain of an input": (lambda b, x: product(b, b.node("Mul", x, b.weight(8, name="gain"))), {"w"}),
    "shift behind an activation": (
        lambda b, x: b.node("Add", b.node("Relu", product(b, x)), b.weight(8, name="c")),
        {"w"},
    ),
    "RMS norm": (
        lambda b, x: b.node(
            "Mul", written_norm(b, x, centred=False, divides=False), b.weight(8, name="gain")
        ),
        {"gain"},
    ),
    "layer norm": (
        lambda b, x: b.node(
            "Add",
            b.node("Mul", b.weight(8, name="gain"), written_norm(b, x, centred=True, divides=True)),
            b.weight(8, name="shift"),
        ),
        {"gain", "shift"},
    ),
    "normalised, then a position table": (
        lambda b, x: b.node(
            "Add",
            b.node("Mul", written_norm(b, x, centred=True, divides=True), b.weight(8, name="gain")),
            b.weight(5, 8, name="pos"),
        ),
        {"gain"},
    ),
    "softmax in parts": (
        lambda b, x: b.node(
            "Mul",
            b.node(
                "Div", b.node("Exp", x), b.node("ReduceSum", b.node("Exp", x), b.constant(np.array([-1])))
            ),
            b.weight(8, name="gain"),
        ),
        set(),
    ),
    "norm in one": (
        lambda b, x: b.node("LayerNormalization", x, b.weight(8, name="gain"), b.weight(8, name="shift")),
        {"gain", "shift"},
    ),
    "slope": (lambda b, x: b.node("PRelu", x, b.weight(8, name="slope")), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_what_trains_of_an_onnx_model(case: str) -> None:
    build, expected = CASES[case]
    b = Builder()
    model = b.model(build(b, b.input("x", "N", 5, 8)))
    plan = ffebm.compile(model, hardware="ideal")
    assert set(plan.trainable) == expected
    feeds = random_feeds(model)
    with torch.no_grad():
        found = ffebm.Executor(plan)(*tensors(feeds).values())
    if case != "mask":
        assert relative_error((found,), oracle(model, feeds)) < 1e-5


def test_an_embedding_trains_and_a_list_of_numbers_does_not() -> None:
    b = Builder()
    x = b.input("x", "N", 3, dtype=7)
    y = b.node("Gather", b.weight(6, 8, name="table"), x)
    z = b.node("Gather", b.weight(6, name="numbers"), x)
    plan = ffebm.compile(b.model(y, z), hardware="ideal")
    assert plan.trainable == ("table",)


def sines(rows: int, columns: int, dtype: str = "float32") -> np.ndarray:
    """A position table as models store it: sines and cosines, computed in float32."""
    speed = (10000.0 ** (-np.arange(columns // 2) / (columns // 2))).astype(np.float32)
    angle = np.arange(rows, dtype=np.float32)[:, None] * speed
    return np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(tensor_dtype(dtype))


def tensor_dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def places_of(b: Builder, ids: str) -> str:
    """0, 1, … up to the length of each sample."""
    size = b.node("Gather", b.node("Shape", ids), b.constant(np.array(1)))
    return b.node("Range", b.constant(np.array(0)), size, b.constant(np.array(1)))


def counted(b: Builder, ids: str) -> str:
    """Places behind padding, as RoBERTa counts them: padding, token 0, has place 0."""
    here = b.node("Cast", b.node("Not", b.node("Equal", ids, b.constant(np.array(0)))), to=7)
    return b.node("Mul", b.node("CumSum", here, b.constant(np.array(1))), here)


def loop_table(b: Builder, ids: str) -> str:
    """Sum of a table's rows, one an iteration."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["pos", "i"], ["row"]),
            helper.make_node("Add", ["sum", "row"], ["next"]),
            helper.make_node("Identity", ["go"], ["goes"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", 7, []),
            helper.make_tensor_value_info("go", 9, []),
            helper.make_tensor_value_info("sum", 1, [8]),
        ],
        [helper.make_tensor_value_info("goes", 9, []), helper.make_tensor_value_info("next", 1, [8])],
    )
    size = b.node("Gather", b.node("Shape", ids), b.constant(np.array(1)))
    b.weight(16, 8, name="pos")
    return b.node("Loop", size, "", b.constant(np.zeros(8, np.float32)), body=body)


def scanned_tokens(b: Builder, ids: str) -> str:
    """Rows of the token before each token of a sample: the state of a scan is no number of a round."""
    body = helper.make_graph(
        [
            helper.make_node("Gather", ["w", "last"], ["row"]),
            helper.make_node("Identity", ["token"], ["next"]),
        ],
        "body",
        [helper.make_tensor_value_info("last", 7, []), helper.make_tensor_value_info("token", 7, [])],
        [helper.make_tensor_value_info("next", 7, []), helper.make_tensor_value_info("row", 1, [8])],
    )
    first = b.node("Gather", ids, b.constant(np.array(0)))
    b.weight(16, 8, name="w")
    b.node("Scan", b.node("Gather", first, b.constant(np.array(0))), first, num_scan_inputs=1, body=body)
    b.nodes[-1].output.append("rows")
    return "rows"


TABLES: dict[str, tuple[Build, set[str]]] = {
    "tokens in a scan": (scanned_tokens, {"w"}),
    "tokens": (lambda b, ids: b.node("Gather", b.weight(16, 8, name="w"), ids), {"w"}),
    "tokens of a fresh table": (
        lambda b, ids: b.node("Gather", b.constant(np.ones((16, 8), np.float32), "w"), ids),
        {"w"},
    ),
    "tokens with an offset a field": (
        lambda b, ids: b.node(
            "Gather", b.weight(48, 8, name="w"), b.node("Add", ids, b.constant(np.arange(5) * 6))
        ),
        {"w"},
    ),
    "tokens clipped, cast and cut": (
        lambda b, ids: b.node(
            "Gather",
            b.weight(16, 8, name="w"),
            b.node(
                "Slice",
                b.node("Cast", b.node("Min", ids, b.constant(np.array(3))), to=6),
                b.shape(0),
                b.shape(2),
                b.shape(1),
            ),
        ),
        {"w"},
    ),
    "places of a shape": (
        lambda b, ids: b.node("Gather", b.weight(16, 8, name="pos"), places_of(b, ids)),
        set(),
    ),
    "places cut from a constant": (
        lambda b, ids: b.node(
            "Gather",
            b.weight(16, 8, name="pos"),
            b.node(
                "Slice",
                b.constant(np.arange(16)[None]),
                b.shape(0),
                b.node("Slice", b.node("Shape", ids), b.shape(1), b.shape(2)),
                b.shape(1),
            ),
        ),
        set(),
    ),
    "places counted behind padding": (
        lambda b, ids: b.node("Gather", b.weight(16, 8, name="pos"), counted(b, ids)),
        set(),
    ),
    "the number of an iteration": (loop_table, set()),
    "sines by tokens": (lambda b, ids: b.node("Gather", b.constant(sines(64, 8), "pos"), ids), set()),
    "sines behind two rows of padding": (
        lambda b, ids: b.node(
            "Gather", b.constant(np.concatenate([np.zeros((2, 8), np.float32), sines(64, 8)]), "pos"), ids
        ),
        set(),
    ),
    "sines turned": (
        lambda b, ids: b.node(
            "Gather", b.node("Transpose", b.constant(sines(64, 8).T.copy(), "pos"), perm=[1, 0]), ids
        ),
        set(),
    ),
    "one table by tokens and by places": (
        lambda b, ids: b.node(
            "Add",
            b.node("Gather", b.weight(16, 8, name="w"), ids),
            b.node("Gather", "w", places_of(b, ids)),
        ),
        {"w"},
    ),
}


@pytest.mark.parametrize("case", TABLES)
def test_which_tables_train(case: str) -> None:
    """Those of tokens do, those of places do not, and a note says so."""
    build, expected = TABLES[case]
    b = Builder()
    model = b.model(build(b, b.input("ids", "N", 5, dtype=7)))
    plan = ffebm.compile(model, hardware="ideal")
    assert set(plan.trainable) == expected
    said = "pos is read by place, not by token: it does not train unless --trainable names it"
    assert (said in plan.notes) == ("pos" in plan.weights)
    feeds = {"ids": np.array([[1, 2, 0, 0, 0], [2, 3, 1, 2, 0]])}
    with torch.no_grad():
        found = ffebm.Executor(plan)(*tensors(feeds).values())
    assert relative_error((found,), oracle(model, feeds)) < 1e-6
    if "pos" in plan.weights:
        assert ffebm.compile(model, hardware="ideal", trainable=["pos"]).trainable == ("pos",)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_sines_of_every_type_are_told_from_what_has_learnt(dtype: str) -> None:
    made = {"pos": sines(512, 64, dtype), "ramp": np.arange(512, dtype=np.float32)[:, None] * np.ones(3)}
    rng = np.random.default_rng(0)
    made["w"] = made["pos"].astype(np.float64) + 0.1 * rng.standard_normal((512, 64))
    made["walk"] = np.cumsum(rng.standard_normal((512, 4)), 0)
    made["short"] = sines(7, 8, dtype)
    b = Builder()
    ids = b.input("ids", "N", dtype=7)
    rows = [b.node("Gather", b.constant(v.astype(tensor_dtype(dtype)), k), ids) for k, v in made.items()]
    plan = ffebm.compile(b.model(*(b.node("Cast", row, to=1) for row in rows)), hardware="ideal")
    assert set(plan.trainable) == {"w", "walk", "short"}


def test_how_far_off_a_sine_may_be() -> None:
    """0, 1, 0, -1 … with one number off by so many units of its type."""
    unit = 2.0**-10
    made = {f"{units} units": np.tile([0.0, 1.0, 0.0, -1.0], 10)[:, None] for units in (1.75, 2.5)}
    made["1.75 units"][12] = 1.75 * unit
    made["2.5 units"][12] = 2.5 * unit
    b = Builder()
    ids = b.input("ids", "N", dtype=7)
    rows = [b.node("Gather", b.constant(v.astype(np.float16), k), ids) for k, v in made.items()]
    plan = ffebm.compile(b.model(*(b.node("Cast", row, to=1) for row in rows)), hardware="ideal")
    assert plan.trainable == ("2.5 units",)


def test_how_many_rows_of_a_table_are_looked_at() -> None:
    """From the third on 64, and eight at least; columns that stay the same are no positions."""
    made = {f"{rows} rows": sines(rows, 8) for rows in (9, 10, 66, 67)}
    for row in (1, 2, 65, 66):
        made[f"row {row} learnt"] = sines(80, 8)
        made[f"row {row} learnt"][row] += 0.25
    made["constant"] = np.full((80, 8), 0.5, np.float32)
    b = Builder()
    ids = b.input("ids", "N", dtype=7)
    rows = [b.node("Gather", b.constant(table, name), ids) for name, table in made.items()]
    plan = ffebm.compile(b.model(*rows), hardware="ideal")
    assert set(plan.trainable) == {"9 rows", "row 2 learnt", "row 65 learnt", "constant"}


@pytest.mark.parametrize("placed", [False, True])
def test_tables_of_a_fused_embedding(placed: bool) -> None:
    b = Builder()
    ids = b.input("ids", "N", 5, dtype=6)
    tables = [b.weight(16, 8, name="words"), b.weight(5, 8, name="pos"), ""]
    norm = [b.weight(8, name="gain"), b.weight(8, name="shift")]
    where = ["", b.input("where", "N", 5, dtype=6)] if placed else []
    y = b.node("EmbedLayerNormalization", ids, "", *tables, *norm, *where, domain="com.microsoft")
    plan = ffebm.compile(b.model(y), hardware="ideal")
    assert set(plan.trainable) == {"words", "gain", "shift"} | ({"pos"} if placed else set())


def asked(*patterns: str) -> ffebm.Plan:
    b = Builder()
    x = b.input("x", "N", 5, 8)
    y = b.node("Add", b.node("Sub", x, b.weight(8, name="in.mean")), b.weight(5, 8, name="in.pos"))
    y = b.node("Clip", product(b, y), b.constant(-1.0, "low"), b.constant(1.0, "high"))
    return ffebm.compile(
        b.model(b.node("Mul", y, b.constant(0.5, "half"))), hardware="ideal", trainable=patterns
    )


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), {"w"}),
        (("in.pos",), {"w", "in.pos"}),
        (("in.*", "half"), {"w", "in.pos", "in.mean", "half"}),
        (("low", "high"), {"w", "low", "high"}),
        (("*",), {"w", "in.pos", "in.mean", "half", "low", "high"}),
    ],
)
def test_what_is_asked_for_trains_too(patterns: tuple[str, ...], expected: set[str]) -> None:
    plan = asked(*patterns)
    assert set(plan.trainable) == expected
    assert plan.options.trainable == patterns
    words = compile_words(plan)
    assert [word for pattern in patterns for word in ("--trainable", pattern)] == words[
        len(words) - 2 * len(patterns) :
    ]

    net = ffebm.Executor(plan, gradient=ffebm.Implicit()).train()
    data = torch.randn(4, 5, 8, generator=torch.manual_seed(0))
    net.loss(data, torch.zeros(4, 5, 8), torch.nn.functional.mse_loss).backward()  # type: ignore[no-untyped-call]
    grads = {name: weight.grad for name, weight in net.weights().items()}
    assert all(grad is not None and float(grad.abs().max()) > 0 for grad in grads.values())


def test_a_name_that_no_constant_has() -> None:
    with pytest.raises(UsageError) as caught:
        asked("in.position")
    assert str(caught.value) == (
        "model: no constant is called 'in.position', so none trains; names of floating-point constants, but "
        "running statistics; * stands for anything\n  hint: there are in.pos"
    )


def test_names_come_as_a_list() -> None:
    b = Builder()
    model = b.model(product(b, b.input("x", "N", 5, 8)))
    with pytest.raises(UsageError, match=r"^trainable='w'; a list of names of constants$"):
        ffebm.compile(model, trainable="w")


class Parts(nn.Module):
    """A parameter, a frozen one, a buffer, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.second.weight = self.first.weight
        self.gain, self.frozen = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(8), requires_grad=False)
        self.register_buffer("shift", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.second(self.first(x).relu()))
        made: Tensor = y * self.gain * self.frozen + self.shift
        return made


def test_a_torch_model_says_itself_what_trains() -> None:
    model, x = Parts().eval(), torch.randn(4, 8)
    plan = ffebm.compile(model, (x,), hardware="ideal")
    parameters = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(plan.trainable) == parameters
    assert set(plan.buffers) == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert [name for name, _ in plan.tied()] == ["first.weight"]
    assert "second.weight is first.weight: they are tied, one weight under both names" in plan.notes
    more = ffebm.compile(model, (x,), hardware="ideal", trainable=["shift", "frozen"])
    assert set(more.trainable) == parameters | {"shift", "frozen"}

    text = "\n".join(explain_lines(plan))
    assert "\ndoes not train: buffers and parameters without requires_grad:\n  frozen, shift\n" in text
    assert "\nfollows the data in training, as running statistics:\n" in text
    assert "tied: first.weight is one weight in linear, linear_1" in text


def test_a_running_statistic_does_not_train() -> None:
    with pytest.raises(UsageError, match=r"no constant is called 'norm\.running_mean', so none trains"):
        ffebm.compile(Parts().eval(), (torch.randn(4, 8),), hardware="ideal", trainable=["norm.running_mean"])


def test_explain_lists_what_trains() -> None:
    lines = "\n".join(explain_lines(asked())).splitlines()
    at = lines.index("trains:")
    assert lines[at:] == [
        "trains:",
        "  w",
        "does not train: neither weights, nor biases or scales behind them; --trainable NAME trains them:",
        "  in.mean, in.pos",
    ]
