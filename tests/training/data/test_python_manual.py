import builtins
from typing import Any

import pytest
import torch

from ffebm.errors import UsageError
from ffebm.training.data import load_data
from ffebm.training.data.python_manual import CONTEXT, HELD_OUT, manual


def test_each_character_is_followed_by_the_next_one() -> None:
    data, source = load_data("python-manual"), manual()
    x, y = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    samples = (len(source.text) - 1) // CONTEXT
    assert (tuple(x.shape), x.dtype, y.dtype) == ((samples, CONTEXT), torch.int64, torch.int64)
    assert len(data.x_test) == samples // HELD_OUT
    read = "".join(source.alphabet[code] for code in x.flatten().tolist())
    assert source.text.startswith(read)
    assert torch.equal(x.flatten()[1:], y.flatten()[:-1])


def test_no_paragraph_stands_twice() -> None:
    source = manual()
    paragraphs = [" ".join(p.split()) for p in source.text.split("\n\n")]
    assert len(source.text) > 100_000
    assert len(set(paragraphs)) >= len(paragraphs) - 1  # what only blank lines part joins up
    assert len(source.digest) == 16
    assert source == manual()


def test_a_python_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "pydoc_data.topics":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match="comes without the topics of help"):
        load_data("python-manual")
