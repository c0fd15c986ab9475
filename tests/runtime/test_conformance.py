import pytest

from tests.conformance import DOC, PASSING, Case, all_faults, documented, passing


@pytest.fixture(scope="module")
def faults() -> dict[Case, str]:
    return all_faults()


def test_no_case_that_passed_is_lost(faults: dict[Case, str]) -> None:
    assert not set(PASSING.read_text().split()) - set(passing(faults))


def test_enough_cases_pass(faults: dict[Case, str]) -> None:
    names = passing(faults)
    assert sum(name.startswith("node/") for name in names) >= 1750
    assert sum(not name.startswith("node/") for name in names) >= 120


def test_the_docs_say_what_passes(faults: dict[Case, str]) -> None:
    assert DOC.read_text() == documented(faults), "run python -m tests.conformance --update"
