"""Marks: quantities as text, with a † where they rest on at least one assumption, as on the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ffebm.plan.mapping import PricedOption
from ffebm.plan.schedule import Cost
from ffebm.report.facts.facts import Facts, Figure, quantity

MARK = "†"
ENERGIES = {
    "array": "cells",
    "dac": "D/A",
    "adc": "A/D",
    "adders": "adders",
    "buffer": "buffers",
    "digital": "digital",
    "memory": "memory",
    "network": "network",
    "leakage": "leakage",
}
"""Kinds of energy, and what they are called."""


@dataclass(frozen=True)
class Marks:
    """Writes quantities of one report.

    Attributes:
        facts: The report.
    """

    facts: Facts

    def seconds(self, value: float, kinds: Iterable[str]) -> str:
        """The time of steps of some kinds."""
        basis = self.facts.time_basis if value else {}
        return quantity(value, "s") + self._mark(name for kind in kinds for name in basis.get(kind, ()))

    def price(self, option: PricedOption) -> tuple[str, str]:
        """The time and the energy of something that a block could be."""
        steps = ("transfer", "free") if option.group else ("digital",)
        kinds = [kind for kind in ENERGIES if kind != "leakage"] if option.group else ["digital", "memory"]
        basis = self.facts.energy_basis
        names = (name for kind in kinds for name in basis.get(kind, ()))
        return self.seconds(option.seconds, steps), quantity(option.joules, "J") + self._mark(names)

    def joules(self, cost: Cost) -> str:
        """The energy of all kinds together."""
        basis = self.facts.energy_basis
        return quantity(cost.energy, "J") + self._mark(
            name for kind, names in basis.items() if getattr(cost, kind) for name in names
        )

    def joules_of(self, kind: str, cost: Cost) -> str:
        """The energy of one kind; nothing where none is spent."""
        value = getattr(cost, kind)
        return quantity(value, "J") + self._mark(self.facts.energy_basis[kind]) if value else "-"

    def figure(self, figure: Figure) -> str:
        """A headline figure."""
        return figure.text + self._mark(figure.basis)

    @cached_property
    def _assumed(self) -> frozenset[str]:
        return frozenset(constant.name for constant in self.facts.constants if constant.assumption)

    def _mark(self, names: Iterable[str]) -> str:
        return "" if self._assumed.isdisjoint(names) else MARK
