from pathlib import Path

import pytest

from ffebm import Plan
from ffebm import compile as compile_plan
from tests.plan.folders import model


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(model(), hardware="reference", block_size=2, replicas=1)


@pytest.fixture
def folder(plan: Plan, tmp_path: Path) -> Path:
    plan.save(tmp_path / "plan")
    return tmp_path / "plan"
