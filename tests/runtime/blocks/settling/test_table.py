from xml.etree import ElementTree

import torch

from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.settling.table import equilibrium_html
from tests.runtime.some_blocks import smooth_chain


def rows(text: str) -> list[list[str | None]]:
    return [[cell.text for cell in row] for row in ElementTree.fromstring(text).iter("tr")]


def settled() -> Equilibrium:
    case = smooth_chain()
    weights = {name: w.clone().requires_grad_() for name, w in case.weights.items()}
    outputs, found = BlockRuntime(case.block).run(case.inputs, weights, Settle(free_sweeps=40), EP(0.1))
    sum(out.sum() for out in outputs.values()).backward()  # type: ignore[union-attr]
    return found


def test_layers_and_phases() -> None:
    found = settled()
    shown = rows(found._repr_html_())
    assert shown[0] == ["layer", "shape", "least", "mean", "largest"]
    state = next(iter(found.state.values()))
    assert shown[1][0] == next(iter(found.state))
    assert shown[1][2:] == [f"{float(v):.4g}" for v in (state.min(), state.mean(), state.max())]
    assert [row[0] for row in shown[-3:]] == ["phase", "free", "backward"]
    batch = len(found.converged)
    assert shown[-2][1] == f"{int(found.converged.sum())} of {batch} samples"
    assert shown[-2][2] == f"{float(found.sweeps.median()):.3g}, {float(found.sweeps.max()):.3g}"


def test_names_of_a_model_do_no_harm_and_an_empty_batch_has_a_table() -> None:
    nothing = torch.zeros(0)
    wicked = equilibrium_html({"<img src=x>\x1b": torch.zeros(0, 2, 3)}, [("free", *3 * (nothing,))])
    assert rows(wicked)[1] == ["<img src=x>␛", "2x3", "-", "-", "-"]
    assert rows(wicked)[3] == ["free", "0 of 0 samples", "-", "-"]
