"""Energy blocks: free layers, and the interactions through which they drive each other."""

from collections.abc import Iterator
from typing import Literal

import msgspec

LEAST_FEEDBACK = 1e-3
"""The weakest feedback of a block: a nudge reaches lower layers by a power of it, stiffness grows by one."""
DEFAULT_PHYSICS = "hopfield"
"""The physics of blocks that are not said to have another."""


class Rearrangement(msgspec.Struct, frozen=True):
    """A change of shape or axis order; the batch stays the first axis.

    Attributes:
        op: "Reshape" or "Transpose".
        sizes: Reshape: the sizes behind the batch. Transpose: the permutation of all axes.
    """

    op: Literal["Reshape", "Transpose"]
    sizes: tuple[int, ...]


class Linear(msgspec.Struct, frozen=True):
    """A linear map with a stationary weight, by its source name.

    Attributes:
        op: "Conv", "ConvTranspose" or "MatMul" (Gemm is one; it acts on the last axis).
        weight: Source name. Conv: [out, in / groups, *kernel]; ConvTranspose: [in, out / groups, *kernel];
            MatMul: [in, out], or [out, in] if `transposed`.
        bias: Source name of the bias inside the pooling, [out]; None without one.
        strides: Of a convolution.
        pads: Begin of each axis, then end of each axis, as ONNX has them.
        dilations: Of a convolution.
        groups: Of a convolution.
        output_padding: Of a transposed convolution.
        transposed: Of a MatMul: the weight is stored [out, in].
    """

    op: Literal["Conv", "ConvTranspose", "MatMul"]
    weight: str
    bias: str | None = None
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    transposed: bool = False


class Pool(msgspec.Struct, frozen=True):
    """A pooling behind a linear map.

    Attributes:
        op: "MaxPool" or "AveragePool".
        kernel: Window sizes.
        strides: Window steps.
        pads: Begin of each axis, then end of each axis.
        dilations: Steps inside a window (maximum only).
        ceil_mode: Keep windows that reach over the end.
        count_include_pad: Padding counts in an average.
    """

    op: Literal["MaxPool", "AveragePool"]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...] = ()
    ceil_mode: bool = False
    count_include_pad: bool = False


class Interaction(msgspec.Struct, frozen=True):
    """One term of a block's energy, -<s_layer, after(pool(linear(before(z))))>.

    Attributes:
        source: Value name of z: a free layer of the same block or a clamped input.
        before: Rearrangements of z.
        linear: The linear map; None is the identity (a skip, or a drive computed elsewhere).
        pool: Pooling behind the linear map, if any.
        after: Rearrangements of the drive.
        source_shape: Shape of z without the batch.
        linear_shape: Shape of the linear map's output without the batch.
    """

    source: str
    source_shape: tuple[int, ...]
    linear_shape: tuple[int, ...]
    before: tuple[Rearrangement, ...] = ()
    linear: Linear | None = None
    pool: Pool | None = None
    after: tuple[Rearrangement, ...] = ()


class Activation(msgspec.Struct, frozen=True):
    """A monotone activation s = sigma(scale * u).

    Attributes:
        op: ONNX op name; "Identity" for a linear layer.
        scale: Positive factor of the drive.
        alpha: Parameter of LeakyRelu, Elu, Celu, Selu, HardSigmoid (slope).
        beta: Parameter of HardSigmoid (offset), Selu (gamma).
        low: Lower bound of Clip.
        high: Upper bound of Clip.
    """

    op: str
    scale: float = 1.0
    alpha: float = 0.0
    beta: float = 0.0
    low: float | None = None
    high: float | None = None


class Layer(msgspec.Struct, frozen=True):
    """A free layer s_l = sigma(sum of drives + biases + top-down drives).

    Attributes:
        value: Value name of its state.
        shape: Shape of its state without the batch.
        activation: sigma.
        interactions: The terms that drive it bottom-up.
        biases: Source names of constants added to the drive, broadcast against the state.
    """

    value: str
    shape: tuple[int, ...]
    activation: Activation
    interactions: tuple[Interaction, ...]
    biases: tuple[str, ...] = ()


class Relaxed(msgspec.Struct, frozen=True):
    """What a block needs that settles by itself, estimated from the weights that it was compiled with.

    Attributes:
        time_constants: Of its neurons, until its state is within the machine's accuracy of where it goes.
        siemens: Power of its cells there, in watts for 1 V that stands for 1 in the model.
        before_nudge: Time constants of a free phase that nudged ones follow; None: `time_constants`.
        nudged: Time constants of a nudged phase; None: `time_constants`.
    """

    time_constants: float
    siemens: float
    before_nudge: float | None = None
    nudged: float | None = None

    def lasting(self, phase: "PhaseKind") -> float:
        """Time constants that a phase takes."""
        found = {"free": None, "before nudge": self.before_nudge, "nudged": self.nudged}[phase]
        return self.time_constants if found is None else found


PhaseKind = Literal["free", "before nudge", "nudged"]
"""Of a circuit: free and read out, free and then nudged, nudged."""


class EnergyBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """A block of free layers that settle together.

    Attributes:
        id: Position among the blocks, in graph order.
        inputs: Value names of the clamped inputs.
        layers: The free layers, in graph order.
        outputs: Value names of the layers that are read outside the block.
        group: The group of the machine's tiles that it lies on; empty until it has one.
        physics: What its energy is, by name.
        relaxed: What it needs where it settles by itself; None if that is not known.
        feedback: How strongly each layer feels the ones above, of the strength at which it drives them.
    """

    id: int
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    group: str = ""
    physics: str = DEFAULT_PHYSICS
    relaxed: Relaxed | None = None
    feedback: float = 1.0

    def time_constants(self, phase: PhaseKind = "free") -> float | None:
        """That a phase takes where it settles by itself; None if that is not known."""
        return None if self.relaxed is None else self.relaxed.lasting(phase)

    @property
    def name(self) -> str:
        """Stable short name, used in steps, messages and pictures."""
        return f"block{self.id}"

    def interactions(self) -> Iterator[tuple[Layer, Interaction]]:
        """Every interaction with the layer that it drives, in order."""
        for layer in self.layers:
            for interaction in layer.interactions:
                yield layer, interaction

    def depths(self) -> tuple[int, ...]:
        """Of each layer, couplings on the longest way up to one that drives no other."""
        found = {layer.value: 0 for layer in self.layers}
        for layer in reversed(self.layers):
            for interaction in layer.interactions:
                if interaction.source in found:
                    found[interaction.source] = max(found[interaction.source], 1 + found[layer.value])
        return tuple(found.values())

    def stiffness(self) -> tuple[float, ...]:
        """What all of a layer's terms in the energy are multiplied by, its biases and drives included.

        A layer then feels one above by the share of their stiffness, which is `feedback` between neighbours
        in a chain, and what drives it from below as ever. Layers that drive no other have 1.
        """
        return tuple(self.feedback**-depth for depth in self.depths())

    def colours(self) -> tuple[int, ...]:
        """A colour for each layer: layers that feel each other differ, so equal ones update at once.

        Greedy, breadth first from the first layer: any bipartite block takes two colours, and even and odd
        layers of a chain get 0 and 1.
        """
        position = {layer.value: index for index, layer in enumerate(self.layers)}
        neighbours: list[list[int]] = [[] for _ in self.layers]
        for layer, interaction in self.interactions():
            if interaction.source in position:
                here, there = position[layer.value], position[interaction.source]
                neighbours[here].append(there)
                neighbours[there].append(here)
        colour: dict[int, int] = {}
        for root in range(len(self.layers)):
            queue = [] if root in colour else [root]
            for index in queue:
                if index not in colour:
                    taken = {colour.get(peer) for peer in neighbours[index]}
                    colour[index] = next(c for c in range(len(self.layers)) if c not in taken)
                    queue.extend(neighbours[index])
        return tuple(colour[index] for index in range(len(self.layers)))

    def weights(self) -> tuple[str, ...]:
        """Source names of all weights and biases, each once, in order."""
        names: dict[str, None] = {}
        for layer in self.layers:
            for interaction in layer.interactions:
                if interaction.linear is not None:
                    names[interaction.linear.weight] = None
                    if interaction.linear.bias is not None:
                        names[interaction.linear.bias] = None
            names.update(dict.fromkeys(layer.biases))
        return tuple(names)
