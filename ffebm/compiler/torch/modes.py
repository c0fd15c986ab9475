"""What a torch model does in training and in evaluation, as one graph.

An argument that differs between the two stands under its own name as in evaluation, and under `train.NAME` as
in training. So batch statistics, dropout and whatever else depends on the mode follow the running network.
"""

from ffebm.compiler.torch.reader import Reading
from ffebm.graph.graph import Attr, Graph, Node, captured

TRAIN = "train."
FLAGS = {
    "alpha_dropout": "train",
    "batch_norm": "training",
    "dropout": "train",
    "feature_alpha_dropout": "train",
    "feature_dropout": "train",
    "gru": "train",
    "lstm": "train",
    "rnn_relu": "train",
    "rnn_tanh": "train",
    "rrelu": "training",
}
"""Ops of torch that are told whether the model trains, and the argument that tells it."""

DECOMPOSED_NORMS = ("_native_batch_norm_legit_functional", "_native_batch_norm_legit_no_training")
"""What batch normalisation becomes when a program is decomposed, in training and in evaluation."""


def merge(train: Reading, evaluation: Reading) -> Reading | None:
    """Both modes as one reading; None if they run different ops.

    Args:
        train: The model as it trains; it is changed.
        evaluation: The model as it is evaluated.
    """
    ours, theirs = _needed(train), _needed(evaluation)
    if len(ours) != len(theirs) or len(train.results) != len(evaluation.results):
        return None
    names: dict[str, str] = {}
    for node, other in zip(ours, theirs, strict=True):
        if not _alike(node, other, names):
            return None
        names.update(zip(node.outputs, other.outputs, strict=True))
    if [names.get(v, v) if isinstance(v, str) else v for v in train.results] != list(evaluation.results):
        return None
    for node, other in zip(ours, theirs, strict=True):
        node.attrs = _both(node.attrs, other.attrs)
    add_updates(train, set(evaluation.updates))
    return train


def gate(reading: Reading) -> None:
    """Let whatever was recorded with a train flag follow the running network."""
    for node in reading.graph.nodes:
        name = node.op.split(".")[1] if node.op.count(".") == 2 else ""
        flag = FLAGS.get(name)
        if flag is not None and (name != "batch_norm" or _has_statistics(node)):
            node.attrs = {**node.attrs, flag: False, TRAIN + flag: True}
        rate = node.attrs.get("dropout_p", 0.0)
        if name == "scaled_dot_product_attention" and rate:
            node.attrs = {**node.attrs, "dropout_p": 0.0, f"{TRAIN}dropout_p": rate}
        if name in DECOMPOSED_NORMS:  # whose twin updates its statistics itself
            for buffer in node.inputs:
                reading.updates.pop(buffer, None)
    add_updates(reading, {name for name in reading.updates if not name.endswith("num_batches_tracked")})


def _has_statistics(node: Node) -> bool:
    return str(node.attrs.get("running_mean", "%none")) != "%none"


def add_updates(reading: Reading, always: set[str]) -> None:
    """Write a node for each buffer that the model updates; those not in `always` only in training."""
    graph = reading.graph
    for buffer, value in reading.updates.items():
        attrs: dict[str, Attr] = {} if buffer in always else {"training_only": 1}
        name = f"{buffer}.updated"
        made_by = graph.producers().get(value)
        where = made_by.location if made_by is not None else None
        graph.nodes.append(Node("UpdateBuffer", name, [buffer, value], [name], attrs, where))
        graph.types[name] = graph.types[buffer]


def _needed(reading: Reading) -> list[Node]:
    """Nodes that the results depend on."""
    live = {value for value in reading.results if isinstance(value, str)}
    kept = []
    for node in reversed(reading.graph.nodes):
        if live & set(node.outputs):
            live.update(captured(node))
            kept.append(node)
    return kept[::-1]


def _alike(node: Node, other: Node, names: dict[str, str]) -> bool:
    """Whether two nodes do the same with the same values, up to plain arguments."""
    tensors, others = _operands(node), _operands(other)
    return (
        node.op == other.op
        and len(node.outputs) == len(other.outputs)
        and [names.get(value, value) for value in node.inputs] == other.inputs
        and tensors == others
    )


def _operands(node: Node) -> dict[str, str]:
    """Arguments that hold tensors or graphs, as text."""
    return {k: str(v) for k, v in node.attrs.items() if isinstance(v, Graph) or "%" in str(v)}


def _both(train: dict[str, Attr], evaluation: dict[str, Attr]) -> dict[str, Attr]:
    differs = {k: v for k, v in train.items() if k not in evaluation or str(evaluation[k]) != str(v)}
    return {**evaluation, **{TRAIN + key: value for key, value in differs.items()}}
