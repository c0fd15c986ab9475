import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from ffebm.plan.tensor_file import _NAMES, OTHER_TYPES, TYPES, pack, storable, unpack

PLAIN = ["bool", "int8", "uint16", "float16", "float64", "uint64"]


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
@pytest.mark.parametrize("name", [*OTHER_TYPES, *PLAIN, "bfloat16"])
def test_every_element_type_comes_back(name: str, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    array = np.ones(shape, np.float32).astype(dtype)
    assert storable(array)
    back = unpack(pack({"w": array, "other": np.arange(3)}))
    assert back["w"].dtype == dtype
    assert back["w"].shape == shape
    assert back["w"].tobytes() == array.tobytes()
    assert back["other"].tolist() == [0, 1, 2]


def test_plain_types_are_a_plain_file() -> None:
    arrays = {"w": np.ones(3, np.float32)}
    assert pack(arrays) == safetensors.numpy.save(arrays)


def test_texts_are_not_stored() -> None:
    assert not storable(np.array(["a"], object))
    assert not storable(np.array(["a"]))


@pytest.mark.parametrize(
    ("types", "found"),
    [
        ("no JSON", "are no element types"),
        ("[1]", "are no element types"),
        ('{"w": 3}', "are no element types"),
        ('{"v": "int4"}', "'v' cannot be of type 'int4'"),
        ('{"w": "object"}', "'w' cannot be of type 'object'"),
        ('{"w": "complex64"}', "'w' has no whole elements of type 'complex64'"),
    ],
)
def test_metadata_that_contradict_the_arrays(types: str, found: str) -> None:
    data = safetensors.numpy.save({"w": np.zeros((2, 1), np.uint8)}, {TYPES: types})
    with pytest.raises(safetensors.SafetensorError, match=found):
        unpack(data)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        st.tuples(st.sampled_from(sorted(map(str, _NAMES))), st.lists(st.integers(0, 3), max_size=3)),
        max_size=6,
    )
)
def test_the_bytes_are_those_of_the_packages_own_writer(kinds: dict[str, tuple[str, list[int]]]) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.integers(0, 2, (*shape, 2)).astype(np.dtype(dtype)).swapaxes(0, -1)
        for name, (dtype, shape) in kinds.items()
    }
    assert pack(arrays) == safetensors.numpy.save({n: np.ascontiguousarray(a) for n, a in arrays.items()})
