from pathlib import Path

import pytest

import ffebm
from tests.mutate_plans import Files, check, examine, mutant, seed_plans


@pytest.fixture(scope="module")
def plans() -> list[tuple[str, Files]]:
    return seed_plans()


def test_a_seed_gives_the_same_mutant(plans: list[tuple[str, Files]]) -> None:
    assert [mutant(plans, seed) for seed in range(20)] == [mutant(plans, seed) for seed in range(20)]


@pytest.mark.filterwarnings("ignore::ffebm.NotSettledWarning")
def test_what_is_not_damaged_loads_and_all_its_uses_work(
    plans: list[tuple[str, Files]], tmp_path: Path
) -> None:
    found = {name: examine(files, tmp_path / "plan") for name, files in plans}
    assert {name: kind for name, (kind, _) in found.items()} == dict.fromkeys(found, "same")
    assert {name: text for name, (_, text) in found.items() if "run: " in text} == {}


def test_mutants_are_refused_or_all_their_uses_end_well(
    plans: list[tuple[str, Files]], tmp_path: Path
) -> None:
    findings = check(plans, range(100), tmp_path)
    assert [finding for finding in findings if finding.fault] == []
    kinds = [finding.kind for finding in findings]
    assert kinds.count("same") >= 5
    assert kinds.count("refused") >= 50


def test_an_error_of_another_kind_is_a_fault(
    plans: list[tuple[str, Files]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: ffebm.Plan) -> str:
        raise KeyError(plan.source.name)

    monkeypatch.setattr(ffebm.Plan, "summary", broken)
    findings = check(plans, range(40), tmp_path)
    assert {finding.kind for finding in findings} == {"refused", "traceback"}
