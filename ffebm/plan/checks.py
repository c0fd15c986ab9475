"""Contradictions of a plan: what its files say against each other and against the machine."""

from bisect import bisect
from collections.abc import Iterator

import msgspec

from ffebm.graph.graph import EnergyBlock
from ffebm.plan.conductance import to_matrix
from ffebm.plan.program import Instruction
from ffebm.plan.program_check import program_problems
from ffebm.plan.programming import PROGRAMMED, programming_problems
from ffebm.plan.schedule import schedule_problems
from ffebm.plan.schema import Piece, PlanData, TilePlan
from ffebm.plan.structure import structure_problems


def plan_problems(plan: PlanData) -> Iterator[str]:
    """Every contradiction in a plan, as text."""
    known = {*plan.weights, *(port.name for port in plan.inputs)}
    for name in (*plan.trainable, *plan.buffers):
        if name not in plan.weights:
            yield f"weight {name!r} has no values"
    if plan.batch < 1:
        yield f"a batch of {plan.batch}"
    for position, block in enumerate(plan.blocks):
        if block.id != position:
            yield f"{block.name} stands at position {position}"
        if not block.layers or not all(layer.interactions for layer in block.layers):
            yield f"{block.name} has no layers, or a layer that nothing drives"
        for weight in block.weights():
            if weight not in plan.weights:
                yield f"weight {weight!r} of {block.name} has no values"
    yield from program_problems(plan.segments, plan.weights)
    yield from _order_problems(plan, known)
    yield from structure_problems(plan.structure, {*plan.weights, *(port.name for port in plan.outputs)})
    yield from _node_problems(plan)
    yield from _tile_problems(plan)
    units = {f"tile{t.id}" for t in plan.tiles} | {f"digital{i}" for i in range(plan.hardware.digital.count)}
    for schedule in (plan.inference, plan.training):
        yield from schedule_problems(schedule, {*units, "network"}, len(plan.blocks))


def _node_problems(plan: PlanData) -> Iterator[str]:
    """Every node has a reason, and runs where it says: a block on tiles, or a digital instruction."""
    digital = {i.name for segment in plan.segments for i in segment.program.instructions}
    for node in plan.nodes:
        if not node.reason:
            yield f"node {node.name!r} has no reason"
        on_tile = node.block is not None and 0 <= node.block < len(plan.blocks)
        if on_tile != (node.unit == "tile") or (node.unit == "digital") != (node.name in digital):
            yield f"node {node.name!r} does not run where it says: {node.unit}, block {node.block}"
    missing = digital - {node.name for node in plan.nodes}
    if missing:
        yield f"instruction {min(missing)!r} is no node of the plan"


def _order_problems(plan: PlanData, known: set[str]) -> Iterator[str]:
    """The inference runs every digital node and block once, each after what it reads."""
    left: dict[tuple[str, str | int | None], Instruction | EnergyBlock] = {}
    left |= {("digital", i.name): i for segment in plan.segments for i in segment.program.instructions}
    left |= {("free", block.id): block for block in plan.blocks}
    for step in plan.inference.steps:
        if step.kind not in {"digital", "free"}:
            continue
        runner = left.pop((step.kind, step.name if step.kind == "digital" else step.block), None)
        if runner is None or runner.name != step.name:
            yield f"step {step.id} runs {step.name!r}, which is unknown or has run already"
            return
        for value in runner.inputs:
            if value and value not in known:
                yield f"step {step.id} ({step.name}) reads {value!r} before it is made"
        known.update(runner.outputs)
    if left:
        yield f"no step runs {min(str(runner.name) for runner in left.values())!r}"
    for port in plan.outputs:
        if port.name not in known:
            yield f"output {port.name!r} is never made"


def _tile_problems(plan: PlanData) -> Iterator[str]:
    seen: set[int] = set()
    for tile in plan.tiles:
        if tile.id in seen or not 0 <= tile.id < plan.hardware.tiles.count:
            yield f"tile {tile.id} is not one of the machine's {plan.hardware.tiles.count} tiles, each once"
        seen.add(tile.id)
        yield from _overlaps(tile)
    cells: dict[str, int] = {}
    parts: dict[tuple[str, int], list[Piece]] = {}
    for position, (tile, piece) in enumerate(sorted(plan.pieces(), key=lambda pair: pair[1].id)):
        if piece.id != position:
            yield f"piece {piece.id} stands at position {position}"
        yield from _piece_problems(plan, tile, piece)
        cells[piece.weight] = cells.get(piece.weight, 0) + piece.n_in * piece.n_out
        parts.setdefault((piece.weight, piece.group), []).append(piece)
    for (weight, group), held in parts.items():
        inside = tuple(map(_in_matrix, held))
        matrix = TilePlan(id=group, kind="exact", rows=1, cols=1, dac_bits=0, adc_bits=0, pieces=inside)
        if any(True for _ in _overlaps(matrix)):
            yield f"an element of {weight!r} lies on tiles twice"
    for weight, count in cells.items():
        if weight in plan.weights and plan.weights[weight].size != count:
            yield f"{count} of the {plan.weights[weight].size} elements of {weight!r} lie on tiles"
    yield from (problem for _, piece in plan.pieces() for problem in _programming_problems(plan, piece))


def _piece_problems(plan: PlanData, tile: TilePlan, piece: Piece) -> Iterator[str]:
    if piece.weight not in plan.weights:
        yield f"piece {piece.id} holds unknown weight {piece.weight!r}"
    if not piece.scale >= 0:
        yield f"piece {piece.id} has a scale of {piece.scale}"
    if piece.row < 0 or piece.col < 0 or piece.n_in < 1 or piece.n_out < 1:
        yield f"piece {piece.id} has no valid place"
    if piece.row + piece.n_in > tile.rows or piece.col + piece.n_out > tile.cols:
        yield f"piece {piece.id} reaches over the edge of tile {tile.id}"
    if tile.kind == "crossbar":
        yield from _conductance_problems(plan, piece)


def _in_matrix(piece: Piece) -> Piece:
    """A piece placed where it lies in its weight's matrix, to find elements that two pieces hold."""
    return msgspec.structs.replace(piece, row=piece.inputs[0], col=piece.outputs[0])


def _overlaps(tile: TilePlan) -> Iterator[str]:
    """Pieces that share a cell: rows are swept, the pieces open at once kept in order of their columns."""
    events = [(p.row + p.n_in, 0, p) for p in tile.pieces] + [(p.row, 1, p) for p in tile.pieces]
    open_pieces: list[tuple[int, int, Piece]] = []
    for _, opens, piece in sorted(events, key=lambda event: (event[0], event[1], event[2].id)):
        spot = bisect(open_pieces, (piece.col, piece.id), key=lambda entry: entry[:2])
        if not opens:
            del open_pieces[spot - 1]
            continue
        for _, _, other in open_pieces[max(0, spot - 1) : spot + 1]:
            if other.col < piece.col + piece.n_out and piece.col < other.col + other.n_out:
                yield f"pieces {other.id} and {piece.id} overlap on tile {tile.id}"
                return
        open_pieces.insert(spot, (piece.col, piece.id, piece))


def _conductance_problems(plan: PlanData, piece: Piece) -> Iterator[str]:
    if not plan.hardware.tiles.tile.has_cells:
        yield f"piece {piece.id} lies on a crossbar, which {plan.hardware.name} does not have"
        return
    tile = plan.hardware.tiles.tile.crossbar()
    slices = () if tile.slices == 1 else (tile.slices,)
    down = 1 if tile.mapping == "offset" else piece.n_out
    for name, n_out in ((f"piece{piece.id}.plus", piece.n_out), (f"piece{piece.id}.minus", down)):
        array = plan.crossbars.get(name)
        if array is None or array.shape != (*slices, piece.n_in, n_out):
            yield f"conductances {name!r} are missing or of another size"
        elif not (
            array.min() >= tile.cell.g_min.value * 0.999 and array.max() <= tile.cell.g_max.value * 1.001
        ):
            yield f"conductances {name!r} leave the range of the cells"


def _programming_problems(plan: PlanData, piece: Piece) -> Iterator[str]:
    if not plan.hardware.tiles.tile.has_cells:
        return
    tile = plan.hardware.tiles.tile.crossbar()
    linears = (i.linear for block in plan.blocks for _, i in block.interactions() if i.linear is not None)
    linear = next((linear for linear in linears if linear.weight == piece.weight), None)
    if linear is None or piece.weight not in plan.weights:
        yield f"piece {piece.id} holds {piece.weight!r}, which no block uses"
        return
    held = ((name, plan.crossbars.get(f"piece{piece.id}.{name}")) for name in PROGRAMMED)
    stored = {name: array for name, array in held if array is not None}
    try:
        settings = {name: getattr(piece, name) for name in ("scale", "adc_range", "adc_range_t")}
        matrix = to_matrix(linear, plan.weights[piece.weight])
        wrong = next(programming_problems(matrix, piece, tile, stored, settings), None)
    except (IndexError, ValueError, TypeError, ZeroDivisionError) as error:
        yield f"piece {piece.id} is no part of {piece.weight!r} ({error})"
        return
    if wrong is not None:
        yield f"{wrong} of piece {piece.id} is not what {piece.weight!r} says"
