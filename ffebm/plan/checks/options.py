"""Options of a plan: what the user asked for is what the plan holds."""

from collections.abc import Iterator

from ffebm.graph.energy_block import DEFAULT_PHYSICS
from ffebm.patterns import Patterns
from ffebm.plan.schema import PlanData


def option_problems(plan: PlanData) -> Iterator[str]:
    """What a plan's options say and its blocks and nodes do not, as text."""
    options = plan.options
    sizes = (options.block_size,) if isinstance(options.block_size, int) else options.block_size
    if not sizes or min(sizes) < 1:
        yield f"block size {options.block_size!r}"
    elif not _fit([len(block.layers) for block in plan.blocks], options.block_size):
        layers = ", ".join(str(len(block.layers)) for block in plan.blocks)
        yield f"blocks of {layers} layers at block size {options.block_size}"
    if any(size < 1 for size in options.dims.values()) or (options.dims and plan.source.format != "onnx"):
        yield f"the named dimensions {options.dims} of a {plan.source.format} model"
    for schedule in (plan.inference, plan.training):
        runs = {step.sample for step in schedule.steps}
        if runs not in ({*range(options.batch)}, set()):
            yield f"a schedule of runs {sorted(runs)[:9]} at a batch of {options.batch}"
    yield from _place_problems(plan)
    yield from _feedback_problems(plan)


def _feedback_problems(plan: PlanData) -> Iterator[str]:
    """Layers that feel each other do as strongly as was asked for, where that can be chosen."""
    for block in plan.blocks:
        asked = plan.options.feedback if max(block.depths(), default=0) else 1.0
        if block.feedback != asked:
            yield f"{block.name} with feedback {block.feedback:g}, where {asked:g} was asked for"
        elif asked != 1 and block.physics != DEFAULT_PHYSICS:
            yield f"{block.name} of physics {block.physics!r} with feedback {asked:g}"
        elif asked != 1 and plan.hardware.analog_group(block.group).settling == "continuous":
            yield f"{block.name} with feedback {asked:g}, which is a circuit on {block.group!r}"


def _place_problems(plan: PlanData) -> Iterator[str]:
    """What was to stay digital does."""
    if plan.options.boundary == "digital":
        for block in plan.blocks:
            for _, interaction in block.interactions():
                if interaction.linear is not None and interaction.source in block.inputs:
                    yield f"{block.name} multiplies what enters it, and its boundary is digital"
    kept = Patterns(plan.options.digital)
    for _, piece in plan.pieces():
        if piece.weight in kept:
            yield f"piece {piece.id} holds {piece.weight!r}, which is to stay digital"
    for node in plan.nodes:
        if node.name in kept and node.unit != "digital":
            yield f"node {node.name!r} runs on tiles, and is to stay digital"


def _fit(layers: list[int], sizes: int | tuple[int, ...]) -> bool:
    """Whether each block is one of those asked for, in order; some of these may not have fitted the tiles."""
    if isinstance(sizes, int):
        return max(layers, default=0) <= sizes
    left = iter(sizes)
    return all(any(count <= size for size in left) for count in layers)
