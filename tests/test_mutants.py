"""Damaged inputs of each kind are refused in one message, or work; `benchmarks/faults.py` tries more."""

import time
from collections import Counter
from pathlib import Path

import pytest

from tests import mutants, mutate_arrays, mutate_hardware, mutate_settings
from tests.mutants import check_apart

KINDS = {"arrays": mutate_arrays, "hardware": mutate_hardware, "settings": mutate_settings}
COUNTS = {"arrays": 60, "hardware": 25, "settings": 60}


@pytest.mark.parametrize("name", KINDS)
def test_a_seed_gives_the_same_mutant(name: str) -> None:
    mutant = KINDS[name].mutant
    assert [mutant(seed) for seed in range(20)] == [mutant(seed) for seed in range(20)]
    assert len({mutant(seed)[1] for seed in range(100)}) >= 80


@pytest.mark.parametrize("name", KINDS)
def test_mutants_are_refused_or_work(name: str, tmp_path: Path) -> None:
    findings = KINDS[name].check(range(COUNTS[name]), tmp_path)
    assert [finding for finding in findings if finding.fault] == []
    kinds = Counter(finding.kind for finding in findings)
    assert kinds["refused"] >= COUNTS[name] // 4
    assert kinds["accepted"] >= COUNTS[name] // 10


def test_what_is_lost_is_found_and_the_rest_goes_on() -> None:
    def look(content: str) -> tuple[str, str]:
        if content == "2":
            raise SystemExit
        if content == "3":
            raise MemoryError
        if content == "4":
            raise RuntimeError("odd")
        return "accepted", content

    findings = check_apart(lambda seed: ("of", str(seed)), look, range(6))
    assert [finding.kind for finding in findings] == [
        "accepted", "accepted", "crash", "memory", "traceback", "accepted",
    ]  # fmt: skip
    assert [finding.source for finding in findings] == ["of"] * 6
    assert findings[4].text.endswith("RuntimeError: odd")


def test_what_computes_or_waits_too_long_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "SECONDS", 0.3)
    monkeypatch.setattr(mutants, "WAITING", 3.0)

    def look(content: str) -> tuple[str, str]:
        while content == "1":
            pass
        time.sleep({"0": 1.5, "2": 60.0}.get(content, 0.0))
        return "accepted", content

    findings = check_apart(lambda seed: ("of", str(seed)), look, range(4))
    assert [finding.kind for finding in findings] == ["accepted", "hang", "hang", "accepted"]
