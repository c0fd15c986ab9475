"""Fold batch normalisation into the linear map before it, for inference only.

y = gamma (W x + c - mean) / sqrt(var + eps) + beta is again a linear map of x.
"""

from dataclasses import dataclass

import numpy as np

from ffebm.graph.graph import Graph, Node, Stage
from ffebm.graph.tensor import TensorType
from ffebm.hardware.description import Hardware


@dataclass(frozen=True)
class FoldBatchNorm:
    """Folds each batch normalisation that alone reads a convolution with weights of its own."""

    name: str = "fold-batch-norm"
    requires: Stage = Stage.IMPORTED
    ensures: Stage = Stage.IMPORTED

    def run(self, graph: Graph, hardware: Hardware) -> None:
        """Fold what can be folded; the rest stays."""
        producers, consumers = graph.producers(), graph.consumers()
        dropped: set[int] = set()
        for norm in graph.nodes:
            if norm.op != "BatchNormalization" or norm.attrs.get("training_mode"):
                continue
            conv = producers.get(norm.inputs[0])
            if conv is None or not _foldable(graph, conv, norm, consumers):
                continue
            _fold(graph, conv, norm)
            conv.outputs[0] = norm.outputs[0]
            dropped.add(id(norm))
        graph.nodes = [node for node in graph.nodes if id(node) not in dropped]
        if dropped:
            graph.notes.append(f"{len(dropped)} batch normalisations folded: this plan is for inference only")


def _foldable(graph: Graph, conv: Node, norm: Node, consumers: dict[str, list[Node]]) -> bool:
    own = [value for value in conv.inputs[1:] if value]
    return (
        conv.op == "Conv"
        and conv.outputs[0] not in graph.outputs
        and len(consumers[conv.outputs[0]]) == 1
        and all(v in graph.constants and len(consumers[v]) == 1 for v in own)
        and all(v in graph.constants for v in norm.inputs[1:5])
        and len([o for o in norm.outputs if o]) == 1
    )


def _fold(graph: Graph, conv: Node, norm: Node) -> None:
    gamma, beta, mean, var = (graph.constants[value].astype(np.float64) for value in norm.inputs[1:5])
    epsilon = norm.attrs.get("epsilon", 1e-5)
    factor = gamma / np.sqrt(var + (epsilon if isinstance(epsilon, float) else 1e-5))
    weight, dtype = graph.constants[conv.inputs[1]], graph.constants[conv.inputs[1]].dtype
    axes = [1] * (weight.ndim - 1)
    graph.constants[conv.inputs[1]] = (weight.astype(np.float64) * factor.reshape(-1, *axes)).astype(dtype)
    held = conv.inputs[2] if len(conv.inputs) > 2 else ""
    old = graph.constants[held].astype(np.float64) if held else np.zeros_like(mean)
    name = held or f"{norm.name}.folded_bias"
    bias = ((old - mean) * factor + beta).astype(dtype)
    conv.inputs[1:] = [conv.inputs[1], name]
    graph.constants[name] = bias
    graph.types[name] = TensorType(str(bias.dtype), tuple(bias.shape))
    graph.trainable.add(name)
