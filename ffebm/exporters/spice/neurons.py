"""What a neuron's buffer makes of the voltage at its input, as an expression of ngspice."""

from ffebm.errors import UsageError
from ffebm.graph.energy_block import Activation
from ffebm.visible import visible


def number(value: float) -> str:
    """A number as SPICE reads it, to ten digits; without suffixes, which it would take for units."""
    return f"{value:.10g}"


def buffer_of(activation: Activation, node: str, volts: float) -> str:
    """The voltage of a state, volts times sigma(scale times drive), for a drive of so many volts a unit.

    Args:
        activation: Of the layer.
        node: Input of the neuron.
        volts: What stands for 1.

    Raises:
        UsageError: If the activation comes from a package, which says it in torch only.
    """
    x = f"({number(activation.scale / volts)}*v({node}))"
    return f"{number(volts)}*({_sigma(activation, x)})"


def _sigma(activation: Activation, x: str) -> str:
    op, alpha, beta = activation.op, number(activation.alpha), number(activation.beta)
    if op == "Clip":
        low = x if activation.low is None else f"max({x},{number(activation.low)})"
        return low if activation.high is None else f"min({low},{number(activation.high)})"
    rise, fall = f"max({x},0)", f"min({x},0)"
    forms = {
        "Identity": x,
        "Relu": rise,
        "HardSigmoid": f"min(max({alpha}*{x}+{beta},0),1)",
        "Sigmoid": f"0.5*(1+tanh(0.5*{x}))",
        "Tanh": f"tanh({x})",
        "LeakyRelu": f"{rise}+{alpha}*{fall}",
        "Elu": f"{rise}+{alpha}*(exp({fall})-1)",
        "Celu": f"{rise}+{alpha}*(exp({fall}/({alpha}))-1)",
        "Selu": f"{beta}*({rise}+{alpha}*(exp({fall})-1))",
        "Softplus": f"{rise}+ln(1+exp(-abs({x})))",
        "Softsign": f"{x}/(1+abs({x}))",
    }
    if op not in forms:
        raise UsageError(
            f"activation {visible(op)!r} has no circuit",
            allowed=f"Clip, {', '.join(forms)}",
            hint="--block N writes another block alone",
        )
    return forms[op]
