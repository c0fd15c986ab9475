import ml_dtypes
import numpy as np
import pytest

from ffebm.graph.tensor import TensorType, holds_floats, same_array


def test_types_as_text() -> None:
    assert str(TensorType("float32", ("N", 3))) == "float32[Nx3]"
    assert str(TensorType("int64", ())) == "int64[]"
    assert str(TensorType("bool")) == "bool[?]"


@pytest.mark.parametrize(
    ("dtype", "floats"),
    [
        (np.float64, True),
        (np.float16, True),
        (ml_dtypes.bfloat16, True),
        (ml_dtypes.float8_e4m3fn, False),
        (np.int8, False),
        (np.complex64, False),
    ],
)
def test_floats(dtype: type, floats: bool) -> None:
    assert holds_floats(np.zeros(1, dtype)) is floats


def test_arrays_are_the_same_by_type_shape_and_elements() -> None:
    held = np.array([1.0, np.nan], np.float32)
    assert same_array(held, held.copy())
    assert same_array(np.array([complex(np.nan, 0)]), np.array([complex(np.nan, 0)]))
    assert same_array(np.array(["a"]), np.array(["a"]))
    for other in (held.astype(np.float64), held.reshape(1, 2), np.array([2.0, np.nan], np.float32)):
        assert not same_array(held, other)
