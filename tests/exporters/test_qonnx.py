"""The QONNX export: its models are valid, and qonnx computes what the plan does."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from msgspec.structs import replace
from onnx import numpy_helper
from torch import nn

from ffebm.compiler.driver import compile_model
from ffebm.errors import UsageError
from ffebm.exporters.qonnx import dac_edges, export_qonnx
from ffebm.hardware.description import Crossbar
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Port
from ffebm.runtime.executor import Executor
from tests.backends.exported import INPUTS, changed, dense_plan, image_plan, quiet
from tests.machines import crossbars
from tests.models import Builder

Floats = npt.NDArray[np.float32]
needs_qonnx = pytest.mark.skipif(
    importlib.util.find_spec("qonnx") is None, reason="qonnx is not installed: pip install qonnx"
)


def values_of(plan: Plan, names: list[str], *inputs: torch.Tensor) -> dict[str, Floats]:
    """What a run of the plan makes of some values."""
    ports = tuple(Port(name, plan.types[name]) for name in names)
    with torch.no_grad():
        found = Executor(replace(plan, outputs=ports, structure=None))(*inputs)
    found = found if isinstance(found, tuple) else (found,)
    return {name: value.numpy() for name, value in zip(names, found, strict=True)}


def executed(content: bytes, feeds: Mapping[str, Floats]) -> dict[str, Floats]:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    found: dict[str, Floats] = execute_onnx(ModelWrapper(onnx.load_from_string(content)), dict(feeds))
    return found


def convolution_plan() -> Plan:
    """A digital scaling before a convolution, whose windows a DAC scales one by one."""
    b = Builder()
    x = b.input("x", "N", 2, 6, 6)
    b.weight(3, 2, 3, 3, name="conv.weight")
    scaled = b.node("Tan", x, out="scaled")
    model = b.model(b.node("Relu", b.node("Conv", scaled, "conv.weight")))
    return compile_model(model, hardware=quiet(crossbars(4, 32, 8)))


@needs_qonnx
def test_segments_compute_what_the_plan_does() -> None:
    plan = dense_plan()
    exported = export_qonnx(plan)
    assert any("each tile scales its own lines" in note for note in exported.notes)
    assert sorted(exported.files) == ["segment0000.onnx", "segment0001.onnx", "segments.json"]
    values = values_of(plan, ["hidden", "gate", "logits", "y"], torch.randn(1, INPUTS))
    first = executed(exported.files["segment0000.onnx"], {"hidden": values["hidden"]})
    np.testing.assert_allclose(first["gate"], values["gate"], rtol=1e-6)
    second = executed(exported.files["segment0001.onnx"], {"logits": values["logits"]})
    np.testing.assert_allclose(second["y"], values["y"], rtol=1e-6)
    step = values["gate"].max() / 127
    codes = first["gate.dac"] / step
    np.testing.assert_allclose(codes, np.rint(values["gate"] / step), atol=1e-3)


class Shifted(nn.Module):
    """Sizes that are arithmetic on the batch, and rows of several open sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.layer(x).tanh().reshape(-1, 8)
        made: torch.Tensor = self.out(rows).softmax(-1)
        return made


def attention_model(b: Builder) -> str:
    """Attention in parts with a mask, and one row of its result, by an index without axes."""
    x = b.input("x", "N", 5, 8)
    scores = b.node("MatMul", b.node("MatMul", x, b.weight(8, 8)), b.node("Transpose", x, perm=[0, 2, 1]))
    mask = b.constant(np.triu(np.full((5, 5), -np.inf, np.float32), 1))
    kept = b.node("Softmax", b.node("Add", b.node("Div", scores, b.constant(2.8)), mask), axis=-1)
    row = b.node("Gather", b.node("MatMul", kept, x), b.constant(np.array(2)), axis=1)
    normal = b.node("LayerNormalization", row, b.weight(8), b.weight(8))
    return b.node("Gelu", b.node("Gemm", normal, b.weight(8, 4), b.weight(4)))


def loop_plan() -> Plan:
    """A loop that carries floats, counts in integers, and collects shapes."""
    b, h = Builder(), onnx.helper
    x = b.input("x", 1, 4)
    body = h.make_graph(
        [
            h.make_node("Cast", ["i"], ["number"], to=onnx.TensorProto.FLOAT),
            h.make_node("Mul", ["state", "number"], ["scaled"]),
            h.make_node("Add", ["scaled", x], ["next"]),
            h.make_node("Identity", ["go"], ["on"]),
            h.make_node("Shape", ["next"], ["sizes"]),
        ],
        "body",
        [
            h.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            h.make_tensor_value_info("go", onnx.TensorProto.BOOL, []),
            h.make_tensor_value_info("state", onnx.TensorProto.FLOAT, [1, 4]),
        ],
        [
            h.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
            h.make_tensor_value_info("next", onnx.TensorProto.FLOAT, [1, 4]),
            h.make_tensor_value_info("sizes", onnx.TensorProto.INT64, [2]),
        ],
    )
    counts = [b.constant(np.array(3)), b.constant(np.array(True))]
    b.nodes.append(h.make_node("Loop", [*counts, x], ["y", "all"], "loop", body=body))
    model = b.model("y", "all")
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    return compile_model(model, hardware="ideal")


def plans() -> dict[str, Callable[[], Plan]]:
    """Plans with many kinds of segments."""

    def attention() -> Plan:
        b = Builder()
        return compile_model(b.model(attention_model(b)), hardware=quiet(crossbars(16, 12, 8)))

    def rows() -> Plan:
        return compile_model(Shifted().eval(), (torch.randn(2, 5, 8),), hardware=quiet(crossbars(16, 12, 8)))

    return {
        "dense": dense_plan, "convolution": convolution_plan, "attention": attention,
        "rows": rows, "loop": loop_plan,
    }  # fmt: skip


@needs_qonnx
@pytest.mark.parametrize("name", plans())
@pytest.mark.filterwarnings(
    "ignore::UserWarning:qonnx.core.onnx_exec"
)  # of sizes that a loop makes as it runs
def test_every_segment_runs_in_qonnx_and_in_onnxruntime(name: str) -> None:
    plan = plans()[name]()
    exported, held = export_qonnx(plan), {port.name: port for port in plan.inputs}
    torch.manual_seed(0)
    feeds = {
        port.name: torch.randn([plan.batch if isinstance(d, str) else d for d in port.type.shape or ()])
        for port in plan.inputs
    }
    for segment in plan.segments:
        content = exported.files.get(f"segment{segment.id:04}.onnx")
        if content is None:
            continue
        read, made = list(segment.program.inputs), list(segment.program.outputs)
        inner = [value for value in dict.fromkeys([*read, *made]) if value not in held]
        values = values_of(plan, inner, *feeds.values()) | {k: v.numpy() for k, v in feeds.items()}
        given = {value: values[value] for value in read}
        found = executed(content, given)
        if not any(node.domain for node in onnx.load_from_string(content).graph.node):
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            found |= dict(zip(made, session.run(made, given), strict=True))
        for value in made:
            assert found[value].shape == values[value].shape
            np.testing.assert_allclose(found[value], values[value], rtol=1e-5, atol=1e-6)


@needs_qonnx
def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dense_plan()
    for name, content in export_qonnx(plan).files.items():
        (tmp_path / name).write_bytes(content)
    text = Path("docs/export.md").read_text(encoding="utf-8")
    (code,) = [part for part in text.split("```python\n")[1:] if part.startswith("import onnx\nfrom qonnx")]
    values = values_of(plan, ["hidden", "gate"], torch.randn(1, INPUTS))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"hidden": values["hidden"]}
    exec(code.partition("```")[0], names)
    np.testing.assert_allclose(names["outputs"]["gate"], values["gate"], rtol=1e-6)


@needs_qonnx
def test_a_tile_takes_what_a_quant_node_makes_as_it_is() -> None:
    plan = dense_plan(quiet(crossbars(16, 13, 8)))
    assert not any("each tile scales its own lines" in note for note in export_qonnx(plan).notes)
    torch.manual_seed(0)
    x = torch.randn(1, INPUTS)
    values = values_of(plan, ["hidden", "gate", "logits"], x)
    first = executed(export_qonnx(plan).files["segment0000.onnx"], {"hidden": values["hidden"]})
    (block,) = [block for block in plan.blocks if "gate" in block.inputs]
    net = Executor(plan)
    weights = {name: torch.from_numpy(plan.weights[name].copy()) for name in block.weights()}
    outputs, _ = net.blocks[block.id].run(
        {"gate": torch.from_numpy(first["gate.dac"].copy())}, weights, net.settle, net.gradient
    )
    np.testing.assert_allclose(
        outputs["logits"].detach(), values["logits"], rtol=0, atol=1e-4 * abs(values["logits"]).max()
    )


def test_a_fixed_range_of_dacs_is_a_constant_scale() -> None:
    machine = quiet(crossbars(16, 12, 8))
    assert isinstance(machine.analog[0].tile, Crossbar)
    dac = replace(machine.analog[0].tile.dac, range="fixed", limit=2.0)
    plan = dense_plan(changed(machine, dac=dac))
    for exported in (export_qonnx(plan), export_qonnx(plan, {"gate": 0.5})):
        model = onnx.load_from_string(exported.files["segment0000.onnx"])
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        assert constants["gate.dac.scale"] == pytest.approx(2.0 / 127)
        assert not any("hls4ml and FINN want a constant" in note for note in exported.notes)


@needs_qonnx
def test_a_measured_scale_is_constant() -> None:
    plan = dense_plan()
    exported = export_qonnx(plan, {"gate": 0.5, "elsewhere": 3.0})
    model = onnx.load_from_string(exported.files["segment0000.onnx"])
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert [node.op_type for node in model.graph.node] == ["Softmax", "Quant"]
    assert constants["gate.dac.scale"] == pytest.approx(0.5 / 127)
    assert constants["gate.dac.bits"] == 8
    assert not any("hls4ml and FINN want a constant" in note for note in exported.notes)
    hidden = np.zeros((1, 13), np.float32)
    hidden[0, 0] = 10.0
    found = executed(exported.files["segment0000.onnx"], {"hidden": hidden})["gate.dac"]
    assert found.max() == pytest.approx(0.5)  # narrow: the largest code is 127


@needs_qonnx
def test_a_zero_vector_has_zero_codes() -> None:
    plan = convolution_plan()
    found = executed(export_qonnx(plan).files["segment0000.onnx"], {"x": np.zeros((1, 2, 6, 6), np.float32)})
    assert not found["scaled.dac"].any()


def test_windows_share_a_scale_and_it_is_said() -> None:
    plan = convolution_plan()
    assert dac_edges(plan) == {"scaled": (1, 2, 3)}
    exported = export_qonnx(plan)
    assert (
        "a DAC before a convolution scales each window; the Quant node scales the whole sample"
        in exported.notes
    )
    model = onnx.load_from_string(exported.files["segment0000.onnx"])
    assert all(note in model.doc_string for note in exported.notes)


def test_the_index_names_the_edges() -> None:
    index = json.loads(export_qonnx(dense_plan()).files["segments.json"])
    assert index["segments"] == [
        {
            "file": "segment0000.onnx",
            "inputs": {"hidden": "block0"},
            "outputs": {"gate": ["block1"]},
            "quantised": {"gate": "gate.dac"},
        },
        {
            "file": "segment0001.onnx",
            "inputs": {"logits": "block1"},
            "outputs": {"y": ["output"]},
            "quantised": {},
        },
    ]


def test_exact_tiles_have_no_dacs() -> None:
    plan = dense_plan("ideal")
    assert dac_edges(plan) == {}
    model = onnx.load_from_string(export_qonnx(plan).files["segment0000.onnx"])
    assert [node.op_type for node in model.graph.node] == ["Softmax"]


def test_attributes_constants_and_subgraphs_survive() -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    then = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", [x, "factor"], ["scaled"])],
        "then",
        [],
        [onnx.helper.make_tensor_value_info("scaled", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.array([2, 3, 4, 5], np.float32), "factor")],
    )
    other = onnx.helper.make_graph(
        [onnx.helper.make_node("LeakyRelu", [x], ["leaky"], alpha=0.25)],
        "otherwise",
        [],
        [onnx.helper.make_tensor_value_info("leaky", onnx.TensorProto.FLOAT, ["N", 4])],
    )
    positive = b.node(
        "Greater", b.node("ReduceSum", x, b.constant(np.array([0, 1])), keepdims=0), b.constant(0.0)
    )
    y = b.node("If", positive, then_branch=then, else_branch=other)
    model = b.model(b.node("Cast", b.node("Clip", y, "", b.constant(4.0)), to=onnx.TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    plan = compile_model(model, hardware="ideal")
    content = export_qonnx(plan).files["segment0000.onnx"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for sign in (1.0, -1.0):
        feed = sign * np.array([[1, 2, 0.5, -1]], np.float32)
        (found,) = session.run(None, {"x": feed})
        expected = np.minimum(feed * [2, 3, 4, 5], 4) if sign > 0 else np.where(feed > 0, feed, feed / 4)
        np.testing.assert_allclose(found, expected)


class Torchy(nn.Module):
    """Its digital op has no ONNX twin."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.special.i0(self.fc(x))
        return found


def test_segments_that_are_no_onnx_are_refused() -> None:
    plan = compile_model(Torchy().eval(), (torch.randn(2, 4),), hardware="ideal")
    with pytest.raises(UsageError) as caught:
        export_qonnx(plan)
    message = str(caught.value)
    assert message.startswith("no digital segment is ONNX alone: '")
    assert "is aten." in message
    assert message.endswith(
        "; ops of ONNX's own domain\n  hint: export the torch model to ONNX, and compile that"
    )


def test_a_plan_without_digital_nodes_is_refused() -> None:
    b = Builder()
    x = b.input("x", "N", 4)
    b.weight(4, 3, name="w")
    plan = compile_model(b.model(b.node("Relu", b.node("MatMul", x, "w"))), hardware="ideal")
    with pytest.raises(
        UsageError, match=r"^nothing in this plan is digital\n  hint: --to crosssim or aihwkit"
    ):
        export_qonnx(plan)


def test_image_plans_have_a_layout_segment_only() -> None:
    plan: Any = image_plan()
    kinds = {i.op for segment in plan.segments for i in segment.program.instructions}
    assert kinds <= {"Flatten"}


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    assert export_qonnx(dense_plan()).files == export_qonnx(dense_plan()).files
