"""Text that does what it says: names from a model, made safe to show on one line."""

JOINER = "\u200d"
"""Joins emoji; invisible, and harmless."""


def visible(text: str) -> str:
    """Text with pictures of control characters (␊) and numbers of invisible ones (⟨202E⟩).

    What comes out has no line breaks, no terminal codes and no changes of direction.

    >>> visible("layer" + chr(10) + "one" + chr(0x202E))
    'layer␊one⟨202E⟩'
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """The same for text of several lines, whose line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def _visible(character: str) -> str:
    if character.isprintable() or character == JOINER:
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"⟨{code:04X}⟩"
