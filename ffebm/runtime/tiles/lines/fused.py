"""The converters of an array and its read noise on a processor: one pass before the product, one behind it.

torch takes eight passes over the numbers that enter an array and nine over those that leave it; here it is
one each, compiled by numba. `readout` has the same in torch: the reference, and what runs on accelerators,
in double precision, with input slices, bent converters and cells that are no resistors. Where no noise is
drawn both give the same codes.

Noise is that of `noise.read_normals`: 16 random bits choose one of 65,536 numbers. The bits are those of
SplitMix64, a counter and a mixing function, from a seed that each read draws from the tile's generator. So a
number follows from the read and from its place, not from the threads that share the work.

Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA, section 5, with
    the mixing function that is Stafford's variant 13.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from os import getpid
from typing import Any, cast

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ffebm.runtime.tiles.lines.converter import ReadLines
from ffebm.runtime.tiles.noise import middles

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_BITS = np.uint64(0xFFFF)
_ONE = np.uint64(1)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_S16, _S27, _S30, _S31, _S32, _S48 = (np.uint64(n) for n in (16, 27, 30, 31, 32, 48))

_COLUMNS = 512
"""Vectors at once: what is kept of them by vector fits into the first cache. A multiple of 4."""
_SHARED_OUT = 2**16
"""Numbers from which on threads share the work: below, handing it out takes longer."""


def _compiled(function: Any) -> Any:
    """Compile a function when it is called; the result is kept beside this file, or in the user's cache."""
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # there is no folder to keep it in
        return njit(nogil=True, error_model="numpy")(function)


def driven(vectors: Tensor, top: int, limit: float | None, with_sum: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What DACs make of vectors.

    Args:
        vectors: [arrays, lines, batch], float32.
        top: Largest code.
        limit: What it stands for; None is the largest magnitude of each vector.
        with_sum: A column is driven with the sum of all inputs.

    Returns:
        Codes, [arrays, lines, batch]; what the largest stands for, [arrays, batch]; and the root of the power
        that drives the noise, [arrays, batch], in codes.
    """
    arrays, _, batch = vectors.shape
    codes = vectors.new_empty(vectors.shape)
    largest, root = vectors.new_empty(arrays, batch), vectors.new_empty(arrays, batch)
    given = (_array(vectors), _array(codes), _array(largest), _array(root))
    fixed = np.float32(0.0 if limit is None else limit)

    def part(first: int, last: int) -> int:
        return cast("int", _drive(given, np.float32(top), fixed, with_sum, first, last))

    _share_out(part, batch, vectors.numel())
    return codes, largest, root


def sensed_(products: Tensor, vectors: tuple[Tensor, Tensor], rows: ReadLines, top: int, seed: int) -> int:
    """Add noise and bias, clip and round by ADCs, and give values their unit, in place.

    Args:
        products: In ADC codes, [arrays, rows, batch], contiguous, float32.
        vectors: What the largest code stands for and the root of the power, [arrays, batch].
        rows: What the lines have each.
        top: Largest code.
        seed: Of the noise, 64 bits.

    Returns:
        How many were clipped.
    """
    nothing = products.new_zeros(0, 0)
    given = (
        _array(products),
        *map(_array, vectors),
        _array(rows.gain),
        _array(nothing if rows.noise is None else rows.noise),
        _array(nothing if rows.bias is None else rows.bias),
    )
    table = _array(middles(torch.float32))

    def part(first: int, last: int) -> int:
        key = np.uint64(seed % 2**64)
        codes = np.float32(top), np.float32(rows.reading)
        return cast("int", _sense(given, rows.group, codes, (table, key), first, last))

    return _share_out(part, products.shape[-1], products.numel())


def _array(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return tensor.detach().numpy()


def _share_out(part: Callable[[int, int], int], batch: int, numbers: int) -> int:
    """Sum of what a function of some vectors, the first and the last, returns; threads share the vectors."""
    threads = min(torch.get_num_threads(), -(-batch // _COLUMNS)) if numbers >= _SHARED_OUT else 1
    if threads == 1:
        return part(0, batch)
    blocks = -(-batch // _COLUMNS)
    edges = [min(batch, blocks * k // threads * _COLUMNS) for k in range(threads + 1)]
    others = [_pool(getpid()).submit(part, *edges[k : k + 2]) for k in range(1, threads)]
    return part(*edges[:2]) + sum(other.result() for other in others)


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of a process; a fork has none of its parent's."""
    return ThreadPoolExecutor(thread_name_prefix="tile")


@_compiled
def _drive(arrays_of, top, limit, with_sum, first, last):  # type: ignore[no-untyped-def]
    vectors, codes, largest, root = arrays_of
    arrays, lines, _ = vectors.shape
    scale, total = np.empty(_COLUMNS, np.float32), np.empty(_COLUMNS, np.float32)
    # arrays that take turns with the vectors find those of the others in the cache
    for start in range(first, last, _COLUMNS):
        n = min(_COLUMNS, last - start)
        for a in range(arrays):
            high, power = largest[a][start : start + n], root[a][start : start + n]
            high[:] = limit
            for line in range(lines):
                row, out = vectors[a, line][start : start + n], codes[a, line][start : start + n]
                for j in range(n):
                    out[j] = row[j]
                if limit == 0:
                    _raise(high.view(np.int32), out.view(np.int32))
            for j in range(n):
                factor = top / high[j]
                scale[j] = factor if factor < np.inf else np.float32(0.0)
                power[j], total[j] = 0, 0
            _code(codes[a], start, scale, (power, total), top, with_sum)
            for j in range(n):
                power[j] = np.sqrt(power[j] + (total[j] * total[j] if with_sum else np.float32(0.0)))
    return 0


@_compiled
def _raise(high, values):  # type: ignore[no-untyped-def]
    """Largest magnitudes so far, by their bits: larger ones are larger numbers, and NaN is the largest."""
    for j in range(len(high)):
        high[j] = max(high[j], np.int32(values[j] & _MAGNITUDE))


@_compiled
def _code(values, start, scale, sums, top, with_sum):  # type: ignore[no-untyped-def]
    """Round to codes, and add up their squares and themselves."""
    power, total = sums
    for line in range(values.shape[0]):
        out = values[line][start : start + len(power)]
        for j in range(len(power)):
            code = np.rint(out[j] * scale[j])
            code = top if code > top else code
            code = -top if code < -top else code
            out[j] = code
            power[j] += code * code
        if with_sum:
            for j in range(len(power)):
                total[j] += out[j]


@_compiled
def _sense(arrays_of, group, codes, source, first, last):  # type: ignore[no-untyped-def]
    products, largest, root, gain, noise, bias = arrays_of
    top, reading = codes
    arrays, rows, batch = products.shape
    own, common = np.empty(_COLUMNS, np.float32), np.zeros(_COLUMNS, np.float32)
    words = np.uint64((batch + 3) // 4)
    clipped = 0
    for a in range(arrays):
        for start in range(first, last, _COLUMNS):
            n = min(_COLUMNS, last - start)
            high, power = largest[a][start : start + n], root[a][start : start + n]
            for row in range(rows):
                values = products[a, row][start : start + n]
                scale = noise[a, row] if noise.size else np.float32(0.0)
                shift = bias[a, row] if bias.size else np.float32(0.0)
                if noise.size:
                    place = np.uint64(a * 2 * rows + row) * words + np.uint64(start // 4)
                    _normals(own, n, place, source)
                    if group and row % group == 0:
                        _normals(common, n, place + np.uint64(rows) * words, source)
                    for j in range(n):
                        values[j] += (own[j] + common[j]) * (scale * power[j])
                if reading > 0:  # streams behind those of the cells
                    place = np.uint64(arrays * 2 * rows + a * rows + row) * words + np.uint64(start // 4)
                    _normals(own, n, place, source)
                    for j in range(n):
                        values[j] += own[j] * reading
                clipped += _convert(values, high, shift, gain[a, row], top, n)
    return clipped


@_compiled
def _convert(values, high, shift, gain, top, n):  # type: ignore[no-untyped-def]
    clipped = 0
    for j in range(n):
        code = np.rint(values[j] + shift)
        clipped += abs(code) > top
        code = top if code > top else code
        code = -top if code < -top else code
        values[j] = code * (gain * high[j])
    return clipped


@_compiled
def _normals(out, n, place, source):  # type: ignore[no-untyped-def]
    """Four numbers from each 64 bits, the first of which have the number `place`."""
    table, key = source
    for word in range((n + 3) // 4):
        bits = key + (place + np.uint64(word) + _ONE) * _GAMMA
        bits = (bits ^ (bits >> _S30)) * _FIRST
        bits = (bits ^ (bits >> _S27)) * _SECOND
        bits = bits ^ (bits >> _S31)
        at = 4 * word
        out[at] = table[bits & _BITS]
        out[at + 1] = table[(bits >> _S16) & _BITS]
        out[at + 2] = table[(bits >> _S32) & _BITS]
        out[at + 3] = table[bits >> _S48]
