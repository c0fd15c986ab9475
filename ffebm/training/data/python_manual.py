"""Python's own language reference, which every interpreter has for `help()`, as characters to predict."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ffebm.errors import UsageError
from ffebm.training.data.samples import Data, tensors

CONTEXT = 64
"""Characters a sample."""
HELD_OUT = 10
"""One part in so many, the end of the text, is the test."""


@dataclass(frozen=True)
class Text:
    """A text as numbers.

    Attributes:
        text: All of it.
        alphabet: Its characters in the order of their numbers.
    """

    text: str
    alphabet: str

    @property
    def digest(self) -> str:
        """Of the text: what figures are figures of."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def manual() -> Text:
    """The topics of `help()` in their alphabetical order; a paragraph that occurs in several stands once.

    Raises:
        UsageError: If the interpreter comes without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UsageError(
            "this Python comes without the topics of help()", hint="they are in its standard library"
        ) from None
    paragraphs: dict[str, str] = {}
    for name in sorted(topics):
        for paragraph in topics[name].split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph)
    text = "\n\n".join(paragraphs.values())
    return Text(text, "".join(sorted(set(text))))


def python_manual() -> Data:
    """Stretches of `CONTEXT` characters, and for each character the one that follows it; no two overlap.

    Raises:
        UsageError: If the interpreter comes without it.
    """
    source = manual()
    numbers = {character: number for number, character in enumerate(source.alphabet)}
    codes = np.array([numbers[character] for character in source.text], np.int64)
    samples = (len(codes) - 1) // CONTEXT
    x = codes[: samples * CONTEXT].reshape(samples, CONTEXT)
    y = codes[1 : samples * CONTEXT + 1].reshape(samples, CONTEXT)
    kept = samples - samples // HELD_OUT
    return tensors("python-manual", (x[:kept], y[:kept]), (x[kept:], y[kept:]))
