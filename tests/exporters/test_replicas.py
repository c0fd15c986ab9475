"""What exporters say of weights that lie on tiles several times."""

import json

from ffebm import compile as compile_plan
from ffebm.exporters.aihwkit import export_aihwkit
from ffebm.exporters.crosssim import PIECES, export_crosssim
from ffebm.exporters.zigzag import export_zigzag
from tests.models import Builder

NOTE = "w: several replicas share the vectors; here each is held once"


def test_replicas_are_told_apart_or_held_once() -> None:
    b = Builder()
    y = b.node("Conv", b.input("x", 1, 2, 6, 6), b.weight(4, 2, 3, 3, name="w"))
    plan = compile_plan(b.model(b.node("Relu", y)), hardware="reference", replicas=2)
    pieces = json.loads(export_crosssim(plan).files[PIECES])["pieces"]
    assert [piece["replica"] for piece in pieces] == [0, 1]
    assert NOTE in export_aihwkit(plan).notes
    assert NOTE in export_zigzag(plan).notes
