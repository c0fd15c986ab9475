import math

import pytest
import torch

from ffebm.errors import Location, ModelError, UsageError
from ffebm.limits import Limit, as_number

LIMIT = Limit("FFEBM_MAX_THINGS", 1000, "things")


def test_the_environment_raises_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (LIMIT.value, LIMIT.allowed) == (1000, "at most 1,000 things")
    LIMIT.check(1000, "1,000 things")
    with pytest.raises(ModelError) as caught:
        LIMIT.check(1001, "1,001 things", Location("m.onnx", "n"))
    assert str(caught.value) == (
        "m.onnx:n: 1,001 things; at most 1,000 things\n"
        "  hint: if that is meant, set the environment variable FFEBM_MAX_THINGS to a larger number"
    )
    monkeypatch.setenv("FFEBM_MAX_THINGS", "2000")
    LIMIT.check(1001, "1,001 things")


@pytest.mark.parametrize("text", ["0", "-1", "1e3", "many", "٣", "9" * 30])
def test_what_is_no_bound(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFEBM_MAX_THINGS", text)
    with pytest.raises(UsageError) as caught:
        LIMIT.check(1, "a thing")
    assert str(caught.value) == f"FFEBM_MAX_THINGS={text!r}; a whole number of at least 1"


def test_what_is_a_number() -> None:
    assert [as_number(value) for value in (1, 0.5, torch.tensor(2.0), True)] == [1.0, 0.5, 2.0, 1.0]
    for value in ("1", b"1", None, [1.0], torch.ones(2), 1j):
        assert math.isnan(as_number(value))
