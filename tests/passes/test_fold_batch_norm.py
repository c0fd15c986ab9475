from collections.abc import Callable

import numpy as np

from ffebm.plan.schema import Options
from tests.models import Builder
from tests.passes.common import rewritten

FOLD = Options(fold_batch_norm=True)


def test_folded_into_a_convolution(golden: Callable[[str], None]) -> None:
    b = Builder()
    x = b.input("x", "N", 2, 4, 4)
    y = b.node("Conv", x, b.weight(3, 2, 3, 3, name="w"))  # no bias: it gets one
    gamma, beta, mean, var = np.random.default_rng(0).uniform(0.5, 2.0, (4, 3)).astype(np.float32)
    parts = [b.constant(v, n) for v, n in ((gamma, "gamma"), (beta, "beta"), (mean, "mean"), (var, "var"))]
    y = b.node("BatchNormalization", y, *parts, name="bn", epsilon=0.01)
    text, graph = rewritten("fold-batch-norm", b.model(y), FOLD)
    golden(text)
    factor = gamma / np.sqrt(var + 0.01)
    np.testing.assert_allclose(
        graph.constants["bn.folded_bias"].astype(float), beta - mean * factor, rtol=1e-6
    )
    assert graph.notes == ["1 batch normalisations folded: this plan is for inference only"]


def test_what_another_node_reads_is_not_folded() -> None:
    b = Builder()
    x = b.input("x", "N", 2, 4, 4)
    y = b.conv(x, 2, 2)
    model = b.model(b.norm(y, 2), y)
    text, graph = rewritten("fold-batch-norm", model, FOLD)
    head, _, tail = text.partition("--- after\n")
    assert head.removeprefix("--- before\n") == tail
    assert graph.notes == []
