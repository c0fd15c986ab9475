from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ffebm
from ffebm.errors import UsageError
from ffebm.hardware.description import Crossbar, Hardware
from tests.machines import crossbars, ratio, with_tiles
from tests.runtime.tiles.bench import drift, with_cell


def drifting(elapsed: float) -> Hardware:
    """Crossbars whose cells drift, with programming noise and without read noise."""
    machine = crossbars(8, 16, 16)
    assert isinstance(machine.analog[0].tile, Crossbar)
    aged = drift(0.05, 0.02, elapsed, compensated=True)
    tile = with_cell(machine.analog[0].tile, drift=aged, read_noise=ratio(0.0))
    return with_tiles(machine, tile=tile)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 5))


def executor(hardware: Hardware | str) -> ffebm.Executor:
    return ffebm.Executor(ffebm.compile(network(), (torch.rand(2, 24),), hardware=hardware))


@torch.no_grad()
def test_tiles_at_any_time_after_one_programming() -> None:
    x = torch.rand(7, 24)
    net = executor(drifting(100.0))
    now: Tensor = net(x)
    for seconds in (1e6, 10.0, 1.0, 1e3):  # forth and back
        with net.at(seconds):
            found = net(x)
            with net.at(1e9):
                assert not torch.equal(net(x), found)
            assert torch.equal(net(x), found)
        assert torch.equal(found, executor(drifting(seconds))(x))
        assert torch.equal(net(x), now)
    with net.at(0.0):
        assert torch.equal(net(x), executor(drifting(1.0))(x))  # drift has not started
    with net.at(1e6):
        net.reseed(0)
        assert torch.equal(net(x), executor(drifting(1e6))(x))


def test_times_that_are_none() -> None:
    net = executor(drifting(100.0))
    for seconds in (-1.0, float("nan"), float("inf"), "60"):
        with pytest.raises(UsageError) as caught, net.at(seconds):  # type: ignore[arg-type]
            pass
        assert str(caught.value) == f"{seconds!r} s after programming; a finite time of 0 s or more"
    with pytest.raises(UsageError) as caught, executor("reference").at(3600.0):
        pass
    assert str(caught.value) == (
        "the tiles as they are 3600 s after programming, but no cell drifts\n"
        "  hint: a hardware description gives drift with tile.cell.drift or tile.cell.statistics"
    )


@pytest.mark.slow
def test_a_last_layer_learns_in_place_from_any_start() -> None:
    """16-32-5, 150 steps on `resistive`; ranges that follow first weights gave .53, 1.46, 1.58, 1.58."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=random)
    target = (x @ torch.randn(16, 5, generator=random)).argmax(1)

    def loss(factor: float) -> float:
        torch.manual_seed(0)
        last = nn.Linear(32, 5)
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), last)
        with torch.no_grad():
            last.weight.mul_(factor)
        net = ffebm.Executor(ffebm.compile(model, (x[:2],), hardware="resistive"))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        batches = torch.Generator().manual_seed(1)
        for _ in range(150):
            chosen = torch.randint(256, (32,), generator=batches)
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(net(x[chosen]), target[chosen]))
            optimizer.step()
        with torch.no_grad():
            return float(cross_entropy(net(x), target))

    found = [loss(factor) for factor in (1.0, 0.1, 0.01, 0.001)]
    assert max(found) < 0.8
    assert max(found) - min(found) < 0.2


def test_tiles_are_what_is_meant(tmp_path: Path) -> None:
    plan = ffebm.compile(network(), (torch.rand(2, 24),), hardware="reference")
    x = torch.rand(4, 24)
    machine = ffebm.load_hardware("hermes")
    file = tmp_path / "own.toml"
    shipped = Path(ffebm.__file__).parent / "hardware" / "hermes.toml"
    file.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    with torch.no_grad():
        expected = ffebm.Executor(plan, tiles={"0.weight": machine.analog[0].tile})(x)
        assert not torch.equal(expected, ffebm.Executor(plan)(x))
        for choice in ("hermes", machine, file, str(file)):
            assert torch.equal(ffebm.Executor(plan, tiles={"0.weight": choice})(x), expected)
        exact = ffebm.Executor(plan, tiles={"0.weight": None})(x)
        assert torch.equal(ffebm.Executor(plan, tiles={"0.weight": "ideal"})(x), exact)


def test_tiles_that_mean_nothing() -> None:
    plan = ffebm.compile(network(), (torch.rand(2, 24),), hardware="reference")
    allowed = (
        "a hardware description, its name or file, its tile (Crossbar), a tile of your own, or None for "
        "exact products"
    )
    with pytest.raises(UsageError) as caught:
        ffebm.Executor(plan, tiles={"0.weight": {"rows": 8}})  # type: ignore[dict-item]
    assert str(caught.value) == f"a tile for '0.weight' is {{'rows': 8}}; {allowed}"
    with pytest.raises(UsageError) as caught:
        ffebm.Executor(plan, tiles="hermes")  # type: ignore[arg-type]
    assert str(caught.value) == f"tiles='hermes'; a tile for each weight by name: {allowed}"
    small = crossbars(8, 16, 16).analog[0].tile
    with pytest.raises(UsageError) as caught:
        ffebm.Executor(plan, tiles={"0.weight": small})
    assert str(caught.value) == (
        "a tile of 16 x 16 for '0.weight', of which the plan has placed 24 x 20 on one\n"
        "  hint: compile for a machine with tiles of that size"
    )
