import pytest
import torch

from ffebm.training.data.augment import augmented


def ramp(n: int = 200) -> torch.Tensor:
    """Every pixel of an image tells its row and column, every channel its number."""
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    return (rows * 10 + columns).expand(n, 2, 6, 6) + 100 * torch.arange(2)[:, None, None]


def test_every_image_is_a_shifted_and_perhaps_mirrored_one() -> None:
    x = ramp()
    found = augmented(x, True, 2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x[:1].double(), (2, 2, 2, 2), mode="replicate")[0].long()
    crops = [padded[:, i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
    candidates = torch.stack([*crops, *(crop.flip(2) for crop in crops)])
    same = (found[:, None] == candidates).flatten(2).all(2)
    assert bool(same.any(1).all())
    seen = same.float().argmax(1)
    assert len(set(seen.tolist())) > 40  # of 50
    mirrored = same[:, 25:].any(1) & ~same[:, :25].any(1)
    assert 70 < int(mirrored.sum()) < 130


def test_without_a_flip_nothing_is_mirrored() -> None:
    found = augmented(ramp(50), False, 2, torch.Generator().manual_seed(0))
    assert bool((found.diff(dim=3) >= 0).all())


def test_without_a_crop_nothing_is_shifted() -> None:
    x = ramp(50)
    found = augmented(x, True, 0, torch.Generator().manual_seed(0))
    is_same, is_mirrored = ((found == y).flatten(1).all(1) for y in (x, x.flip(3)))
    assert bool((is_same ^ is_mirrored).all())
    assert 0 < int(is_same.sum()) < 50


def test_nothing_asked_for_draws_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    x = ramp(3)
    assert augmented(x, False, 0, generator) is x
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_seed_decides(kind: torch.dtype) -> None:
    x = ramp(20).to(kind)
    first, again, other = (augmented(x, True, 2, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.dtype == kind
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
