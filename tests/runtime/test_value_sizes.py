"""What a few bytes ask for is refused before memory is taken; what fits is computed."""

import pytest
import torch

from ffebm.errors import ModelError
from ffebm.runtime.kernels import Call, kernel_of
from tests.models import as_tuple

LARGE = 2**16
IMAGE = torch.ones(1, 1, 2, 2)
LARGEST = "at most 2,147,483,648 elements of one value"
HINT = "if that is meant, set the environment variable FFEBM_MAX_VALUE_ELEMENTS to a larger number"


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("op", "attrs", "inputs"),
    [
        ("Expand", {}, (torch.ones(1), numbers(LARGE, LARGE))),
        ("Tile", {}, (torch.ones(1, 1), numbers(LARGE, LARGE))),
        ("Pad", {}, (torch.ones(1, 1), numbers(0, 0, LARGE - 1, LARGE - 1))),
        ("CenterCropPad", {}, (torch.ones(1, 1), numbers(LARGE, LARGE))),
        ("ConstantOfShape", {}, (numbers(LARGE, LARGE),)),
        ("Range", {}, (torch.tensor(0), torch.tensor(LARGE**2), torch.tensor(1))),
        ("OneHot", {}, (numbers(0), torch.tensor(LARGE**2), torch.tensor([0.0, 1.0]))),
        ("RandomNormal", {"shape": (LARGE, LARGE)}, ()),
        ("RandomUniform", {"shape": (LARGE, LARGE)}, ()),
        ("Multinomial", {"sample_size": LARGE**2}, (torch.ones(1, 2),)),
        ("Resize", {}, (IMAGE, None, None, numbers(1, 1, LARGE, LARGE))),
        ("Resize", {"mode": "linear"}, (IMAGE, None, torch.tensor([1.0, 1.0, LARGE / 2, LARGE / 2]))),
        ("AffineGrid", {}, (torch.ones(1, 2, 3), numbers(1, 1, LARGE, LARGE // 2))),
        (
            "RoiAlign",
            {"output_height": LARGE, "output_width": LARGE},
            (IMAGE, torch.ones(1, 4), numbers(0)),
        ),
        ("MaxUnpool", {"kernel_shape": (2, 2)}, (IMAGE, numbers(0), numbers(1, 1, LARGE, LARGE))),
        (
            "MaxUnpool",
            {"kernel_shape": (2, 2), "strides": (LARGE - 2, LARGE - 2)},
            (IMAGE, numbers(0, 1, 2, 3)),
        ),
        ("ConvTranspose", {"strides": (LARGE - 1, LARGE - 1)}, (IMAGE, torch.ones(1, 1, 1, 1))),
        ("ConvTranspose", {"output_shape": (LARGE, LARGE)}, (IMAGE, torch.ones(1, 1, 1, 1))),
        ("Conv", {"pads": (LARGE - 2, LARGE - 2, 0, 0)}, (IMAGE, torch.ones(1, 1, 1, 1))),
        ("MaxPool", {"kernel_shape": (1, 1), "pads": (LARGE - 2, LARGE - 2, 0, 0)}, (IMAGE,)),
        ("Col2Im", {}, (torch.ones(1, 1, 1), numbers(LARGE, LARGE), numbers(1, 1))),
        ("DFT", {"axis": 1}, (torch.ones(1, 2, 1), torch.tensor(LARGE**2))),
        ("HannWindow", {}, (torch.tensor(LARGE**2),)),
        (
            "MelWeightMatrix",
            {},
            tuple(map(torch.tensor, (LARGE, 2 * LARGE - 2, 8000, 0.0, 4000.0))),
        ),
        ("ai.onnx.ml.FeatureVectorizer", {"inputdimensions": (LARGE**2,)}, (torch.ones(1, 2),)),
    ],
)
def test_a_result_larger_than_a_value_may_be(
    op: str, attrs: dict[str, tuple[int, ...]], inputs: tuple[torch.Tensor, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        kernel_of(op)(Call(op, attrs), *inputs)
    assert str(caught.value) == f"{op} makes {LARGE**2:,} elements; {LARGEST}\n  hint: {HINT}"


def test_the_bound_can_be_raised_and_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    tile, twice = kernel_of("Tile"), (torch.ones(2, 2), numbers(2, 1))
    assert torch.equal(as_tuple(tile(Call("Tile"), *twice))[0], torch.ones(4, 2))
    monkeypatch.setenv("FFEBM_MAX_VALUE_ELEMENTS", "7")
    with pytest.raises(ModelError, match="Tile makes 8 elements; at most 7 elements"):
        tile(Call("Tile"), *twice)
