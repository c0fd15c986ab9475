import pytest

from ffebm.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 🦉👩‍💻 ünï <b>", "plain 🦉👩‍💻 ünï <b>"),
        ("a\nb\tc\r\x1b[31m\x00\x7f", "a␊b␉c␍␛[31m␀␡"),
        ("rtl \u202e, line \u2028, \x85", "rtl ⟨202E⟩, line ⟨2028⟩, ⟨0085⟩"),
        ("\ud800", "⟨D800⟩"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
