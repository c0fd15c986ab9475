"""Transforms without a weight: Fourier, windows, mel scale, columns to image, determinants."""

from collections.abc import Sequence
from math import log, log1p, pi, prod

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axis_of, sizes, torch_dtype
from ffebm.runtime.kernels.window import padded, window_of

_CONV_TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def col2im(call: Call, x: Tensor, image_shape: Tensor, block_shape: Tensor) -> Tensor:
    """Adds up blocks, [batch, channels * block, positions], into an image."""
    size, block = sizes(image_shape), sizes(block_shape)
    call.check_size((x.shape[0], x.shape[1] // max(1, prod(block)), *size))
    call.check_size((prod(block), prod(block)))
    window = window_of(call, block, size)
    columns = x.reshape(-1, prod(block), *window.steps(size))
    taps = torch.eye(prod(block), dtype=x.dtype, device=x.device).reshape(-1, 1, *block)
    scatter = _CONV_TRANSPOSE[len(size)]
    y = scatter(columns, taps, stride=window.strides, dilation=window.dilations)
    rest = [n + begin - have for n, begin, have in zip(size, window.begin, y.shape[2:], strict=True)]
    y = padded(y, [-pad for pad in window.begin], rest)
    return y.reshape(x.shape[0], -1, *size)


def det(call: Call, x: Tensor) -> Tensor:
    """Determinant of each matrix."""
    return torch.det(x)


def dft(call: Call, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    """Discrete Fourier transform of numbers that are real (last axis 1) or complex (last axis 2)."""
    along = axis_of(call.integer("axis", -2) if axis is None else int(axis), x.ndim)
    n = None if length is None else int(length)
    call.check_size(n if i == along and n is not None else old for i, old in enumerate(x.shape))
    one_sided, inverse = call.integer("onesided"), call.integer("inverse")
    numbers = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    if one_sided and inverse:
        real: Tensor = torch.fft.irfft(numbers, n, along)
        return real.unsqueeze(-1)
    if one_sided:
        return torch.view_as_real(torch.fft.rfft(numbers, n, along))
    transform = torch.fft.ifft if inverse else torch.fft.fft
    return torch.view_as_real(transform(numbers, n, along))


def stft(
    call: Call, signal: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None
) -> Tensor:
    """Fourier transform of each frame of a signal."""
    whole = signal.shape[1] if window is None else window.shape[0]
    n = whole if length is None else int(length)
    numbers = torch.view_as_complex(signal.contiguous()) if signal.shape[2:] == (2,) else signal.flatten(1)
    frames = numbers.unfold(1, n, int(step))
    frames = frames if window is None else frames * window
    transform = torch.fft.rfft if call.integer("onesided", 1) else torch.fft.fft
    return torch.view_as_real(transform(frames))


def cosine_window(*terms: float) -> Kernel:
    """A kernel for a window that is a sum of cosines with these factors."""

    def kernel(call: Call, size: Tensor) -> Tensor:
        n = int(size)
        call.check_size((n,))
        period = n if call.integer("periodic", 1) else n - 1
        angle = torch.arange(n, dtype=torch.float64, device=size.device) * (2 * pi / period)
        window = sum(factor * torch.cos(i * angle) for i, factor in enumerate(terms))
        return torch.as_tensor(window).to(torch_dtype(call.integer("output_datatype", 1)))

    return kernel


def mel_weight_matrix(call: Call, *inputs: Tensor) -> Tensor:
    """Triangular filters, evenly spaced on the mel scale, from a spectrum to mel bins."""
    n_bins, length, rate, low, high = (x.item() for x in inputs)
    n_bins, length = int(n_bins), int(length)
    call.check_size((n_bins, length // 2 + 1))
    edges = _mel_edges(n_bins, (low, high), length, rate)
    rows = torch.arange(length // 2 + 1)
    columns = []
    for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
        rise = (rows - left) / max(centre - left, 1)
        fall = (right - rows) / max(right - centre, 1)
        column = torch.where((rows >= left) & (rows <= centre), rise, 0)
        column = torch.where(rows == centre, 1.0, column)
        columns.append(torch.where((rows > centre) & (rows < right), fall, column))
    weights = torch.stack(columns, 1).to(inputs[0].device)
    return weights.to(torch_dtype(call.integer("output_datatype", 1)))


def _mel_edges(n_bins: int, hertz: tuple[float, float], length: int, rate: float) -> Sequence[int]:
    """The spectrum bins where the filters begin, peak and end."""
    low, high = (2595 * log1p(edge / 700) / log(10) for edge in hertz)
    mel = low + torch.arange(n_bins + 2, dtype=torch.float64) * ((high - low) / (n_bins + 2))
    back = 700 * torch.expm1(mel / 2595 * log(10))
    return [int(bin_) for bin_ in torch.floor((length + 1) * back / rate).tolist()]


TRANSFORM: dict[str, Kernel] = {
    "BlackmanWindow": cosine_window(0.42, -0.5, 0.08),
    "Col2Im": col2im,
    "DFT": dft,
    "Det": det,
    "HammingWindow": cosine_window(25 / 46, -21 / 46),
    "HannWindow": cosine_window(0.5, -0.5),
    "MelWeightMatrix": mel_weight_matrix,
    "STFT": stft,
}
