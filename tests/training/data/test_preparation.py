import math

import pytest
import torch
from msgspec.structs import replace

from ffebm.errors import UsageError
from ffebm.training.data import Data
from ffebm.training.data.preparation import preparation
from ffebm.training.settings import Training

TRAINING = Training(data="made up")


def images(channels: int = 3, side: int = 4) -> Data:
    x = torch.randint(0, 256, (5, channels, side, side), generator=torch.Generator().manual_seed(0)).byte()
    return Data("made up", x, torch.zeros(5).long(), x[:2], torch.zeros(2).long())


def test_bytes_become_numbers_of_mean_and_standard_deviation() -> None:
    data = images()
    prepare = preparation(replace(TRAINING, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0)), data)
    found = prepare(data.x_train)
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (1.0, 2.0, 4.0), strict=True)):
        expected = (data.x_train[:, channel].float() / 255 - mean) / std
        assert torch.allclose(found[:, channel], expected)


def test_numbers_stay_as_they_are() -> None:
    data = images()
    x = torch.randn(5, 7)
    assert torch.equal(preparation(TRAINING, Data("d", x, data.y_train, x, data.y_train))(x), x)


def test_only_training_images_are_augmented() -> None:
    data = images()
    prepare = preparation(replace(TRAINING, flip=True, crop=1), data)
    assert torch.equal(prepare(data.x_train), data.x_train.float() / 255)
    changed = prepare(data.x_train, torch.Generator().manual_seed(0))
    assert not torch.equal(changed, data.x_train.float() / 255)


def test_dither_is_normal_noise_before_the_scale_is_changed() -> None:
    data = images(side=32)
    plain, dithered = (
        preparation(replace(TRAINING, mean=(0.5,), std=(2.0,), dither=dither), data) for dither in (0.0, 0.1)
    )
    noise = 2.0 * (dithered(data.x_train, torch.Generator().manual_seed(1)) - plain(data.x_train))
    assert float(noise.mean()) == pytest.approx(0, abs=0.005)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.03)
    drawn = torch.randn(data.x_train.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(noise, 0.1 * drawn, rtol=0, atol=1e-6)


def test_the_dither_of_a_test_is_that_of_the_seed() -> None:
    data = images()
    once, again, other = (
        preparation(replace(TRAINING, dither=0.1, seed=seed), data)(data.x_test) for seed in (3, 3, 4)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_whole_numbers_take_no_dither() -> None:
    data = images()
    with pytest.raises(UsageError) as caught:
        preparation(replace(TRAINING, dither=0.1), data, torch.int64)
    assert str(caught.value) == "the model takes int64\n  hint: leave --dither out"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mean": (0.1, 0.2)}, "2 numbers in mean; one, or one a channel of samples [3, 4, 4]"),
        ({"std": (1.0, 0.0, 1.0)}, "std is [1.0, 0.0, 1.0]; finite numbers above 0"),
        ({"std": (1.0, math.inf, 1.0)}, "std is [1.0, inf, 1.0]; finite numbers above 0"),
        ({"std": (math.nan,)}, "std is [nan]; finite numbers above 0"),
        ({"mean": (0.0, -math.inf, 1.0)}, "mean is [0.0, -inf, 1.0]; finite numbers"),
        ({"crop": -1}, "crop is -1; at least 0"),
        ({"dither": -0.1}, "dither is -0.1; a finite number of at least 0"),
        ({"dither": math.nan}, "dither is nan; a finite number of at least 0"),
    ],
)
def test_wrong_settings(change: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        preparation(replace(TRAINING, **change), images())
    assert str(caught.value) == expected


def test_only_images_are_augmented() -> None:
    x = torch.zeros(5, 7)
    with pytest.raises(UsageError) as caught:
        preparation(replace(TRAINING, flip=True), Data("rows", x, x[:, 0].long(), x, x[:, 0].long()))
    assert str(caught.value) == (
        "a sample of rows is [7], no image [channels, height, width]\n  hint: leave --flip and --crop out"
    )


def test_small_images_are_padded_and_their_channel_repeated() -> None:
    data = images(channels=1)
    shaped = data.shaped((3, 7, 6), pad=True)
    assert tuple(shaped.x_train.shape) == (5, 3, 7, 6)
    inner = shaped.x_train[:, :, 1:5, 1:5]
    assert torch.equal(inner, data.x_train.expand(-1, 3, -1, -1))
    assert int(shaped.x_train.long().sum()) == 3 * int(data.x_train.long().sum())
    assert shaped.x_train.untyped_storage().nbytes() == 5 * 7 * 6  # the repeated channel takes no memory


@pytest.mark.parametrize("sample", [(3, 3, 4), (2, 4, 4), (7,), (3, "n", 5)])
def test_images_that_cannot_be_padded(sample: tuple[int | str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        images().shaped(sample, pad=True)
    assert str(caught.value) == (
        f"a sample of made up is [3, 4, 4]; the model takes {list(sample)}\n"
        "  hint: pad or resize the data, or compile a model for it"
    )
