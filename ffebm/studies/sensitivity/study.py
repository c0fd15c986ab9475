"""A study of sensitivity: the profile of every unit, then the partitions that keep an accuracy."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Literal

from torch import Tensor

from ffebm.errors import UsageError
from ffebm.hardware.description import Crossbar
from ffebm.studies.sensitivity.effects import VARIED, Axis
from ffebm.studies.sensitivity.meter import Meter, VariedTiles, cosine
from ffebm.studies.sensitivity.record import Alone, Offer, Point, StudyRecord, Trial, packed, unpacked
from ffebm.studies.sensitivity.search import Keeps, by_superposition, by_work
from ffebm.studies.sensitivity.superposition import CloseCalls, Superposition, close_of
from ffebm.studies.sensitivity.units import Unit, work_of
from ffebm.training.calibration import calibration_batch, follows_data
from ffebm.training.classification import hits

Levels = Mapping[Axis, Sequence[float]]
"""Levels to measure on each axis."""
Method = Literal["by work", "by superposition"]


class Study:
    """Measures what its record does not hold yet; the record is saved after every figure.

    Args:
        meter: What measures.
        record: What is measured so far; it is filled in place.
        save: Called after every new figure.
    """

    def __init__(self, meter: Meter, record: StudyRecord, save: Callable[[StudyRecord], None]) -> None:
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
            logits = self.meter.logits(self._only({}))
            self.record.exact = self._accuracy(logits)
            self.record.exact_logits = packed(logits[0])
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
            tiles = self._only({w: VARIED[axis](self.crossbars[w], level) for w in unit.weights})
            found = self.meter.gradients(tiles)
            cosines = {
                name: cosine([found[w] for w in other.weights], [ideal[w] for w in other.weights])
                for name, other in self._units.items()
            }
            point = Point(
                unit=unit.name,
                axis=axis,
                level=level,
                accuracy=self._accuracy(self.meter.logits(tiles)),
                cosine=cosines[unit.name],
                cosines=cosines,
            )
            self.record.points += (point,)
            self._save(self.record)
            yield point

    def offer(self, method: Method, target: float, progress: Callable[[int], None]) -> Offer:
        """The partition that one way of searching finds.

        Args:
            method: "by work", the baseline, or "by superposition".
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
            asked[on_tiles] = self._trial(on_tiles).accuracy
            return asked[on_tiles] >= target

        chosen = self._search(method, target, keeps)
        evaluations = len(asked) - 1
        passes = evaluations * self.pass_of(len(self.meter.labels()))
        if method == "by superposition":
            passes += len(self._units) * self.pass_of(close_of(len(self.meter.labels())))
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

    def pass_of(self, samples: int) -> int:
        """Samples that go through the network for so many: with every seed, those of a calibration too."""
        meter = self.meter
        seen = len(calibration_batch(meter.data)[1]) if follows_data(meter.plan) else 0
        return (samples + seen) * meter.effort.seeds

    def _search(self, method: Method, target: float, keeps: Keeps) -> frozenset[str]:
        units = self.record.units
        if method == "by work":
            return by_work(units, keeps)
        found = self._superposition()

        def learnt(on_tiles: frozenset[str]) -> bool:
            kept = keeps(on_tiles)
            trial = self._trial(on_tiles)
            found.learn(on_tiles, self._unpacked(trial.logits), trial.accuracy)
            return kept

        samples = len(self.meter.labels())
        alone = self.pass_of(close_of(samples)) / self.pass_of(samples)
        most = max(1, len(units) - math.ceil(len(units) * alone))  # what is left of the baseline's questions
        return by_superposition(units, found.damage, lambda sets: found.chances(sets, target), learnt, most)

    def _superposition(self) -> Superposition:
        """Runs each unit alone on the close samples, if the record does not hold it."""
        calls = self._calls
        for name in self._units:
            if name in self.record.alone:
                continue
            logits = calls.among(self.meter.logits(self._placed(frozenset({name})), calls.places))
            single = Superposition(calls, {name: logits})
            found = Alone(
                accuracy=float(single.accuracies([frozenset({name})])[0]),
                damage=single.damage[name],
                logits=packed(logits),
            )
            self.record.alone = {**self.record.alone, name: found}
            self._save(self.record)
        alone = {name: self._unpacked(self.record.alone[name].logits) for name in self._units}
        return Superposition(calls, alone)

    @cached_property
    def _calls(self) -> CloseCalls:
        self.exact()
        labels = self.meter.labels()
        return CloseCalls(unpacked(self.record.exact_logits, len(labels), -1), labels)

    def _unpacked(self, held: bytes) -> Tensor:
        return unpacked(held, self.meter.effort.seeds, *self._calls.rivals.shape)

    def _accuracy(self, logits: Tensor) -> float:
        """Share that is classified correctly, of [seeds, samples, classes]."""
        labels = self.meter.labels()
        return hits(logits.flatten(0, 1), labels.repeat(len(logits))) / (len(logits) * len(labels))

    def _trial(self, chosen: frozenset[str]) -> Trial:
        """What these units do on the plan's own tiles, with the others exact."""
        on_tiles = tuple(name for name in self._units if name in chosen)
        for held in self.record.trials:
            if held.on_tiles == on_tiles:
                return held
        logits = self.meter.logits(self._placed(chosen))
        accuracy = self._accuracy(logits)
        trial = Trial(on_tiles=on_tiles, accuracy=accuracy, logits=packed(self._calls.of(logits)))
        self.record.trials += (trial,)
        self._save(self.record)
        return trial

    def _placed(self, chosen: frozenset[str]) -> VariedTiles:
        return self._only({w: self.crossbars[w] for name in chosen for w in self._units[name].weights})

    def _only(self, tiles: Mapping[str, Crossbar]) -> VariedTiles:
        """These weights on these tiles, all others exact."""
        return {weight: tiles.get(weight) for weight in self._weights}

    @cached_property
    def crossbars(self) -> dict[str, Crossbar]:
        """The plan's own tile of each weight that lies on cells."""
        groups = self.meter.plan.groups_of_weights()
        return {w: group.tile.crossbar() for w, group in groups.items() if group.tile.has_cells}
