import inspect

import pytest

import ffebm
from ffebm.errors import InternalError
from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.exact import Exact


def questions(kind: type) -> set[str]:
    """Properties and methods of its own, beside its fields."""
    return {n for n, a in vars(kind).items() if not n.startswith("_") and isinstance(a, property)}


def test_an_exact_tile_answers_neutrally() -> None:
    tile = ffebm.load_hardware("ideal").analog[0].tile
    answers = {name: getattr(tile, name) for name in questions(Exact) - {"read_seconds"}}
    assert answers == {
        "kind": "exact",
        "has_cells": False,
        "size": None,
        "slices": 1,
        "converter_bits": (0, 0),
        "input_limit": None,
        "update": None,
        "verify": None,
        "drifts": False,
        "learns_in_place": False,
        "follows_data": False,
        "meaning": "exact",
    }
    assert isinstance(tile, Exact)
    assert tile.read_seconds == tile.read_time.value
    with pytest.raises(InternalError):
        tile.crossbar()


def test_every_question_to_an_exact_tile_is_answered_by_a_crossbar() -> None:
    fields = set(Crossbar.__struct_fields__)
    assert questions(Exact) <= questions(Crossbar) | fields
    assert inspect.signature(Exact.crossbar).parameters.keys() == {"self"}


def test_a_crossbar_answers_by_what_it_is_made_of() -> None:
    tile = ffebm.load_hardware("isaac").analog[0].tile.crossbar()
    once = tile.dac.time.value + tile.read_time.value + tile.adc.time.value
    assert tile.read_seconds == once * tile.dac.slices
    assert tile.size == (tile.rows, tile.cols)
    assert tile.converter_bits == (tile.dac.bits, tile.adc.bits)
    assert tile.has_cells
    assert not tile.drifts
    assert ffebm.load_hardware("hermes").analog[0].tile.drifts
