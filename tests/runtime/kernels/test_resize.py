import numpy as np
import pytest
import torch

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.errors import ModelError
from tests.models import Builder, as_tuple, oracle, random_feeds, relative_error, tensors


@pytest.mark.parametrize(
    ("size", "scale", "mode", "place"),
    [
        (20, 0.7, "nearest", "half_pixel"),  # 0.7 in single precision is a little less, and 20 of it are 14
        (20, 0.35, "linear", "half_pixel"),
        (10, 1.3, "linear", "asymmetric"),
        (6, 1.6, "nearest", "asymmetric"),  # 8 / 1.6 is 5
        (15, 1.6, "nearest", "asymmetric"),
        (21, 0.6, "nearest", "half_pixel"),
    ],
)
def test_sizes_and_places_are_those_of_single_precision(
    size: int, scale: float, mode: str, place: str
) -> None:
    b = Builder()
    scales = b.constant(np.array([1, 1, scale, scale], np.float32))
    attrs = {"mode": mode, "nearest_mode": "floor", "coordinate_transformation_mode": place}
    model = b.model(b.node("Resize", b.input("x", 1, 1, size, size), "", scales, **attrs))
    feeds = random_feeds(model)
    found = as_tuple(Executor(compile_plan(model, hardware="ideal"))(**tensors(feeds)))
    assert relative_error(found, oracle(model, feeds)) < 1e-5


def test_places_that_are_unknown_are_refused() -> None:
    b = Builder()
    scales = b.constant([1.0, 1.0, 2.0, 2.0])
    y = b.node(
        "Resize", b.input("x", 1, 1, 2, 2), "", scales, name="r", coordinate_transformation_mode="middle"
    )
    with pytest.raises(ModelError) as caught:
        Executor(compile_plan(b.model(y), hardware="ideal"))(torch.zeros(1, 1, 2, 2))
    assert "Resize: attribute coordinate_transformation_mode is 'middle'; one of half_pixel, " in str(
        caught.value
    )
