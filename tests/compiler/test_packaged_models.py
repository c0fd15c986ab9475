"""Trained models that other packages carry, against onnxruntime; a test skips where its package is absent."""

import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import ffebm
from ffebm.ir import Array


def packaged(package: str, file: str) -> Path:
    """A file of an installed package, which need not be importable."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0]) / "models" / file


def page(height: int, width: int) -> Array:
    """An image of dark strokes on white paper, normalised as the models want it."""
    rng = np.random.default_rng(1)
    image = np.ones((height, width, 3), np.float32)
    for _ in range(40):
        top, left = rng.integers(0, height - 12), rng.integers(0, width - 6)
        image[top : top + rng.integers(2, 12), left : left + rng.integers(1, 5)] = 0.1
    scaled = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return scaled.transpose(2, 0, 1)[None].astype(np.float32)


def both(path: Path, x: Array, dims: dict[str, int]) -> tuple[Array, Array]:
    """Results of onnxruntime and of the plan on exact tiles."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    net = ffebm.Executor(ffebm.compile(path, hardware="ideal", dims=dims))
    with torch.no_grad():
        return expected, net(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize(
    ("file", "height", "width"),
    [
        ("ch_ppocr_mobile_v2.0_cls_infer.onnx", 48, 192),
        ("ch_PP-OCRv4_det_infer.onnx", 96, 128),
        ("ch_PP-OCRv4_rec_infer.onnx", 48, 160),
    ],
)
def test_reading_text(file: str, height: int, width: int) -> None:
    path = packaged("rapidocr_onnxruntime", file)
    expected, result = both(path, page(height, width), {"x_0": 1, "x_2": height, "x_3": width})
    wanted = torch.from_numpy(expected)
    torch.testing.assert_close(
        torch.from_numpy(result), wanted, rtol=0, atol=1e-3 * float(wanted.abs().max())
    )


def test_telling_kinds_of_files() -> None:
    path = packaged("magika", "standard_v3_3/model.onnx")
    files = sorted(f for f in Path(sysconfig.get_path("stdlib")).rglob("*") if f.is_file())[::37][:200]
    x = np.stack([_ends(file.read_bytes()) for file in files])
    expected, result = both(path, x, {})
    assert len(files) == 200
    assert float((expected.argmax(1) == result.argmax(1)).mean()) >= 0.99


def _ends(content: bytes, size: int = 1024) -> Array:
    """The first and the last bytes of a file, filled up with 256."""
    ends = np.full(2 * size, 256, np.int32)
    begin, end = content.lstrip()[:size], content.rstrip()[-size:]
    ends[: len(begin)] = list(begin)
    ends[2 * size - len(end) :] = list(end)
    return ends
