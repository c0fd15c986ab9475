import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.graph.energy_block import Linear
from ffebm.runtime.blocks.projection import ExactProjection, weight_grad

F64 = torch.float64


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Linear, tuple[int, ...], tuple[int, ...]]:
    """A (transposed) convolution with its weight shape and an input shape without the batch."""
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 2]))
    few = st.integers(1, 3)
    kernel = tuple(draw(few) for _ in range(rank))
    strides = tuple(draw(few) for _ in range(rank))
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    pads = tuple(draw(st.integers(0, min(2, kernel[i % rank]))) for i in range(2 * rank))
    sizes = tuple(draw(st.integers(6, 8)) for _ in range(rank))
    n_in, n_out = groups * draw(few), groups * draw(few)
    if draw(st.booleans()):
        linear = Linear("Conv", "w", None, strides, pads, dilations, groups)
        return linear, (n_out, n_in // groups, *kernel), (n_in, *sizes)
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
    linear = Linear("ConvTranspose", "w", None, strides, pads, dilations, groups, extra)
    return linear, (n_in, n_out // groups, *kernel), (n_in, *sizes)


@settings(max_examples=60, derandomize=True)
@given(convolutions())
def test_both_directions_and_the_outer_product_belong_to_one_matrix(
    drawn: tuple[Linear, tuple[int, ...], tuple[int, ...]],
) -> None:
    linear, weight_shape, shape = drawn
    torch.manual_seed(0)
    w = torch.randn(weight_shape, dtype=F64, requires_grad=True)
    z = torch.randn(2, *shape, dtype=F64)
    projection = ExactProjection(linear)
    forward = projection.product(z, w)
    y = torch.randn_like(forward)
    product = (y * forward).sum()
    back = projection.product_t(y, w, shape)
    torch.testing.assert_close((back * z).sum(), product)
    (expected,) = torch.autograd.grad(product, w)
    torch.testing.assert_close(weight_grad(linear, z, y, w.detach()), expected)


def test_a_convolution_with_uneven_pads_is_one_of_a_padded_input() -> None:
    z, w = torch.randn(2, 3, 6, 7, dtype=F64), torch.randn(4, 3, 3, 2, dtype=F64)
    linear = Linear("Conv", "w", None, (2, 1), (0, 1, 2, 0), (1, 2))
    expected = torch.nn.functional.conv2d(
        torch.nn.functional.pad(z, (1, 0, 0, 2)), w, None, (2, 1), 0, (1, 2)
    )
    torch.testing.assert_close(ExactProjection(linear).product(z, w), expected)


def test_a_transposed_convolution_is_that_of_torch() -> None:
    z, w = torch.randn(2, 3, 4, 5, dtype=F64), torch.randn(3, 2, 3, 3, dtype=F64)
    linear = Linear("ConvTranspose", "w", None, (2, 2), (1, 1, 1, 1), (1, 1), 1, (1, 0))
    expected = torch.nn.functional.conv_transpose2d(z, w, None, 2, 1, (1, 0))
    torch.testing.assert_close(ExactProjection(linear).product(z, w), expected)


def test_a_transposed_convolution_with_more_output_padding_than_torch_takes() -> None:
    """Zeros behind what the windows reach, where torch wants less than a stride."""
    z, w = torch.randn(2, 3, 4, 5, dtype=F64), torch.randn(3, 2, 3, 3, dtype=F64)
    linear = Linear("ConvTranspose", "w", None, (2, 2), (1, 1, 1, 1), (1, 1), 1, (3, 2))
    whole = torch.nn.functional.conv_transpose2d(z, w, None, 2)
    expected = torch.nn.functional.pad(whole, (-1, 2 - 1, -1, 3 - 1))
    found = ExactProjection(linear).product(z, w)
    torch.testing.assert_close(found, expected)
    y = torch.randn_like(found)
    back = ExactProjection(linear).product_t(y, w, (3, 4, 5))
    torch.testing.assert_close((back * z).sum(), (y * found).sum())


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_a_matrix_acts_on_the_last_axis(transposed: bool, shape: tuple[int, ...]) -> None:
    w = torch.randn(5, 4, dtype=F64) if transposed else torch.randn(4, 5, dtype=F64)
    linear = Linear("MatMul", "w", transposed=transposed)
    z, projection = torch.randn(2, *shape, dtype=F64), ExactProjection(linear)
    forward = projection.product(z, w)
    torch.testing.assert_close(forward, z @ (w.t() if transposed else w))
    y = torch.randn_like(forward)
    torch.testing.assert_close((projection.product_t(y, w, shape) * z).sum(), (y * forward).sum())
    torch.testing.assert_close((weight_grad(linear, z, y, w) * w).sum(), (y * forward).sum())
