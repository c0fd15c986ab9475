"""A plan in words: where its nodes run and why, and the command that compiles it again."""

import textwrap
from collections.abc import Iterator, Sequence

from msgspec import structs

from ffebm.compiler.command import option_words
from ffebm.graph.tensor import holds_floats
from ffebm.hardware.description import load_hardware, shipped_hardware
from ffebm.plan.plan import Plan
from ffebm.plan.summary import share
from ffebm.report.facts.reasons import reasons
from ffebm.visible import visible


def explain_lines(plan: Plan, chosen: str | None = None) -> Iterator[str]:
    """Where every node runs and why, and what kept work off the tiles.

    Args:
        plan: The plan.
        chosen: Only nodes whose name or op contains this.
    """
    nodes = [n for n in plan.nodes if not chosen or chosen in n.name or chosen in n.op]
    for node in nodes:
        block = f" block{node.block}" if node.block is not None else ""
        work = f", {node.macs:,} MACs" if node.macs else ""
        work += f", {node.weights:,} weights" if node.weights and node.unit == "digital" else ""
        yield f"{visible(node.name)} ({visible(node.op)}{work}): {node.unit}{block}"
        yield _indented(visible(node.reason), 4)
    if chosen:
        yield f"{len(nodes)} of {len(plan.nodes)} nodes"
        return
    yield ""
    yield from _shares(plan)
    yield ""
    yield from _training(plan)


def _indented(text: str, columns: int) -> str:
    """Text behind an indent, broken to fit 80 columns."""
    indent = " " * columns
    return textwrap.fill(text, 80, initial_indent=indent, subsequent_indent=indent, break_long_words=False)


def _shares(plan: Plan) -> Iterator[str]:
    macs = sum(node.macs for node in plan.nodes)
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    on_tiles = sum(node.macs for node in plan.nodes if node.unit == "tile")
    held = sum(plan.weights[name].size for name in {piece.weight for _, piece in plan.pieces()})
    yield f"on tiles: {share(on_tiles, macs)} of multiply-accumulates, {share(held, weights)} of weights"
    found = reasons(plan)
    if found:
        yield "digital because:"
    for reason in found:
        nodes = "1 node" if reason.nodes == 1 else f"{reason.nodes} nodes"
        yield f"  {nodes}, {reason.share} of multiply-accumulates, {reason.weight_share} of weights:"
        yield _indented(visible(reason.text), 6)


def _training(plan: Plan) -> Iterator[str]:
    """What training changes and what it leaves, and why."""
    read = {value for node in plan.nodes for value in node.inputs}
    others = [
        name
        for name, array in plan.weights.items()
        if name in read
        and name not in {*plan.trainable, *plan.buffers}
        and holds_floats(array)
        and array.ndim
    ]
    why = "buffers and parameters without requires_grad"
    if plan.source.format == "onnx":
        why = "neither weights, nor biases or scales behind them; --trainable NAME trains them"
    for title, names in (
        ("trains", plan.trainable),
        ("follows the data in training, as running statistics", plan.buffers),
        (f"does not train: {why}", others),
    ):
        if names or title == "trains":
            yield f"{title}:"
            yield _indented(", ".join(map(visible, names)) or "nothing", 2)
    for name, nodes in plan.tied():
        yield _indented(visible(f"tied: {name} is one weight in {', '.join(nodes)}"), 0)


def compile_words(plan: Plan, digital: Sequence[str] = ()) -> list[str]:
    """The command that compiles the plan's ONNX source again as it was, with more names kept digital.

    A plan knows the model's file by its name only, and a machine that is not shipped by the name that its
    description gives: the command is for the folder that both lie in.

    Args:
        plan: The plan.
        digital: Weights and nodes to keep digital beside those that are already.
    """
    options, settle = plan.options, plan.settle
    words = ["ffebm-compile", plan.source.name]
    name = plan.hardware.name
    shipped = name in shipped_hardware() and load_hardware(name) == plan.hardware
    words += ["--hardware", name if shipped else f"{name}.toml"]
    kept = dict.fromkeys((*options.digital, *digital))
    return words + option_words(structs.replace(options, digital=tuple(kept)), settle)
