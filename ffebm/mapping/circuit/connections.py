"""All lines of a block's circuit as one linear map: from the states of units to what drives them.

What an array asks of the virtual grounds of its lines follows with a lag; identities follow at once.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ffebm.graph.tensor import Floats
from ffebm.hardware.description import Amplifier
from ffebm.mapping.circuit.equations import Equations, IdentityLink, Lines
from ffebm.mapping.circuit.wiring import NOWHERE, Units

SMALL = 65536
"""Elements of a matrix, all states against all lines, up to which one product is faster than one an array."""

Met = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class _Array:
    """The lines of an array as they move.

    Attributes:
        drivers: Index of the state on each driven line of each window; the last state is ground,
            [windows * driven].
        weight: Drive for each state, [driven, sensed].
        order: Which currents, of all windows side by side, go to `units`: those of a unit follow each other.
        starts: Where in that order the currents of each unit begin, [units].
        units: Index of each free unit that is driven, ascending.
        lags: Of the line of each unit, s.
        siemens: Conductance on each driven line, [driven].
    """

    drivers: Units
    weight: Floats
    order: Units
    starts: Units
    units: Units
    lags: Floats
    siemens: Floats

    @classmethod
    def of(cls, lines: Lines, starts: Mapping[str, int], amplifier: Amplifier | None) -> "_Array":
        """Those of an array whose values start at some indices."""
        sensed = lines.sensed.reshape(-1)
        met = np.flatnonzero(sensed >= 0)
        order = met[np.argsort(sensed[met], kind="stable")]
        units, firsts, at = np.unique(sensed[order], return_index=True, return_inverse=True)
        drivers = np.where(lines.drivers >= 0, lines.drivers + starts[lines.source], NOWHERE)
        on_lines = np.broadcast_to(lines.noise_gain, lines.sensed.shape).reshape(-1)[order]
        slow = lags(np.bincount(at, on_lines, len(units)).astype(np.float64), amplifier)
        return cls(
            drivers=drivers.reshape(-1),
            weight=lines.weight,
            order=order,
            starts=firsts,
            units=starts[lines.target] + units,
            lags=slow,
            siemens=lines.siemens,
        )

    def product(self, states: Floats) -> Floats:
        """What the lines ask for, from states with ground, [samples, units]."""
        lines = states[:, self.drivers].reshape(-1, len(self.weight))
        products = (lines @ self.weight).reshape(len(states), -1)[:, self.order]
        if len(self.starts) == len(self.order):
            return products
        return np.add.reduceat(products, self.starts, axis=1)


@dataclass(frozen=True)
class Connections:
    """The lines of a block.

    Attributes:
        starts: Where the units of each value begin among all, by value name: free ones first.
        free: Units that move.
        units: Those and clamped ones; the state behind them is ground.
        count: Lines with a unit: virtual grounds of all arrays, then identities.
        lags: Of each line, s.
        siemens: Conductance that each unit drives, ground last, [units + 1].
    """

    starts: dict[str, int]
    free: int
    units: int
    count: int
    lags: Floats
    siemens: Floats
    _arrays: tuple[_Array, ...]
    _linked: Units
    _driven: Units
    _asked: Floats | None
    _spread: Floats | None

    @classmethod
    def of(cls, equations: Equations, amplifier: Amplifier | None) -> "Connections":
        """The connections of a block's equations; amplifiers of None are ideal."""
        starts: dict[str, int] = {}
        count = 0
        for layer in equations.layers:
            starts[layer.value] = count
            count += math.prod(layer.shape)
        free = count
        for name, shape in equations.inputs.items():
            starts[name] = count
            count += math.prod(shape)
        arrays = tuple(_Array.of(lines, starts, amplifier) for lines in equations.lines)
        linked, driven = _identities(equations.links, starts)
        targets = np.concatenate([*(array.units for array in arrays), driven])
        asked = spread = None
        if len(targets) * (count + 1 + free) <= SMALL:
            asked = _products(arrays, linked, np.eye(count + 1))
            spread = (targets[:, None] == np.arange(free)).astype(np.float64)
        siemens = np.zeros(count + 1)
        for array in arrays:
            windows = len(array.drivers) // len(array.siemens)
            np.add.at(siemens, array.drivers, np.tile(array.siemens, windows))
        return cls(
            starts=starts,
            free=free,
            units=count,
            count=len(targets),
            lags=np.concatenate([*(array.lags for array in arrays), np.zeros(len(linked))]),
            siemens=siemens,
            _arrays=arrays,
            _linked=linked,
            _driven=driven,
            _asked=asked,
            _spread=spread,
        )

    def asked(self, states: Floats) -> Floats:
        """What all lines ask for, of states with ground, [samples, units + 1] -> [samples, lines]."""
        if self._asked is not None:
            asked: Floats = states @ self._asked
            return asked
        return _products(self._arrays, self._linked, states)

    def spread(self, reads: Floats) -> Floats:
        """What lines drive each free unit with, [samples, lines] -> [samples, free units]."""
        if self._spread is not None:
            spread: Floats = reads @ self._spread
            return spread
        pushed, start = np.zeros((len(reads), self.free)), 0
        for array in self._arrays:
            end = start + len(array.units)
            pushed[:, array.units] += reads[:, start:end]
            start = end
        np.add.at(pushed.T, self._driven, reads[:, start:].T)
        return pushed

    def follow(self, step: float) -> Floats:
        """How far each line goes in a step towards what it is asked for."""
        slow = np.where(self.lags > 0, self.lags, 1.0)
        followed: Floats = np.where(self.lags > 0, -np.expm1(-step / slow), 1.0)
        return followed

    def watts(self, states: Floats) -> Floats:
        """Power of the cells for 1 V that stands for 1, of states with ground, [samples], W."""
        total: Floats = states**2 @ self.siemens
        return total


def _identities(links: tuple[IdentityLink, ...], starts: Mapping[str, int]) -> tuple[Units, Units]:
    """The units that identities read, and those that they drive."""
    none = np.zeros(0, np.int64)
    linked = [starts[link.source] + link.drivers for link in links]
    driven = [starts[link.target] + link.driven for link in links]
    return np.concatenate([none, *linked]), np.concatenate([none, *driven])


def _products(arrays: tuple[_Array, ...], linked: Units, states: Floats) -> Floats:
    found: Iterator[Floats] = (array.product(states) for array in arrays)
    return np.concatenate([*found, states[:, linked]], axis=1)


def lags(noise_gain: Floats, amplifier: Amplifier | None) -> Floats:
    """Time constant of a virtual ground with a noise gain of 1 + what is given, s."""
    if amplifier is None:
        return np.zeros_like(noise_gain)
    return (1.0 + noise_gain) / (2 * math.pi * amplifier.gain_bandwidth.value)
