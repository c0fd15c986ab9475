"""What a block's circuit is wired of: lines between layers, identities, and the currents of biases.

A linear map between two free layers takes two arrays, G and a copy of its transpose, since a line that is
driven cannot be a virtual ground at the same time; a map from a clamped input takes one.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ffebm.graph.energy_block import DEFAULT_PHYSICS, EnergyBlock, Interaction, Layer, Linear
from ffebm.graph.tensor import Array, Floats
from ffebm.mapping.circuit.sigma import SIGMAS
from ffebm.mapping.circuit.wiring import Units, unit_of_output, wiring


@dataclass(frozen=True)
class Lines:
    """An array in one direction, with the windows that it serves.

    Attributes:
        source: Value whose units drive its lines.
        target: Value whose units its currents go to.
        weight: Drive for each state, [driven lines, sensed lines].
        noise_gain: Feedback times conductance on the heavier line of each pair, [sensed lines].
        siemens: Conductance on each driven line, [driven lines].
        drivers: Flat index of the unit on each driven line, [windows, driven lines]; or `NOWHERE`.
        sensed: Flat index of the unit behind each sensed line, [windows, sensed lines]; or `NOWHERE`.
    """

    source: str
    target: str
    weight: Floats
    noise_gain: Floats
    siemens: Floats
    drivers: Units
    sensed: Units


@dataclass(frozen=True)
class IdentityLink:
    """An identity between two values: what one unit drives another with, as it is.

    Attributes:
        source: Value that drives.
        target: Value that is driven.
        drivers: Flat index of the source's units, [units].
        driven: Flat index of the target's units, [units].
    """

    source: str
    target: str
    drivers: Units
    driven: Units


@dataclass(frozen=True)
class Equations:
    """A block's circuit.

    Attributes:
        layers: The free layers.
        inputs: Shape of each clamped input by value name.
        lines: Its arrays.
        links: Its identities.
        constants: What biases drive each unit of a layer with, by value name, [units].
    """

    layers: tuple[Layer, ...]
    inputs: dict[str, tuple[int, ...]]
    lines: tuple[Lines, ...]
    links: tuple[IdentityLink, ...]
    constants: dict[str, Floats]


def obstacles(block: EnergyBlock) -> Iterator[tuple[str, str]]:
    """Layers of a block for which there is no circuit here, and why."""
    if block.physics != DEFAULT_PHYSICS:
        yield block.layers[0].value, f"its physics is {block.physics!r}"
    for layer, interaction in block.interactions():
        if interaction.pool is not None:
            yield layer.value, f"a {interaction.pool.op} drives it, for which there is no circuit here"
        if math.prod(interaction.linear_shape) != math.prod(layer.shape):
            yield layer.value, "one drive is spread over several of its units"
    for layer in block.layers:
        if layer.activation.op not in SIGMAS:
            yield layer.value, f"its activation {layer.activation.op} comes from a package"


def clamped_inputs(block: EnergyBlock) -> dict[str, tuple[int, ...]]:
    """Shape of each clamped input by value name."""
    inside = {layer.value for layer in block.layers}
    return {i.source: i.source_shape for _, i in block.interactions() if i.source not in inside}


def links_of(layer: Layer, interaction: Interaction, *, free: bool) -> Iterator[IdentityLink]:
    """Both directions of an identity from a free layer, one from a clamped input."""
    lines = wiring(interaction)
    sources, targets = lines.sources.reshape(-1), lines.targets.reshape(-1)
    yield IdentityLink(interaction.source, layer.value, sources, targets)
    if free:
        yield IdentityLink(layer.value, interaction.source, targets, sources)


def bias_drives(layer: Layer, weights: Mapping[str, Array]) -> Floats:
    """What biases drive each unit of a layer with, in units of the model, [units]."""
    total = np.zeros(layer.shape)
    for name in layer.biases:
        total = total + weights[name].astype(np.float64)
    flat: Floats = np.broadcast_to(total, layer.shape).reshape(-1).copy()
    for interaction in layer.interactions:
        linear = interaction.linear
        if linear is not None and linear.bias is not None:
            np.add.at(
                flat, unit_of_output(interaction), _inner_bias(weights[linear.bias], interaction, linear)
            )
    return flat


def _inner_bias(bias: Array, interaction: Interaction, linear: Linear) -> Floats:
    """The bias behind a linear map at each of its outputs, [*linear]."""
    axis = len(interaction.linear_shape) - 1 if linear.op == "MatMul" else 0
    shape = [1] * len(interaction.linear_shape)
    shape[axis] = -1
    return np.broadcast_to(bias.astype(np.float64).reshape(shape), interaction.linear_shape)


def seeded_inputs(shapes: Mapping[str, tuple[int, ...]], samples: int) -> dict[str, Floats]:
    """Clamped inputs spread evenly over [0, 1), as pixels and clipped states are; always the same first ones.

    Args:
        shapes: Of one sample, by value name.
        samples: How many.
    """
    rng = np.random.default_rng(0)
    drawn = [{name: rng.random(shape) for name, shape in shapes.items()} for _ in range(samples)]
    return {name: np.stack([sample[name] for sample in drawn]) for name in shapes}


BETA = 0.1
"""Strength of a nudge, for a largest error current of 1."""


def output_shapes(block: EnergyBlock) -> dict[str, tuple[int, ...]]:
    """Shape of each layer that is read outside, by value name."""
    return {layer.value: layer.shape for layer in block.layers if layer.value in block.outputs}


def seeded_currents(shapes: Mapping[str, tuple[int, ...]], samples: int) -> dict[str, Floats]:
    """Normal error currents, each sample's largest magnitude 1; always the same first ones.

    Args:
        shapes: Of the outputs of one sample, by value name.
        samples: How many.
    """
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(samples):
        sample = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
        largest = max(float(np.abs(values).max()) for values in sample.values())
        drawn.append({name: values / largest for name, values in sample.items()})
    return {name: np.stack([sample[name] for sample in drawn]) for name in shapes}


def nudges(currents: Mapping[str, Floats], beta: float) -> list[dict[str, Floats]]:
    """What error currents add to drives: nothing, then those of +beta and of -beta."""
    return [{}, *({name: -sign * beta * c for name, c in currents.items()} for sign in (1.0, -1.0))]
