import pytest

from tests.conformance import DOC, PASSING, Case, all_faults, cases, documented, fault_in_plan, passing


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


@pytest.mark.slow
@pytest.mark.node_constants
@pytest.mark.filterwarnings("ignore")
def test_what_runs_with_inputs_runs_with_constants() -> None:
    nodes = [case for case in cases() if case.kind == "node"]
    faults = {case.name: fault_in_plan(case, constants=False) for case in nodes}
    fed = [case for case in nodes if not faults[case.name]]
    assert len(fed) >= 1786
    lost = {case.name: fault_in_plan(case, constants=True) for case in fed}
    assert {name: cause for name, cause in lost.items() if cause} == {}


@pytest.mark.filterwarnings("ignore")
def test_some_nodes_of_constants(faults: dict[Case, str]) -> None:
    """The kinds that onnx's reference evaluator cannot compute, or whose result no numpy type holds."""
    names = {
        "test_cast_FLOAT_to_INT4",
        "test_cast_e8m0_FLOAT_to_FLOAT8E8M0",
        "test_dequantizelinear_blocked",
        "test_flexattention",
        "test_group_normalization_example",
        "test_quantizelinear_e4m3fn",
        "test_stft",
        "test_mvn",
    }
    found = {case.name: fault_in_plan(case, constants=True) for case in faults if case.name in names}
    assert found == dict.fromkeys(names, "")
