import math

import pytest
from msgspec.structs import replace

from ffebm.plan.mapping import MappedBlocks, Mapping, PricedOption, mapping_problems

OPTION = PricedOption(
    group="tiles", layout="full cuts", replicas=1, bundles=1, tiles=0.5, seconds=1e-6, joules=1e-9
)
BLOCKS = MappedBlocks(nodes=("conv",), options=(OPTION,), taken=0)
RIGHT = Mapping(objective="latency", value=2.0, priced=2.2, solved=2.0, bound=1.9, gap=0.05, blocks=(BLOCKS,))


def problems(mapping: Mapping) -> list[str]:
    return list(mapping_problems(mapping, {"conv"}))


def test_a_mapping_without_contradictions() -> None:
    assert problems(RIGHT) == []


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        (replace(RIGHT, gap=math.inf), "its mapping has a gap of inf"),
        (replace(RIGHT, bound=3.0), "its mapping is bounded by 3.0, and solved at 2.0"),
        (
            replace(RIGHT, blocks=(replace(BLOCKS, nodes=("other",)),)),
            "its mapping knows a node 'other', which there is not",
        ),
        (replace(RIGHT, blocks=(replace(BLOCKS, taken=1),)), "its mapping takes option 1 of 1"),
        (
            replace(RIGHT, blocks=(replace(BLOCKS, options=(replace(OPTION, seconds=-1.0),)),)),
            "an option of its mapping has seconds -1.0",
        ),
    ],
)
def test_a_contradiction(mapping: Mapping, problem: str) -> None:
    assert problems(mapping) == [problem]
