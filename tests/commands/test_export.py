"""`ffebm export`: files, notes, and what is refused."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ffebm.exporters.catalogue import EXPORTERS
from tests.backends.exported import INPUTS, dense_plan
from tests.running import Run


@pytest.fixture
def export(run: Run) -> Run:
    """Runs `ffebm export`."""
    return partial(run, "export")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    dense_plan().save(tmp_path / "net.plan")
    return tmp_path / "net.plan"


@pytest.mark.parametrize("target", sorted({*EXPORTERS} - {"spice"}))  # which takes no clocked blocks
def test_every_format_is_written_whole_and_says_what_it_lacks(target: str, plan: Path, export: Run) -> None:
    code, out, err = export(plan, "--to", target)
    folder = plan.with_name(f"net.plan.{target}")
    exported = EXPORTERS[target](dense_plan())
    assert code == 0
    assert out == f"{', '.join(sorted(exported.files))} written to {folder}\n"
    assert err == "".join(f"note: {note}\n" for note in exported.notes)
    assert len(exported.notes) >= 2
    assert {f.name: f.read_bytes() for f in folder.iterdir() if f.name != "SHA256SUMS"} == exported.files
    assert sorted(p.name for p in plan.parent.iterdir()) == ["net.plan", folder.name]  # nothing half-written


def test_an_unchanged_export_is_replaced_an_edited_one_is_not(
    plan: Path, export: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert export(plan, "--to", "aihwkit", "-o", folder)[0] == 0
    assert export(plan, "--to", "aihwkit", "-o", folder)[0] == 0
    (folder / "rpu.py").write_text("mine")
    code, out, err = export(plan, "--to", "aihwkit", "-o", folder)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {folder} exists and is not an unchanged export of this kind: "
        "rpu.py is damaged: its SHA-256 digest differs; "
        "a new folder, an empty one, or an earlier export that nobody has edited\n"
        "  hint: move it away, or choose another path with -o\n"
    )
    assert (folder / "rpu.py").read_text() == "mine"


def test_other_folders_and_added_files_are_kept(plan: Path, export: Run, tmp_path: Path) -> None:
    code, _, err = export(plan, "--to", "zigzag", "-o", plan)
    assert code == 2
    assert "it holds no accelerator.yaml" in err
    folder = tmp_path / "out"
    assert export(plan, "--to", "zigzag", "-o", folder)[0] == 0
    (folder / "notes.txt").write_text("mine")
    code, _, err = export(plan, "--to", "zigzag", "-o", folder)
    assert code == 2
    assert "it holds 'notes.txt', which would be lost" in err
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_unknown_format_is_refused(plan: Path, export: Run) -> None:
    formats = "crosssim, aihwkit, zigzag, qonnx, spice"
    assert export(plan, "--to", "verilog") == (2, "", f"error: --to verilog; {formats}\n")


def test_samples_fix_the_scales_of_qonnx(plan: Path, export: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((9, INPUTS)).astype(np.float32))
    assert export(plan, "--to", "qonnx", "--data", tmp_path / "x.npz", "-o", tmp_path / "q")[0] == 0
    model = onnx.load(tmp_path / "q" / "segment0000.onnx")
    (scale,) = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "gate.dac.scale"]
    assert 1 / 13 / 127 < scale[0] < 1 / 127  # the largest of 13 shares, in 127 codes


def test_samples_are_refused_where_they_would_do_nothing(plan: Path, export: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, INPUTS), np.float32))
    assert export(plan, "--to", "crosssim", "--data", tmp_path / "x.npz") == (
        2,
        "",
        "error: --data with --to crosssim; --to qonnx, whose scales can be measured, or --to spice\n",
    )
    dense_plan("ideal").save(tmp_path / "ideal.plan")
    code, _, err = export(tmp_path / "ideal.plan", "--to", "qonnx", "--data", tmp_path / "x.npz")
    assert (code, err) == (2, "error: --data, but no digital segment drives a DAC\n  hint: leave it out\n")


def test_options_of_circuits_are_refused_for_other_formats(plan: Path, export: Run) -> None:
    for option in (("--run",), ("--block", "0")):
        code, out, err = export(plan, "--to", "zigzag", *option)
        assert (code, out, err) == (2, "", "error: --block or --run with --to zigzag; --to spice\n")


def test_blocks_that_settle_by_clocked_reads_are_no_circuits(plan: Path, export: Run) -> None:
    code, out, err = export(plan, "--to", "spice")
    assert (code, out) == (2, "")
    assert "block0 settles by clocked reads on 'tiles' of machine 'reference'" in err
    assert "hint: compile for a machine with continuous settling: --hardware resistive" in err
