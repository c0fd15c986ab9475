"""What makes its outputs row by row, and what waits for all that it reads."""

from hypothesis import given
from hypothesis import strategies as st

from ffebm.plan.schema import Options
from ffebm.scheduling.items import items_of
from ffebm.scheduling.rows.drive import Reach
from ffebm.scheduling.rows.row_window import sliding
from ffebm.scheduling.streams import Stream, block_stream, fused, streams_of
from tests.machines import continuous
from tests.models import Builder
from tests.scheduling.graphs import REFERENCE, activated_first, placed, two_convolutions


def found_in(model_options: Options | None = None) -> list[tuple[list[str], Stream | None]]:
    graph = placed(two_convolutions(), options=model_options)
    items = items_of(graph)
    return [(i.makes, s) for i, s in zip(items, streams_of(graph, REFERENCE, items, 1).of, strict=True)]


def test_convolutions_stream_and_what_needs_all_rows_does_not() -> None:
    first, second, *rest = found_in()
    for _, stream in (first, second):
        assert stream is not None
        assert (stream.axis, stream.rows) == (2, 8)
    assert rest
    assert all(stream is None for _, stream in rest)


def test_a_row_of_a_convolution_needs_the_rows_of_its_kernel() -> None:
    first, second, *_ = found_in()
    assert second[1] is not None
    (value,) = second[1].reads
    assert [value] == first[0]
    assert second[1].needed(value, (0, 1)) == (0, 2)
    assert second[1].needed(value, (3, 5)) == (2, 6)


def test_bands_take_each_vector_once() -> None:
    first, *_ = found_in()
    assert first[1] is not None
    (drive,) = first[1].drives
    assert drive is not None
    assert [drive.vectors(rows, 8) for rows in ((0, 3), (3, 7), (7, 8))] == [(0, 24), (24, 56), (56, 64)]


def test_pooled_rows_need_the_rows_under_them() -> None:
    """Two rows of a convolution for each of a layer that ends in pooling; the last takes what is left."""
    b = Builder()
    y = b.conv(b.input("x", 1, 2, 9, 9), 2, 4)
    graph = placed(b.model(b.node("Relu", b.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))))
    (block,) = graph.blocks
    stream = block_stream(graph, REFERENCE, block)
    assert stream is not None
    (drive,) = stream.drives
    assert drive is not None
    assert stream.rows == 4
    assert stream.needed("x", (1, 2)) == (1, 5)
    assert [drive.vectors(rows, 4) for rows in ((0, 1), (1, 3), (3, 4))] == [(0, 18), (18, 54), (54, 81)]


@given(kernel=st.integers(1, 4), stride=st.integers(1, 3), pool=st.integers(1, 3), pad=st.integers(0, 2))
def test_rows_are_complete_on_the_way_back_once_no_later_row_needs_them(
    kernel: int, stride: int, pool: int, pad: int
) -> None:
    """Windows over windows, row by row: what the rows that are left need, each for itself."""
    size = 20
    middle = (size + 2 * pad - kernel) // stride + 1
    last = middle - pool + 1
    reach = Reach((sliding(2, middle, pool, 1, 1, 0), sliding(2, size, kernel, stride, 1, pad)))
    for row in range(last + 1):
        needed = [i for later in range(row, last) for i in range(*reach.needed((later, later + 1)))]
        exact = min(needed, default=size)
        assert reach.complete(row, last) <= exact
        assert pad or reach.complete(row, last) == exact  # a window of padding alone needs no row


def test_error_currents_of_rows_that_a_later_window_shares_come_with_it() -> None:
    """Overlapping windows of pooling: the last row under one is the first under the next."""
    b = Builder()
    y = b.conv(b.input("x", 1, 2, 7, 7), 2, 4)
    graph = placed(b.model(b.node("Relu", b.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2]))))
    (block,) = graph.blocks
    stream = block_stream(graph, REFERENCE, block)
    assert stream is not None
    (drive,) = stream.drives
    assert drive is not None
    bands = ((0, 1), (1, 2), (2, 3))
    assert [drive.vectors(rows, 3) for rows in bands] == [(0, 21), (21, 35), (35, 49)]
    assert [drive.returned(rows, 3) for rows in bands] == [(0, 14), (14, 28), (28, 49)]
    # a kernel of three reaches one row further up
    assert [stream.complete("x", behind) for _, behind in bands] == [1, 3, 7]


def test_blocks_of_several_layers_and_circuits_settle_as_a_whole() -> None:
    (_, stream), *_ = found_in(Options(block_size=2, replicas=1))
    assert stream is None
    graph = placed(two_convolutions())
    assert block_stream(graph, REFERENCE, graph.blocks[0]) is not None
    assert block_stream(graph, continuous(REFERENCE), graph.blocks[0]) is None


def test_the_first_axis_is_samples_if_there_are_several() -> None:
    """Rows of a matrix are samples then, which come all at once."""
    b = Builder()
    x = b.input("x", 6, 4)
    graph = placed(b.model(b.node("Softmax", x)))
    items = items_of(graph)
    assert streams_of(graph, REFERENCE, items, 6).of == [None]


# --- what is done in one step ------------------------------------------------------------------------


def test_nodes_that_hand_their_rows_on_are_one_item() -> None:
    """The sum that two read has a step of its own; normalisation is done with what alone reads it."""
    graph = placed(activated_first())
    items = items_of(graph)
    streams = streams_of(graph, REFERENCE, items, 1)
    found, theirs = fused(graph, items, streams)
    ((item, stream),) = [
        (item, stream)
        for item, stream in zip(found, theirs.of, strict=True)
        if item.block is None and len(item.nodes) > 1
    ]
    assert [node.op for node in item.nodes] == ["BatchNormalization", "Relu"]
    assert (item.name, item.reads, item.makes) == (item.nodes[-1].name, ["joined"], ["risen"])
    assert stream is not None
    assert [stream.needed("joined", rows) for rows in ((0, 1), (3, 5))] == [(0, 1), (3, 5)]
    assert [other.position for other in found] == list(range(len(items) - 1))
    assert sorted(n.name for i in found for n in i.nodes) == sorted(n.name for i in items for n in i.nodes)
    assert theirs.axes == streams.axes
    alone, _ = fused(graph, items, streams, [item.nodes[0].name])
    assert alone == items


def test_what_reaches_into_other_rows_has_a_step_of_its_own() -> None:
    """Pooling needs rows beside its own: of a sum, which is with a rectification before it."""
    b = Builder()
    x = b.input("x", 1, 2, 8, 8)
    risen = b.node("Relu", b.node("Add", x, x), out="risen")
    y = b.node("AveragePool", risen, kernel_shape=[3, 3], pads=[1, 1, 1, 1], out="y")
    graph = placed(b.model(b.node("Mul", y, b.node("Sigmoid", y)), y))
    items = items_of(graph)
    found, _ = fused(graph, items, streams_of(graph, REFERENCE, items, 1))
    assert [[node.op for node in item.nodes] for item in found] == [
        ["Add", "Relu"],
        ["AveragePool"],
        ["Sigmoid", "Mul"],
    ]
