"""Parts of a model: order, sources, sums, and how a large model folds."""

from itertools import pairwise

import pytest

from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import facts
from ffebm.report.facts.parts import FEW, parts, sources_of_outputs


@pytest.mark.parametrize("which", ["digits", "deep", "wicked"])
@pytest.mark.parametrize("whole", [True, False])
def test_parts_hold_every_node_once_and_add_up(
    which: str, whole: bool, request: pytest.FixtureRequest
) -> None:
    plan: Plan = request.getfixturevalue(which)
    found = parts(facts(plan), whole=whole)
    names = [node.name for part in found for node in part.nodes]
    assert sorted(names) == sorted(node.name for node in plan.nodes)
    inputs = [row for row in facts(plan).inference_bill.parts if row.name == "model inputs"]
    energy = sum(part.cost.energy for part in found) + sum(row.energy for row in inputs)
    assert energy == pytest.approx(plan.inference.cost.energy - plan.inference.leakage, rel=1e-12)
    assert {tile for part in found for tile in part.tiles} == {tile.id for tile in plan.tiles}


@pytest.mark.parametrize("which", ["digits", "deep"])
@pytest.mark.parametrize("whole", [True, False])
def test_no_part_reads_a_later_one(which: str, whole: bool, request: pytest.FixtureRequest) -> None:
    plan: Plan = request.getfixturevalue(which)
    found = parts(facts(plan), whole=whole)
    known = {f"input {port.name}" for port in plan.inputs}
    for part in found:
        assert {*part.sources} <= known
        known.add(part.name)


def test_the_chain_of_the_digits(digits: Plan) -> None:
    found = parts(facts(digits), whole=False)
    names = ["block0", "segment0", "block1", "block2", "segment1", "block3"]
    assert [part.name for part in found] == names
    assert found[0].sources == ("input image",)
    assert all(part.sources == (before.name,) for before, part in pairwise(found))
    assert sources_of_outputs(facts(digits), found) == {"logits": "block3"}


def test_a_skip_is_named(deep: Plan) -> None:
    """The sum after a softmax reads the block before the last, too."""
    found = {part.name: part for part in parts(facts(deep), whole=True)}
    assert len(found) > FEW
    adds = [part for part in found.values() if any(node.op == "Add" for node in part.nodes)]
    assert all(len(part.sources) == 2 for part in adds)


def test_sections_are_blocks_and_segments_together(deep: Plan) -> None:
    folded = parts(facts(deep), whole=False)
    assert {part.kind for part in folded} == {"section"}
    assert len(folded) <= FEW
    assert sorted(block for part in folded for block in part.blocks) == [b.id for b in deep.blocks]
