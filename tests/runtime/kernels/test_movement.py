import numpy as np
import pytest

from ffebm import Executor
from ffebm import compile as compile_plan
from tests.models import Builder, as_tuple, oracle, random_feeds, tensors


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("start", "end"), [(-6, -7), (-9, -20), (7, -20), (3, -9), (-1, 0), (0, -6), (-7, 2)]
)
@pytest.mark.parametrize("step", [-2, -1, 1, 2])
def test_slices_beyond_the_ends(start: int, end: int, step: int, *, constant: bool) -> None:
    """Backwards, ONNX begins at the first element where Python begins before it, and takes nothing."""
    b = Builder()
    x = b.input("x", 5, 2)
    source = b.constant(np.arange(10, dtype=np.float32).reshape(5, 2)) if constant else x
    cut = b.node("Slice", source, *(b.constant(np.array([n], np.int64)) for n in (start, end, 0, step)))
    model = b.model(b.node("ReduceSum", b.node("Concat", cut, x, axis=0), keepdims=0))
    feeds = random_feeds(model)
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert np.allclose(found[0], oracle(model, feeds)[0])
