import msgspec
import pytest

from ffebm.files.decoded import decoded


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'["\xff"]', "text that is not UTF-8"),
        (b'["a"', "Input data was truncated"),
        (b"[1]", "Expected `str`, got `int`"),
    ],
)
def test_every_fault_is_one_kind_of_error(content: bytes, message: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=message):
        decoded(content, list[str])


def test_a_document() -> None:
    assert decoded(b'["a"]', list[str]) == ["a"]


def test_depth() -> None:
    with pytest.raises(msgspec.DecodeError, match="nested too deeply"):
        decoded(b"[" * 100_000, object)
