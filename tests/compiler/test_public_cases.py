"""Small models after public bug reports, with onnxruntime's outputs beside them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import ffebm
from ffebm.graph.tensor import Array
from tests.models import as_tuple, relative_error

CASES = Path(__file__).parents[1] / "cases"
TOLERANCE = {"blocked_int4": 4e-3}
"""What is beside that model has inputs of 8 bits; `test_blocked_weights_are_exact` derives it."""


def arrays(name: str, what: str) -> dict[str, Array]:
    with np.load(CASES / f"{name}.npz") as file:
        return {key.removeprefix(what): file[key] for key in file if key.startswith(what)}


def outputs(plan: ffebm.Plan, feeds: Mapping[str, Array]) -> tuple[torch.Tensor, ...]:
    return as_tuple(ffebm.Executor(plan)(**{name: torch.from_numpy(array) for name, array in feeds.items()}))


@pytest.mark.parametrize("name", sorted(file.stem for file in CASES.glob("*.onnx")))
def test_outputs_are_those_beside_the_model(name: str, tmp_path: Path) -> None:
    plan = ffebm.compile(CASES / f"{name}.onnx", hardware="ideal")
    plan.save(tmp_path / "plan")
    assert ffebm.load_plan(tmp_path / "plan") == plan
    found = outputs(plan, arrays(name, "in:"))
    assert relative_error(found, list(arrays(name, "out:").values())) <= TOLERANCE.get(name, 1e-5)


def test_blocked_weights_are_exact() -> None:
    """What is beside the model is its product with inputs that onnxruntime rounds to 8 bits, block by block.

    It does so at its default `accuracy_level` of products with blocked weights, 4; at level 1, of 32 bits,
    and without its optimisations it computes what we compute, the exact product.
    """
    model = onnx.load(CASES / "blocked_int4.onnx")
    held = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    x, weight = arrays("blocked_int4", "in:")["x"], held["w"] * np.repeat(held["s"], 16, 0)
    found = outputs(ffebm.compile(model, hardware="ideal"), {"x": x})
    assert relative_error(found, [np.asarray(x, np.float64) @ weight]) <= 1e-6

    blocks = np.asarray(x, np.float64).reshape(2, 2, 16)
    step = np.abs(blocks).max(-1, keepdims=True) / 127
    coarse = (np.round(blocks / step) * step).reshape(2, 32) @ weight
    beside = np.asarray(arrays("blocked_int4", "out:")["y"], np.float64)
    np.testing.assert_allclose(beside, coarse, rtol=1e-6, atol=1e-5)

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    assert relative_error(found, session.run(None, {"x": x})) <= 1e-6


@pytest.mark.parametrize("length", [1, 3, 12])
def test_a_sequence_of_any_length(length: int) -> None:
    model = CASES / "dynseq_bert_script.onnx"
    plan = ffebm.compile(model, hardware="ideal")
    session = onnxruntime.InferenceSession(model)
    rng = np.random.default_rng(length)
    feeds: dict[str, Array] = {i.name: rng.integers(0, 2, (2, length)) for i in session.get_inputs()}
    assert relative_error(outputs(plan, feeds), session.run(None, feeds)) <= 1e-5
    assert any("one is open" in node.reason for node in plan.nodes if node.unit == "digital")
