import sys
from pathlib import Path

import pytest
import torch
from onnx import ModelProto, TensorProto, helper

import ffebm
from ffebm import plugins
from ffebm.errors import ModelError, PlanError, UsageError
from ffebm.graph.ops import OPS, Kind
from tests.packages import installed

CODE = """
from ffebm.graph.own_ops import OwnOp
WRONG = 3
RIGHT = OwnOp(lambda attrs, inputs: [inputs[0]], kernel="plug_op:nothing")
"""


def model(op: str) -> ModelProto:
    nodes = [helper.make_node(op, ["x"], ["h"], domain="org.plug"), helper.make_node("Relu", ["h"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("org.plug", 1)]
    return helper.make_model(helper.make_graph(nodes, "own", [x], [y]), opset_imports=opsets, ir_version=10)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two ops, on the path."""
    folder = tmp_path / "target"
    offers = {"org.plug.Wrong": "plug_op:WRONG", "org.plug.Right": "plug_op:RIGHT"}
    installed(folder, "plug-op", {plugins.KERNELS: offers}, CODE)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    return folder


def test_an_op_is_known_while_its_package_is_installed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OPS["org.plug.Right"].kind is Kind.OWN
    assert "org.plug.Right" not in set(OPS)  # what is listed is ffebm's
    plan = ffebm.compile(model("Right"))
    assert plan.packages == ("plug-op",)
    assert plan.types["h"] == plan.types["x"]
    plan.save(target / "plan")
    assert ffebm.load_plan(target / "plan") == plan

    monkeypatch.setattr(sys, "path", sys.path[1:])
    assert "org.plug.Right" not in OPS
    with pytest.raises(PlanError) as caught:
        ffebm.load_plan(target / "plan")
    assert str(caught.value) == (
        f"{target / 'plan'}: the plan needs package 'plug-op', which is not installed here as a "
        "plug-in of ffebm; installed are: none\n"
        "  hint: install it if you trust it; a plan by itself makes no package run"
    )
    with pytest.raises(ModelError, match=r"ops that no unit runs: org\.plug\.Right"):
        ffebm.compile(model("Right"))


@pytest.mark.usefixtures("target")
def test_a_broken_op_is_one_message() -> None:
    with pytest.raises(UsageError) as caught:
        ffebm.compile(model("Wrong"))
    assert str(caught.value) == "package plug-op offers 3 as op org.plug.Wrong; an OwnOp"
    net = ffebm.Executor(ffebm.compile(model("Right")))
    with pytest.raises(UsageError) as caught:
        net(torch.ones(2, 3))
    assert str(caught.value) == (
        "plug_op:nothing, of 'org.plug.Right' in ffebm.kernels, cannot be loaded: AttributeError: module "
        "'plug_op' has no attribute 'nothing'\n  hint: mend or uninstall package plug-op"
    )
