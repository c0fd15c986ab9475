"""Complex numbers among the constants: spectra that are scaled, and rotary tables."""

from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

import ffebm
from tests.models import Builder


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = torch.fft.irfft(torch.fft.rfft(x) * 0.5)
        return scaled


class Rotary(nn.Module):
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        angles = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1]))
        self.register_buffer("table", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x: Tensor) -> Tensor:
        turned = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)) * self.table
        return torch.view_as_real(turned).flatten(-2)


def check(module: nn.Module, x: Tensor, tmp_path: Path) -> None:
    plan = ffebm.compile(module, x, hardware="ideal")
    plan.save(tmp_path / "plan")
    assert ffebm.load_plan(tmp_path / "plan") == plan
    net = ffebm.Executor(ffebm.load_plan(tmp_path / "plan"))
    torch.testing.assert_close(net(x), module(x))
    assert plan.trainable == ()


def test_a_scaled_spectrum(tmp_path: Path) -> None:
    check(Spectrum(), torch.randn(3, 8), tmp_path)


def test_a_rotary_table(tmp_path: Path) -> None:
    check(Rotary(), torch.randn(3, 5, 4), tmp_path)


def test_a_complex_table_of_onnx(tmp_path: Path) -> None:
    b = Builder()
    numbers = np.exp(1j * np.arange(6)).astype(np.complex64).reshape(3, 2)
    chosen = b.node("Gather", b.constant(numbers, "table"), b.input("x", "N", dtype=TensorProto.INT64))
    model = b.model(chosen)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.COMPLEX64
    plan = ffebm.compile(model, hardware="ideal")
    plan.save(tmp_path / "plan")
    net = ffebm.Executor(ffebm.load_plan(tmp_path / "plan"))
    assert net(torch.tensor([2, 0])).tolist() == numbers[[2, 0]].tolist()
    assert plan.trainable == ()
