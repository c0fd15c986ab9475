"""Trained models that other packages carry, against onnxruntime; a test skips where its package is absent."""

import numpy as np
import onnxruntime
import pytest
import torch

import ffebm
from tests.packaged_models import MODELS, Data, Packaged, agreement


def both(model: Packaged, x: Data) -> tuple[Data, Data]:
    """Results of onnxruntime and of the plan on exact tiles."""
    path = model.path()
    if path is None:
        pytest.skip(f"{model.package} is not installed: make venv")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected: Data = session.run(None, {session.get_inputs()[0].name: x})[0]
    dims = {**model.dims, "x_0": len(x)} if model.dims else {}
    net = ffebm.Executor(ffebm.compile(path, hardware="ideal", dims=dims))
    with torch.no_grad():
        return expected, net(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", ["which way up", "where text is", "what text says"])
def test_reading_text(name: str) -> None:
    model = MODELS[name]
    expected, result = both(model, model.inputs(2))
    assert len(np.unique(model.decide(expected))) > 1
    assert np.abs(result - expected).max() <= 1e-3 * np.abs(expected).max()


def test_telling_kinds_of_files() -> None:
    model = MODELS["kinds of files"]
    expected, result = both(model, model.inputs(100))
    assert len(np.unique(model.decide(expected))) > 20
    assert agreement(model.decide(result), model.decide(expected)) >= 0.99


def test_agreement_counts_what_both_say() -> None:
    assert agreement(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4])) == 0.75
    yes, no = np.array([True, True, False, False]), np.array([False, True, True, False])
    assert agreement(yes, no) == pytest.approx(1 / 3)
