"""Predicts the accuracy of any set of units on tiles from runs of each alone."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SHARE = 4
"""One in so many of the samples counts as close."""
RIVALS = 10
"""Classes of a close sample that are looked at: those with the largest exact logits."""
CHUNK = 256
"""Sets that are predicted at once."""

Names = frozenset[str]


class CloseCalls:
    """The samples that noise turns first: those whose two largest exact logits differ least.

    Args:
        exact: Logits with everything exact, [samples, classes].
        labels: Classes, [samples].

    Attributes:
        places: Of the close samples among all, [close].
        rivals: Classes that can win a close sample, the most likely first, [close, rivals].
        labels: Place of the right class among the rivals, [close]; -1 if it is none of them.
        exact: Exact logits of the rivals, [close, rivals].
        margins: Of the other samples that are classified correctly.
        samples: How many there are in all.
    """

    def __init__(self, exact: Tensor, labels: Tensor) -> None:
        self.samples, classes = exact.shape
        margins = _margins(exact)
        order = margins.argsort(stable=True)
        count = close_of(self.samples)
        self.places, others = order[:count], order[count:]
        self.rivals = exact[self.places].topk(min(RIVALS, classes)).indices
        self.exact = self.among(exact[self.places])
        same = self.rivals == labels[self.places, None]
        self.labels = torch.where(same.any(1), same.int().argmax(1), -1)
        self.margins = margins[others][exact[others].argmax(1) == labels[others]]

    def of(self, logits: Tensor) -> Tensor:
        """Logits of the rivals, [seeds, close, rivals], among all, [seeds, samples, classes]."""
        return self.among(logits[:, self.places])

    def among(self, logits: Tensor) -> Tensor:
        """Logits of the rivals, [..., close, rivals], among all of close samples, [..., close, classes]."""
        return logits.gather(-1, self.rivals.expand(*logits.shape[:-1], -1)).float()


class Superposition:
    """First-order prediction: what several units change in the logits is the sum of what each changes alone.

    A set of units T is predicted from the nearest set S that has run:

        logits(T) = logits(S) + sum over T - S of delta(u) - sum over S - T of delta(u)

    for every close sample, where delta(u) is what u alone changes. Of the others it is only taken that their
    margin m changes by as much as that of close ones, so that one stays correct with the probability
    Phi(m / sigma), sigma^2 = sum over T of the mean square change of the margin by u.

    Args:
        calls: The close samples.
        alone: Logits with one unit on tiles, [seeds, close, rivals], by its name.

    Attributes:
        damage: Mean square change of the margin by each unit, by its name.
    """

    def __init__(self, calls: CloseCalls, alone: Mapping[str, Tensor]) -> None:
        self._calls = calls
        self._index = {name: place for place, name in enumerate(alone)}
        self._change = torch.stack([logits - calls.exact for logits in alone.values()]).nan_to_num()
        self._seeds = self._change.shape[1]
        margins = self._change[..., 0] - self._change[..., 1 % self._change.shape[-1]]
        self._damage = margins.square().mean((1, 2))
        self.damage = dict(zip(alone, self._damage.tolist(), strict=True))
        exact = calls.exact.expand(self._seeds, -1, -1)
        self._known = {frozenset[str](): (exact, float(len(calls.margins)))}

    def learn(self, on_tiles: Names, logits: Tensor, accuracy: float) -> None:
        """Note what a set really does.

        Args:
            on_tiles: The set.
            logits: Of the rivals of close samples, [seeds, close, rivals].
            accuracy: On all samples.
        """
        logits = logits.nan_to_num()
        others = accuracy * self._calls.samples - float(self._right(logits).sum(-1).mean())
        self._known[on_tiles] = (logits, others)

    def accuracies(self, sets: Sequence[Names]) -> tuple[Tensor, Tensor]:
        """Predicted accuracies of sets, and the standard deviations of these predictions, [sets] each.

        Every sample that is predicted to turn may as well not turn: it adds a variance of one sample, over as
        many independent runs as there are seeds; half a sample is added for what is not predicted.
        """
        chosen = self._rows(sets)
        bases = self._rows(list(self._known))
        far = (chosen[:, None] - bases[None]).abs() @ self._damage
        nearest = far.argmin(1)
        found, deviations = torch.empty(len(sets)), torch.empty(len(sets))
        for place, base in enumerate(self._known):
            near = (nearest == place).nonzero()[:, 0]
            for start in range(0, len(near), CHUNK):
                rows = near[start : start + CHUNK]
                found[rows], deviations[rows] = self._from(base, bases[place], chosen[rows])
        return found, deviations

    def chances(self, sets: Sequence[Names], target: float) -> list[float]:
        """How likely each set keeps an accuracy."""
        if not sets:
            return []
        found, deviations = self.accuracies(sets)
        half = 0.5 / (self._calls.samples * self._seeds)  # accuracies come in steps
        return _phi((found - target + half) / deviations).tolist()

    def _from(self, base: Names, row: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Accuracies and deviations of sets near one that has run."""
        logits, others = self._known[base]
        moved = logits + torch.einsum("tu,uskc->tskc", chosen - row, self._change)
        right, before = self._right(moved), self._right(logits)
        lost = self._others(row[None]) - self._others(chosen)
        hits = right.sum(-1).mean(1) + others - lost
        turned = (right != before).float().sum(-1).mean(1) + lost.abs()
        count = self._calls.samples
        return hits / count, ((turned + 0.5) / self._seeds).sqrt() / count

    def _right(self, logits: Tensor) -> Tensor:
        """1 where a close sample is classified correctly, [..., close]."""
        return (logits.argmax(-1) == self._calls.labels).float()

    def _others(self, chosen: Tensor) -> Tensor:
        """How many of the samples that are not close stay correct, [sets]."""
        sigma = (chosen @ self._damage).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        return _phi(self._calls.margins / sigma[:, None]).sum(1)

    def _rows(self, sets: Sequence[Names]) -> Tensor:
        """Sets as rows of 0 and 1, [sets, units]."""
        rows = torch.zeros(len(sets), len(self._index))
        for row, names in enumerate(sets):
            rows[row, [self._index[name] for name in names]] = 1.0
        return rows


def close_of(samples: int) -> int:
    """How many of so many samples count as close."""
    return math.ceil(samples / SHARE)


def _margins(logits: Tensor) -> Tensor:
    """Between the largest and the second largest logit, [samples]; infinite if there is one class."""
    if logits.shape[1] == 1:
        return torch.full((len(logits),), torch.inf)
    two = logits.topk(2).values.float()
    return two[:, 0] - two[:, 1]


def _phi(x: Tensor) -> Tensor:
    """The normal distribution function."""
    found: Tensor = torch.special.ndtr(x)
    return found
