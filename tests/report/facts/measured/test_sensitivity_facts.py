"""A study of sensitivity on a page: it is the record's, and one of another plan is refused."""

from pathlib import Path

import msgspec
import pytest

from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.report.facts.facts import facts
from ffebm.report.facts.measured.sensitivity_facts import read_sensitivity
from ffebm.report.page import facts_of, page
from ffebm.studies.sensitivity.record import save_record
from tests.report.measured import study_of


def test_the_page_holds_the_study(digits: Plan, tmp_path: Path) -> None:
    record = study_of(digits)
    save_record(record, tmp_path / "s.json")
    found = facts_of(page(facts(digits, sensitivity=read_sensitivity(digits, tmp_path / "s.json"))))
    study = found.sensitivity
    assert study is not None
    assert (study.by, study.machine, study.data, study.exact) == ("block", "reference", "made-up data", 0.91)
    effort = record.setup.effort
    assert (study.samples, study.probes, study.seeds, study.beta) == (50, effort.probes, 1, effort.beta)
    work = sum(node.macs for node in digits.nodes)
    assert [(u.name, u.weights, u.macs) for u in study.units] == [
        (u.name, u.weights, u.macs) for u in record.units
    ]
    assert [unit.work for unit in study.units] == [unit.macs / work for unit in record.units]
    assert {name: held.accuracy for name, held in record.alone.items()} == {
        unit.name: unit.alone for unit in study.units
    }
    for point, shown in zip(record.points, study.points, strict=True):
        assert all(getattr(point, field) == getattr(shown, field) for field in shown.__struct_fields__)
    for offer, offered in zip(record.offers, study.offers, strict=True):
        assert offer.__struct_fields__ == offered.__struct_fields__
        assert all(getattr(offer, field) == getattr(offered, field) for field in offer.__struct_fields__)


def test_a_study_that_has_only_begun(digits: Plan, tmp_path: Path) -> None:
    record = study_of(digits)
    empty = msgspec.structs.replace(record, exact=None, points=(), alone={}, offers=())
    save_record(empty, tmp_path / "s.json")
    study = read_sensitivity(digits, tmp_path / "s.json")
    assert (study.exact, study.points, study.offers) == (None, (), ())
    assert {unit.alone for unit in study.units} == {None}


@pytest.mark.parametrize(
    ("field", "what"), [("plan", "model"), ("machine", "machine"), ("options", "compilation")]
)
def test_the_study_of_another_plan_is_refused(field: str, what: str, digits: Plan, tmp_path: Path) -> None:
    record, path = study_of(digits), tmp_path / "s.json"
    ours = getattr(record.setup, field)
    setup = msgspec.structs.replace(record.setup, **{field: "another"})
    save_record(msgspec.structs.replace(record, setup=setup), path)
    with pytest.raises(UsageError) as caught:
        read_sensitivity(digits, path)
    assert str(caught.value) == (
        f"{path}: the study is of another {what}: another; one of this plan's: {ours}\n"
        "  hint: `ffebm sensitivity PLAN` makes one"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "this is no record of a study: Input data was truncated"),
        ("{}", "this is no record of a study: Object missing required field `schema`"),
    ],
)
def test_other_files_are_refused(text: str | None, message: str, digits: Plan, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_sensitivity(digits, path)
    assert str(caught.value) == f"{path}: {message}\n  hint: `ffebm sensitivity PLAN` writes one"


def test_a_study_of_another_version_is_refused(digits: Plan, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    save_record(msgspec.structs.replace(study_of(digits), schema=99), path)
    with pytest.raises(UsageError, match="it holds a study of another version"):
        read_sensitivity(digits, path)
