"""`ffebm gradcheck`: what it prints and writes, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ffebm.studies.gradcheck.certificate import load_certificate
from tests.models import Builder
from tests.running import Run


@pytest.fixture
def plan(run: Run, tmp_path: Path) -> Path:
    b = Builder()
    x = b.node("Sigmoid", b.node("Gemm", b.input("x", "N", 4), b.weight(4, 6, name="first"), b.weight(6)))
    onnx.save(b.model(b.node("MatMul", x, b.weight(6, 3, name="second"))), tmp_path / "model.onnx")
    path = tmp_path / "plan"
    assert (
        run("compile", tmp_path / "model.onnx", "-o", path, "--hardware", "ideal", "--block-size", "2")[0]
        == 0
    )
    return path


def test_tables_certificate_and_picture(run: Run, plan: Path, tmp_path: Path) -> None:
    code, out, _ = run("gradcheck", plan, "--samples", "3", "--beta", "0.01")
    assert code == 0
    found = load_certificate(tmp_path / "plan.gradcheck.json")
    row = next(row for row in found.fidelity if row.weight == "first")
    assert row.cosine is not None
    line = next(line for line in out.splitlines() if line.startswith("first"))
    assert line.split()[:3] == ["first", "block0", f"{row.cosine:.6f}"]
    assert "EP(beta=0.01, points=2, cost=False, relative=None) against the exact adjoint in 64 bits" in out
    assert "3 standard normal samples; batch normalisation in train mode; 64 bits" in out
    assert (tmp_path / "plan.gradcheck.svg").read_text().startswith("<svg")


def test_options_reach_the_check(run: Run, plan: Path, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "data.npz", x=np.random.default_rng(0).random((20, 4), np.float32), y=np.arange(20) % 3
    )
    certificate = tmp_path / "c.json"
    options = ("--data", tmp_path / "data.npz", "--samples", "5", "--gradient", "implicit", "--no-sweeps")
    more = ("--single", "--eval", "--target", "0.9", "-o", certificate, "--svg", tmp_path / "c.svg")
    assert run("gradcheck", plan, *options, *more)[0] == 0
    found = load_certificate(certificate)
    assert (found.samples, found.precision, found.mode) == (5, "32 bits", "eval")
    assert found.estimator.startswith("Implicit")
    assert (found.betas, found.truncations) == ((), ())
    assert (found.target, len(found.needs)) == (0.9, 1)
    assert (tmp_path / "c.svg").exists()


def test_samples_of_a_file(run: Run, plan: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((4, 4), np.float32))
    assert run("gradcheck", plan, "--input", tmp_path / "x.npz", "--no-sweeps", "--samples", "2")[0] == 0
    assert load_certificate(tmp_path / "plan.gradcheck.json").data == "the first 2 samples of x.npz"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beta", "soon"), "error: beta is soon; a finite number other than 0, or auto\n"),
        (("--target", "2"), "error: a target cosine of 2.0; between 0 and 1\n"),
        (("--gradient", "best"), "error: gradient 'best'; ep, implicit, unrolled\n"),
        (("--data", "digits", "--input", "x.npz"), "error: --data and --input; one of them\n"),
        *(
            (
                ("--data-folder", "x", *rest),
                "error: --data-folder without --data\n  hint: name the data with --data\n",
            )
            for rest in ((), ("--input", "x.npz"))
        ),
        (
            ("--data-folder", "x", "--data", "digits"),
            "error: digits is read from no folder, but x is named\n  hint: leave --data-folder out\n",
        ),
    ],
)
def test_bad_options(run: Run, plan: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    assert run("gradcheck", plan, *options) == (2, "", message)
    assert not (tmp_path / "plan.gradcheck.json").exists()


def test_strengths_that_do_alike_are_one_row(run: Run, tmp_path: Path) -> None:
    b = Builder()
    onnx.save(b.model(b.node("MatMul", b.input("x", "N", 4), b.weight(4, 3, name="w"))), tmp_path / "m.onnx")
    run("compile", tmp_path / "m.onnx", "-o", tmp_path / "plan", "--hardware", "ideal")
    code, out, _ = run("gradcheck", tmp_path / "plan", "--samples", "3")
    assert code == 0
    rows = out.split("nudging strength")[1].splitlines()[2:]
    # a linear layer answers alike to every strength
    assert [row.split() for row in rows if row.endswith("1.000000")] == [
        ["5", "to", "0.001", "<1e-12", "1.000000"]
    ]
    assert "power of" not in out
