"""A study of sensitivity: the profile of every unit, then the partitions that keep an accuracy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from ffebm.errors import UsageError
from ffebm.hardware import Crossbar
from ffebm.runtime.calibration import calibration_batch, follows_data
from ffebm.runtime.sensitivity.effects import VARIED, Axis
from ffebm.runtime.sensitivity.meter import Meter, Tiles, cosine
from ffebm.runtime.sensitivity.record import Offer, Point, Record, Trial
from ffebm.runtime.sensitivity.search import Keeps, by_distortion, by_work
from ffebm.runtime.sensitivity.units import Unit, work_of

Levels = Mapping[Axis, Sequence[float]]
"""Levels to measure on each axis."""
Method = Literal["by work", "by distortion"]


class Study:
    """Measures what its record does not hold yet; the record is saved after every figure.

    Args:
        meter: What measures.
        record: What is measured so far; it is filled in place.
        save: Called after every new figure.
    """

    def __init__(self, meter: Meter, record: Record, save: Callable[[Record], None]) -> None:
        self.meter = meter
        self.record = record
        self._save = save
        self._units = {unit.name: unit for unit in record.units}
        self._weights = tuple(weight for unit in record.units for weight in unit.weights)

    @property
    def work(self) -> int:
        """Multiply-accumulates of one inference, on tiles or not."""
        return work_of(self.meter.plan)

    def exact(self) -> float:
        """Accuracy with everything exact."""
        if self.record.exact is None:
            self.record.exact = self.meter.accuracy(self._only({}))
            self._save(self.record)
        return self.record.exact

    def missing(self, levels: Levels) -> list[tuple[Unit, Axis, float]]:
        """Points of the profile that the record does not hold, in the order in which they are measured."""
        held = {(point.unit, point.axis, point.level) for point in self.record.points}
        wanted = [
            (unit, axis, level) for axis in levels for level in levels[axis] for unit in self.record.units
        ]
        return [(unit, axis, level) for unit, axis, level in wanted if (unit.name, axis, level) not in held]

    def profile(self, levels: Levels) -> Iterator[Point]:
        """Measure the missing points, one unit at a time on tiles."""
        missing = self.missing(levels)
        ideal = self.meter.gradients(self._only({}), exact=True) if missing else {}
        for unit, axis, level in missing:
            tile = VARIED[axis](self.crossbar, level)
            tiles = self._only(dict.fromkeys(unit.weights, tile))
            found = self.meter.gradients(tiles)
            cosines = {
                name: cosine([found[w] for w in other.weights], [ideal[w] for w in other.weights])
                for name, other in self._units.items()
            }
            point = Point(
                unit=unit.name,
                axis=axis,
                level=level,
                accuracy=self.meter.accuracy(tiles),
                cosine=cosines[unit.name],
                cosines=cosines,
            )
            self.record.points += (point,)
            self._save(self.record)
            yield point

    def offer(self, method: Method, target: float, progress: Callable[[int], None]) -> Offer:
        """The partition that one way of searching finds.

        Args:
            method: "by work", the baseline, or "by distortion".
            target: Accuracy to keep.
            progress: Called before every evaluation with its number, from 1.

        Raises:
            UsageError: If the accuracy is not reached with everything exact.
        """
        if self.exact() < target:
            raise UsageError(
                f"{100 * target:.2f} % are to be kept, but with everything exact it is "
                f"{100 * self.exact():.2f} %",
                hint="ask for less, or train the model further",
            )
        asked: dict[frozenset[str], float] = {frozenset(): self.exact()}

        def keeps(on_tiles: frozenset[str]) -> bool:
            progress(len(asked))
            asked[on_tiles] = self._trial(on_tiles)
            return asked[on_tiles] >= target

        chosen = self._search(method, keeps)
        evaluations = len(asked) - 1
        effort, data = self.meter.effort, self.meter.data
        seen = len(calibration_batch(data)[0]) if follows_data(self.meter.plan) else 0
        passes = evaluations * (min(effort.samples, len(data.x_test)) + seen) * effort.seeds
        if method == "by distortion":
            passes += min(effort.probes, len(data.x_train)) * (1 + len(self._units)) + seen * len(self._units)
        offer = Offer(
            method=method,
            target=target,
            digital=tuple(w for unit in self.record.units if unit.name not in chosen for w in unit.weights),
            on_tiles=tuple(name for name in self._units if name in chosen),
            work=sum(self._units[name].macs for name in chosen) / self.work,
            accuracy=asked[chosen],
            confirmed=self.meter.confirmed(self._placed(chosen)),
            evaluations=evaluations,
            passes=passes,
        )
        self.record.offers = (*(o for o in self.record.offers if o.method != method), offer)
        self._save(self.record)
        return offer

    def _search(self, method: Method, keeps: Keeps) -> frozenset[str]:
        if method == "by work":
            return by_work(self.record.units, keeps)
        if self.record.distortions is None:
            self.record.distortions = self.meter.distortions(self.record.units, self._weights)
            self._save(self.record)
        return by_distortion(self.record.units, self.record.distortions, keeps)

    def _trial(self, chosen: frozenset[str]) -> float:
        """Accuracy with these units on the plan's own tiles and the others exact."""
        on_tiles = tuple(name for name in self._units if name in chosen)
        for trial in self.record.trials:
            if trial.on_tiles == on_tiles:
                return trial.accuracy
        accuracy = self.meter.accuracy(self._placed(chosen))
        self.record.trials += (Trial(on_tiles=on_tiles, accuracy=accuracy),)
        self._save(self.record)
        return accuracy

    def _placed(self, chosen: frozenset[str]) -> Tiles:
        on_tiles = {w: self.crossbar for name in chosen for w in self._units[name].weights}
        return self._only(on_tiles)

    def _only(self, tiles: Mapping[str, Crossbar]) -> Tiles:
        """These weights on these tiles, all others exact."""
        return {weight: tiles.get(weight) for weight in self._weights}

    @property
    def crossbar(self) -> Crossbar:
        """The plan's own tile."""
        tile = self.meter.plan.hardware.tiles.tile
        assert isinstance(tile, Crossbar)  # its units lie on crossbars
        return tile
