import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ffebm
from ffebm.errors import InternalError, UsageError
from ffebm.runtime.tiles.choice import METHODS, OwnTile
from ffebm.runtime.tiles.ideal import IdealTile
from ffebm.runtime.tiles.tile import Tile
from tests.machines import continuous
from tests.packages import installed


class Doubling(IdealTile):
    """Holds twice the weight."""

    def program(self, weight: Tensor) -> None:
        super().program(2 * weight)


class Learning(IdealTile):
    """Takes half of every step."""

    def update(self, step: Tensor) -> None:
        super().update(0.5 * step)


class Lacking:
    """Has no transposed product and no state."""

    def program(self, weight: Tensor) -> None: ...
    def read(self) -> Tensor:
        return torch.zeros(())

    def mvm(self, x: Tensor) -> Tensor:
        return x

    def update(self, step: Tensor) -> None: ...
    def readings(self) -> None: ...
    def health(self) -> None: ...
    def at(self, seconds: float | None) -> None: ...
    def calibrate(self, stage: str) -> None: ...


def plan(hardware: Any = "reference") -> tuple[ffebm.Plan, nn.Linear]:
    torch.manual_seed(0)
    linear = nn.Linear(300, 5)  # in several pieces
    return ffebm.compile(nn.Sequential(linear, nn.ReLU()), (torch.randn(2, 300),), hardware=hardware), linear


def run(choice: Any, hardware: Any = "reference") -> Tensor:
    made, _ = plan(hardware)
    out: Tensor = ffebm.Executor(made, tiles={"0.weight": choice})(torch.ones(3, 300))
    return out


def test_all_methods_of_a_tile_are_asked_for() -> None:
    own = {name for name, part in vars(Tile).items() if callable(part) and not name.startswith("_")}
    assert own == set(METHODS)


def test_a_tile_of_ones_own_is_programmed_and_read() -> None:
    made, linear = plan()
    assert len([piece for _, piece in made.pieces() if piece.weight == "0.weight"]) > 1
    x = torch.randn(3, 300)
    net = ffebm.Executor(made, gradient=ffebm.EP(beta=1e-3), tiles={"0.weight": Doubling()})
    torch.testing.assert_close(net(x), torch.relu(x @ (2 * linear.weight).T + linear.bias))
    net(x).sum().backward()
    grads = net.weights()["0.weight"].grad
    assert grads is not None
    active = (net(x) > 0).float()
    torch.testing.assert_close(grads, active.T @ x, rtol=1e-3, atol=1e-3)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.unprogrammed()):
        assert torch.equal(other(x), net(x))


def test_a_pattern_is_copied_and_stays_as_it_is() -> None:
    pattern = Doubling()
    run(pattern)
    with pytest.raises(InternalError):
        pattern.read()


def test_steps_go_to_tiles_that_learn_in_place() -> None:
    made, linear = plan()
    kind = OwnTile(lambda generator, name: Learning(), learns_in_place=True)
    net = ffebm.Executor(made, tiles={"0.weight": kind})
    with torch.no_grad():
        net(torch.ones(1, 300))
        net.weights()["0.weight"].add_(1.0)
        net(torch.ones(1, 300))
        torch.testing.assert_close(net.weights()["0.weight"], linear.weight + 0.5)


def test_tiles_of_packages_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from ffebm.runtime.tiles.choice import OwnTile\n"
        "from ffebm.runtime.tiles.ideal import IdealTile\n"
        "EXACT = OwnTile(lambda generator, name: IdealTile())\n"
    )
    installed(tmp_path / "target", "plug-tile", {"ffebm.tiles": {"mine": "plug_tile:EXACT"}}, code)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "target"), *sys.path])
    torch.testing.assert_close(run("mine"), run(None))


def test_a_tile_of_ones_own_that_cannot_be_remapped() -> None:
    made, _ = plan()
    tile = OwnTile(lambda generator, name: Learning(), learns_in_place=True)
    net = ffebm.Executor(made, tiles={"0.weight": tile})
    with pytest.raises(UsageError) as caught:
        net.remap()
    assert str(caught.value) == (
        "the tile for '0.weight', a Learning, cannot be remapped; tiles with a method remap()"
    )


def test_wrong_tiles_are_refused() -> None:
    found = {}
    circuit = continuous(ffebm.load_hardware("reference"))
    for name, choice, hardware in (
        ("lacking", Lacking(), "reference"),
        ("made", OwnTile(lambda generator, name: Lacking()), "reference"),  # type: ignore[arg-type, return-value]
        ("class", IdealTile, "reference"),
        ("exact", Doubling(), "ideal"),
        ("circuit", Doubling(), circuit),
    ):
        with pytest.raises(UsageError) as caught:
            run(choice, hardware)
        found[name] = str(caught.value)
    with pytest.raises(UsageError) as caught:
        ffebm.Executor(plan()[0], tiles={"0.wieght": Doubling()})
    found["unknown"] = str(caught.value)
    allowed = "all methods of ffebm.runtime.tiles.tile.Tile"
    assert found["lacking"] == (
        f"the tile for '0.weight', a Lacking, has no mvm_t, state, restore; {allowed}\n"
        "  hint: IdealTile answers those that do not concern it with nothing"
    )
    assert found["made"] == (
        f"what is made as a tile for '0.weight', a Lacking, has no mvm_t, state, restore; {allowed}"
    )
    assert found["class"].startswith(f"a tile for '0.weight' is {IdealTile!r}; a hardware description")
    assert found["exact"] == (
        "a tile for '0.weight', which lies on exact tile of the plan; "
        "weights that the plan has placed on crossbars: there are none"
    )
    assert found["unknown"] == (
        "a tile for '0.wieght', which lies on no tile of the plan; "
        "weights that the plan has placed on crossbars: 0.weight"
    )
    assert found["circuit"] == (
        "a tile of one's own for '0.weight' in a circuit that settles by itself; "
        "machines with clocked settling"
    )


class Sized(IdealTile):
    """Takes any piece."""


@pytest.mark.parametrize(("size", "fits"), [((150, 5), True), ((149, 5), False), ((150, 4), False)])
def test_pieces_fit_on_a_tile_of_ones_own(size: tuple[int, int], fits: bool, monkeypatch: Any) -> None:
    """Of 300 inputs and 5 outputs in two pieces."""
    monkeypatch.setattr(OwnTile, "size", size)
    if fits:
        torch.testing.assert_close(run(Sized()), run(None))
        return
    with pytest.raises(UsageError) as caught:
        run(Sized())
    assert str(caught.value) == (
        f"a tile of {size[0]} x {size[1]} for '0.weight', of which the plan has placed 150 x 5 on one\n"
        "  hint: compile for a machine with tiles of that size"
    )
