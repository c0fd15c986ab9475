import pytest

from ffebm.patterns import Patterns


@pytest.mark.parametrize(
    ("asked", "name", "meant"),
    [
        ("fc.*", "fc.weight", True),
        ("fc.*", "xfc.weight", False),
        ("a?", "ab", True),
        ("a?", "abc", False),
        ("a[0]", "a[0]", True),
        ("a[0]", "a0", False),
        ("a[0].*", "a[0].weight", True),
        ("A*", "ab", False),
        ("a*", "a*", True),
    ],
)
def test_names(asked: str, name: str, meant: bool) -> None:
    assert (name in Patterns([asked])) is meant


def test_nothing_is_asked_for() -> None:
    assert "a" not in Patterns([])
