"""Which nodes are monotone activations, and with which parameters."""

import math

from ffebm.graph.energy_block import Activation
from ffebm.graph.graph import Graph, Node
from ffebm.graph.ops import OPS, Kind
from ffebm.graph.tensor import holds_floats

DEFAULTS: dict[str, tuple[float, float]] = {
    "Celu": (1.0, 0.0),
    "Elu": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, 0.0),
    "Selu": (1.67326319217681884765625, 1.05070102214813232421875),
}
"""ONNX's defaults of alpha, and of beta (HardSigmoid) or gamma (Selu)."""


def activation_of(graph: Graph, node: Node) -> Activation | None:
    """The activation that a node computes.

    Args:
        graph: The node's graph.
        node: Any node.

    Returns:
        The activation; None if the node is none, or not monotone with its parameters.
    """
    if node.op not in OPS or OPS[node.op].kind is not Kind.ACTIVATION:
        return None
    if node.op == "Clip":
        return _clip(graph, node)
    alpha, beta = DEFAULTS.get(node.op, (0.0, 0.0))
    alpha = _number(node, "alpha", alpha)
    beta = _number(node, "gamma" if node.op == "Selu" else "beta", beta)
    found = Activation(node.op, alpha=alpha, beta=beta)
    return None if activation_problem(found) else found


def activation_problem(activation: Activation) -> str:
    """Why an activation is no monotone one; empty if it is."""
    op, alpha, beta = activation.op, activation.alpha, activation.beta
    if op != "Identity" and (op not in OPS or OPS[op].kind is not Kind.ACTIVATION):
        return "is none"
    if not (math.isfinite(activation.scale) and activation.scale > 0):
        return f"has a scale of {activation.scale:g}"
    if not (math.isfinite(alpha) and math.isfinite(beta)):
        return f"has the parameters {alpha:g} and {beta:g}"
    if alpha < 0 or (op == "Celu" and alpha == 0):
        return f"has a slope of {alpha:g}"
    if op == "Selu" and beta <= 0:
        return f"has a factor of {beta:g}"
    if activation.low is not None and activation.high is not None and activation.low >= activation.high:
        return f"has bounds of {activation.low:g} and {activation.high:g}"
    return ""


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
