"""Train two layers that settle together, by hybrid gradients and an ordinary torch loop."""

import sys
from pathlib import Path

import torch
from digits_model import digits_model
from torch.nn.functional import cross_entropy

import ffebm
from ffebm.training.data import load_data

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 4
data = load_data("digits")
plan = ffebm.compile(
    digits_model(), hardware="ideal", block_size=2, settle=ffebm.Settle(free_sweeps=20, nudged_sweeps=10)
)
net = ffebm.Executor(plan, gradient=ffebm.EP(beta=0.1))
optimizer = torch.optim.Adam(net.weights().values(), lr=2e-3)
torch.manual_seed(0)

for epoch in range(1, epochs + 1):
    net.train()
    for picked in torch.randperm(len(data.x_train)).split(32):
        optimizer.zero_grad()
        net.loss(data.x_train[picked], data.y_train[picked], cross_entropy).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        hits = (net(data.x_test).argmax(1) == data.y_test).float().mean()
    print(f"epoch {epoch}: test accuracy {100 * hits:.1f} %")

path = Path("out/digits_trained.onnx")
net.save_onnx(path)
print(f"wrote {path}")
