"""The sample of mutants and the score of `benchmarks/mutation.py`; it runs itself apart from the suite."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SOURCE = """
@cache
def first(x: int | None = 1) -> int:
    for y in range(3):
        if x < y and True:
            return y
    return x + 1
"""


def asked(code: str) -> str:
    """What a program prints that can import the benchmarks."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=BENCHMARKS, input=SOURCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_can_be_changed_in_a_file() -> None:
    found = asked(
        "import json, sys, mutation_sample as m\n"
        "source = sys.stdin.read()\n"
        "made = [m.changed(mutant, source) for _, ms in m.places('f.py', source) for mutant in ms]\n"
        "print(json.dumps([(m.before, m.after, m.at_import, m.function) for m in made if m]))"
    )
    mutants = [tuple(one) for one in json.loads(found)]
    head = "def first(x: int | None = 1) -> int:"
    assert ("@cache", "", True, "first") in mutants
    assert (head, "def first(x: int | None = 2) -> int:", True, "first") in mutants
    assert ("for y in range(3):", "for y in []:", False, "first") in mutants
    assert ("if x < y and True:", "if x < y or True:", False, "first") in mutants
    assert ("return x + 1", "return x - 1", False, "first") in mutants
    assert not any(after.startswith("def first") and "int | None" not in after for _, after, _, _ in mutants)
    assert len({one[:2] for one in mutants}) == len(mutants)


def test_an_edit_elsewhere_leaves_the_names_of_places() -> None:
    found = asked(
        "import sys, mutation_sample as m\n"
        "source = sys.stdin.read()\n"
        "longer = 'z = 1 + 2\\n' + source\n"
        "made = [[ms[0] for _, ms in m.places('f.py', text)] for text in (source, longer)]\n"
        "names = [[m.place for m in ms] for ms in made]\n"
        "inside = [{m.digest for m in ms if not m.at_import} for ms in made]\n"
        "print(set(names[0]) < set(names[1]), len(names[0]) == len(set(names[0])), inside[0] == inside[1])"
    )
    assert found == "True True True\n"


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 0, 0.0, 1.0), (9, 10, 0.5958, 0.9821), (450, 500, 0.8706, 0.9234), (10, 10, 0.7225, 1.0)],
)
def test_the_interval_is_wilsons(hits: int, count: int, low: float, high: float) -> None:
    found = json.loads(asked(f"import mutation; print(list(mutation.wilson({hits}, {count})))"))
    assert found == [pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4)]


def test_reasons_and_records_are_of_files_that_are_mutated() -> None:
    found = asked(
        "import mutation as m, mutation_sample as s\n"
        "files = set(s.files())\n"
        "assert {name[0] for name in m.equivalent()} <= files\n"
        "assert all(reason for reason in m.equivalent().values())\n"
        "assert {one['outcome'] for one in m.records().values()} <= {'killed', 'survived'}\n"
        "print(len(files) > 50)"
    )
    assert found == "True\n"
