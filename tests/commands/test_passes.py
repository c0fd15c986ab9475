from pathlib import Path

import onnx
import pytest

from ffebm import cli
from tests.models import Builder


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
            "error: x.txt: cannot be read: [Errno 2] No such file or directory: 'x.txt'\n",
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
