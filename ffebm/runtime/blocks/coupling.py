"""One interaction of a block, <s_layer, after(pool(W before(z)))>, used in both directions.

What it has in the energy is its term's business (`physics`): the drives are W z and W^T y times its factor.

The bias inside the pooling is a constant drive of the layer: a maximum commutes with a constant per channel,
and an average is linear. So it is added once a phase, with the other constants, and `push` is without it.
(Only a maximum along the last axis of a matrix product needs the bias before it.)
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ffebm.graph.energy_block import Interaction, Layer, Linear, Rearrangement
from ffebm.runtime.blocks.physics.hopfield import Bilinear
from ffebm.runtime.blocks.physics.physics import Moving, Term, Weights
from ffebm.runtime.blocks.physics.pooling import Pooling
from ffebm.runtime.blocks.physics.shared_maximum import centred
from ffebm.runtime.blocks.projection import ExactProjection, Projection, weight_grad
from ffebm.runtime.tiles.projection import Pooled


class Coupling:
    """An interaction bound to the projection that computes its products.

    Attributes:
        source: Value name of z.
        target: Value name of the layer that it drives.
        weight: Source name of W; None for an identity.
        bias: Source name of the bias inside the pooling; None without one.
        is_max: The pooling is a maximum, so the top-down drive depends on z.
        is_image_maximum: The maximum is over images, [channels, height, width].
        factor: What W z and W^T y are multiplied by to be drives.
        bias_decides: The bias takes part in the maximum, so a zero z drives the layer too.
    """

    def __init__(
        self,
        layer: Layer,
        interaction: Interaction,
        term: Term,
        projection: Projection | None = None,
        stiffness: float = 1.0,
    ) -> None:
        """Bind an interaction.

        Args:
            layer: The layer that it drives.
            interaction: The interaction.
            term: What it has in the energy.
            projection: What computes its products; exact ones without it.
            stiffness: Of the layer, by which its bias counts.
        """
        linear = interaction.linear
        self._stiffness = stiffness
        self._term = term
        self.factor = term.factor
        self.source = interaction.source
        self.target = layer.value
        self.weight = linear.weight if linear else None
        self.bias = linear.bias if linear else None
        self._linear = linear
        self._projection = projection or (ExactProjection(linear) if linear else None)
        self._pooling = Pooling(interaction.pool, interaction.linear_shape) if interaction.pool else None
        self.is_max = self._pooling is not None and self._pooling.is_max
        self._linear_shape = interaction.linear_shape
        self.is_image_maximum = self.is_max and len(interaction.linear_shape) == 3
        self._source_shape = interaction.source_shape
        self._before, self._linear_in = _steps(interaction.before, interaction.source_shape)
        pooled = self._pooling.shape if self._pooling else interaction.linear_shape
        self._after, self._drive_shape = _steps(interaction.after, pooled)
        self._layer_shape = layer.shape
        # along the axis of a matrix product the bias differs inside a window, so it takes part in the maximum
        self.bias_decides = self.is_max and linear is not None and linear.op == "MatMul"

    def push(self, z: Tensor, weights: Weights) -> tuple[Tensor, Tensor | None]:
        """Bottom-up drive P(W z), [batch, *layer], and where a maximum was found."""
        if z.is_complex():
            return _by_parts(lambda part: self.push(part, weights)[0], z), None
        if self._pooling is None:
            return self._to_layer(self._product(z, weights)), None
        pool = partial(self._pool, self._pooling, weights)
        z = _apply(self._before, z)
        if self._projection is None or self.weight is None:
            y, index = pool(z)
        else:
            y, index = self._projection.pooled(z, weights[self.weight], pool)
        return self._to_layer(y), index

    def push_shared(
        self, z: Tensor, weights: Weights, before: Tensor | None, state: Tensor | None, step: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `push` of a maximum whose winners may share.

        Args:
            z: State of the source, [batch, *source].
            weights: Weights by source name.
            before: The shares so far; None takes sharp winners.
            state: State of the layer, [batch, *layer]; None is zero.
            step: Size of the step of the shares.

        Returns:
            The drive, [batch, *layer]; the new shares, [batch, channels, windows, values]; and how much of
            the state has moved between values, [batch, channels, windows].
        """
        assert self._pooling is not None  # only a maximum has shares
        y = self._product(z, weights)
        if self.bias_decides and self.bias is not None:
            y = y + self._stiff(weights[self.bias])
        above = None if state is None else self._pooling.over_windows(self._to_pooled(state))
        shares = self._pooling.shares(y, before, above, step)
        moved = torch.zeros_like(shares[..., 0])
        if before is not None and above is not None:
            moved = torch.linalg.vector_norm(shares - before, dim=-1) * above
        return self._to_layer(self._pooling.pool(y)[0]), shares, moved

    def answer(self, z: Tensor, weights: Weights, among: Tensor) -> Tensor:
        """W z by window, less its mean among tied values, [batch, channels, windows, values]."""
        assert self._pooling is not None  # only a maximum has ties
        return centred(self._pooling.windows(self._product(z, weights)), among)

    def windows(self, z: Tensor, weights: Weights) -> Tensor:
        """What a maximum chooses from, [batch, channels, windows, values]; padding is far below."""
        assert self._pooling is not None  # only a maximum chooses
        y = self._product(z, weights)
        if self.bias_decides and self.bias is not None:
            y = y + self._stiff(weights[self.bias])
        return self._pooling.windows(y)

    def fold(self, shared: Tensor) -> Tensor:
        """What each value of the linear map gets from its windows, [batch, *linear]."""
        assert self._pooling is not None  # only a maximum has windows
        return self._pooling.fold(shared)

    def pull_linear(self, y: Tensor, weights: Weights) -> Tensor:
        """The drive W^T y for y at the output of the linear map, [batch, *linear] -> [batch, *source]."""
        return self._times_factor(self.backward(y, weights))

    def forward(self, z: Tensor, weights: Weights) -> Tensor:
        """W z alone, [batch, *source] -> [batch, *linear]."""
        z = _apply(self._before, z)
        if self._projection is None or self.weight is None:
            return z
        return self._projection.product(z, weights[self.weight])

    def backward(self, y: Tensor, weights: Weights) -> Tensor:
        """W^T y alone, [batch, *linear] -> [batch, *source]."""
        if self._projection is not None and self.weight is not None:
            y = self._projection.product_t(y, weights[self.weight], self._linear_in)
        return _apply_transposed(self._before, y)

    def ones(self, weights: Weights) -> tuple[Tensor, Tensor]:
        """Ones in place of z, [1, *source], and of y, [1, *linear]."""
        like = next(iter(weights.values())) if self.weight is None else weights[self.weight]
        return like.new_ones(1, *self._source_shape), like.new_ones(1, *self._linear_shape)

    def energy(self, z: Tensor, s: Tensor, weights: Weights, index: Tensor | None) -> Tensor:
        """What the interaction has in the energy, with its bias, [batch].

        Args:
            z: State of the source, [batch, *source].
            s: State of the layer, [batch, *layer].
            weights: Weights and biases by source name.
            index: Where the maximum is found at z; None without a maximum.
        """
        y = self.spread(s, index)
        energy = self._term.energy(self, z, y, weights)
        if self.bias is not None:
            axes = [axis for axis in range(1, y.dim()) if axis != self._bias_axis(y.dim())]
            energy = energy - (y.sum(axes) if axes else y) @ self._stiff(weights[self.bias]).flatten()
        return energy

    def loads(self, weights: Weights) -> tuple[Tensor, Tensor] | None:
        """What multiplies the states of both ends, [1, *layer] and [1, *source]; None for nothing."""
        found = self._term.loads(self, weights)
        return None if found is None else (self._to_layer(found[0]), found[1])

    def pairs(self, z: Moving, y: Moving) -> tuple[Tensor, Tensor]:
        """Values (z, y) stacked along the batch: the gradient of the weight is that of <y, W z>."""
        return self._term.pairs(z, y)

    def gain(self, weights: Weights, rounds: int = 8) -> float:
        """Largest eigenvalue of W^T W times the squared factor, by power iteration."""
        if self._linear is None:
            return self.factor**2
        exact, weight = ExactProjection(self._linear), weights[self._linear.weight]
        n = math.prod(self._linear_in)
        v = torch.cos(torch.arange(n, dtype=weight.dtype, device=weight.device) ** 2)
        v = v.reshape(1, *self._linear_in)
        size = torch.ones((), dtype=weight.dtype, device=weight.device)
        for _ in range(rounds):
            v = v / torch.linalg.vector_norm(v).clamp(min=torch.finfo(v.dtype).tiny)
            v = exact.product_t(exact.product(v, weight), weight, self._linear_in)
            size = torch.linalg.vector_norm(v)
        return float(size) * self.factor**2

    def push_at(self, z: Tensor, weights: Weights, index: Tensor | None) -> Tensor:
        """P(W z) with the positions of the maximum frozen: linear in z."""
        y = self._product(z, weights)
        if self._pooling is not None:
            y = self._pooling.gather(y, index)
        return self._to_layer(y)

    def pull(self, s: Tensor, weights: Weights, index: Tensor | None) -> Tensor:
        """Top-down drive W^T P^T s, [batch, *source]."""
        if s.is_complex():
            return _by_parts(lambda part: self.pull(part, weights, index), s)
        return self.pull_linear(self.spread(s, index), weights)

    def spread(self, s: Tensor, index: Tensor | None) -> Tensor:
        """P^T s: the layer's state at the output of the linear map, [batch, *linear]."""
        if s.is_complex():
            return _by_parts(lambda part: self.spread(part, index), s)
        s = self._to_pooled(s)
        return s if self._pooling is None else self._pooling.transpose(s, index)

    def weight_grad(self, z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """Gradient of <y, W before(z)> with respect to W, summed over the batch."""
        if self._linear is None:
            raise TypeError("an identity has no weight")
        return weight_grad(self._linear, _apply(self._before, z), y, weight)

    @property
    def linear(self) -> Linear | None:
        """The linear map; None for an identity."""
        return self._linear

    @property
    def is_bilinear(self) -> bool:
        """Its energy is -<y, W z>, so that one outer product a phase makes up the gradient of W."""
        return isinstance(self._term, Bilinear)

    def arranged(self, z: Tensor) -> Tensor:
        """The state of the source at the input of the linear map, [batch, *in]."""
        return _apply(self._before, z)

    def bias_grad(self, y: Tensor, bias: Tensor) -> Tensor:
        """Gradient of the layer's <y, W z + bias> with respect to the bias, in its shape, over the batch."""
        axis = self._bias_axis(y.dim())
        return self._stiff(y.sum([d for d in range(y.dim()) if d != axis]).reshape(bias.shape))

    def bias_drive(self, weights: Weights) -> Tensor | None:
        """P of the bias alone, [1, *layer]: a constant drive; None without one."""
        if self.bias is None or self.bias_decides:
            return None
        bias = self._stiff(weights[self.bias])
        shape = [1] * (1 + len(self._linear_shape))
        shape[self._bias_axis(len(shape))] = -1
        y = bias.reshape(shape).expand(1, *self._linear_shape)
        if self._pooling is not None:
            y = self._pooling.pool(y.contiguous())[0]
        return self._to_layer(y)

    def _pool(self, pooling: Pooling, weights: Weights, y: Tensor) -> Pooled:
        """Pooled drives, and where a maximum was found, of W z alone."""
        y = self._times_factor(y)
        if self.bias_decides and self.bias is not None:
            y = y + self._stiff(weights[self.bias])
        return pooling.pool(y)

    def _product(self, z: Tensor, weights: Weights) -> Tensor:
        return self._times_factor(self.forward(z, weights))

    def _stiff(self, bias: Tensor) -> Tensor:
        return bias if self._stiffness == 1.0 else bias * self._stiffness

    def _times_factor(self, drive: Tensor) -> Tensor:
        return drive if self.factor == 1.0 else drive * self.factor

    def _to_pooled(self, s: Tensor) -> Tensor:
        """The transpose of `_to_layer`."""
        if self._drive_shape != self._layer_shape:
            s = s.sum_to_size(s.shape[0], *_aligned(self._drive_shape, self._layer_shape))
            s = s.reshape(s.shape[0], *self._drive_shape)
        return _apply_transposed(self._after, s)

    def _to_layer(self, y: Tensor) -> Tensor:
        y = _apply(self._after, y)
        if self._drive_shape == self._layer_shape:
            return y
        y = y.reshape(y.shape[0], *_aligned(self._drive_shape, self._layer_shape))
        return y.expand(y.shape[0], *self._layer_shape)

    def _bias_axis(self, n_axes: int) -> int:
        is_matrix = self._linear is not None and self._linear.op == "MatMul"
        return n_axes - 1 if is_matrix else 1


def _by_parts(linear: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """A real linear map of complex values: real and imaginary parts as one batch."""
    real, imaginary = linear(torch.cat([values.real, values.imag])).chunk(2)
    return torch.complex(real, imaginary)


_Step = tuple[Rearrangement, tuple[int, ...]]
"""A layout change and the shape before it, without the batch."""


def _steps(
    layouts: tuple[Rearrangement, ...], shape: tuple[int, ...]
) -> tuple[tuple[_Step, ...], tuple[int, ...]]:
    steps = []
    for layout in layouts:
        steps.append((layout, shape))
        if layout.op == "Transpose":
            shape = tuple(shape[axis - 1] for axis in layout.sizes[1:])
        else:
            shape = tuple(torch.empty(1, *shape, device="meta").reshape(1, *layout.sizes).shape[1:])
    return tuple(steps), shape


def _apply(steps: tuple[_Step, ...], z: Tensor) -> Tensor:
    for layout, _ in steps:
        z = z.permute(layout.sizes) if layout.op == "Transpose" else z.reshape(z.shape[0], *layout.sizes)
    return z


def _apply_transposed(steps: tuple[_Step, ...], y: Tensor) -> Tensor:
    for layout, shape in reversed(steps):
        if layout.op == "Transpose":
            y = y.permute([layout.sizes.index(axis) for axis in range(len(layout.sizes))])
        else:
            y = y.reshape(y.shape[0], *shape)
    return y


def _aligned(shape: tuple[int, ...], full: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with leading ones, as long as `full`."""
    return (1,) * (len(full) - len(shape)) + shape
