"""What a schedule treats as one."""

from ffebm.plan.schema import Options
from ffebm.scheduling.items import items_of
from tests.models import Builder
from tests.scheduling.graphs import placed, two_convolutions


def test_a_block_is_one_item_and_so_is_a_digital_node() -> None:
    graph = placed(two_convolutions())
    items = items_of(graph)
    assert [item.position for item in items] == list(range(len(items)))
    blocks = [item for item in items if item.block is not None]
    assert [item.block for item in blocks] == graph.blocks
    assert sorted(n.name for item in items for n in item.nodes) == sorted(n.name for n in graph.nodes)
    assert all(len(item.nodes) == 1 for item in items if item.block is None)
    assert blocks[0].reads == ["x"]
    assert blocks[0].makes == blocks[1].reads


def test_layers_of_one_block_are_one_item() -> None:
    (pair, *_) = items_of(placed(two_convolutions(), options=Options(block_size=2, replicas=1)))
    assert pair.block is not None
    assert len(pair.block.layers) == 2
    assert {node.op for node in pair.nodes} >= {"Conv", "Relu"}


def test_each_stands_behind_what_it_reads() -> None:
    """Also where a digital node between two layers makes what the later one adds."""
    b = Builder()
    x = b.input("x", 1, 2, 4, 4)
    left = b.node("Relu", b.conv(x, 2, 2))
    right = b.node("Softmax", left, axis=1)
    y = b.node("Relu", b.node("Add", b.conv(left, 2, 2), b.conv(right, 2, 2)))
    items = items_of(placed(b.model(y)))
    made = {"x"}
    for item in items:
        assert set(item.reads) <= made
        made |= set(item.makes)
    assert y in made


def test_a_block_stands_where_its_last_input_is_made() -> None:
    """Behind a digital node that comes later in the model than the block's first layer."""
    b = Builder()
    x = b.input("x", 1, 2, 4, 4)
    y = b.conv(b.node("Relu", b.conv(x, 2, 2)), 2, 2)
    late = b.node("Softmax", x, axis=1)
    graph = placed(b.model(b.node("Relu", b.node("Add", y, late))), options=Options(block_size=2, replicas=1))
    assert graph.nodes[0].block is not None
    softmax, block = items_of(graph)
    assert softmax.makes == [late]
    assert block.block is not None
    assert late in block.reads
