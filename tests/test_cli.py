"""The commands: what they print, and what bad input gets."""

import os
import platform
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import ffebm
from ffebm import cli
from ffebm.commands.catalogue import COMMANDS
from ffebm.plan.plan import load_plan
from ffebm.recipes.beyond import BEYOND
from ffebm.recipes.catalogue import ALL
from ffebm.recipes.paper import RECIPES
from ffebm.report.terminal.words import compile_words
from ffebm.training.runs.checkpoint import load_checkpoint
from tests.files.test_lock import holding
from tests.running import Run

HEADS = re.compile(r"^(\w+) -+$", re.MULTILINE)
"""Heads of sections."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network of two dense layers for samples of four numbers and three classes."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((4, 6)).astype(np.float32),
        "b1": np.zeros(6, np.float32),
        "w2": rng.standard_normal((6, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["u1"], "hidden"),
        helper.make_node("Relu", ["u1"], ["s1"], "relu"),
        helper.make_node("MatMul", ["s1", "w2"], ["logits"], "readout"),
        helper.make_node("Softmax", ["logits"], ["y"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def plan(model: Path, run: Run) -> Path:
    path = model.with_name("net.plan")
    assert run("compile", model, "-o", path, "--hardware", "ideal")[0] == 0
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    path = tmp_path / "data.npz"
    np.savez(path, x=x, y=x[:, :3].argmax(1))
    return path


def test_the_version_is_that_of_the_package(run: Run) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert run("--version") == (0, f"ffebm {project['project']['version']}\n", "")


def test_compile_writes_a_plan_and_prints_its_summary(model: Path, run: Run, tmp_path: Path) -> None:
    code, out, err = run("compile", model, "-o", tmp_path / "p", "--hardware", "reference")
    assert (code, err) == (0, "")
    assert out == load_plan(tmp_path / "p").summary() + f"plan written to {tmp_path / 'p'}\n"


def test_options_of_compile_reach_the_plan(model: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p"
    options = ["--block-size", "1,1", "--boundary", "digital", "--free-sweeps", "7", "--nudged-sweeps", "5"]
    options += [
        "--tol",
        "1e-3",
        "--start",
        "feedforward",
        "--relaxation",
        "0.5",
        "--anderson",
        "3",
        "--winners",
        "shared",
        "--strict",
    ]
    assert run("compile", model, "-o", tmp_path / "auto", "--relaxation", "auto")[0] == 0
    assert load_plan(tmp_path / "auto").settle.relaxation == "auto"
    assert run("compile", model, "-o", path, *options, "--dim", "N=2", "--fold-batch-norm")[0] == 0
    plan = load_plan(path)
    assert (plan.options.block_size, plan.options.boundary) == ((1, 1), "digital")
    assert (plan.options.dims, plan.options.fold_batch_norm, plan.batch) == ({"N": 2}, True, 2)
    settle = msgspec.structs.asdict(plan.settle)
    assert settle == {
        "free_sweeps": 7,
        "nudged_sweeps": 5,
        "tol": 1e-3,
        "start": "feedforward",
        "relaxation": 0.5,
        "anderson": 3,
        "winners": "shared",
        "strict": True,
        "settling": "sweeps",
    }


def test_print_passes_prints_the_graph_after_each(model: Path, run: Run, tmp_path: Path) -> None:
    out = run("compile", model, "-o", tmp_path / "p", "--print-passes")[1]
    assert "--- canonicalize\ngraph net (x) -> (y) at CANONICAL from " in out
    assert out.index("--- fold-constants") < out.index("--- partition") < out.index("--- placement")


def test_explain_gives_every_node_a_unit_and_a_reason(plan: Path, run: Run) -> None:
    code, out, _ = run("explain", plan)
    assert code == 0
    assert out == (
        "hidden (Gemm, 24 MACs): tile block0\n"
        "    linear map with a stationary weight, into layer 1 of 1 in block0\n"
        "relu (Relu): tile block0\n"
        "    activation of layer 1 of 1 in block0\n"
        "readout (MatMul, 18 MACs): tile block1\n"
        "    linear map with a stationary weight, into layer 1 of 1 in block1\n"
        "softmax (Softmax): digital\n"
        "    couples the units of a layer, so it is no activation of an energy\n"
        "\n"
        "on tiles: 100.0 % of multiply-accumulates, 87.5 % of weights\n"
        "digital because:\n"
        "  1 node, 0.0 % of multiply-accumulates, 0.0 % of weights:\n"
        "      couples the units of a layer, so it is no activation of an energy\n"
        "\n"
        "trains:\n"
        "  w1, b1, w2\n"
    )


def test_explain_one_node(plan: Path, run: Run) -> None:
    out = run("explain", plan, "--node", "Softmax")[1]
    assert out.startswith("softmax (Softmax): digital\n")
    assert out.endswith("1 of 4 nodes\n")


def test_show_prints_the_flow(plan: Path, run: Run) -> None:
    assert run("show", plan, "--section", "flow")[1] == (
        "  input x: float32 N×4\n"
        "    |\n"
        "  +- block0 --------------------------+\n"
        "  | tile 0; 100 ns†, 0 J an inference |\n"
        "  | s1 [6] = Relu(MatMul)             |\n"
        "  +-----------------------------------+\n"
        "    |\n"
        "  +- block1 --------------------------+\n"
        "  | tile 0; 100 ns†, 0 J an inference |\n"
        "  | logits [3] = Identity(MatMul)     |\n"
        "  +-----------------------------------+\n"
        "    |\n"
        "  .. segment0 .........................\n"
        "  : digital; 18 ps†, 0 J an inference :\n"
        "  : softmax = Softmax [N×3]           :\n"
        "  .....................................\n"
        "    |\n"
        "  output y: float32 N×3, from segment0\n"
    )


def test_show_prints_every_section(plan: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = run("show", plan)[1]
    assert " ".join(HEADS.findall(out)) == "summary flow tiles time memory costs settling options digital"
    lines = out.splitlines()
    assert max(map(len, lines)) == 80
    assert all(line == line.rstrip() for line in lines)
    monkeypatch.setenv("COLUMNS", "120")
    assert max(map(len, run("show", plan)[1].splitlines())) == 120


def test_show_prints_chosen_sections_once(plan: Path, run: Run) -> None:
    sections = ["--section", "tiles", "--section", "digital", "--section", "tiles"]
    out = run("show", plan, *sections)[1]
    assert HEADS.findall(out) == ["tiles", "digital"]


def test_show_prints_sections_and_writes_files(plan: Path, run: Run, tmp_path: Path) -> None:
    out = run("show", plan, "--section", "tiles", "--dot", tmp_path / "p.dot")[1]
    assert out.startswith("held for ")
    assert out.endswith(f"graph written to {tmp_path / 'p.dot'}\n")


def test_other_encodings_get_plain_characters(plan: Path) -> None:
    """A stream that is not in Unicode lacks neither a figure nor a name."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", "from ffebm.cli import main; main()", "show", str(plan)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    text = done.stdout.decode("ascii")
    assert "1.000 x lower bound" in text
    assert "input x: float32 Nx4" in text


def test_wicked_names_reach_no_terminal(model: Path, run: Run, tmp_path: Path) -> None:
    wicked = model.with_name("<b>\x1b[31m\nü🦉.onnx")
    model.rename(wicked)
    for command in (["compile", wicked, "-o", tmp_path / "w.plan"], ["compile", f"{wicked}.none"]):
        out, err = run(*command)[1:]
        assert "\x1b" not in out + err
        assert "<b>␛[31m" in out + err


def test_show_refuses_an_unknown_section(plan: Path, run: Run) -> None:
    code, out, err = run("show", plan, "--section", "price")
    allowed = "summary, flow, tiles, time, memory, costs, settling, options, digital"
    assert (code, out, err) == (2, "", f"error: --section price; {allowed}\n")


def test_show_draws_a_picture(plan: Path, run: Run, tmp_path: Path) -> None:
    assert run("show", plan, "--svg", tmp_path / "p.svg")[0] == 0
    drawn = (tmp_path / "p.svg").read_text(encoding="utf-8")
    assert drawn.count('class="tile"') == 2
    assert drawn.count('class="digital"') == 1
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_run_checks_against_onnxruntime(plan: Path, model: Path, run: Run, tmp_path: Path) -> None:
    x, y = tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(x, x=np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32))
    code, out, _ = run("run", plan, "--input", x, "--output", y, "--check", model, "--tolerance", "1e-5")
    assert code == 0
    assert out.startswith("y: largest error ")
    assert "same largest element in 100.00 % of samples" in out
    assert np.load(y)["y"].shape == (5, 3)


def test_run_fails_where_outputs_differ(plan: Path, model: Path, run: Run, tmp_path: Path) -> None:
    other = onnx.load(model)
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 6), np.float32), "w1"))
    onnx.save(other, tmp_path / "other.onnx")
    x, y = tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(x, x=np.ones((2, 4), np.float32))
    arguments = ["run", plan, "--input", x, "--output", y, "--check", tmp_path / "other.onnx"]
    code, _, err = run(*arguments, "--tolerance", "1e-4")
    assert code == 2
    assert err.startswith("error: y differs from other.onnx by ")
    assert not y.exists()


def test_a_nan_is_within_no_tolerance(plan: Path, model: Path, run: Run, tmp_path: Path) -> None:
    x = tmp_path / "x.npz"
    np.savez(x, x=np.full((2, 4), np.nan, np.float32))
    code, _, err = run("run", plan, "--input", x, "--check", model, "--tolerance", "1")
    assert code == 2
    assert "error: y differs from net.onnx by nan of its largest" in err


def test_adc_ranges_are_calibrated_and_said_so(model: Path, data: Path, run: Run, tmp_path: Path) -> None:
    plan, x, y = tmp_path / "tiles.plan", tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(x, x=np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32))
    assert run("compile", model, "-o", plan, "--hardware", "reference")[0] == 0
    words = "ADC ranges: 3.92 standard deviations of what lines carry"
    assert run("run", plan, "--input", x, "--output", y)[2] == f"{words} for uniform inputs\n"
    uniform = np.load(y)["y"]
    assert run("run", plan, "--input", x, "--output", y, "--calibrate", data)[2] == f"{words} on 48 samples\n"
    assert not np.array_equal(np.load(y)["y"], uniform)
    out = run("train", plan, "--data", data, "--epochs", "1", "--run", tmp_path / "r")[1]
    assert out.startswith(f"{words} on 48 samples, after 0, 1, 2, 4, 8 … steps of each epoch\n")
    assert f"{words} on 48 samples\n" in run("gradcheck", plan, "--data", data)[1]
    assert f"{words} for uniform inputs\n" in run("gradcheck", plan)[1]


@pytest.mark.parametrize("options", [("ideal",), ("reference", "--digital", "w1", "--digital", "w2")])
def test_without_analog_weights_there_are_no_ranges(
    options: tuple[str, ...], model: Path, data: Path, run: Run, tmp_path: Path
) -> None:
    plan, x, y = tmp_path / "exact.plan", tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(x, x=np.ones((2, 4), np.float32))
    assert run("compile", model, "-o", plan, "--hardware", *options)[0] == 0
    assert run("run", plan, "--input", x, "--calibrate", data) == (
        2,
        "",
        "error: the plan has no ADC ranges that follow data; weights on crossbars, clocked settling, "
        "range 'calibrated' or 'column', calibration 'data'\n"
        "  hint: leave --calibrate out\n",
    )
    code, out, err = run("run", plan, "--input", x, "--output", y)
    low, high = np.load(y)["y"].min(), np.load(y)["y"].max()
    assert (code, err) == (0, "")
    assert out == f"y: float32 [2, 3], {low:.4g} to {high:.4g}\noutputs written to {y}\n"
    assert run("run", plan, "--input", x) == (0, out.splitlines(keepends=True)[0], "")
    out = run("train", plan, "--data", data, "--epochs", "1", "--run", tmp_path / "r")[1]
    assert out.startswith(
        "loss: cross-entropy of output 'y', by the log of its probabilities\nepoch   1  loss "
    )
    assert load_checkpoint(tmp_path / "r").record.calibration == ""


def test_names_are_printed_as_they_are(plan: Path, run: Run) -> None:
    assert run("explain", plan, "--node", ":x:")[1] == "0 of 4 nodes\n"
    assert ":x:" in run("explain", "plan:x:none")[2]


def test_help_of_data_is_the_same_everywhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    data = (
        "digits, python-manual, fashion-mnist, cifar-10, cifar-100, imagenet32, a package's, or an .npz "
        "with x (or an array for each input, by its name) and y."
    )
    folder = "Where the data's files are. [default: Debian's, for fashion-mnist]"
    for command, texts in (
        ("train", (data, folder)),
        ("sensitivity", (data, folder)),
        ("gradcheck", (folder,)),
        ("run", (folder,)),
    ):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert all(text in out for text in texts)


def test_train_resumes_to_the_same_weights(plan: Path, data: Path, run: Run, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    settings = ["--data", data, "--batch", "8", "--optimizer", "sgd", "--lr", "0.1", "--momentum", "0.9"]
    code, out, _ = run("train", plan, *settings, "--epochs", "4", "--run", whole)
    assert code == 0
    assert out.count("epoch ") == 4
    assert f"run recorded in {whole}\n" in out
    assert run("train", plan, *settings, "--epochs", "2", "--run", halves)[0] == 0
    assert run("train", plan, "--resume", "--epochs", "4", "--run", halves)[0] == 0
    one, two = load_checkpoint(whole), load_checkpoint(halves)
    assert all(np.array_equal(one.weights[name], two.weights[name]) for name in one.weights)
    assert [e.loss for e in one.record.epochs] == [e.loss for e in two.record.epochs]
    assert one.record.epochs[-1].loss < one.record.epochs[0].loss


def test_one_process_trains_in_a_run_folder(plan: Path, data: Path, run: Run) -> None:
    folder = plan.with_name("net.plan.run")
    process = holding(folder)
    for options in (["--data", data], ["--resume"]):
        code, _, err = run("train", plan, *options)
        head, _, hint = err.partition(" since ")
        assert code == 2
        assert head == (
            f"error: {folder}: another process trains in it: process {process.pid} on {platform.node()}"
        )
        assert hint.endswith("\n  hint: wait until it ends, or name another folder with --run\n")
        assert not folder.exists()
    process.communicate()  # it is killed
    assert run("train", plan, "--data", data, "--epochs", "1")[0] == 0
    hidden = [path.name for path in plan.parent.iterdir() if path.name.startswith(".")]
    assert hidden == []


def test_one_process_continues_a_study(plan: Path, run: Run) -> None:
    process = holding(plan.with_name("net.plan.sensitivity.json"))
    code, _, err = run("sensitivity", plan, "--data", "digits")
    assert code == 2
    assert f"net.plan.sensitivity.json: another process continues the study: process {process.pid} on " in err
    process.communicate()


def test_resuming_without_a_run_folder(plan: Path, run: Run) -> None:
    assert run("train", plan, "--resume") == (
        2,
        "",
        f"error: {plan}.run: there is no such folder\n  hint: `ffebm train PLAN --data DATA` makes one\n",
    )


def test_trained_model_runs_in_onnxruntime(plan: Path, data: Path, run: Run, tmp_path: Path) -> None:
    assert run("train", plan, "--data", data, "--epochs", "2", "--run", tmp_path / "r")[0] == 0
    trained = tmp_path / "r" / "trained.onnx"
    again, x, y = tmp_path / "again.plan", tmp_path / "x.npz", tmp_path / "y.npz"
    np.savez(x, x=np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32))
    assert run("compile", trained, "-o", again, "--hardware", "ideal")[0] == 0
    assert run("run", again, "--input", x, "--output", y, "--check", trained, "--tolerance", "1e-5")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "MODEL", "--block-size", "0"], "block size 0; a whole number of at least 1, or a list"),
        (["compile", "MODEL", "--block-size", "x"], "--block-size x; a whole number, or several separated"),
        (["compile", "MODEL", "--boundary", "x"], "--boundary x; tile or digital"),
        (["compile", "MODEL", "--start", "x"], "--start x; zero or feedforward"),
        (["compile", "MODEL", "--tol", "0"], "--tol 0.0; more than 0"),
        (["compile", "MODEL", "--relaxation", "2"], "--relaxation 2; between 0 and 2, or auto"),
        (["compile", "MODEL", "--relaxation", "fast"], "--relaxation fast; between 0 and 2, or auto"),
        (["compile", "MODEL", "--dim", "N"], "--dim N; NAME=SIZE with a size of at least 1"),
        (["compile", "MODEL", "--dim", "M=3"], "net.onnx: no input has a dimension named 'M'"),
        (
            ["compile", "MODEL", "--hardware", "x"],
            "no hardware description 'x'; shipped are hermes, hermes-fast,",
        ),
        (["compile", "none.onnx"], "none.onnx: there is no such file"),
        (["explain", "none.plan"], "none.plan: there is no such folder"),
        (["explain", "MODEL"], "net.onnx: a file; a plan is a folder"),
        (["train", "PLAN"], "no --data; digits, fashion-mnist …, or the path of an .npz file"),
        (["train", "PLAN", "--data", "x"], "no data is called 'x'; digits, python-manual, "),
        (["train", "PLAN", "--data", "DATA", "--optimizer", "x"], "no optimiser is called 'x'; ASGD, "),
        (
            ["train", "PLAN", "--data", "DATA", "--optimizer", "adam", "--momentum", "1"],
            "Adam takes no momentum",
        ),
        (["train", "PLAN", "--data", "DATA", "--gradient", "x"], "gradient 'x'; ep, implicit, unrolled"),
        (["train", "PLAN", "--data", "DATA", "--schedule", "x"], "schedule 'x'; constant, cosine, step"),
        (["train", "PLAN", "--data", "DATA", "--device", "x"], "device 'x' cannot be used: "),
        (["train", "PLAN", "--data", "DATA", "--clip-norm", "inf"], "clip_norm is inf; a finite number"),
        (["train", "PLAN", "--data", "DATA", "--settings", "CLIP"], "clip_norm is inf; a finite number"),
        (["train", "PLAN", "--data", "DATA", "--mean", "x"], "--mean x; a number, or several separated"),
        (
            ["train", "PLAN", "--data", "DATA", "--freeze", "w3"],
            "no weight is called 'w3', so none is frozen",
        ),
        (["train", "PLAN", "--data", "DATA", "--flip"], "a sample of data.npz is [4], no image"),
        (
            ["train", "PLAN", "--settings", "none.toml"],
            "none.toml: cannot be read: No such file or directory\n",
        ),
        (["train", "PLAN", "--resume"], "net.plan.run: there is no such folder"),
        (["recipe", "x"], "no recipe is called 'x'; static-gradients, splitting-small-6, "),
        (["recipe", "splitting-small-6", "--width", "0"], "width 0.0; a factor above 0 and at most 4"),
        (["recipe", "splitting-small-6", "--feedback", "0"], "feedback 0.0; at least 0.001, and at most 1"),
        (
            ["recipe", "deep-resistive-1h", "--feedback", "0.5"],
            "feedback 0.5 of a deep resistive network; recipes of other blocks",
        ),
        (
            ["recipe", "transformer", "--feedback", "0.5"],
            "no feedback to choose: transformer over characters, ",
        ),
        (["recipe", "splitting-small-6", "--data", "x"], "this recipe does not train on 'x'; cifar-10, "),
        (
            ["run", "PLAN", "--input", "none.npz"],
            "none.npz: cannot be read: No such file or directory; an .npz file\n",
        ),
        (
            ["run", "PLAN", "--input", "OTHER"],
            "other.npz: it holds arrays ['z']; one for each input: ['x']",
        ),
        (["run", "PLAN", "--input", "DATA", "--tolerance", "1"], "--tolerance without --check"),
        (["run", "PLAN", "--input", "DATA", "--data-folder", "x"], "--data-folder without --calibrate"),
        (["train", "PLAN", "--data", "DATA", "--data-folder", "x"], "data.npz is read from no folder, but x"),
        (["sensitivity", "PLAN", "--data", "digits", "--data-folder", "x"], "digits is read from no folder"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], message: str, plan: Path, model: Path, data: Path, run: Run
) -> None:
    clip = model.with_name("clip.toml")
    clip.write_text("clip_norm = inf\n")
    other = model.with_name("other.npz")
    np.savez(other, z=np.ones(2))
    names = {"PLAN": plan, "MODEL": model, "DATA": data, "CLIP": clip, "OTHER": other}
    before = sorted(plan.parent.iterdir())
    code, _, err = run(*[names.get(argument, argument) for argument in arguments])
    assert code == 2
    assert "Traceback" not in err
    assert message in err
    assert err.count("error: ") == 1
    assert sorted(plan.parent.iterdir()) == before


def test_a_second_run_does_not_overwrite_the_first(plan: Path, data: Path, run: Run) -> None:
    assert run("train", plan, "--data", data, "--epochs", "1")[0] == 0
    code, _, err = run("train", plan, "--data", data, "--epochs", "1")
    assert code == 2
    assert err == (
        f"error: there is a run in {plan}.run already\n"
        "  hint: --resume continues it; --run names another folder\n"
    )


def test_resuming_with_other_settings_is_refused(plan: Path, data: Path, run: Run) -> None:
    assert run("train", plan, "--data", data, "--epochs", "1")[0] == 0
    code, _, err = run("train", plan, "--resume", "--lr", "0.5", "--beta", "0.2")
    assert code == 2
    assert err == (
        f"error: {plan}.run: the run was started with other settings: lr = 0.001, beta = 0.1; "
        "now asked for: lr = 0.5, beta = 0.2\n"
        "  hint: resume with the same settings (--epochs may grow unless the schedule ends with it)\n"
    )


def test_recipes_are_listed(run: Run) -> None:
    code, out, err = run("recipe")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [*ALL, *BEYOND]
    assert lines[1] == (
        "splitting-small-6      splitting, 6 layers at block size 6; "
        "at most 60 free and 20 nudged sweeps; cifar-10"
    )
    assert lines[-1].startswith("residual               beyond the paper: residual network on digits, ")
    assert lines[-1].endswith("; digits")


def test_recipes_are_listed_by_what_they_train_on(run: Run) -> None:
    code, out, err = run("recipe", "--data", "digits")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["deep-resistive-1h", "residual"]
    allowed = "cifar-10, cifar-100, imagenet32, fashion-mnist, digits, python-manual"
    assert run("recipe", "--data", "x") == (2, "", f"error: no recipe trains on 'x'; {allowed}\n")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--output", "p"), ("--seed", "3"), ("--hold-norm", "1"), ("--feedback", "1"), ("--hardware", "isaac")],
)
def test_a_list_of_recipes_ignores_no_option(run: Run, option: str, value: str) -> None:
    message = f"error: {option} without the name of a recipe\n  hint: `ffebm recipe` lists them\n"
    assert run("recipe", option, value) == (2, "", message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--width", "0.5"), "--width with the recipe 'residual'; published experiments"),
        (("--time",), "--time with the recipe 'residual'; published experiments"),
        (("--data", "cifar-10"), "'residual' does not train on 'cifar-10'; digits"),
    ],
)
def test_what_recipes_beyond_the_paper_do_not_take(run: Run, options: tuple[str, ...], message: str) -> None:
    assert run("recipe", "residual", *options) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        ("-1", "hold_norm is -1; a finite number above 0, or one and a name: 0.8,layer1.*"),
        (
            "0.5,absent",
            "no weight that trains in an energy block is called 'absent', so none is held; a2.weight, "
            "b1.weight, b2.weight, b3.weight, inside.weight, across.weight\n"
            "  hint: the norm may be followed by a name: --hold-norm 0.8,NAME, where * stands for anything",
        ),
    ],
)
def test_a_norm_that_holds_nothing_writes_no_recipe(
    run: Run, tmp_path: Path, norm: str, message: str
) -> None:
    options = ("-o", tmp_path / "r.plan", "--hold-norm", norm)
    assert run("recipe", "residual", *options) == (2, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_recipe_beyond_the_paper_is_written_and_trained(run: Run, tmp_path: Path) -> None:
    plan, settings = tmp_path / "r.plan", tmp_path / "r.plan.toml"
    code, out, err = run("recipe", "residual", "-o", plan, "--hold-norm", "0.5")
    assert (code, err) == (0, "")
    assert out.endswith(f"train it: ffebm train {plan} --settings {settings}\n")
    few = ("--epochs", "1", "--batch", "512", "--warmup", "0")
    code, out, err = run("train", plan, "--settings", settings, *few)
    assert code == 0
    assert out.startswith(
        "largest norm 0.5: a2.weight, b2.weight, b3.weight, inside.weight\nepoch   1  loss "
    )


@pytest.mark.parametrize(
    ("name", "options", "slopes"),
    [
        ("residual", (), [1.0, 0.05, 0.05, 1.0, 0.05]),
        ("residual", ("--feedback", "1"), [1.0] * 5),
        ("splitting-small-2", ("--feedback", "0.25", "--width", "0.01"), [0.25, 1.0] * 3),
    ],
)
def test_the_feedback_of_a_recipe_is_written_in_its_plan(
    run: Run, tmp_path: Path, name: str, options: tuple[str, ...], slopes: list[float]
) -> None:
    code, _, err = run("recipe", name, *options, "-o", tmp_path / "r.plan")
    assert (code, err) == (0, "")
    blocks = load_plan(tmp_path / "r.plan").blocks
    found = [layer.activation.scale for block in blocks for layer in block.layers]
    assert found == pytest.approx(slopes)


def test_a_narrow_recipe_is_measured(run: Run, tmp_path: Path) -> None:
    plan = tmp_path / "small.plan"
    options = ("--width", "0.01", "--data", "fashion-mnist", "--hold-norm", "none", "--time", "-o", plan)
    code, out, err = run("recipe", "splitting-small-2", *options)
    assert (code, err) == (0, "")
    last = out.splitlines()[-1]
    assert re.fullmatch(r"[\d.e-]+ s a step of 64 samples, from one of 32; [\d.e-]+ h for 10 epochs", last)
    assert "hold_norm" not in plan.with_name("small.plan.toml").read_text(encoding="utf-8")


def test_a_recipe_is_written_and_trained(run: Run, tmp_path: Path) -> None:
    """One line each: the second is the one that the first prints."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 40), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", rng.integers(0, 256, (n, 28, 28))),
            ("labels-idx1", np.arange(n) % 10),
        ):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(s.to_bytes(4, "big") for s in array.shape)
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    plan, settings = tmp_path / "small.plan", tmp_path / "small.plan.toml"
    code, out, err = run(
        "recipe", "splitting-small-2", "-o", plan, "--width", "0.03", "--data", "fashion-mnist", "--seed", "4"
    )
    assert (code, err) == (0, "")
    assert out.endswith(f"train it: ffebm train {plan} --settings {settings}\n")
    assert load_plan(plan).settle.free_sweeps == 8
    few = ["--epochs", "1", "--batch", "20", "--warmup", "0", "--data-folder", tmp_path]
    code, out, err = run("train", plan, "--settings", settings, *few)
    assert (code, err.strip()) == (0, "")
    assert out.startswith("largest norm 0.8: layer1.weight, layer3.weight, layer5.weight\nepoch   1  loss ")
    training = load_checkpoint(tmp_path / "small.plan.run").record.training
    expected = RECIPES["splitting-small-2"].settings("fashion-mnist", 4, width=0.03)
    assert training == msgspec.structs.replace(expected, epochs=1, batch=20, warmup=0)


def test_a_fault_of_ours_says_so(model: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ffebm.compiler.driver.compile_model", broken)
    code, _, err = run("compile", model)
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "please report it" in err


def sensitivity(run: Run, model: Path, data: Path, *options: str) -> tuple[int, str, str]:
    plan = model.with_name("tiles.plan")
    if not plan.exists():
        assert run("compile", model, "-o", plan, "--hardware", "reference")[0] == 0
    few = ["--noise", "1", "--bits", "2,8", "--samples", "12", "--probes", "10"]
    return run("sensitivity", plan, "--data", data, *few, *options)


def test_sensitivity_offers_a_partition_and_how_to_compile_it(model: Path, run: Run, data: Path) -> None:
    code, out, err = sensitivity(run, model, data, "--drop", "100")
    assert (code, err.strip()) == (0, "")
    assert out.startswith("ADC ranges: 3.92 standard deviations of what lines carry on 48 samples\n")
    assert "block0" in out
    table = out[out.index("partitions that") :].splitlines()
    assert [[cell.strip() for cell in row.strip("│").split("│")] for row in table if row.startswith("│")] == [
        ["by superposition", "100.00 %", "83.33 %", "83.33 %", "1", "162"],
        ["by work (baseline)", "100.00 %", "83.33 %", "83.33 %", "2", "120"],
    ]
    partition = model.with_name("tiles.partition.plan")
    command = f"ffebm-compile net.onnx --hardware reference -o {partition}"
    assert f"in the folder of the model and the machine, compile it with\n{command}\n" in out
    record = model.with_name("tiles.plan.sensitivity.json")
    held = msgspec.json.decode(record.read_bytes())
    assert [(offer["evaluations"], offer["passes"]) for offer in held["offers"]] == [(1, 162), (2, 120)]
    assert record.with_suffix(".svg").read_text().startswith("<svg")
    assert sensitivity(run, model, data, "--drop", "100") == (code, out, err)


def test_the_command_that_sensitivity_prints_compiles_the_partition(
    model: Path, run: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = resources.files("ffebm") / "hardware" / "reference.toml"
    coarse = re.sub(r"(?m)^bits = 8", "bits = 2", shipped.read_text(encoding="utf-8"))
    model.with_name("coarse.toml").write_text(coarse.replace('name = "reference"', 'name = "coarse"'))
    plan = model.with_name("tiles.plan")
    assert run("compile", model, "-o", plan, "--hardware", model.with_name("coarse.toml"))[0] == 0
    out = sensitivity(run, model, data, "--drop", "0", "--no-baseline")[1]
    words = shlex.split(next(line for line in out.splitlines() if line.startswith("ffebm-compile ")))
    monkeypatch.chdir(model.parent)
    before = load_plan("tiles.plan")
    assert run("compile", *words[1:])[0] == 0
    record = msgspec.json.decode(model.with_name("tiles.plan.sensitivity.json").read_bytes())
    (offer,) = record["offers"]
    assert offer["digital"]
    assert list(load_plan("tiles.partition.plan").options.digital) == offer["digital"]
    assert load_plan("tiles.plan") == before


def test_sensitivity_of_one_unit_of_a_torch_model(run: Run, data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plan = tmp_path / "torch.plan"
    ffebm.compile(torch.nn.Linear(4, 3), (torch.zeros(2, 4),), hardware="reference").save(plan)
    few = ["--noise", "1", "--bits", "", "--samples", "12", "--probes", "10"]
    code, out, err = run("sensitivity", plan, "--data", data, *few, "--drop", "100")
    assert (code, err.strip()) == (0, "")
    assert "on tiles; compile the model as before, with digital=()\n" in out
    record = msgspec.json.decode((tmp_path / "torch.plan.sensitivity.json").read_bytes())
    assert [offer["on_tiles"] for offer in record["offers"]] == [["block0"]] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "90", "--drop", "1"], "--keep and --drop; one of them"),
        (["--keep", "101"], "--keep 101.0; 0 to 100 per cent"),
        (["--by", "node"], "--by node; block or projection"),
        (["--bits", "2.5"], "--bits 2.5; numbers separated by commas, each 2 to 24, whole"),
        (["--noise", "-1"], "--noise -1; numbers separated by commas, each 0 or more"),
        (["--beta", "0"], "beta is 0; a finite number other than 0, or auto"),
    ],
)
def test_wrong_options_of_sensitivity(
    model: Path, run: Run, data: Path, options: list[str], message: str
) -> None:
    assert sensitivity(run, model, data, *options) == (2, "", f"error: {message}\n")
    assert not model.with_name("tiles.plan.sensitivity.json").exists()


def test_the_words_that_compile_a_plan_again_do(model: Path, run: Run) -> None:
    path, again = model.with_name("one.plan"), model.with_name("two.plan")
    options = ["--block-size", "1,1", "--free-sweeps", "7", "--tol", "0.001", "--strict", "--fold-batch-norm"]
    assert run("compile", model, "-o", path, *options, "--dim", "N=2", "--digital", "w1")[0] == 0
    name, file, *words = compile_words(load_plan(path))
    assert (name, file) == ("ffebm-compile", "net.onnx")
    assert run("compile", model, "-o", again, *words)[0] == 0
    assert load_plan(again) == load_plan(path)
    assert compile_words(load_plan(path), ["w2"])[-4:] == ["--digital", "w1", "--digital", "w2"]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_list_of_commands_says_what_each_says_itself(name: str) -> None:
    function = cli.command_of(name)
    assert (function.__doc__ or "").strip() == COMMANDS[name]
    assert function.__name__ == name


def test_every_command_is_listed() -> None:
    files = (Path(ffebm.__file__).parent / "commands").glob("*.py")
    texts = {path.stem: path.read_text(encoding="utf-8") for path in files}
    assert {name for name, text in texts.items() if f"\ndef {name}(" in text} == set(COMMANDS)


@pytest.mark.parametrize("words", [["--help"], ["compile", "--help"], ["--version"], []])
def test_help_is_no_error(words: list[str], run: Run) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0 if words else 2, "")
    assert "Usage" in out or out.startswith("ffebm ")


def test_an_unknown_command_is_one_message(run: Run) -> None:
    code, _, err = run("compil")
    assert code == 2
    assert "No such command 'compil'" in err
