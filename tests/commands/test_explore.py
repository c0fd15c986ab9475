"""`ffebm explore`: what it prints and writes, and what bad input gets."""

import csv
import shlex
from functools import partial
from pathlib import Path

import pytest
from arro3.io import read_parquet

import ffebm
from ffebm import cli
from ffebm.commands import explore
from ffebm.exploration.figures import FIGURES, MEASURED
from tests.exploration.models import BITS, small_model
from tests.running import Run, running

PRICED = [name for name in FIGURES if name not in MEASURED]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `ffebm explore model.onnx` in a folder of its own; exit code, standard output, standard error."""
    small_model(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    return partial(running(capsys), "explore", "model.onnx", "--jobs", "1")


def test_many_knobs_part_no_number_from_its_unit(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    joined = "analog.tiles.tile.rows+analog.tiles.tile.cols"
    bits = (f"{BITS}=4", f"{joined}=64", "analog.tiles.count=16")
    many = (*bits, "objective=latency", "block_size=1", "replicas=1", "batch=1")
    code, out, err = run(*(word for knob in many for word in ("--vary", knob)))
    assert (code, err.strip()) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.startswith(" 0 "))
    time, s, energy, j, area = row.split()[-5:]
    assert (s[-1], j[-1]) == ("s", "J")
    assert all(float(number) > 0 for number in (time, energy, area))


def test_no_word_is_parted_at_five_knobs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    joined = "analog.tiles.tile.rows+analog.tiles.tile.cols"
    few = (f"{joined}=64,128", f"{BITS}=4", "analog.tiles.count=16")
    five = (*few, "objective=analog,latency", "block_size=1")
    code, out, err = run(*(word for knob in five for word in ("--vary", knob)))
    assert (code, err.strip()) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[2:4]] == [
        ["tile", "adc", "tiles", "block", "inference", "inference", "area"],
        ["point", ".rows+1", ".bits", ".count", "objective", "_size", "_s", "_j", "_mm2"],
    ]
    words = {row.split()[-7] for row in lines[5:] if row.startswith(" ")}
    assert words <= {"analog", "latency"}
    assert words


def test_the_front_is_a_table_of_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    joined = "analog.tiles.tile.rows+analog.tiles.tile.cols"
    code, out, err = run(
        "--vary", f"{BITS}=4,8", "--vary", f"{joined}=64,128", "--vary", "objective=analog,latency"
    )
    assert (code, err.strip()) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("front: ")
    assert lines[0].endswith(" of 8 points")
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == [
        "point", "adc.bits", "tile.rows+1", "objective", "inference_s", "inference_j", "area_mm2",
    ]  # fmt: skip
    assert lines[-2:] == [
        "table written to model.explore/table.csv and model.explore/table.parquet",
        "page written to model.explore/explore.html",
    ]


def test_a_front_of_batches_is_of_each_inference_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all runs together a batch of 8 takes more time and energy than one, and was never shown."""
    monkeypatch.delenv("COLUMNS", raising=False)
    code, out, err = run("--vary", "batch=1,8")
    assert (code, err.strip()) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[2:6]] == [
        ["time", "energy"],
        ["_per", "_per"],
        ["inference", "_inference", "_inference", "area"],
        ["point", "batch", "_s", "_s", "_j", "_mm2"],
    ]
    with open("model.explore/table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["batch"], row["front"]) for row in rows] == [("1", "true"), ("8", "true")]
    one, eight = ([float(row[f"inference_{unit}"]) for unit in "sj"] for row in rows)
    assert all(whole < together < 8 * whole for whole, together in zip(one, eight, strict=True))
    assert lines[-4:-2] == [
        "inference_s and inference_j are of a whole batch; time_per_inference_s and",
        "energy_per_inference_j, what each of its inferences takes, compare batches",
    ]


def test_a_folder_with_the_usual_front_of_an_earlier_version_says_what_continues_it(run: Run) -> None:
    """Where the batch was varied, its front was that of all runs together."""
    usual = "inference_s,inference_j,area_mm2"
    vary = ("--vary", "batch=1,2", "--figures", "inference")
    code, before, _ = run(*vary, "--front", usual)
    assert (code, before[:9]) == (0, "front: 1 ")
    code, out, err = run(*vary)
    assert (code, out) == (2, "")
    assert err.endswith(f"hint: ask for --front {usual} to continue it, or name another folder with -o\n")
    assert run(*vary, "--front", usual)[:2] == (0, before)


def test_a_row_says_how_its_plan_is_made_again(run: Run) -> None:
    run(
        "--vary", f"{BITS}=4,6", "--vary", "block_size=1,2", "--vary", "nudged_sweeps=5,20", "--replicas", "1"
    )
    with open("model.explore/table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row[BITS], row["block_size"], row["nudged_sweeps"]) for row in rows] == [
        (bits, size, sweeps) for bits in "46" for size in "12" for sweeps in ("5", "20")
    ]
    for row in rows:
        program, *words = shlex.split(row["command"])
        assert program == "ffebm-compile"
        assert cli._guarded(["compile", *words, "-o", "again.plan"]) == 0
        plan = ffebm.load_plan("again.plan")
        assert float(row["inference_s"]) == plan.inference.makespan_s
        assert float(row["inference_j"]) == plan.inference.cost.energy
        assert float(row["interval_s"]) == plan.inference.interval_s
        assert float(row["training_s"]) == plan.training.makespan_s
        assert float(row["training_j"]) == plan.training.cost.energy
        assert int(row["tiles"]) == len(plan.tiles)
        assert float(row["inference_s_ratio"]) == plan.inference.makespan_s / plan.twin["fp32"].inference_s
        assert plan.hardware.analog[0].tile.crossbar().adc.bits == int(row[BITS])


def test_the_table_as_parquet_is_that_as_csv(run: Run) -> None:
    run("--vary", f"{BITS}=4,6", "--vary", "max_latency=none,1.0,1e-30")
    table = read_parquet("model.explore/table.parquet").read_all()
    with open("model.explore/table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = table.schema.names
    assert names == list(rows[0])
    for name in names:
        values = table[name].to_pylist()
        texts = ["" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        assert texts == [row[name] for row in rows]
    assert [row["refused"] != "" for row in rows] == [False, False, True] * 2
    assert table.schema.metadata_str["inference_s"] == f"{FIGURES['inference_s'].meaning}, s"


def test_a_knob_that_changes_nothing_is_named(run: Run) -> None:
    """Noise of a read has no price; bits of an ADC have one."""
    noise = "analog.tiles.tile.cell.read_noise"
    code, out, _ = run("--vary", f"{noise}=0.005,0.01", "--vary", f"{BITS}=4,6", "--replicas", "1")
    assert code == 0
    assert out.splitlines()[-3:-2] == [f"{noise} = 0.005, 0.01 changes no figure"]


def test_energy_and_area_fall_with_the_bits(run: Run) -> None:
    """Of a whole plan; that the formulas are right is tested where machines are."""
    run("--vary", f"{BITS}=4,6,8,10", "--replicas", "1")
    with open("model.explore/table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("inference_s", "inference_j", "training_j", "area_mm2"):
        figures = [float(row[name]) for row in rows]
        assert figures == sorted(figures)
        assert len(set(figures)) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--vary", "block_size=0"],
            "error: --vary block_size=0: block size 0; a whole number of at least 1, or a list of such "
            "numbers\n",
        ),
        (
            ["--vary", "batch=1,2", "--vary", "block_size=0"],
            "error: --vary block_size=0: block size 0; a whole number of at least 1, or a list of such "
            "numbers\n",
        ),
        (
            ["--vary", "batch=1", "--figures", "speed"],
            "error: --figures speed; inference, or inference,training\n",
        ),
        (
            ["--vary", "batch=1", "--figures", "training"],
            "error: --figures training; inference, or inference,training\n",
        ),
        (
            ["--vary", "batch=1", "--figures", "inference", "--front", "inference_s,training_j"],
            "error: --front training_j, which is left out; with --figures inference,training\n",
        ),
        (["--vary", "batch=1", "--samples", "9"], "error: --samples 9 alone; --data and --metric together\n"),
        (
            ["--vary", "batch=1", "--data", "d", "--metric", "accuracy", "--probes", "9"],
            "error: --probes 9 of --metric accuracy; --samples and --seeds\n",
        ),
        (
            ["--vary", "batch=1", "--data", "d", "--metric", "cosine", "--seeds", "2"],
            "error: --seeds 2 of --metric cosine; --probes\n",
        ),
        (
            ["--vary", "batch=1,2", "--seed", "3"],
            "error: --seed 3 of a grid; --sampler nsga2 or tpe, which draw points\n",
        ),
        (
            ["--vary", "relaxation=2"],
            "error: --vary relaxation=2: settings of settling: Expected `float` < 2.0 - at `$.relaxation`\n",
        ),
        (
            ["--vary", "settling=sweeps,circuit"],
            "error: --vary settling, which no price looks at; with --data and --metric, which run the "
            "plans\n",
        ),
        (
            ["--vary", "tol+strict=1", "--vary", "batch=1,2"],
            "error: --vary tol+strict=1: settings of settling: Expected `bool`, got `int` - at `$.strict`\n",
        ),
        (["--vary", "batch=0"], "error: --vary batch=0: batch 0; a whole number from 1 to 10000\n"),
        (["--vary", "batch=1,2", "--batch", "3"], "error: --batch and --vary batch; one of them\n"),
        (
            ["--vary", "a.b+nudged_sweeps=1,2", "--nudged-sweeps", "3"],
            "error: --nudged-sweeps and --vary a.b+nudged_sweeps; one of them\n",
        ),
        (
            ["--vary", "batch=1", "--front", "speed"],
            f"error: --front speed; some of {', '.join(PRICED)}\n",
        ),
        (
            ["--vary", "batch=1", "--front", ""],
            f"error: --front without figures; some of {', '.join(PRICED)}\n",
        ),
        (
            ["--vary", "batch=1", "--front", "cosine"],
            "error: --front cosine, which is not measured; with --data and --metric cosine\n",
        ),
        (["--vary", "batch=1", "--data", "d"], "error: --data d alone; --data and --metric together\n"),
        (
            ["--vary", "batch=1", "--metric", "cosine"],
            "error: --metric cosine alone; --data and --metric together\n",
        ),
        (
            ["--vary", "batch=1", "--data", "d", "--metric", "loss"],
            "error: --metric loss; accuracy or cosine\n",
        ),
        (
            ["--vary", "batch=1,2", "--sampler", "random"],
            "error: --sampler random; one of grid, nsga2, tpe\n",
        ),
        (
            ["--vary", "batch=1,2", "--trials", "5"],
            "error: --trials 5 of a grid, which has 2 points; --sampler nsga2 or tpe, which look at some of "
            "them\n",
        ),
        (
            ["--vary", "hardware=ideal,none-such"],
            "error: there is no hardware description 'none-such'; shipped are hermes, hermes-fast, "
            "heterogeneous, ideal, isaac, isaac-edram, pimcomp, reference, resistive, resistive-single, "
            "scratchpads\n"
            "  hint: name a shipped one or give the path of a .toml file\n",
        ),
        (
            ["--hardware", "ideal", "--vary", f"{BITS}=4"],
            "error: --vary analog.tiles.tile.adc: 'adc' is nothing of analog.tiles.tile; allowed are "
            "read_time, write_time\n",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_explored_is_refused(run: Run, arguments: list[str], message: str) -> None:
    assert run(*arguments) == (2, "", message)
    assert not Path("model.explore").exists()


def test_another_exploration_is_left_alone(run: Run) -> None:
    assert run("--vary", "objective=analog,latency")[0] == 0
    before = Path("model.explore/study.jsonl").read_bytes()
    told = "hint: ask for the same to continue it, or name another folder with -o\n"
    for arguments, difference in (
        (
            ["--vary", "objective=analog,energy"],
            "objective = ['analog', 'latency'], not ['analog', 'energy']",
        ),
        (["--vary", "objective=analog,latency", "--batch", "2"], "batch = 1, not 2"),
        (["--vary", "objective=analog,latency", "--effort", "24"], "effort = 1000, not 24"),
        (
            ["--vary", "objective=analog,latency", "--figures", "inference"],
            "figures inference,training, not inference",
        ),
        (["--vary", "objective=analog,latency", "--hardware", "hermes"], "another machine reference"),
    ):
        wanted = f"error: model.explore/study.jsonl: it holds an exploration with {difference}\n  {told}"
        assert run(*arguments) == (2, "", wanted)
    assert Path("model.explore/study.jsonl").read_bytes() == before


def test_a_folder_that_holds_something_else_is_refused(run: Run) -> None:
    Path("model.explore").mkdir()
    Path("model.explore/study.jsonl").write_text("no journal\nof ours\n", encoding="utf-8")
    code, out, err = run("--vary", "objective=analog,latency")
    assert (code, out) == (2, "")
    assert err.startswith("error: model.explore/study.jsonl: it is no journal of an exploration: ")


def test_a_missing_package_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "NEEDED", ("arro3.core", "no_such_package.part"))
    assert run("--vary", "objective=analog") == (
        2,
        "",
        "error: ffebm explore needs no_such_package, which is not installed\n"
        "  hint: pip install 'ffebm[explore]'\n",
    )
