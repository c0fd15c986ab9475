"""The package does what it says, found by its entry point."""

import subprocess
import sys
from pathlib import Path

import torch
from ffebm_halve import halve
from torch import Tensor, nn

import ffebm


class Half(nn.Module):
    """Half of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 4] -> [batch, 3]."""
        return halve(self.linear(x))


def test_a_plan_runs_the_op_in_a_process_that_has_not_imported_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Half(), torch.ones(2, 4)
    plan = ffebm.compile(model, (x,), hardware="ideal")
    assert plan.packages == ("ffebm-halve",)
    torch.testing.assert_close(ffebm.Executor(plan)(x), model(x))
    plan.save(tmp_path / "plan")
    code = (
        "import ffebm, sys, torch; net = ffebm.Executor(ffebm.load_plan(sys.argv[1])); "
        "print(net(torch.ones(2, 4)).tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "plan")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    torch.testing.assert_close(torch.tensor(eval(done.stdout)), model(x).detach())
