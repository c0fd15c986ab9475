from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from ffebm.compiler.driver import compile_model
from ffebm.plan.conductance import to_matrix
from tests.machines import crossbars
from tests.models import random_models


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    model=random_models(10),
    count=st.integers(1, 40),
    rows=st.integers(2, 40),
    cols=st.integers(1, 40),
    block_size=st.integers(1, 3),
)
def test_every_element_of_a_placed_weight_lies_somewhere_once_a_replica(
    model: ModelProto, count: int, rows: int, cols: int, block_size: int
) -> None:
    plan = compile_model(model, hardware=crossbars(count, rows, cols), block_size=block_size)
    elements: Counter[tuple[str, int, int, int, int]] = Counter()
    cells: Counter[tuple[int, int, int]] = Counter()
    for tile, piece in plan.pieces():
        for i, n_in in enumerate(range(*piece.inputs)):
            for o, n_out in enumerate(range(*piece.outputs)):
                elements[piece.weight, piece.replica, piece.group, n_out, n_in] += 1
                cells[tile.id, piece.row + i, piece.col + o] += 1
    copies = {p.weight: 1 + p.replica for _, p in sorted(plan.pieces(), key=lambda held: held[1].replica)}
    linears = [i.linear for block in plan.blocks for _, i in block.interactions() if i.linear]
    expected = {
        (linear.weight, replica, group, n_out, n_in)
        for linear in linears
        for replica in range(copies[linear.weight])
        for groups, outs, ins in [to_matrix(linear, plan.weights[linear.weight]).shape]
        for group in range(groups)
        for n_out in range(outs)
        for n_in in range(ins)
    }
    assert set(elements) == expected
    assert set(elements.values()) <= {1}
    assert set(cells.values()) <= {1}
    assert all(0 <= t < count and 0 <= r < rows and 0 <= c < cols for t, r, c in cells)
