import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.runtime.tiles.lines.converter import (
    bend_,
    code_slices,
    curve_of,
    drive,
    line_errors,
    sense_,
    top_code,
)
from tests.machines import ratio
from tests.packages import installed
from tests.runtime.tiles.bench import convert, crossbar, random, with_adc


def test_codes_are_symmetric() -> None:
    assert [top_code(bits) for bits in (2, 8, 24)] == [1, 127, 8388607]


def test_convert_takes_the_nearest_value_and_clips() -> None:
    values = torch.tensor([-9.0, -1.1, -0.4, 0.0, 0.6, 2.9, 3.0, 100.0])
    # 3 bits: codes -3 ... 3, one volt each
    assert convert(values, 3.0, 3).tolist() == [-3.0, -1.0, 0.0, 0.0, 1.0, 3.0, 3.0, 3.0]


@given(st.integers(2, 16), st.floats(0.01, 100.0), st.integers(0, 1000))
def test_convert_is_within_half_a_code_and_settled(bits: int, full_scale: float, seed: int) -> None:
    values = (random(50, seed=seed) * full_scale / 4).clamp(-full_scale, full_scale)
    once = convert(values, full_scale, bits)
    assert ((once - values).abs() <= full_scale / top_code(bits) * (0.5 + 1e-9)).all()
    assert torch.allclose(convert(once, full_scale, bits), once, rtol=1e-12)


def test_drive_scales_each_vector_to_its_own_largest_magnitude() -> None:
    # columns are vectors: one of volts, one of millivolts, one of nothing
    values = torch.tensor([[1.0, 0.001, 0.0], [-4.0, 0.0, 0.0], [2.0, -0.004, 0.0]])
    codes, largest = drive(values, 8)
    assert codes.tolist() == [[32.0, 32.0, 0.0], [-127.0, 0.0, 0.0], [64.0, -127.0, 0.0]]
    assert torch.equal(largest, torch.tensor([[4.0, 0.004, 0.0]]))


def test_drive_is_convert_at_the_largest_magnitude() -> None:
    values = random(9, 20, dtype=torch.float32)
    codes, largest = drive(values, 6)
    assert torch.allclose(codes * largest / top_code(6), convert(values, largest, 6))


def test_vectors_too_small_to_scale_are_zero() -> None:
    codes, _ = drive(torch.tensor([[1e-40], [-1e-39]]), 8)
    assert codes.tolist() == [[0.0], [0.0]]


def test_sense_rounds_clips_and_counts() -> None:
    values = torch.tensor([[-1.6, 1.4, 0.2], [1.6, 0.9, -7.0]])
    assert int(sense_(values, 2)) == 3
    assert values.tolist() == [[-1.0, 1.0, 0.0], [1.0, 1.0, -1.0]]


def test_sense_without_clipping() -> None:
    values = torch.tensor([[126.6, -127.4]])
    assert int(sense_(values, 8)) == 0
    assert values.tolist() == [[127.0, -127.0]]


def test_sense_of_nothing() -> None:
    assert int(sense_(torch.zeros(3, 0), 8)) == 0


@given(bits=st.integers(2, 16), slice_bits=st.integers(1, 15))
def test_slices_of_codes_add_up(bits: int, slice_bits: int) -> None:
    top = top_code(bits)
    codes = torch.arange(-top, top + 1, max(1, top // 1000)).float()
    slices = list(code_slices(codes, bits, slice_bits))
    assert len(slices) == -(-(bits - 1) // slice_bits)
    total = torch.zeros_like(codes)
    for factor, digits in slices:
        assert float(digits.abs().max()) <= 2**slice_bits - 1
        assert bool((digits * codes >= 0).all())
        total += factor * digits
    assert torch.equal(total, codes)


def test_errors_of_converters_belong_to_the_machine() -> None:
    like = random(1)
    plain = line_errors(crossbar().adc, (2, 5000), like, "a")
    assert (plain.gain, plain.offset) == (None, None)
    adc = with_adc(crossbar(), gain=ratio(0.02), offset=ratio(0.005)).adc
    found = line_errors(adc, (2, 5000), like, "a")
    assert found.gain is not None
    assert found.offset is not None
    assert found.gain.shape == found.offset.shape == (2, 5000, 1)
    assert abs(float(found.gain.mean()) - 1) < 4 * 0.02 / 100
    assert abs(float(found.gain.std()) / 0.02 - 1) < 0.03
    assert abs(float(found.offset.mean())) < 4 * 0.005 / 100
    assert abs(float(found.offset.std()) / 0.005 - 1) < 0.03
    again, other = line_errors(adc, (2, 5000), like, "a"), line_errors(adc, (2, 5000), like, "b")
    assert again.gain is not None
    assert other.gain is not None
    assert torch.equal(again.gain, found.gain)
    assert not torch.equal(other.gain, found.gain)


def test_curves_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "cube = lambda v: v**3\nsum = lambda v: v.sum()\nNUMBER = 3\n"
    offers = {name: f"plug_curve:{name}" for name in ("cube", "sum", "NUMBER")}
    installed(tmp_path / "target", "plug-curve", {plugins.CONVERTERS: offers}, code)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "target"), *sys.path])
    adc = crossbar().adc
    assert curve_of(adc) is None
    codes = torch.tensor([-7.0, 3.5, 0.0])
    bend_(codes, 4, curve_of(replace(adc, curve="cube")))
    assert codes.tolist() == [-7.0, 7 * 0.5**3, 0.0]
    for name, made in (("sum", "tensor(0.)"), ("NUMBER", "3")):
        with pytest.raises(UsageError) as caught:
            curve_of(replace(adc, curve=name))
        assert str(caught.value) == (
            f"the curve '{name}' makes {made} of [-1.0, 0.0, 1.0]; a tensor of that shape"
        )
