"""What networks written as ONNX are made of: nodes, and slopes of layers that settle together."""

from dataclasses import dataclass

from onnx import NodeProto, helper


class Nodes:
    """Nodes in order, each with one output that is called as it is."""

    def __init__(self) -> None:
        self.found: list[NodeProto] = []

    def add(self, name: str, op: str, *inputs: str, **attrs: int | list[int]) -> str:
        """One node; gives its output.

        Args:
            name: Of the node.
            op: Of ONNX.
            inputs: Values that it reads.
            attrs: Attributes of the op.
        """
        node = helper.make_node(op, inputs, [name], name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attrs.items())
        self.found.append(node)
        return name


@dataclass(frozen=True)
class Rung:
    """How a layer s = clip(slope u, 0, top) is written whose block has a weaker feedback.

    Attributes:
        slope: Of its activation.
        top: Upper end of its range.
        gain: What drives from outside the block are multiplied by, and biases.
    """

    slope: float
    top: float
    gain: float


def rungs(layers: int, feedback: float, last: float = 1.0) -> tuple[Rung, ...]:
    """Slopes, ranges and gains of a chain of layers that feel those above weaker, in order.

    With s = top x, x in [0, 1], a layer is x = clip(slope / top (W s_below + V^T s_above + gain d), 0, 1).
    The map to layer i is felt from below with slope_i top_(i-1) / top_i, which is kept at 1, and from above
    with slope_(i-1) top_i / top_(i-1), which is `feedback`. The couplings, each times the root of the product
    of its layers' slopes, then have norms that are sqrt(feedback) times those of the maps: a block contracts
    for maps that are stronger by so much. The last layer has the range [0, 1].

    Args:
        layers: How many there are in the block.
        feedback: Of the strength that couplings have both ways; above 0.
        last: Slope of the last layer. At 1 it has no gain. Where it is `feedback`, slopes are feedback, 1,
            feedback, ... from the last layer down, and a map that skips one layer is felt from below with 1
            too; the last layer then needs a nudge that is as much stronger.
    """
    found = [Rung(last, 1.0, 1 / last)]
    for above in range(1, layers):
        top = found[0].top / found[0].slope
        weight = 1 / (last * feedback**above)  # of the layer's own term in the block's energy, top^2 / slope
        found.insert(0, Rung(top**2 / weight, top, weight / top))
    return tuple(found)
