"""Plans with several copies of each weight: what they compute, how they learn, what they keep."""

from dataclasses import dataclass

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

import ffebm
from ffebm.graph.graph import Graph, Stage
from ffebm.hardware.description import Hardware, load_hardware
from ffebm.runtime.tiles.replicas import ReplicatedTile
from tests.machines import ratio, with_tiles
from tests.runtime.tiles.bench import with_cell


@dataclass(frozen=True)
class Copies:
    """A pass that gives every weight so many replicas."""

    replicas: int
    name: str = "copies"
    requires: Stage = Stage.PARTITIONED
    ensures: Stage = Stage.PARTITIONED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        for weight, parts in graph.parts.items():
            graph.parts[weight] = tuple(
                replace(part, replica=number) for number in range(self.replicas) for part in parts
            )


def quiet() -> Hardware:
    """`reference` whose cells miss their targets, and whose reads repeat."""
    machine = load_hardware("reference")
    tile = machine.analog[0].tile.crossbar()
    tile = with_cell(tile, read_noise=ratio(0.0), programming_noise=ratio(0.2))
    return with_tiles(machine, tile=tile)


def in_place() -> Hardware:
    """`reference` whose cells learn by the pulses of `resistive`, with nothing in between."""
    machine, law = load_hardware("reference"), load_hardware("resistive").analog[0].tile.crossbar().update
    assert law is not None
    tile = replace(machine.analog[0].tile.crossbar(), update=replace(law, remedy=None))
    return with_tiles(machine, tile=tile)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


def run(net: ffebm.Executor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a network returns, and its gradients."""
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    out = net(x)
    torch.autograd.backward(out.square().sum())
    return out.detach(), {n: p.grad for n, p in net.named_parameters() if p.grad is not None}


def executor(hardware: Hardware | str, replicas: int, block_size: int = 1) -> ffebm.Executor:
    x = torch.zeros(3, 2, 8, 8)
    plan = ffebm.compile(
        network(), (x,), hardware=hardware, passes=(Copies(replicas),), block_size=block_size, replicas=1
    )
    assert {piece.replica for _, piece in plan.pieces()} == set(range(replicas))
    return ffebm.Executor(plan)


@pytest.mark.parametrize("block_size", [1, 2])
def test_on_exact_tiles_replicas_change_nothing(block_size: int) -> None:
    one, two = (run(executor("ideal", n, block_size=block_size)) for n in (1, 2))
    assert torch.equal(one[0], two[0])
    assert one[1].keys() == two[1].keys()
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])


def test_windows_alternate_between_copies_of_different_errors() -> None:
    """A one-pixel kernel and an even image: every window is alike but for the cells that it meets."""
    torch.manual_seed(0)
    model, x = nn.Conv2d(3, 2, 1, bias=False), torch.ones(2, 3, 4, 6)

    def made(replicas: int) -> Tensor:
        plan = ffebm.compile(model, (x,), hardware=quiet(), passes=(Copies(replicas),), replicas=1)
        out: Tensor = ffebm.Executor(plan)(x)
        return out.detach().flatten(2)

    assert (made(1) == made(1)[..., :1]).all()
    out = made(3)
    for copy in range(3):
        assert (out[..., copy::3] == out[..., copy : copy + 1]).all()
    assert len({*out[0, 0].tolist()}) == 3


def test_in_place_every_copy_is_pulsed_and_the_mean_is_shown() -> None:
    net = executor(in_place(), 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    run(net)
    assert net._machine is not None
    arrays = net._machine._arrays
    before = {name: each(array.tile).clone() for name, array in arrays.items()}
    optimizer.step()
    net(torch.zeros(3, 2, 8, 8))
    moved = 0
    for name, array in arrays.items():
        moved += int((each(array.tile) != before[name]).flatten(1).any(1).sum())
        shown = array.value(net.weights()[name])
        assert torch.allclose(net.weights()[name], shown)
    assert moved == 2 * len(arrays)


def each(tile: object) -> Tensor:
    assert isinstance(tile, ReplicatedTile)
    return tile.each()


def test_a_state_holds_all_copies() -> None:
    one, other = executor(quiet(), 2), executor(quiet(), 2)
    x = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    one.eval()
    other.eval()
    expected = one(x)
    state = one.state_dict()
    other.load_state_dict(state)
    assert torch.equal(other(x), expected)
