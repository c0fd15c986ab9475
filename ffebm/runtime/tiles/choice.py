"""What a weight lies on instead of the plan's tiles: other hardware, or a tile of one's own."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import torch

from ffebm import plugins
from ffebm.errors import InternalError, UsageError
from ffebm.graph.energy_block import Linear
from ffebm.hardware.crossbar import Crossbar
from ffebm.hardware.description import Hardware, TileKind, load_hardware, shipped_hardware
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Piece
from ffebm.runtime.tiles.master import MasteredTile
from ffebm.runtime.tiles.replicas import tile_of
from ffebm.runtime.tiles.tile import Tile
from ffebm.visible import visible

METHODS = (
    "program", "read", "mvm", "mvm_t", "update", "readings", "health", "at", "calibrate", "state", "restore",
)  # fmt: skip
"""Of a `Tile`."""


@dataclass(frozen=True)
class OwnTile:
    """A tile of one's own, with the answers that every kind of tile gives.

    Attributes:
        make: Makes the tile of some pieces of a weight, given the source of noise and the name of the tile in
            its machine; what belongs to a device for good is drawn by the name, the rest from the source.
        meaning: What it holds a weight as, in words: states are taken up by tiles of the same meaning.
        learns_in_place: Its `update` is a step of training; without, a digital master copy learns.
        drifts: What it holds changes with the time that `at` tells.
        follows_data: Its `calibrate` sets ranges by samples.
    """

    make: Callable[[torch.Generator, str], Tile]
    meaning: str = "a tile of one's own"
    learns_in_place: bool = False
    drifts: bool = False
    follows_data: bool = False

    @property
    def has_cells(self) -> bool:
        """Weights lie on tiles that are programmed and read."""
        return True

    @property
    def size(self) -> tuple[int, int] | None:
        """Most inputs and outputs; None: as many as a piece has."""
        return None

    def crossbar(self) -> Crossbar:
        """None.

        Raises:
            InternalError: Always.
        """
        raise InternalError("a tile of one's own is asked for its cells")


@dataclass(frozen=True)
class _Copies:
    """Makes tiles that are copies of one."""

    pattern: Tile

    def __call__(self, generator: torch.Generator, name: str) -> Tile:
        return deepcopy(self.pattern)


TileChoice = TileKind | OwnTile | Tile | Hardware | str | Path | None
"""A kind of tile, a tile of one's own, a hardware description, or a name or file of these; None is exact."""

_ALLOWED = (
    "a hardware description, its name or file, its tile (Crossbar), a tile of your own, or None for exact "
    "products"
)


def known_tiles(plan: Plan, tiles: Mapping[str, TileChoice]) -> dict[str, TileKind | OwnTile]:
    """What weights lie on instead of the plan's tiles, checked.

    Raises:
        UsageError: If it is no mapping of tiles, the plan has not placed a weight on tiles of that kind, or a
            piece does not fit.
        HardwareError: If there is no such hardware description.
    """
    if not isinstance(tiles, Mapping):
        raise UsageError(f"tiles={tiles!r}", allowed=f"a tile for each weight by name: {_ALLOWED}")
    groups = plan.groups_of_weights()
    kinds = {weight: group.tile.kind for weight, group in groups.items()}
    found = {name: _tile_of(name, choice) for name, choice in tiles.items()}
    for name, tile in found.items():
        if name not in kinds or (tile.has_cells and kinds[name] != "crossbar"):
            placed = sorted(n for n, kind in kinds.items() if kind == "crossbar" or not tile.has_cells)
            raise UsageError(
                f"a tile for {visible(name)!r}, which lies on {kinds.get(name, 'no')} tile of the plan",
                allowed=f"weights that the plan has placed on {'crossbars' if tile.has_cells else 'tiles'}: "
                f"{visible(', '.join(placed)) or 'there are none'}",
            )
        if _is_single(tile) and not _is_single(groups[name].tile):
            raise UsageError(
                f"a tile of single cells for {visible(name)!r}, which the plan has not placed on such",
                allowed="tiles whose weights have a sign",
                hint="compile for a machine of single cells: hardware='resistive-single'",
            )
        if isinstance(tile, OwnTile) and groups[name].settling == "continuous":
            raise UsageError(
                f"a tile of one's own for {name!r} in a circuit that settles by itself",
                allowed="machines with clocked settling",
            )
    for _, piece in plan.pieces():
        size = found[piece.weight].size if piece.weight in found else None
        if size is not None and (piece.n_in > size[0] or piece.n_out > size[1]):
            raise UsageError(
                f"a tile of {size[0]} x {size[1]} for {piece.weight!r}, of which the plan has placed "
                f"{piece.n_in} x {piece.n_out} on one",
                hint="compile for a machine with tiles of that size",
            )
    return found


def _is_single(tile: TileKind | OwnTile) -> bool:
    return not isinstance(tile, OwnTile) and tile.has_cells and tile.crossbar().is_single


@cache
def _exact() -> TileKind:
    return load_hardware("ideal").analog[0].tile


def _tile_of(name: str, choice: object) -> TileKind | OwnTile:
    """The tile that is meant."""
    if choice is None:
        return _exact()
    if isinstance(choice, str) and choice not in shipped_hardware():
        package = plugins.package_of(plugins.TILES, choice)
        choice = plugins.load(plugins.TILES, choice) if package is not None else load_hardware(choice)
    if isinstance(choice, str | Path):
        choice = load_hardware(choice)
    if isinstance(choice, Hardware):
        if len(choice.analog) > 1:
            raise UsageError(
                f"a tile for {name!r} is of {choice.name}, which has {len(choice.analog)} groups of tiles",
                allowed="one kind of tile",
                hint=f"give its tile: hardware.analog_group({choice.analog[0].name!r}).tile",
            )
        return choice.analog[0].tile
    if isinstance(choice, TileKind | OwnTile):
        return choice
    missing = [method for method in METHODS if not callable(getattr(choice, method, None))]
    if isinstance(choice, type) or {"program", "mvm"} & {*missing}:
        raise UsageError(f"a tile for {name!r} is {choice!r}", allowed=_ALLOWED)
    if missing:
        raise UsageError(
            f"the tile for {name!r}, a {type(choice).__name__}, has no {', '.join(missing)}",
            allowed="all methods of ffebm.runtime.tiles.tile.Tile",
            hint="IdealTile answers those that do not concern it with nothing",
        )
    copies: Callable[[torch.Generator, str], Tile] = _Copies(choice)  # type: ignore[arg-type] # it has all methods
    return OwnTile(copies, meaning=f"{type(choice).__module__}.{type(choice).__qualname__}")


def own_array(
    linear: Linear, pieces: Sequence[Piece], tile: OwnTile, generator: torch.Generator, machine: str
) -> MasteredTile:
    """A weight on tiles of one's own.

    Args:
        linear: What it is the weight of.
        pieces: Where it lies.
        tile: What the tiles are.
        generator: Source of all noise.
        machine: Name of the machine.

    Raises:
        UsageError: If what is made is no tile.
    """
    numbers = count()

    def make() -> Tile:
        made = tile.make(generator, f"{machine}/{linear.weight}/{next(numbers)}")
        missing = [method for method in METHODS if not callable(getattr(made, method, None))]
        if missing:
            raise UsageError(
                f"what is made as a tile for {linear.weight!r}, a {type(made).__name__}, has no "
                f"{', '.join(missing)}",
                allowed="all methods of ffebm.runtime.tiles.tile.Tile",
            )
        return made

    return MasteredTile(linear, tile_of(pieces, make))
