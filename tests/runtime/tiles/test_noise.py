import math

import pytest
import torch

from ffebm.runtime.tiles.noise import normals, read_normals

N = 2_000_000


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def drawn() -> torch.Tensor:
    return read_normals((N,), torch.zeros(()), source()).double()


@pytest.mark.parametrize(("power", "moment"), [(1, 0.0), (2, 1.0), (3, 0.0), (4, 2.9992), (6, 14.97)])
def test_moments_of_read_noise(drawn: torch.Tensor, power: int, moment: float) -> None:
    even = math.prod(range(1, 4 * power, 2))  # the moment of the squares bounds the error of the mean
    assert abs(float(drawn.pow(power).mean()) - moment) < 4.5 * math.sqrt(even / N)


def test_read_noise_is_normally_distributed(drawn: torch.Tensor) -> None:
    """Kolmogorov's statistic at a level of one in a thousand."""
    ranks = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    assert float((torch.special.ndtr(drawn.sort().values) - ranks).abs().max()) < 1.95 / math.sqrt(N)
    assert float(drawn.abs().max()) == pytest.approx(4.325, abs=1e-3)


@pytest.mark.parametrize("lag", range(1, 9))
def test_numbers_of_one_word_and_of_two_are_independent(drawn: torch.Tensor, lag: int) -> None:
    for power in (1, 2):
        values = drawn.pow(power) - drawn.pow(power).mean()
        together = float((values[lag:] * values[:-lag]).mean() / values.var())
        assert abs(together) < 4.5 / math.sqrt(N)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5), (0,), (4, 0, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = read_normals(shape, torch.zeros(1, dtype=dtype), source())
    assert found.shape == shape
    assert found.dtype == dtype
    assert found.isfinite().all()


def test_a_seed_gives_the_same_numbers() -> None:
    like = torch.zeros(1)
    for draw in (normals, read_normals):
        first, second, other = (draw((1000,), like, source(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
    # the next numbers of one source are others
    generator = source(1)
    assert not torch.equal(read_normals((1000,), like, generator), read_normals((1000,), like, generator))
