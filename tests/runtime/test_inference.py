import numpy as np

from ffebm.compiler.driver import compile_model
from ffebm.runtime.inference import infer
from tests.models import Builder


def test_outputs_and_samples_that_are_not_finite_are_named() -> None:
    b = Builder(seed=1)
    x = b.input("x", "N", 6)
    hidden = b.node("Relu", b.node("Gemm", x, b.weight(6, 8), b.weight(8)))
    y = b.node("Gemm", hidden, b.weight(8, 4), b.weight(4))
    plan = compile_model(b.model(y), hardware="ideal")
    array = np.ones((3, 6), np.float32)
    assert infer(plan, {"x": array}, 0, "cpu")[1] == []

    array[[0, 2], 1] = np.nan
    outputs, notes = infer(plan, {"x": array}, 0, "cpu")
    name = plan.outputs[0].name
    assert np.isnan(outputs[name]).any(1).tolist() == [True, False, True]
    assert notes == [
        *(
            f"warning: {block.name} did not settle in 66.7 % of samples (residual up to inf); "
            "compile with --relaxation 0.5 or more --free-sweeps"
            for block in plan.blocks
        ),
        f"warning: output {name!r} is not finite in samples 0, 2 of 3",
    ]
