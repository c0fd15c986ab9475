"""`ffebm report`, and `--report` of compile."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from ffebm.plan.plan import load_plan
from ffebm.report.facts.comparison import Comparison
from ffebm.report.facts.facts import Facts, facts
from ffebm.report.page import facts_of
from ffebm.studies.gradcheck.certificate import load_certificate
from tests.models import Builder
from tests.running import Run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    b = Builder()
    x = b.input("x", "N", 4)
    y = b.node("MatMul", b.node("Relu", b.node("MatMul", x, b.weight(4, 6))), b.weight(6, 3))
    path = tmp_path / "net.onnx"
    onnx.save(b.model(y), path)
    return path


@pytest.fixture
def plan(model: Path, run: Run) -> Path:
    path = model.with_name("net.plan")
    assert run("compile", model, "-o", path)[0] == 0
    return path


def test_a_page_and_its_data(plan: Path, run: Run, tmp_path: Path) -> None:
    page, data = tmp_path / "deep" / "r.html", tmp_path / "r.json"
    code, out, err = run("report", plan, "-o", page, "--json", data)
    assert (code, err) == (0, "")
    assert out == f"data written to {data}\nreport written to {page}\n"
    wanted = facts(load_plan(plan))
    assert facts_of(page.read_text(encoding="utf-8")) == wanted
    assert msgspec.json.decode(data.read_bytes(), type=Facts) == wanted


def test_compile_writes_a_report_beside_the_plan(model: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p"
    code, out, _ = run("compile", model, "-o", path, "--report")
    assert code == 0
    assert out.endswith(f"plan written to {path}\nreport written to {path}.html\n")
    assert facts_of((tmp_path / "p.html").read_text(encoding="utf-8")) == facts(load_plan(path))
    assert run("compile", model, "-o", path, "--report")[0] == 0


def test_a_run_is_on_the_page(plan: Path, run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :3].argmax(1))
    record = tmp_path / "run"
    assert run("train", plan, "--data", tmp_path / "data.npz", "--epochs", "2", "--run", record)[0] == 0
    assert run("report", plan, "-o", tmp_path / "r.html", "--run", record)[0] == 0
    found = facts_of((tmp_path / "r.html").read_text(encoding="utf-8")).run
    assert found is not None
    assert [epoch.epoch for epoch in found.epochs] == [1, 2]
    assert ("epochs", "2") in found.settings


def test_the_run_of_another_model_is_refused(plan: Path, model: Path, run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz", x=rng.standard_normal((40, 4)).astype(np.float32), y=rng.integers(0, 3, 40)
    )
    record = tmp_path / "run"
    assert run("train", plan, "--data", tmp_path / "data.npz", "--epochs", "1", "--run", record)[0] == 0
    b = Builder(seed=1)
    onnx.save(b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3))), model)
    assert run("compile", model, "-o", plan)[0] == 0
    code, _, err = run("report", plan, "-o", tmp_path / "r.html", "--run", record)
    assert code == 2
    assert err == (
        f"error: {record}: the run trained another model than net.onnx; a run of this plan's model\n"
        "  hint: `ffebm train PLAN` leaves its record in PLAN.run\n"
    )
    assert not (tmp_path / "r.html").exists()


def test_a_certificate_and_a_study_are_on_the_page(plan: Path, run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :3].argmax(1))
    certificate, study, page = tmp_path / "c.json", tmp_path / "s.json", tmp_path / "r.html"
    assert run("gradcheck", plan, "-o", certificate)[0] == 0
    options = ("--data", tmp_path / "data.npz", "--noise", "1", "--bits", "4", "--drop", "5")
    assert run("sensitivity", plan, *options, "-o", study)[0] == 0
    data = tmp_path / "r.json"
    given = ("--certificate", certificate, "--sensitivity", study)
    assert run("report", plan, "-o", page, "--json", data, *given)[0] == 0
    for found in (facts_of(page.read_text("utf-8")), msgspec.json.decode(data.read_bytes(), type=Facts)):
        assert found.certificate == load_certificate(certificate)
        record = msgspec.json.decode(study.read_bytes())
        assert found.sensitivity is not None
        assert [unit.name for unit in found.sensitivity.units] == [unit["name"] for unit in record["units"]]
        assert [offer.accuracy for offer in found.sensitivity.offers] == [
            offer["accuracy"] for offer in record["offers"]
        ]
        assert [p.cosine for p in found.sensitivity.points] == [p["cosine"] for p in record["points"]]


def test_the_certificate_of_another_plan_leaves_no_page(
    plan: Path, model: Path, run: Run, tmp_path: Path
) -> None:
    certificate = tmp_path / "c.json"
    assert run("gradcheck", plan, "--no-sweeps", "-o", certificate)[0] == 0
    assert run("compile", model, "-o", tmp_path / "ideal", "--hardware", "ideal")[0] == 0
    code, _, err = run("report", tmp_path / "ideal", "-o", tmp_path / "r.html", "--certificate", certificate)
    assert code == 2
    assert err == (
        f"error: {certificate}: the certificate is of another machine: reference; one of this plan's: ideal\n"
        "  hint: `ffebm gradcheck PLAN` writes PLAN.gradcheck.json\n"
    )
    assert not (tmp_path / "r.html").exists()


def test_two_plans(plan: Path, model: Path, run: Run, tmp_path: Path) -> None:
    other, page, data = tmp_path / "other", tmp_path / "c.html", tmp_path / "c.json"
    assert run("compile", model, "-o", other, "--block-size", "2")[0] == 0
    code, out, _ = run("report", plan, other, "-o", page, "--json", data)
    assert (code, out) == (0, f"data written to {data}\nreport written to {page}\n")
    found = msgspec.json.decode(data.read_bytes(), type=Comparison)
    assert found.names == (str(plan), str(other))
    assert {entry.change for entry in found.moved} == {"other block"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "none.plan"], "error: none.plan: there is no such folder"),
        (["report", "PLAN", "--run", "none"], "error: none: there is no such folder"),
        (
            ["report", "PLAN", "-o", "/proc/x/r.html"],
            "error: /proc/x/r.html: cannot be written: No such file",
        ),
        (
            ["report", "PLAN", "PLAN", "--run", "x"],
            "error: --run with two plans\n  hint: show it with one plan: ffebm report PLAN --run x\n",
        ),
        (
            ["report", "PLAN", "PLAN", "--certificate", "x"],
            "error: --certificate with two plans\n  hint: show it with one plan: ffebm report PLAN "
            "--certificate x\n",
        ),
        (
            ["report", "PLAN", "PLAN", "--sensitivity", "x"],
            "error: --sensitivity with two plans\n  hint: show it with one plan: ffebm report PLAN "
            "--sensitivity x\n",
        ),
        (["report", "PLAN", "--certificate", "none"], "error: none: cannot be read: No such file"),
        (["report", "PLAN", "--sensitivity", "none"], "error: none: cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_message(arguments: list[str], message: str, plan: Path, run: Run) -> None:
    before = sorted(plan.parent.iterdir())
    code, _, err = run(*[str(plan) if argument == "PLAN" else argument for argument in arguments])
    assert code == 2
    assert err.startswith(message)
    assert err.count("error: ") == 1
    assert sorted(plan.parent.iterdir()) == before
