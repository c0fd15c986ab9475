"""A weight on a tile and its digital master copy."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ffebm.graph.energy_block import Linear
from ffebm.plan.conductance import from_matrix, to_matrix
from ffebm.runtime.tiles.lines.vectors import Pairs, line_vectors
from ffebm.runtime.tiles.tile import Tile, remapped, update_products

KNOWN = "known"
"""In a state: the weight's value that the cells were last told of."""

LEARNS = "learns"
"""In a state: the cells say what the weight is."""


def analog(tensor: Tensor) -> Tensor:
    """A tensor in the type that analog arithmetic uses: float32, for sums of squares do not fit in 16 bits.

    float64 stays, so that gradients can be checked to its precision.
    """
    return tensor.float() if tensor.dtype in {torch.float16, torch.bfloat16} else tensor


class MasteredTile:
    """A tile that follows a weight: it is programmed when the weight has another value, once for each change.

    Values are compared, so that every change is seen, whoever made it: fused optimisers, numpy and changes
    through `.data` leave no trace in torch's own count of versions. Interactions that share a weight
    share this object, so that they meet the same cells.
    """

    def __init__(self, linear: Linear, tile: Tile) -> None:
        """Take a tile for the weight of `linear`, as the matrices [groups, n_out, n_in]."""
        self.tile = tile
        self._linear = linear
        self._known: Tensor | None = None
        self._learns = False
        self._renews = False
        self._seen: Tensor | None = None

    def holding(self, weight: Tensor) -> Tile:
        """The tile, with the present value of a weight (in the layout of the source model).

        A phase reads its weights many times, by tensors of its own: of these the value is compared once. A
        parameter is compared each time.
        """
        if weight is self._seen:
            return self.tile
        if self._changed(weight):
            with _at_rest():
                self._program(weight)
            self._learns = False
        self._seen = None if isinstance(weight, nn.Parameter) else weight
        return self.tile

    @property
    def is_learning(self) -> bool:
        """The cells, not a master copy, say what the weight is."""
        return self._learns

    @property
    def is_programmed(self) -> bool:
        """The cells hold a weight."""
        return self._known is not None

    @property
    def keeps_cells(self) -> bool:
        """A change of the weight is a step of the cells, which are not programmed again."""
        return self._learns and not self._renews

    def learn(self, weight: Tensor) -> None:
        """Learn in place: a change of a parameter is a step of the cells, whose value the parameter then has.

        A value that is computed, as of a pruned weight, is asked of the cells and stays as it is.

        Args:
            weight: The parameter; its first value is programmed.
        """
        if not self._changed(weight):
            return
        with _at_rest():
            if self._known is None or not self._learns or self._renews:
                self._program(weight)
            else:
                self.tile.update(self._matrix(weight) - self._matrix(self._known))
                self._know(weight)
        if isinstance(weight, nn.Parameter):
            self.show(weight)
        self._learns = True

    def has_changed(self, weight: Tensor) -> bool:
        """The weight has another value than the cells that learn it were last told of."""
        return self.keeps_cells and self._changed(weight)

    def pulse(self, weight: nn.Parameter, pairs: Iterable[Pairs], rate: float) -> None:
        """Learn in place by outer products: the cells take -rate d x^T for each pair of vectors.

        Args:
            weight: The parameter; it gets the value that the cells hold then.
            pairs: Whose outer products add up to its gradient.
            rate: Learning rate.
        """
        with _at_rest():
            lines = [line_vectors(p.linear, analog(p.z), analog(p.y), weight) for p in pairs]
            if lines:
                x, d = (torch.cat(side, 1) for side in zip(*lines, strict=True))
                update_products(self.tile, x, d * -rate)
        self.show(weight)

    def show(self, weight: Tensor) -> None:
        """Give a parameter the value that the cells hold."""
        with _at_rest():
            weight.copy_(self.value(weight))
            self._know(weight)
        self._learns = True

    def remap(self, weight: Tensor) -> None:
        """Where cells learn in place: write them anew in ranges that follow what they hold.

        Args:
            weight: The parameter; it gets the value that the cells hold then.
        """
        self.learn(weight)
        with _at_rest():
            remapped(self.tile, self._linear.weight)
        if isinstance(weight, nn.Parameter):
            self.show(weight)

    def value(self, weight: Tensor) -> Tensor:
        """What the cells hold, in the layout of a weight."""
        held: Tensor = from_matrix(self._linear, self.tile.read(), tuple(weight.shape))
        return held

    def renew(self) -> None:
        """The next change of the weight is programmed, not a step."""
        self._renews = True

    def state(self) -> dict[str, Tensor]:
        """All to go on from: what the cells hold, and the value that they were told of; empty before that."""
        if self._known is None:
            return {}
        return {KNOWN: self._known, LEARNS: torch.tensor(self._learns), **self.tile.state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state."""
        with _at_rest():
            own = {key: tensor.clone() for key, tensor in state.items()}
        self._known, self._learns = own.pop(KNOWN), bool(own.pop(LEARNS))
        self._seen = None
        self.tile.restore(own)
        self._renews = False

    def blank(self, weight: Tensor) -> dict[str, Tensor]:
        """The state with a weight of zeros, for the names and shapes of what `restore` takes."""
        with _at_rest():
            self._program(torch.zeros_like(weight))
        return self.state()

    def empty(self) -> None:
        """Hold nothing: the next value is programmed."""
        self._known, self._seen, self._learns = None, None, False

    def _matrix(self, weight: Tensor) -> Tensor:
        matrix: Tensor = to_matrix(self._linear, analog(weight))
        return matrix

    def _program(self, weight: Tensor) -> None:
        self.tile.program(self._matrix(weight.clone()))
        self._know(weight)
        self._renews = False

    def _know(self, weight: Tensor) -> None:
        self._known, self._seen = analog(weight).clone(), None

    def _changed(self, weight: Tensor) -> bool:
        """Another value than that of the last time; in another type, than that value in its type."""
        known = self._known
        if known is None or weight.shape != known.shape or weight.device != known.device:
            return True
        value = analog(weight.detach())
        if value.dtype == known.dtype:
            return not torch.equal(value, known)
        if not torch.equal(weight.detach(), known.to(weight.dtype)):
            return True
        with _at_rest():
            self._cast(value)
        return False

    def _cast(self, value: Tensor) -> None:
        """Hold in the type of a value; the cells stay as they are."""
        state = {k: t.to(value.dtype) if t.is_floating_point() else t for k, t in self.tile.state().items()}
        self.tile.restore(state)
        self._know(value)


@contextmanager
def _at_rest() -> Iterator[None]:
    """No gradients; what is made here outlives a run in inference mode."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield
