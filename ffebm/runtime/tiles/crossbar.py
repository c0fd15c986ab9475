"""The analog tile: an array of cell pairs between converters."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ffebm.errors import InternalError
from ffebm.hardware.description import Crossbar
from ffebm.plan.conductance import adc_range, range_scale, to_levels, uniform_deviation, weight_range
from ffebm.runtime.tiles.devices.cells import PairedCells
from ffebm.runtime.tiles.lines.calibration import Calibration, InputMeter, LineMeter
from ffebm.runtime.tiles.lines.readout import ArrayProduct, Readout, cell_noise, read_noise, readout
from ffebm.runtime.tiles.noise import FrozenNoise
from ffebm.runtime.tiles.tile import SPREAD, Health, Readings

BEYOND = 1.0 + 1e-5
"""What rounding alone does not exceed."""

_SPREADS = {False: f"{SPREAD}forward", True: f"{SPREAD}transposed"}
"""Names in a state by direction."""

_INPUTS = f"{SPREAD}inputs"
"""Name in a state of the range of DACs that follow data; 0 before there was any."""


class CommonRange:
    """The range of all weights in a circuit of single cells.

    Attributes:
        limit: The weight that g_max stands for.
    """

    def __init__(self) -> None:
        self.limit = 0.0

    def take(self, scale: Tensor, crossbar: Crossbar) -> None:
        """The limit at which a tile of the circuit was programmed.

        Args:
            scale: The weight that g_max - g_min stands for, [..., 1, 1].
            crossbar: The tile.
        """
        self.limit = float(scale.max()) / float(range_scale(1.0, crossbar))


class CrossbarTile:
    """Crossbars of one kind, one for each leading index of the weight.

    Programming scales a weight to the conductance range, rounds it to levels, writes a pair of cells each and
    sets the range of the ADCs from the levels and from what a calibration has found. A read scales each input
    vector to its largest magnitude, converts it, multiplies it with the cells under read noise, and converts
    what comes out.

    Args:
        crossbar: What the tile is made of.
        generator: Source of programming and read noise.
        name: Of the tile in its machine: tiles of one name have the same cells and converters.
        index: The slice of the weight that it holds.
        frozen: Noise of a circuit that settles by itself: reads then pass no converters.
        fan_in: Inputs of the whole layer; None are those of the tile.
        common: The range of the circuit that it is a part of, if that has one; None: it has its own.
    """

    def __init__(  # noqa: PLR0913 -- what a machine and a circuit say of one of their tiles
        self,
        crossbar: Crossbar,
        generator: torch.Generator,
        name: str = "",
        index: int = 0,
        frozen: FrozenNoise | None = None,
        fan_in: int | None = None,
        common: CommonRange | None = None,
    ) -> None:
        self._crossbar = crossbar
        self._common = common
        self._frozen = frozen
        self._fan_in = fan_in
        self._products: dict[bool, ArrayProduct] = {}
        self._generator = generator
        self._name = name
        self._cells = PairedCells(crossbar, generator, name, index)
        self._scale: Tensor | None = None
        self._digits = torch.empty(0)
        self._readouts: dict[bool, Readout] = {}
        self._meters: dict[bool, LineMeter] = {}  # by direction, while ranges are calibrated
        self._spreads: dict[bool, Tensor] = {}  # by direction: see `adc_range`
        self._input_meter: InputMeter | None = None
        self._input_limit: Tensor | None = None  # of DACs whose range follows data, once it is set
        self._total = 0
        self._clipped: Tensor | None = None
        self._counts: dict[str, tuple[int, Tensor | int]] = {}  # see `_count`

    @property
    def clipped(self) -> float:
        """Share of the ADC readings since the tile was programmed that were beyond the range."""
        return self.readings().share

    @torch.no_grad()
    def program(self, weight: Tensor) -> None:
        """Quantise a weight, [..., n_out, n_in], and write it with programming noise."""
        scale = self._range_of(weight)
        self.write(to_levels(weight, scale, self._crossbar), range_scale(scale, self._crossbar))
        self._count("weights", weight.abs() > scale * BEYOND)

    def _range_of(self, weight: Tensor) -> Tensor:
        """The weight at the end of the range, [..., 1, 1] or [..., n_out, 1]."""
        own: Tensor = weight_range(weight, self._crossbar, self._fan_in or weight.shape[-1])
        return own if self._common is None else torch.full_like(own, self._common.limit)

    @torch.no_grad()
    def write(self, digits: Tensor, scale: Tensor) -> None:
        """Write digits of a weight, [..., n_out, n_in].

        Args:
            digits: In level steps.
            scale: The weight that the whole conductance range stands for, [..., 1, 1] or [..., n_out, 1].
        """
        n_out, n_in = digits.shape[-2:]
        if n_in > self._crossbar.rows or n_out > self._crossbar.cols:
            raise InternalError(
                f"a piece of {n_in} x {n_out} does not fit",
                allowed=f"a crossbar has {self._crossbar.rows} rows and {self._crossbar.cols} columns",
            )
        self._scale, self._digits = scale, digits
        self._cells.program(digits)
        self._forget()
        self._total, self._clipped, self._counts = 0, None, {}

    @torch.no_grad()
    def read(self) -> Tensor:
        """The weight that the cells now hold, [..., n_out, n_in], without read noise."""
        return self._cells.held() * self._scale_now()

    @torch.no_grad()
    def mvm(self, x: Tensor) -> Tensor:
        """[..., batch, n_in] -> [..., batch, n_out]."""
        return self._read(x, transposed=False)

    @torch.no_grad()
    def mvm_t(self, y: Tensor) -> Tensor:
        """[..., batch, n_out] -> [..., batch, n_in], through the same cells with ADC ranges of its own."""
        return self._read(y, transposed=True)

    @torch.no_grad()
    def update(self, step: Tensor) -> None:
        """Move the cells by a step in units of the weight, [..., n_out, n_in].

        They learn in place by pulses (see `PairedCells.pulse`), and the ADCs are set to their new range;
        without a law of their own they are written anew (see `PairedCells.move`), and ranges stay as
        programmed.
        """
        law = self._crossbar.update
        if law is None and not bool(self._programmed().all()):
            self.program(self.read() + step)  # zeros have no range to move in
        elif law is None:
            self._cells.move(step / self._programmed())
        else:
            change = step / self.reach
            self._cells.pulse(change, law)
            wanted = change != 0
            self._count("steps", (wanted & (change.abs() < law.pulse.value)), of=wanted)
            self._digits = self._cells.digits()
        self._forget()

    @torch.no_grad()
    def update_products(self, x: Tensor, d: Tensor) -> None:
        """Add d x^T for one pair after the other, as coincidences of pulse trains.

        Args:
            x: [..., pairs, n_in]; arrays may share theirs, but each drives its own trains.
            d: In units of the weight over those of x, [..., pairs, n_out].
        """
        law, arrays = self._crossbar.update, self._programmed().shape[:-2]
        if law is None:
            raise InternalError("outer products for cells without a law of their own")
        d = d / (self.reach * law.pulse.value).mT
        self._cells.pulse_products(x.expand(*arrays, *x.shape[-2:]), d.expand(*arrays, *d.shape[-2:]), law)
        self._digits = self._cells.digits()
        self._forget()

    @torch.no_grad()
    def remap(self) -> None:
        """Write anew what the cells hold, in the range that its weights ask for now."""
        self.program(self.read())

    @property
    def reach(self) -> Tensor:
        """Half the range of weights, [..., 1, 1] or [..., n_out, 1]: the largest one, but of single cells."""
        half = 0.5 if self._crossbar.is_single else 1.0
        return self._programmed() * (half * self._crossbar.top_level / (self._crossbar.cell.levels - 1))

    @property
    def middle(self) -> Tensor:
        """The weight in the middle of the range: 0, but of single cells."""
        half = 0.5 * self._crossbar.top_level if self._crossbar.is_single else 0.0
        return self._programmed() * ((half + self._crossbar.least_level) / (self._crossbar.cell.levels - 1))

    @torch.no_grad()
    def hold(self, weight: Tensor, reach: Tensor) -> None:
        """Hold weights exactly, without a write.

        Args:
            weight: In shares of the range of weights, -1 to 1, [..., n_out, n_in].
            reach: Half the range, [..., 1, 1] or [..., n_out, 1].
        """
        half = 0.5 if self._crossbar.is_single else 1.0
        self._scale = reach * ((self._crossbar.cell.levels - 1) / (half * self._crossbar.top_level))
        self._digits = self._cells.digits_of(weight)
        self._cells.put(self._digits)
        self._forget()
        self._total, self._clipped, self._counts = 0, None, {}

    def at(self, seconds: float | None) -> None:
        """Reads come so long after programming; None is as described."""
        self._cells.at(seconds)
        self._forget()

    @torch.no_grad()
    def calibrate(self, stage: Calibration) -> None:
        """Measure what reaches the ADCs, then set their ranges by it.

        A line's range is |mean| + `deviations` standard deviations of what it carried, in each direction for
        itself. What is kept is how many times the one for uniform inputs that is, so that ranges follow the
        weights when they are programmed again. A line on which nothing was seen keeps its range.
        """
        if not self._crossbar.follows_data or self._frozen is not None:
            return
        if stage == "measure":
            by_data = self._crossbar.dac.range == "data"
            self._input_meter = InputMeter() if by_data else None
            self._meters = {False: LineMeter(absolute=by_data), True: LineMeter()}
            return
        meters, self._meters = self._meters, {}
        inputs, self._input_meter = self._input_meter, None
        if stage == "drop":
            return
        if inputs is not None:
            limit = inputs.reach(self._crossbar.dac.deviations)
            self._input_limit = self._input_limit if limit is None else limit
        if not self._crossbar.adc_follows_data:
            return
        for transposed, meter in meters.items():
            codes = meter.reach(self._crossbar.deviations)
            if codes is not None and not transposed and inputs is not None and self._input_limit is not None:
                codes = codes / self._input_limit[..., 0]
            if codes is not None:
                self._spreads[transposed] = self._spread(codes, transposed=transposed)
        self._forget()

    def state(self) -> dict[str, Tensor]:
        """What the tile goes on from."""
        found = {**self._cells.state(), "scale": self._programmed(), "digits": self._digits}
        if self._crossbar.dac.range == "data":
            limit = torch.zeros_like(self._programmed()[..., :1, :])
            found[_INPUTS] = limit if self._input_limit is None else limit + self._input_limit
        if self._crossbar.adc_follows_data:
            for transposed, key in _SPREADS.items():
                uniform = torch.ones_like(self._lines(transposed=transposed)[..., 0])
                found[key] = self._spreads.get(transposed, uniform)
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        self._scale, self._digits = state["scale"], state["digits"]
        if self._common is not None:
            self._common.take(self._scale, self._crossbar)
        self._spreads = {transposed: state[key] for transposed, key in _SPREADS.items() if key in state}
        limit = state.get(_INPUTS)
        self._input_limit = None if limit is None or not bool(limit.all()) else _shared(limit)
        self._cells.restore(state)
        self._forget()

    def readings(self) -> Readings:
        """What the ADCs have read, in both directions, since the tile was programmed."""
        return Readings(self._total, 0 if self._clipped is None else int(self._clipped))

    def health(self) -> Health:
        """What has met an end of its range since the tile was programmed.

        Of cells that learn in place, the weights that are at an end now; of others, those that were to be
        programmed beyond it.
        """
        weights = self._tally("weights")
        if self._crossbar.update is not None:
            ended = self._digits.abs() * BEYOND >= self._crossbar.top_level
            weights = Readings(ended.numel(), int(ended.sum()))
        return Health(weights, self._tally("inputs"), self.readings(), self._tally("steps"))

    def _forget(self) -> None:
        """What followed from the cells."""
        self._readouts.clear()
        self._products.clear()

    def _programmed(self) -> Tensor:
        """The scale of the weight, [..., 1, 1] or [..., n_out, 1]."""
        if self._scale is None:
            raise InternalError("a tile is used before it is programmed")
        return self._scale

    def _scale_now(self) -> Tensor:
        """The same, with the compensation of drift."""
        scale, factor = self._programmed(), self._cells.compensation()
        return scale if factor is None else scale * factor

    def _read_scale(self, *, transposed: bool) -> Tensor:
        """The factor of what is read, [..., 1, 1] or [..., n_out, 1].

        Those of columns multiply what drives them in a transposed read.
        """
        scale = self._scale_now()
        return torch.ones_like(scale[..., :1, :]) if transposed and self._by_column else scale

    @property
    def _by_column(self) -> bool:
        return self._crossbar.scale == "column"

    def _lines(self, *, transposed: bool) -> Tensor:
        """Digits by the lines that are read, [..., n_out, n_in]."""
        return self._digits.mT if transposed else self._digits

    def _limit(self, *, transposed: bool) -> Tensor:
        """The range of the ADCs, [..., 1, 1] or [..., n_out, 1]."""
        digits = self._lines(transposed=transposed)
        limit: Tensor = adc_range(digits, self._crossbar, self._spreads.get(transposed))
        return limit

    def _spread(self, codes: Tensor, *, transposed: bool) -> Tensor:
        """Ranges of lines, [..., n_out] in ADC codes, over those for uniform inputs."""
        found = codes * (self._limit(transposed=transposed) / self._crossbar.adc.top)[..., 0]
        uniform = uniform_deviation(self._lines(transposed=transposed), self._crossbar)
        likely = uniform * self._crossbar.deviations
        before = self._spreads.get(transposed, torch.ones_like(uniform))
        return torch.where((found > 0) & (likely > 0), (found / likely).to(uniform.dtype), before)

    def _readout(self, *, transposed: bool) -> Readout:
        if transposed not in self._readouts:
            scale = self._read_scale(transposed=transposed)
            held = self._cells.held(transposed=transposed)
            if transposed:
                held = held.mT
            limit = self._limit(transposed=transposed)
            name = f"{self._name}/{'transposed' if transposed else 'forward'}"
            read = readout(held, scale, limit, self._crossbar, transposed=transposed, name=name)
            read.product.cells = cell_noise(self._cells.noise(), read.factor, transposed=transposed)
            self._readouts[transposed] = read
        return self._readouts[transposed]

    def _product(self, *, transposed: bool) -> ArrayProduct:
        """The array without converters."""
        if transposed not in self._products:
            scale, held = self._read_scale(transposed=transposed), self._cells.held(transposed=transposed)
            column, noise = read_noise(self._crossbar, transposed=transposed)
            weight = (held.mT if transposed else held) * scale
            cells = cell_noise(self._cells.noise(), scale, transposed=transposed)
            self._products[transposed] = ArrayProduct(weight, scale * noise if noise else None, column, cells)
        return self._products[transposed]

    def _dac_limit(self, vectors: Tensor) -> Tensor | None:
        """Range of the DACs in a forward read, [..., 1, 1]; None is each vector's largest magnitude."""
        dac = self._crossbar.dac
        if self._input_meter is not None:
            self._input_meter.see(vectors)
            return None
        if dac.limit is not None:
            return vectors.new_full((1, 1), dac.limit)
        return None if self._input_limit is None else self._input_limit.to(vectors)

    def _count(self, what: str, hit: Tensor, of: Tensor | None = None) -> None:
        """Count what is hit: weights beyond the range, inputs that are clipped, steps below a pulse.

        Args:
            what: Which of them.
            hit: True for each.
            of: True for all that count; None counts all.
        """
        total = hit.numel() if of is None else int(of.sum())
        before, found = self._counts.get(what, (0, 0))
        self._counts[what] = (before + total, found + hit.sum())

    def _tally(self, what: str) -> Readings:
        total, found = self._counts.get(what, (0, 0))
        return Readings(total, int(found))

    def _read(self, vectors: Tensor, *, transposed: bool) -> Tensor:
        if transposed and self._by_column:
            vectors = vectors * self._scale_now().mT
        if self._frozen is not None:
            return self._product(transposed=transposed).of(vectors.mT, self._frozen.reads)[1].mT
        meter = self._meters.get(transposed)
        limit = None if transposed else self._dac_limit(vectors)
        read = self._readout(transposed=transposed).read
        out, clipped = read(vectors, self._generator, meter, limit)
        if meter is not None:
            return out
        if limit is not None:
            self._count("inputs", vectors.abs() > limit)
        # an input slice is a reading of its own
        self._total += out.numel() * self._crossbar.dac.slices
        self._clipped = clipped if self._clipped is None else self._clipped + clipped
        return out


def _shared(limit: Tensor) -> Tensor:
    """Of size one along dimensions where arrays are alike: they share their inputs."""
    for d in range(limit.ndim):
        first = limit.narrow(d, 0, 1)
        limit = first if torch.equal(first.expand_as(limit), limit) else limit
    return limit
