"""How close equilibrium propagation comes to the exact adjoint of the equilibrium, in float64."""

import torch
from digits_model import digits_model
from torch.nn.functional import cosine_similarity, cross_entropy

import ffebm
from ffebm.training.data import load_data

data = load_data("digits")
x, y = data.x_train[:16].double(), data.y_train[:16]
plan = ffebm.compile(
    digits_model(), hardware="ideal", block_size=3, settle=ffebm.Settle(free_sweeps=300, nudged_sweeps=100)
)


def gradients(estimator: ffebm.EP | ffebm.Implicit) -> dict[str, torch.Tensor]:
    net = ffebm.Executor(plan, gradient=estimator).double()
    net.loss(x, y, cross_entropy).backward()
    return {name: weight.grad.flatten() for name, weight in net.weights().items() if weight.grad is not None}


exact = gradients(ffebm.Implicit())
for beta in (0.1, 0.01, 0.001):
    found = gradients(ffebm.EP(beta=beta))
    cosines = {name: float(cosine_similarity(found[name], exact[name], dim=0)) for name in exact}
    worst = min(cosines, key=cosines.__getitem__)
    print(f"beta {beta:<6} smallest cosine {cosines[worst]:.6f} ({worst})")
