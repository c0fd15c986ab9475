"""The package does what it says, found by its entry point."""

from pathlib import Path

import torch
from ffebm_bow import bow
from msgspec.structs import replace
from torch import nn

import ffebm


def machine(curve: str) -> ffebm.Hardware:
    """The reference machine without noise and with fine converters."""
    reference = ffebm.load_hardware("reference")
    (group,) = reference.analog
    tile = group.tile.crossbar()
    silent = replace(tile.cell.read_noise, value=0.0)
    tile = replace(
        tile,
        cell=replace(tile.cell, read_noise=silent, programming_noise=silent),
        dac=replace(tile.dac, bits=16),
        adc=replace(tile.adc, bits=16, range="maximal", curve=curve),
    )
    return replace(reference, name=f"reference{curve}", analog=(replace(group, tile=tile),))


def test_readings_are_bent(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(6, 5, bias=False), torch.randn(7, 6)
    plans = [ffebm.compile(model, (x,), hardware=machine(curve)) for curve in ("", "bow")]
    assert [plan.packages for plan in plans] == [(), ("ffebm-bow",)]
    plans[1].save(tmp_path / "plan")
    with torch.no_grad():
        straight, bent = (ffebm.Executor(p)(x) for p in (plans[0], ffebm.load_plan(tmp_path / "plan")))
    ((_, piece),) = plans[0].pieces()
    top = piece.scale * piece.adc_range * x.abs().amax(1, keepdim=True)
    torch.testing.assert_close(bent, top * bow(straight / top), rtol=0, atol=1e-4 * float(top.max()))
    assert float((bent - straight).abs().max()) > 5e-3 * float(top.max())
