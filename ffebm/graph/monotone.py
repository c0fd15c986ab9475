"""Which nodes are monotone activations, and with which parameters."""

import math
from collections.abc import Collection, Sequence

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation
from ffebm.graph.graph import Graph, Node
from ffebm.graph.ops import is_activation
from ffebm.graph.own_ops import own_activation
from ffebm.graph.tensor import holds_floats

DEFAULTS: dict[str, tuple[float, float]] = {
    "Celu": (1.0, 0.0),
    "Elu": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, 0.0),
    "Selu": (1.67326319217681884765625, 1.05070102214813232421875),
}
"""ONNX's defaults of alpha, and of beta (HardSigmoid) or gamma (Selu)."""


def activation_of(graph: Graph, node: Node, own: Collection[str] = ()) -> Activation | None:
    """The activation that a node computes.

    Args:
        graph: The node's graph.
        node: Any node.
        own: Ops that are activations by what packages offer.

    Returns:
        The activation; None if the node is none, or not monotone with its parameters.
    """
    offered = own_activation(node.op) if node.op in own else None
    if offered is None and not is_activation(node.op):
        return None
    if node.op == "Clip":
        return _clip(graph, node)
    usual = (0.0, 0.0) if offered is None else (offered.alpha, offered.beta)
    alpha, beta = DEFAULTS.get(node.op, usual)
    alpha = _number(node, "alpha", alpha)
    beta = _number(node, "gamma" if node.op == "Selu" else "beta", beta)
    found = Activation(node.op, alpha=alpha, beta=beta)
    return None if activation_problem(found) else found


def activation_problem(activation: Activation) -> str:
    """Why an activation is no monotone one; empty if it is."""
    op, alpha, beta = activation.op, activation.alpha, activation.beta
    offered = None if op == "Identity" or is_activation(op) else own_activation(op)
    if offered is None and op != "Identity" and not is_activation(op):
        return "is none"
    if not (math.isfinite(activation.scale) and activation.scale > 0):
        return f"has a scale of {activation.scale:g}"
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        return f"has the parameters {alpha:g} and {beta:g}"
    if offered is not None:
        return ""
    if alpha < 0 or (op == "Celu" and alpha == 0):
        return f"has a slope of {alpha:g}"
    if op == "Selu" and beta <= 0:
        return f"has a factor of {beta:g}"
    if activation.low is not None and activation.high is not None and activation.low >= activation.high:
        return f"has bounds of {activation.low:g} and {activation.high:g}"
    return ""


def known_activations(names: Sequence[str]) -> tuple[str, ...]:
    """Ops that are to be activations by what packages offer, checked.

    Raises:
        UsageError: If it is no list of names, an op is one of ffebm's own, or no package offers it.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"activations={names!r}", allowed="a list of names that packages offer")
    for name in names:
        if is_activation(name):
            raise UsageError(f"activation {name!r} is ffebm's own", allowed="one that a package offers")
        if own_activation(name) is None:
            plugins.load(plugins.ACTIVATIONS, name)  # says what is offered
    return tuple(dict.fromkeys(names))


def _clip(graph: Graph, node: Node) -> Activation | None:
    bounds: list[float | None] = [None, None]
    for position in (1, 2):
        if len(node.inputs) > position and node.inputs[position]:
            constant = graph.constants.get(node.inputs[position])
            trains = node.inputs[position] in graph.trainable
            if constant is None or constant.size != 1 or not holds_floats(constant) or trains:
                return None
            value = float(constant.ravel()[0])
            if math.isfinite(value):
                bounds[position - 1] = value
            elif value != (-math.inf if position == 1 else math.inf):
                return None
    found = Activation("Clip", low=bounds[0], high=bounds[1])
    return None if activation_problem(found) else found


def _number(node: Node, name: str, default: float) -> float:
    value = node.attrs.get(name, default)
    return float(value) if isinstance(value, (int, float)) else default
