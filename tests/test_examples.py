"""Every numbered example runs on its own, as the README says."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ARGUMENTS = {"02_train_digits.py": ["1"]}
"""At reduced size."""
SAYS = {
    "01_compile_and_explain.py": "block size 3\n  block0: pool1\n  block1: s1, s2, s3\n",
    "02_train_digits.py": "epoch 1: test accuracy",
    "03_gradients.py": "beta 0.001",
    "04_own_hardware.py": "tiles of 64 x 64",
}


def test_the_table_names_every_example() -> None:
    assert sorted(SAYS) == sorted(path.name for path in EXAMPLES.glob("0*.py"))


@pytest.mark.parametrize("name", sorted(SAYS))
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name), *ARGUMENTS.get(name, [])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
