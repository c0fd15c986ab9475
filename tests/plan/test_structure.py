import json
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

import ffebm
from ffebm.errors import PlanError
from ffebm.plan.structure import Nest, Record, Structure, nested, structure_problems
from tests.plan.folders import rewrite

Pair = namedtuple("Pair", ["first", "second"])


class Results(nn.Module):
    """Every container at once."""

    def forward(self, x: Tensor) -> Any:
        y = x.relu()
        return {"pair": Pair(x + 1, [y, (y * 2, None)]), "ordered": OrderedDict(b=y, a=x), 3: (x - 1,)}


def test_every_container_comes_back(tmp_path: Path) -> None:
    model, x = Results(), torch.randn(3, 4)
    ffebm.compile(model, x, hardware="ideal").save(tmp_path / "plan")
    result = ffebm.Executor(ffebm.load_plan(tmp_path / "plan"))(x)
    expected = model(x)
    assert list(result) == ["pair", "ordered", 3]
    assert result["pair"]._fields == ("first", "second")
    assert type(result["pair"]).__name__ == "Pair"
    torch.testing.assert_close(result["pair"].first, expected["pair"].first)
    torch.testing.assert_close(result["pair"].second[1][0], expected["pair"].second[1][0])
    assert result["pair"].second[1][1] is None
    assert list(result["ordered"]) == ["b", "a"]
    torch.testing.assert_close(result[3], expected[3])


def test_a_record_is_found_by_name_attribute_and_position() -> None:
    tree = Nest(kind="record", name="Output", keys=("loss", "logits"), items=(None, None))
    record = nested(Structure(tree=tree, leaves=("a", "b")), [1, 2])
    assert isinstance(record, Record)
    assert (record.loss, record["logits"], record[1], record[:]) == (1, 2, 2, (1, 2))
    assert repr(record) == "Output(loss=1, logits=2)"
    with pytest.raises(AttributeError, match="'other' is no field; there are loss, logits"):
        _ = record.other


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"kind": "tuple", "items": [None]}, "2 leaves for 1 places in the structure of the results"),
        ({"kind": "tuple", "items": [None, None], "keys": ["a"]}, "a tuple of 2 results has the keys ['a']"),
        ({"kind": "dict", "items": [None, None], "keys": ["a", "a"]}, "a dict of 2 results has the keys"),
        ({"kind": "record", "items": [None, None], "keys": ["a", "b c"], "name": "R"}, "which are no names"),
        (
            {"kind": "namedtuple", "items": [None, None], "keys": ["a", "b"], "name": "def"},
            "which are no names",
        ),
        ({"kind": "record", "items": [None, None], "keys": ["a", "__class__"], "name": "R"}, "are no names"),
    ],
)
def test_a_structure_that_contradicts_itself(tree: dict[str, Any], expected: str) -> None:
    structure = Structure(tree=msgspec.convert(tree, Nest), leaves=("x", "y"))
    assert expected in next(structure_problems(structure, {"x", "y"}))


@pytest.mark.parametrize(
    "tree",
    [
        json.dumps([1, {"type": "this_module.Thing", "context": '"x"', "children_spec": []}]),
        {"kind": "this_module.Thing", "items": [None]},
        {"kind": "record", "items": [None], "keys": ["a"], "name": "this_module:Thing"},
    ],
)
def test_a_plan_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tree: object
) -> None:
    (tmp_path / "this_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    model = nn.Linear(4, 2)
    ffebm.compile(model, torch.randn(3, 4), hardware="ideal").save(tmp_path / "plan")

    def change(document: Any) -> None:
        leaf = document["outputs"][0]["name"]
        document["structure"] = {"tree": tree, "leaves": [leaf]}

    rewrite(tmp_path / "plan", "plan.json", change)
    with pytest.raises(PlanError):
        ffebm.load_plan(tmp_path / "plan")
    assert not (tmp_path / "ran").exists()
