"""Fixtures of the whole suite."""

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.running import Run, running

# nothing in the suite is timed: a busy machine must not fail it
settings.register_profile("ffebm", deadline=None)
settings.load_profile("ffebm")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Compares a text with tests/golden/<test file>/<test>.txt; `--update-golden` writes it."""
    path = GOLDEN / request.path.stem / f"{request.node.name}.txt"

    def check(text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.is_file() else ""
        difference = difflib.unified_diff(
            expected.splitlines(), text.splitlines(), str(path), "found", lineterm=""
        )
        assert expected == text, "\n" + "\n".join(difference)

    return check


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; exit code, standard output, standard error."""
    return running(capsys)
