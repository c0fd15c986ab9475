import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ffebm
from ffebm.cli import main
from ffebm.errors import ModelError, PlanError
from ffebm.plan.program import Instruction, Number
from ffebm.plan.torch_ops import argument_problems, op_problem
from ffebm.runtime.kernels.call import Call
from ffebm.runtime.kernels.torch_op import torch_op
from tests.models import Builder
from tests.plan.folders import rewrite

Attrs = dict[str, Number | tuple[Number, ...]]


def overloads() -> Iterator[tuple[str, Any]]:
    """Every overload that torch's dispatcher knows, with its schema."""
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = full.partition("::")
        name, _, overload = rest.partition(".")
        packet = getattr(getattr(torch.ops, namespace), name, None)
        found = getattr(packet, overload or "default", None) if packet is not None else None
        if found is not None:
            yield f"{namespace}.{name}.{overload or 'default'}", found._schema


def test_no_overload_may_run_that_does_more_than_compute() -> None:
    runs = [(op, schema) for op, schema in overloads() if not op_problem(op)]
    assert len(runs) > 900
    for op, schema in runs:
        assert op.split(".")[0] in {"aten", "torchvision"}
        assert not schema.is_mutable, op
        assert not any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments), op
        kinds = {str(a.real_type) for a in (*schema.arguments, *schema.returns)}
        assert not [k for k in kinds if any(w in k for w in ("Storage", "Stream", "Any", "__torch__"))], op
        assert not [a.name for a in schema.arguments if "file" in a.name], op
    allowed = {op.split(".")[1] for op, _ in runs}
    assert {"add", "softmax", "scaled_dot_product_attention", "lstm", "_to_copy", "einsum"} <= allowed
    assert (
        not {"from_file", "copy_", "set", "resize", "resize_", "_reshape_alias", "save", "pin_memory"}
        & allowed
    )


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("aten.from_file.default", "filename is a text, which may name a file"),
        ("aten.copy_.default", "it writes into its arguments"),
        ("aten.add.out", "it writes into its arguments"),
        ("aten.save.default", "may not run: item is a t"),
        ("aten._sparse_coo_tensor_unsafe.default", "it trusts its arguments"),
        ("aten.set.source_Storage", "it trusts its arguments"),
        ("aten.manual_seed.default", ""),
        ("prims.copy_to.default", "is of another package"),
        ("os.system.default", "is of another package"),
        ("aten.add.__class__", "no torch op is named"),
        ("aten.add", "no op is named 'aten.add'"),
        ("load_library", "no op is named 'load_library'"),
    ],
)
def test_what_may_not_run_says_why(op: str, expected: str) -> None:
    found = op_problem(op)
    assert found
    assert expected in found
    with pytest.raises(ModelError):
        torch_op(Call(op), torch.zeros(1))


@pytest.mark.parametrize(
    ("op", "attrs", "expected"),
    [
        ("aten.relu.default", {"self": "%0"}, ""),
        ("aten.relu.default", {"self": "%1"}, "takes no '%1' for self, which is Tensor"),
        ("aten.relu.default", {"self": "%-1"}, "takes no '%-1' for self"),
        ("aten.relu.default", {}, "lacks self"),
        ("aten._to_copy.default", {"self": "%0", "dtype": "float64"}, ""),
        ("aten._to_copy.default", {"self": "%0", "dtype": "load"}, "takes no 'load' for dtype"),
        ("aten._to_copy.default", {"self": "%0", "device": "cuda:7"}, "takes no 'cuda:7' for device"),
        ("aten._to_copy.default", {"self": "%0", "layout": "sparse_coo"}, "takes no 'sparse_coo' for layout"),
        ("aten.zeros.default", {"size": (2, "%0")}, ""),
        ("aten.zeros.default", {"size": (2, 0.5)}, "takes no (2, 0.5) for size"),
        ("aten.zeros.default", {"size": (2,), "pin_memory": True}, "has no argument 'pin_memory'"),
        ("aten.bernoulli.default", {"self": "%0", "generator": 1}, "takes no 1 for generator"),
        ("aten.cumsum.default", {"self": "%0", "dim": 2**63 - 1}, ""),
        ("aten.cumsum.default", {"self": "%0", "dim": 2**63}, "takes no 9223372036854775808 for dim"),
        ("aten.cumsum.default", {"self": "%0", "dim": -(2**63)}, ""),
        ("aten.cumsum.default", {"self": "%0", "dim": -(2**63) - 1}, "takes no -9223372036854775809 for dim"),
        ("aten.dropout.default", {"input": "%0", "p": 0.5, "train": False, "train.train": True}, ""),
        ("aten.dropout.default", {"input": "%0", "p": 0.5, "train": False, "train.p": "x"}, "takes no 'x'"),
    ],
)
def test_arguments_are_of_their_types(op: str, attrs: dict[str, Any], expected: str) -> None:
    instruction = Instruction(op=op, name="n", inputs=("x",), outputs=("y",), attrs=attrs)
    found = next(argument_problems(instruction, ()), "")
    assert bool(found) == bool(expected)
    assert expected in found


def hostile(folder: Path, *instructions: dict[str, Any]) -> None:
    """A plan whose digital instructions are exchanged, with right digests."""
    b = Builder()
    ffebm.compile(b.model(b.node("Softmax", b.input("x", "N", 4), name="soft", out="p"))).save(folder)

    def change(document: Any) -> None:
        (soft,) = document["program"]["instructions"]
        document["program"]["instructions"] = [{**soft, **instruction} for instruction in instructions]

    rewrite(folder, "digital/segment0000.json", change)


@pytest.mark.parametrize("nested", [False, True])
def test_a_hostile_plan_ends_with_exit_code_2_and_touches_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep this text!!")
    attack = {
        "op": "aten.from_file.default",
        "inputs": [],
        "attrs": {"filename": str(victim), "shared": True, "size": 4, "dtype": "float32"},
    }
    if nested:
        inner = {**attack, "name": "in", "outputs": ["v"], "tensors": {}, "graphs": {}}
        branch = {"inputs": [], "outputs": ["v"], "instructions": [inner]}
        attack = {"op": "If", "inputs": ["x"], "graphs": {"then_branch": branch, "else_branch": branch}}
    hostile(tmp_path / "plan", attack)
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    before = os.stat(victim)
    with pytest.raises(PlanError):
        ffebm.load_plan(tmp_path / "plan")
    monkeypatch.setattr(
        "sys.argv", ["ffebm", "run", str(tmp_path / "plan"), "--input", str(tmp_path / "x.npz")]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert "filename is a text, which may name a file" in " ".join(shown.err.split())
    assert victim.read_bytes() == b"keep this text!!"
    assert os.stat(victim).st_mtime_ns == before.st_mtime_ns


def test_strided_views_stay_within_their_tensor() -> None:
    attrs: Attrs = {"self": "%0", "size": (8,), "stride": (1,), "storage_offset": 4}
    call = Call("aten.as_strided.default", attrs)
    with pytest.raises(RuntimeError, match="out of bounds"):
        torch_op(call, torch.zeros(8))


def test_windows_are_summed_only_into_what_they_were_cut_from() -> None:
    attrs: Attrs = {"grad_in": "%0", "input_sizes": (2,), "dim": 0, "size": 64, "step": 1}
    with pytest.raises((ModelError, RuntimeError)):
        torch_op(Call("aten.unfold_backward.default", attrs), torch.zeros(64, 64))


def test_what_is_made_anew_is_bounded_and_holds_no_stray_memory() -> None:
    with pytest.raises(ModelError, match=r"makes 1,000,000,000,000 elements"):
        torch_op(Call("aten.zeros.default", {"size": (10**6, 10**6)}))
    made = torch_op(Call("aten.empty.memory_format", {"size": (1000,)}))
    assert isinstance(made, torch.Tensor)
    assert torch.equal(made, torch.zeros(1000))


def test_a_number_may_be_a_constant_that_holds_one() -> None:
    attrs: Attrs = {"input": "%0", "train": False}
    instruction = Instruction(
        op="aten.dropout.default", name="n", inputs=("x",), outputs=("y",), attrs=attrs, tensors={"p": "t"}
    )
    assert list(argument_problems(instruction, ("t",))) == []
    (found,) = argument_problems(instruction, ("u",))
    assert found.endswith("takes no 't' for p")
    whole = Instruction(
        op="aten.cumsum.default",
        name="n",
        inputs=("x",),
        outputs=("y",),
        attrs={"self": "%0"},
        tensors={"dim": "t"},
    )
    (found,) = argument_problems(whole, ("t",))
    assert found.endswith("takes no 't' for dim")
