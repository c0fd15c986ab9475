"""What holds for everything that a plan consists of."""

import msgspec
import pytest

import ffebm.plan.plan  # noqa: F401 - with all its parts
from ffebm.plan.schema import Manifest, Options


def parts(of: type[msgspec.Struct] = msgspec.Struct) -> list[type[msgspec.Struct]]:
    """All kinds of records of `ffebm.plan` that a plan is written with."""
    below = [kind for child in of.__subclasses__() for kind in parts(child)]
    return [
        kind
        for kind in (of, *below)
        if kind.__module__.startswith("ffebm.plan.") and "_" not in kind.__name__
    ]


KINDS = {kind.__name__: kind for kind in parts()}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_records_refuse_unknown_fields_and_do_not_change(name: str) -> None:
    kind = KINDS[name]
    assert kind.__struct_config__.forbid_unknown_fields
    assert kind.__struct_config__.frozen or issubclass(kind, Manifest)


def test_the_options_of_a_plan_that_names_none() -> None:
    assert Options().block_size == 1


def test_sizes_are_written_as_options_take_them() -> None:
    assert [Options(block_size=size).sizes for size in (3, (3,), (2, 1))] == ["3", "3", "2,1"]
