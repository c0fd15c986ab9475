from pathlib import Path

import pytest
from onnx import ModelProto

from tests.mutate_models import check, mutant, seed_models


@pytest.fixture(scope="module")
def models() -> list[tuple[str, ModelProto]]:
    return seed_models()


def test_a_seed_gives_the_same_mutant(models: list[tuple[str, ModelProto]]) -> None:
    assert [mutant(models, seed) for seed in range(20)] == [mutant(models, seed) for seed in range(20)]
    assert len({mutant(models, seed)[1] for seed in range(100)}) == 100


def test_another_model_changes_only_the_mutants_that_draw_it(models: list[tuple[str, ModelProto]]) -> None:
    more = [*models[:40], ("new", models[0][1]), *models[40:80]]
    drawn = [(mutant(models[:80], seed), mutant(more, seed)) for seed in range(400)]
    changed = [after[0] for before, after in drawn if before != after]
    assert set(changed) == {"new"}
    assert len(changed) < 15


def test_mutants_are_refused_or_computed_right(models: list[tuple[str, ModelProto]], tmp_path: Path) -> None:
    findings = check(models, range(100), tmp_path)
    assert [finding for finding in findings if finding.fault] == []
    kinds = [finding.kind for finding in findings]
    assert kinds.count("same") >= 8
    assert kinds.count("refused") >= 50


def test_what_is_lost_is_found_and_the_rest_goes_on(
    models: list[tuple[str, ModelProto]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash_or_pass(data: bytes, folder: Path) -> tuple[str, str]:
        if data == mutant(models, 2)[1]:
            raise SystemExit
        if data == mutant(models, 3)[1]:
            raise RuntimeError("odd")
        return "same", ""

    monkeypatch.setattr("tests.mutate_models.examine", crash_or_pass)
    findings = check(models, range(5), tmp_path)
    assert [finding.kind for finding in findings] == ["same", "same", "crash", "traceback", "same"]
