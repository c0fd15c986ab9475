import sys
from pathlib import Path

import onnx
import pytest

from ffebm import Settle, cli, plugins
from ffebm.compiler.driver import compile_model
from tests.models import Builder
from tests.packages import installed


@pytest.fixture
def model(tmp_path: Path) -> str:
    b = Builder()
    x = b.node("Relu", b.conv(b.input("x", "N", 1, 8, 8), 1, 2))
    b_model = b.model(b.node("Identity", x))
    path = tmp_path / "model.onnx"
    onnx.save(b_model, path)
    return str(path)


def ffebm(*arguments: str) -> int:
    return cli._guarded(["passes", *arguments])


def test_one_pass_on_text_gives_what_the_whole_order_gives(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["fold-constants", "remove-dead", "roles", "check-sizes", "canonicalize"]
    names += ["energy-blocks", "tiling", "partition", "placement"]
    assert ffebm(model, "--quiet", "-o", str(tmp_path / "all.txt")) == 0
    assert capsys.readouterr().out == ""
    before = tmp_path / "0.txt"
    assert ffebm(model, "--quiet", "--only", names[0], "-o", str(before)) == 0
    for index, name in enumerate(names[1:], 1):
        after = tmp_path / f"{index}.txt"
        arguments = ["--from", str(before), "--only", name, "--quiet", "-o", str(after)]
        assert ffebm(model, *arguments) == 0
        before = after
    assert before.read_text() == (tmp_path / "all.txt").read_text()


def test_what_passes_changed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ffebm(model, "--quiet", "--statistics", "--only", "canonicalize", "--only", "remove-dead") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["pass", "added", "removed", "changed", "constants", "blocks", "parts"]
    assert [row[0] for row in rows[1:]] == ["remove-dead", "canonicalize"]
    assert rows[2][1:] == ["0", "0", "1", "+0", "0", "0"]  # the convolution says its strides


def test_times_and_graphs_are_printed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ffebm(model, "--timing", "--only", "canonicalize") == 0
    text = capsys.readouterr().out
    assert text.startswith("--- imported\ngraph ")
    assert "--- canonicalize\ngraph " in text
    assert "canonicalize" in text.splitlines()[-1]
    assert float(text.split()[-1]) >= 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--only", "tilling"],
            "error: --only tilling; one of fold-constants, remove-dead, roles, check-sizes, canonicalize, "
            "energy-blocks, tiling, partition, placement\n",
        ),
        (
            ["--only", "placement"],
            "error: --only placement on a graph at IMPORTED; a graph at PARTITIONED or later\n"
            "  hint: add --only for the passes before it, or start --from a text of that stage\n",
        ),
        (["--from", "x.txt"], "error: --from x.txt without --only; a text, and the passes to run on it\n"),
        (
            ["--from", "x.txt", "--only", "tiling"],
            "error: x.txt: cannot be read: No such file or directory\n",
        ),
    ],
)
def test_refused(model: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ffebm(model, *arguments) == 2
    assert capsys.readouterr().err == message


def test_a_text_that_is_no_graph(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.txt"
    path.write_text("graph g (x) -> (y) at IMPORTED\n  y = Relu(x\n")
    assert ffebm(model, "--from", str(path), "--only", "tiling") == 2
    assert capsys.readouterr().err == f"error: {path}:line 2: the line ends here; ','\n"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("objective", "energy"),
        ("tiles", 0),
        ("slowdown", 1e-9),
        ("replicas", 2),
        ("max_area", 1e-9),
    ],
)
def test_the_mapping_is_that_of_compile(option: str, value: str | float, model: str, tmp_path: Path) -> None:
    """Each of these maps the convolution in another way than the default does."""
    graphs: dict[bool, str] = {}
    for given in (False, True):
        found: list[str] = []
        progress = lambda name, graph, to=found: to.append(str(graph))  # noqa: E731 - one line
        chosen: dict[str, object] = {option: value} if given else {}
        compile_model(model, dims={"N": 1}, progress=progress, **chosen)  # type: ignore[arg-type]
        graphs[given] = found[-1]
    path = tmp_path / "last.txt"
    words = ["--dim", "N=1", f"--{option.replace('_', '-')}", str(value)]
    assert ffebm(model, *words, "--quiet", "-o", str(path)) == 0
    assert path.read_text() == graphs[True] != graphs[False]


def test_sweeps_count_for_the_price_of_a_block(tmp_path: Path) -> None:
    b = Builder()
    y = b.node("Relu", b.node("MatMul", b.input("x", 1, 8), b.weight(8, 8)))
    model = tmp_path / "model.onnx"
    onnx.save(b.model(b.node("Relu", b.node("MatMul", y, b.weight(8, 8)))), model)
    words = ["--block-size", "2", "--objective", "latency", "--quiet", "-o", str(tmp_path / "last.txt")]
    reasons = []
    for sweeps in (60, 7):
        assert ffebm(str(model), "--free-sweeps", str(sweeps), *words) == 0
        settle = Settle(free_sweeps=sweeps)
        plan = compile_model(str(model), block_size=2, objective="latency", settle=settle)
        reasons.append(plan.nodes[0].reason)
        assert reasons[-1] in (tmp_path / "last.txt").read_text()
    assert reasons[0] != reasons[1]


def test_a_limit_that_no_mapping_keeps(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for limit, unit in (("latency", "s"), ("energy", "J")):
        assert ffebm(model, f"--max-{limit}", "1e-30", "--quiet") == 2
        message = f"error: no mapping keeps max_{limit} 1e-30 {unit}; the least that was found is "
        assert capsys.readouterr().err.startswith(message)
    assert ffebm(model, "--objective", "speed") == 2
    assert capsys.readouterr().err == (
        "error: --objective speed; one of analog, latency, throughput, energy, edp\n"
    )


def test_options_are_those_of_compile(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
from dataclasses import dataclass
from ffebm.graph.graph import Stage
@dataclass(frozen=True)
class Tanh:
    name: str = "tanh"
    requires: Stage = Stage.CANONICAL
    ensures: Stage = Stage.CANONICAL
    def run(self, graph, hardware):
        for node in graph.nodes:
            node.op = "Tanh" if node.op == "Relu" else node.op
"""
    installed(tmp_path / "target", "plug-tanh", {plugins.PASSES: {"tanh": "plug_tanh:Tanh"}}, code)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "target"), *sys.path])
    options = ["--pass", "tanh", "--dim", "N=3", "--trainable", "none"]
    assert ffebm(model, *options) == 2
    assert capsys.readouterr().err.startswith("error: model.onnx: no constant is called 'none'")
    options = ["--pass", "tanh", "--dim", "N=3", "--digital", "c*", "--block-size", "2"]
    assert ffebm(model, *options, "--statistics", "-o", str(tmp_path / "last.txt")) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-10:]]
    assert names[names.index("tanh") - 1 : names.index("tanh") + 2] == [
        "remove-dead",
        "tanh",
        "energy-blocks",
    ]

    graphs = []
    progress = lambda name, graph: graphs.append(str(graph))  # noqa: E731 - one line
    compile_model(
        model, None, block_size=2, dims={"N": 3}, digital=["c*"], passes=["tanh"], progress=progress
    )
    assert (tmp_path / "last.txt").read_text() == graphs[-1]
    assert "Tanh(" in graphs[-1]
    assert "on request" in graphs[-1]
    for wrong, message in (
        (["--physics", "springs"], "there is no physics 'springs'; hopfield, deep-resistive"),
        (["--activation", "Atan"], "no installed package offers 'Atan' in ffebm.activations"),
        (["--block-size", "0"], "block size 0; a whole number of at least 1"),
    ):
        assert ffebm(model, *wrong) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
