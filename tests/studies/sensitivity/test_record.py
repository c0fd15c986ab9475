import math

import pytest
import torch

from ffebm.errors import UsageError
from ffebm.studies.sensitivity.record import packed, unpacked


@pytest.mark.parametrize("shape", [(2, 3, 4), (6, -1)])
def test_what_is_packed_is_unpacked(shape: tuple[int, ...]) -> None:
    values = torch.arange(24.0)
    assert torch.equal(unpacked(packed(values), *shape), values.reshape(shape))


@pytest.mark.parametrize("held", [b"", b"abc", packed(torch.zeros(23))])
@pytest.mark.parametrize("shape", [(2, 3, 4), (6, -1)])
def test_logits_of_another_size(held: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        unpacked(held, *shape)
    assert str(caught.value) == (
        f"the record of the study holds {len(held)} bytes of logits, which do not fit its setup\n"
        "  hint: name another file with -o, or delete this one"
    )


def test_logits_that_are_no_numbers() -> None:
    with pytest.raises(UsageError, match="holds logits that are no numbers"):
        unpacked(packed(torch.tensor([0.0, math.nan])), 2)
