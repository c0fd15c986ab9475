import pytest

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors


@pytest.mark.parametrize("opset", [18, 20, 21])
@pytest.mark.parametrize(("channels", "groups"), [(6, 3), (4, 1)])
def test_group_normalization_of_every_opset(opset: int, channels: int, groups: int) -> None:
    """Until opset 21, which has another meaning of scale and bias, it is marked as deprecated."""
    b = Builder()
    count = groups if opset < 21 else channels
    x = b.input("x", 2, channels, 3, 3)
    y = b.node("GroupNormalization", x, b.weight(count), b.weight(count), num_groups=groups, epsilon=1e-2)
    model = b.model(y, opset=opset)
    feeds = random_feeds(model)
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert relative_error(found, oracle(model, feeds)) < 1e-6


def test_an_op_that_is_gone_for_good_is_refused() -> None:
    b = Builder()
    scales = b.constant([1.0, 1.0, 2.0, 2.0])
    model = b.model(b.node("Upsample", b.input("x", 1, 1, 2, 2), scales, name="up"), opset=9)
    model.opset_import[0].version = 11
    with pytest.raises(ModelError) as caught:
        compile_plan(model, hardware="ideal")
    assert str(caught.value) == "model:up: opset 11 has no op Upsample"
