"""The package does what it says, found by its entry point."""

from pathlib import Path

import torch
from torch import nn

import ffebm
from ffebm.commands.export import export


def test_the_table_is_written_by_name(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    ffebm.compile(model, (torch.randn(2, 6),)).save(tmp_path / "plan")
    export(tmp_path / "plan", "csv", tmp_path / "table")
    assert (tmp_path / "table" / "pieces.csv").read_text() == (
        "piece,weight,tile,row,column,inputs,outputs\n0,0.weight,0,0,0,6,5\n"
    )
