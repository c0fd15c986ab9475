"""Contradictions of a machine: what single fields of a description cannot say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ffebm import plugins
from ffebm.hardware.crossbar import Crossbar, Dac
from ffebm.hardware.devices.cell import CHARACTERISED, Cell, Statistics
from ffebm.hardware.devices.update import Accumulate, Chopper, Transfer, Update
from ffebm.hardware.groups import CHIP, AnalogGroup, DigitalGroup, Memory, Relaxation
from ffebm.limits import ARRAY_LINES, DIGITAL_UNITS

MOST_LEVELS = 2**52
"""Whole numbers above it are not exact in a float of double precision."""

STEEPEST = 1e6
"""Ratio of the currents of a cell at a voltage and at half of it; selectors have up to some thousands."""

RESERVED = (CHIP, "network")
"""Names that stand for something else than a group."""


@dataclass(frozen=True)
class Contradiction:
    """A contradiction.

    Attributes:
        where: Dotted name of the place.
        found: What stands there.
        allowed: What could.
        hint: How to come there.
    """

    where: str
    found: str
    allowed: str = ""
    hint: str = ""


def machine_problems(
    analog: Sequence[AnalogGroup], digital: Sequence[DigitalGroup], memory: Sequence[Memory]
) -> Iterator[Contradiction]:
    """Every contradiction of a machine's groups."""
    yield from _name_problems(analog, digital, memory)
    for tiles in analog:
        lines = max(tiles.tile.size or (0,))
        if lines > ARRAY_LINES.value:
            found = f"an array of {lines:,} lines"
            yield Contradiction(f"analog.{tiles.name}.tile", found, ARRAY_LINES.allowed, ARRAY_LINES.hint)
    count = sum(units.count for units in digital)
    if count > DIGITAL_UNITS.value:
        found = f"{count:,} digital units"
        where = f"digital.{digital[0].name}.count" if len(digital) == 1 else "digital"
        yield Contradiction(where, found, DIGITAL_UNITS.allowed, DIGITAL_UNITS.hint)
    yield from _place_problems(analog, digital, memory)
    for tiles in analog:
        for where, found, allowed in _tiles_problems(tiles):
            yield Contradiction(f"analog.{tiles.name}{where}", found, allowed)


def _name_problems(
    analog: Sequence[AnalogGroup], digital: Sequence[DigitalGroup], memory: Sequence[Memory]
) -> Iterator[Contradiction]:
    """Names are unique, memories belong to something, and digital units have one."""
    seen: set[str] = set()
    named = [("analog", g.name) for g in analog] + [("digital", g.name) for g in digital]
    named += [("memory", m.name) for m in memory]
    for kind, name in named:
        if name in seen or name in RESERVED:
            found = f"{name!r} twice" if name in seen else f"a group called {name!r}"
            yield Contradiction(f"{kind}.{name}.name", found, "a name of its own for each group and memory")
        seen.add(name)
    owners = [*(tiles.name for tiles in analog), *(units.name for units in digital)]
    for held in memory:
        if held.owner not in {*owners, CHIP}:
            allowed = f"{CHIP!r} or the name of a group: {', '.join(map(repr, owners))}"
            yield Contradiction(f"memory.{held.name}.owner", f"owner {held.owner!r}", allowed)
    reached = {held.owner for held in memory}
    for units in digital:
        if CHIP not in reached and units.name not in reached:
            hint = f"owner = {units.name!r} or owner = {CHIP!r}"
            yield Contradiction(
                f"digital.{units.name}", "units without a memory", "a [[memory]] for them", hint
            )


def _place_problems(
    analog: Sequence[AnalogGroup], digital: Sequence[DigitalGroup], memory: Sequence[Memory]
) -> Iterator[Contradiction]:
    """Digital units in cores are as many as these, and what they make lies in memories of the chip."""
    cores = sum(-(-tiles.count // tiles.core.tiles) for tiles in analog if tiles.core is not None)
    inside = [units for units in digital if units.place == "core"]
    for units in inside:
        if not cores:
            found = "a unit in each core, where tiles stand for themselves"
            hint = "docs/hardware.md shows [analog.core]"
            yield Contradiction(f"digital.{units.name}.place", found, "'apart', or tiles in cores", hint)
        elif units.count != cores:
            found = f"{units.count:,} units in {cores:,} cores"
            yield Contradiction(f"digital.{units.name}.count", found, "one unit for each core")
    for held in memory:
        if held.owner in {units.name for units in inside}:
            found = f"a memory of each unit of {held.owner!r}, over which values are spread"
            hint = "the memories of all cores together"
            yield Contradiction(f"memory.{held.name}.owner", found, repr(CHIP), hint)


def _tiles_problems(tiles: AnalogGroup) -> Iterator[tuple[str, str, str]]:
    """Contradictions: where, what was found, what is allowed."""
    if (tiles.relaxation is None) != (tiles.settling == "clocked"):
        found = "no relaxation" if tiles.relaxation is None else "a relaxation"
        yield ".settling", f"{tiles.settling!r} with {found}", "continuous settling has one, clocked none"
    yield from _relaxation_problems(tiles.relaxation)
    yield from _core_problems(tiles)
    if not tiles.tile.has_cells:
        if tiles.settling == "continuous":
            yield ".settling", "continuous settling of exact tiles", "of crossbars"
        return
    tile = tiles.tile.crossbar()
    for name, found, allowed in _crossbar_problems(tile):
        yield f".tile{name}", found, allowed
    if tiles.settling == "clocked":
        if tile.is_single:
            found = "single cells with clocked settling"
            yield ".tile.mapping", found, "passive arrays, which settle by themselves"
        return
    yield from _continuous_problems(tile)


def _unused_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of cells that are off."""
    if tile.mapping != "differential":
        yield ".unused", f"unused cells off with mapping {tile.mapping!r}, which uses all", "differential"
    if tile.update is not None:
        yield ".unused", "unused cells off that learn in place, which takes both of a pair", "'g_min'"


def _nonlinearity_problems(tile: Crossbar, nonlinearity: float) -> Iterator[tuple[str, str, str]]:
    """Contradictions of cells that are no resistors."""
    if not 2 <= nonlinearity <= STEEPEST:
        found = f"a ratio of {nonlinearity:g}"
        yield ".cell.nonlinearity", found, f"at least 2, that of a resistor, and at most {STEEPEST:g}"
    if tile.mapping == "offset":
        found = "cells that are no resistors, and an offset column, which the sum of all inputs drives back"
        yield ".cell.nonlinearity", found, "differential arrays"
    if tile.wires is not None:
        found = "cells that are no resistors, with wires, which are solved as a network of such"
        yield ".cell.nonlinearity", found, "one of them"


def _devices_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of several devices a cell."""
    found = f"{tile.cell.devices} devices a cell"
    if tile.update is not None:
        yield ".cell.devices", f"{found} that learn in place, whose pulses are those of one", "1"
    if tile.wires is not None:
        yield ".cell.devices", f"{found} with wires, which run from cell to cell", "1, or no wires"


def _continuous_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a tile in circuits that settle by themselves."""
    if tile.cell.devices > 1:
        found = f"{tile.cell.devices} devices a cell of a circuit that settles by itself"
        yield ".tile.cell.devices", found, "1, with the conductances of all together"
    if tile.unused == "off":
        yield ".tile.unused", "unused cells off in a circuit that settles by itself", "'g_min'"
    if tile.cell.nonlinearity is not None:
        found = "cells that are no resistors, in a circuit that settles by itself"
        yield ".tile.cell.nonlinearity", found, "resistors"
    if tile.slices > 1 or tile.dac.slices > 1:
        yield ".settling", "continuous settling of slices, which are added digitally", "one slice"
    elif tile.adc.range not in {"calibrated", "maximal"}:
        found = f"{tile.adc.range!r} with continuous settling"
        yield ".tile.adc.range", found, "'calibrated' or 'maximal'"
    elif tile.dac.range != "vector":
        found = f"{tile.dac.range!r} with continuous settling"
        yield ".tile.dac.range", found, "'vector': each sample sets its own range"
    elif tile.adc.calibration == "uniform":
        found = "calibration 'uniform' with continuous settling"
        yield ".tile.adc.calibration", found, "none: each sample sets its own range"


def _relaxation_problems(relaxation: Relaxation | None) -> Iterator[tuple[str, str, str]]:
    """Contradictions of circuits that settle by themselves."""
    if relaxation is None:
        return
    if relaxation.response is not None and relaxation.accuracy is None:
        found = f"a response of {relaxation.response.value:g} without an accuracy"
        yield ".relaxation.response", found, "both, or an accuracy alone"


def _core_problems(tiles: AnalogGroup) -> Iterator[tuple[str, str, str]]:
    """Contradictions of tiles in cores."""
    if tiles.core is None:
        return
    if tiles.settling == "continuous":
        yield ".core", "a core that starts products of tiles which settle by themselves", "clocked settling"
    if tiles.core.tiles > tiles.count:
        found = f"{tiles.core.tiles} tiles a core of {tiles.count} tiles"
        yield ".core.tiles", found, "no more than there are"


def _cell_problems(cell: Cell) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a cell."""
    if cell.g_min.value >= cell.g_max.value:
        yield ".cell", f"g_min {cell.g_min.value:g} S is not below g_max {cell.g_max.value:g} S", ""
    if cell.verify is not None and cell.verify.tolerance.value == 0:
        yield ".cell.verify.tolerance", "a tolerance of 0", "more than 0"
    if cell.stuck is not None and cell.stuck.at_min.value + cell.stuck.at_max.value > 1:
        share = cell.stuck.at_min.value + cell.stuck.at_max.value
        yield ".cell.stuck", f"a share of {share:g} of all cells is stuck", "at most 1"
    if cell.drift is not None and cell.drift.elapsed.value < cell.drift.start.value:
        yield (
            ".cell.drift.elapsed",
            f"{cell.drift.elapsed.value:g} s after programming",
            f"at least the start of drift, {cell.drift.start.value:g} s",
        )
    if cell.drift is not None and cell.drift.start.value == 0:
        yield ".cell.drift.start", "drift from 0 s on", "more than 0"

    yield from _noise_problems(cell)


def _noise_problems(cell: Cell) -> Iterator[tuple[str, str, str]]:
    """Noise is described by constants or by statistics."""
    noises = {"programming_noise": cell.programming_noise, "read_noise": cell.read_noise}
    if cell.statistics is None:
        for name, noise in noises.items():
            if noise is None:
                yield f".cell.{name}", "no noise", "a quantity (0 is without), or cell.statistics"
        return
    taken = {"programming_noise": cell.programming_noise, "drift": cell.drift, "verify": cell.verify}
    for name, given in taken.items():
        if given is not None:
            found = f"statistics {cell.statistics.name!r} beside it"
            yield f".cell.{name}", found, "one of them: statistics are those behind write-and-verify"
    yield from _statistics_problems(cell, cell.statistics)


def _statistics_problems(cell: Cell, statistics: Statistics) -> Iterator[tuple[str, str, str]]:
    """Contradictions of measured statistics."""
    if statistics.elapsed.value == 0:
        yield ".cell.statistics.elapsed", "0 s after programming", "more than 0"
    largest = CHARACTERISED[statistics.name]
    if largest is not None and cell.g_max.value > largest * (1 + 1e-9):
        found = f"{cell.g_max.value:g} S, where {statistics.name!r} is measured up to {largest:g} S"
        yield ".cell.g_max", found, f"at most {largest:g} S"


def _crossbar_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a tile: where, what was found, what is allowed."""
    yield from _cell_problems(tile.cell)
    yield from _adc_problems(tile)
    if tile.top_level < 1:
        yield ".cell.levels", f"{tile.cell.levels} levels with an offset column", "at least 3, or more slices"
    if tile.top_level >= MOST_LEVELS:
        yield (
            ".slices",
            f"{tile.slices} slices of {tile.cell.levels} levels",
            f"fewer than {MOST_LEVELS} steps of a weight",
        )
    if tile.omega != 1.0 and tile.update is not None:
        found = f"omega {tile.omega:g} beside an update with a range"
        yield ".omega", found, "omega is for tiles that are programmed; tile.update.range says the same"
    if tile.is_single:
        yield from _single_problems(tile)
    if tile.cell.devices > 1:
        yield from _devices_problems(tile)
    if tile.unused == "off":
        yield from _unused_problems(tile)
    if tile.cell.nonlinearity is not None:
        yield from _nonlinearity_problems(tile, tile.cell.nonlinearity.value)
    if tile.update is not None:
        yield from _update_problems(tile, tile.update)
    yield from _dac_problems(tile.dac)


def _adc_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of its ADCs."""
    calibrated = tile.adc.range in {"calibrated", "column"}
    if tile.adc_sigmas is not None and not calibrated:
        found = f"range {tile.adc.range!r} with adc_sigmas"
        yield ".adc_sigmas", found, "'calibrated' and 'column' take adc_sigmas, others do not"
    if tile.adc_sigmas is not None and tile.adc_sigmas.value == 0:
        yield ".adc_sigmas", "a range of 0", "more than 0"
    if tile.adc.calibration == "uniform" and not calibrated:
        found = f"calibration 'uniform' with range {tile.adc.range!r}"
        yield ".adc.calibration", found, "only 'calibrated' and 'column' are calibrated"
    if tile.adc.curve and plugins.package_of(plugins.CONVERTERS, tile.adc.curve) is None:
        installed = ", ".join(plugins.names(plugins.CONVERTERS)) or "none"
        yield ".adc.curve", f"no installed package offers {tile.adc.curve!r}", f"installed are: {installed}"
    if tile.adc.noise is not None and tile.adc.noise.value >= 1:
        yield ".adc.noise", f"noise of {tile.adc.noise.value:g} times the range", "less than 1"


def _single_problems(tile: Crossbar) -> Iterator[tuple[str, str, str]]:
    """Contradictions of passive arrays: a conductance is the same both ways, and nothing scales a column."""
    if tile.scale == "column":
        yield ".scale", "digital scales of columns in a passive array", "'piece': one range a block"
    if tile.mismatch is not None:
        yield (
            ".mismatch",
            "two directions that differ in a passive array",
            "none: a conductance has no direction",
        )
    if tile.wires is not None:
        yield (
            ".wires",
            "wires between lines that are driven and sensed",
            "none: lines of passive arrays are nodes",
        )


def _dac_problems(dac: Dac) -> Iterator[tuple[str, str, str]]:
    """Contradictions of a DAC."""
    if (dac.limit is None) == (dac.range == "fixed"):
        found = "no limit" if dac.limit is None else f"limit {dac.limit:g}"
        yield ".dac.limit", f"range {dac.range!r} with {found}", "a fixed range has a limit, others none"
    if dac.sigmas is not None and dac.range != "data":
        yield ".dac.sigmas", f"range {dac.range!r} with sigmas", "only a range by 'data' takes sigmas"
    if dac.range == "data" and dac.slice_bits is not None:
        yield ".dac.range", "range 'data' with input slices", "'vector' or 'fixed'"
    if dac.slice_bits is not None and dac.slice_bits >= dac.bits:
        yield (
            ".dac.slice_bits",
            f"slices of {dac.slice_bits} bits",
            f"at most the {dac.bits - 1} of a magnitude",
        )


def _update_problems(tile: Crossbar, update: Update) -> Iterator[tuple[str, str, str]]:
    """Contradictions of learning in place."""
    if tile.slices > 1:
        yield ".update", f"learning in place on {tile.slices} slices, which carry digits", "one slice"
    if not 0 < update.pulse.value * (1 + update.asymmetry.value) < 1:
        yield ".update.pulse", f"a pulse of {update.pulse.value:g} of the range", "more than 0, less than 1"
    if update.asymmetry.value >= 1:
        yield ".update.asymmetry", f"an asymmetry of {update.asymmetry.value:g}", "less than 1"
    if update.range.value < 1:
        yield ".update.range", f"a range of {update.range.value:g}", "at least 1"
    if update.step is not None and update.bounds == "soft":
        yield ".update.step", "a step between soft bounds, which are one", "hard bounds, or no step"
    if isinstance(update.remedy, Transfer) and update.symmetric_point is None:
        kind = "between hard bounds" if update.step is None else "with such steps"
        found = f"a transfer {kind}, which have no symmetric point"
        yield ".update.remedy", found, "soft bounds, or a step whose pulses up and down are somewhere equal"
    if isinstance(update.remedy, Transfer) and update.remedy.chopper is not None:
        yield from _chopper_problems(update.remedy.chopper)
    if update.pulsed_by != "matrix":
        yield from _product_problems(tile, update)


def _chopper_problems(chopper: Chopper) -> Iterator[tuple[str, str, str]]:
    """Chances that are none."""
    for name, chance in (("inputs", chopper.inputs), ("outputs", chopper.outputs)):
        if chance is not None and not 0 < chance.value <= 1:
            found = f"signs that flip with a chance of {chance.value:g}"
            yield f".update.remedy.chopper.{name}", found, "more than 0, at most 1"


def _product_problems(tile: Crossbar, update: Update) -> Iterator[tuple[str, str, str]]:
    """Contradictions of cells that take outer products."""
    if isinstance(update.remedy, Accumulate):
        yield (
            ".update.remedy",
            f"steps that add up digitally, beside pulses by {update.pulsed_by}",
            "no remedy, a transfer, or pulsed_by 'matrix'",
        )
    if tile.is_single:
        yield (
            ".update.pulsed_by",
            f"pulses by {update.pulsed_by} in a passive array, whose cells learn by squares of voltages",
            "'matrix'",
        )
