"""A plan folder, and changes of its files with right digests."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from ffebm import load_plan
from ffebm.errors import PlanError
from ffebm.files.folder import SUMS
from tests.models import Builder

AGAIN = "\n  hint: compile the model again"


def model() -> onnx.ModelProto:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 1, 4), 4), out="act")
    y = b.clip(b.node("MaxPool", b.conv(y, 4, 4), kernel_shape=[2, 2], strides=[2, 2]))
    y = b.node("Gemm", b.node("Flatten", y), b.weight(64, 5), b.weight(5))
    return b.model(b.node("Softmax", y, name="soft", out="p"))


def rewrite(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file and its digest."""
    document = json.loads((folder / name).read_bytes())
    document = change(document) or document
    content = json.dumps(document).encode()
    lines = (folder / SUMS).read_text().splitlines()
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" if li.endswith(name) else li for li in lines]
    (folder / name).write_bytes(content)
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def refused(folder: Path, change: Callable[[Any], Any], name: str = "plan.json") -> str:
    rewrite(folder, name, change)
    with pytest.raises(PlanError) as caught:
        load_plan(folder)
    return str(caught.value).removeprefix(f"{folder}: ")


def set_at(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to(document[path[-1]]) if callable(to) else to

    return change
