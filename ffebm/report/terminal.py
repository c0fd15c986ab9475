"""A plan as text for the terminal, at most 80 columns where names allow it."""

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ffebm.hardware import shipped_hardware
from ffebm.ir import EnergyBlock
from ffebm.plan import Options, Plan, PlanNode, Settle, engineering, share


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
        yield f"{node.name} ({node.op}{work}): {node.unit}{block}"
        yield _indented(node.reason, 4)
    if chosen:
        yield f"{len(nodes)} of {len(plan.nodes)} nodes"
        return
    yield ""
    yield from _shares(plan)


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
    rows = list(reason_rows(plan))
    if rows:
        yield "digital because:"
    for reason, nodes, macs_of, weights_of in rows:
        yield f"  {nodes} nodes, {macs_of} of multiply-accumulates, {weights_of} of weights:"
        yield _indented(reason, 6)


def reason_rows(plan: Plan) -> Iterator[tuple[str, int, str, str]]:
    """Why nodes are digital, what keeps most work first: nodes, and shares of work and of weights."""
    macs = sum(node.macs for node in plan.nodes)
    weights = sum(plan.weights[name].size for name in plan.weight_names())
    reasons: dict[str, list[PlanNode]] = defaultdict(list)
    for node in plan.nodes:
        if node.unit == "digital":
            reasons[node.reason].append(node)

    def size(nodes: list[PlanNode]) -> tuple[int, int]:
        return sum(n.macs for n in nodes), sum(n.weights for n in nodes)

    for reason, nodes in sorted(reasons.items(), key=lambda e: (*(-n for n in size(e[1])), e[0])):
        lost, kept = size(nodes)
        yield reason, len(nodes), share(lost, macs), share(kept, weights)


def compile_words(plan: Plan, digital: Sequence[str] = ()) -> list[str]:
    """The command that compiles the plan's source again as it was, with more names kept digital.

    Args:
        plan: The plan.
        digital: Weights and nodes to keep digital beside those that are already.
    """
    options, settle = plan.options, plan.settle
    words = ["ffebm-compile", plan.source.name]
    shipped = plan.hardware.name in shipped_hardware()
    words += ["--hardware", plan.hardware.name if shipped else f"{plan.hardware.name}.toml"]
    words += _words({**msgspec.structs.asdict(options), **msgspec.structs.asdict(settle)}, _DEFAULTS)
    words += [word for name, size in options.dims.items() for word in ("--dim", f"{name}={size}")]
    names = dict.fromkeys((*options.digital, *digital))
    return words + [word for name in names for word in ("--digital", name)]


_DEFAULTS = {**msgspec.structs.asdict(Options()), **msgspec.structs.asdict(Settle())}


def _words(chosen: Mapping[str, object], usual: Mapping[str, object]) -> Iterator[str]:
    """Options that are not as usual, as words of a command; those that can be given often are left out."""
    for name, value in chosen.items():
        if name in {"dims", "digital"} or value == usual[name]:
            continue
        yield f"--{name.replace('_', '-')}"
        if value is not True:
            yield ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def flow_lines(plan: Plan) -> Iterator[str]:
    """Blocks and runs of digital nodes in the order of the inference's steps."""
    kinds = {node.name: node.op for node in plan.nodes}
    digital: list[str] = []
    for port in plan.inputs:
        yield f"  input   {port.name}: {port.type}"
    for step in plan.inference.steps:
        if step.kind == "digital":
            digital.append(kinds[step.name])
        elif step.kind == "free":
            yield from _digital_line(digital)
            digital = []
            block = next(block for block in plan.blocks if block.name == step.name)
            yield from _block_lines(block, engineering(step.end_s - step.start_s, "s"))
    yield from _digital_line(digital)
    for port in plan.outputs:
        yield f"  output  {port.name}: {port.type}"


def _digital_line(ops: list[str]) -> Iterator[str]:
    if ops:
        text = ", ".join(ops[:6]) + (f" and {len(ops) - 6} more" if len(ops) > 6 else "")
        yield f"  digital {text}"


def _block_lines(block: EnergyBlock, seconds: str) -> Iterator[str]:
    yield f"  +-- {block.name}, {len(block.layers)} layer(s), {seconds}"
    for layer in block.layers:
        maps = [i.linear.op if i.linear else "identity" for i in layer.interactions]
        pools = [f" {i.pool.op}" for i in layer.interactions if i.pool]
        shape = "x".join(map(str, layer.shape))
        yield f"  |   {layer.value} [{shape}] = {layer.activation.op}({' + '.join(maps)}{''.join(pools)})"
    yield "  +--"
