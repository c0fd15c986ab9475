"""Nodes of an ONNX graph in the making."""

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
