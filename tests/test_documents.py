"""What documents say of the code is so: paths exist, links lead somewhere, names and options are known."""

import ast
import builtins
import doctest
import importlib
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from onnx import numpy_helper

import ffebm
from examples.digits_model import digits_model
from ffebm import cli, limits
from ffebm.plan import schema
from ffebm.studies.gradcheck import certificate
from ffebm.studies.sensitivity import record as sensitivity_record
from ffebm.training.runs import record as training_record

ROOT = Path(ffebm.__file__).parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md"))
    if path.name != "CHANGELOG.md"  # speaks of what was
)
SCREEN = 40
"""Lines of a screen."""
FOREIGN = {"VisualizationStage", "scan_sum"}
"""Names of other tools, and of cases of onnx."""
WRITTEN = {"load.py", "rpu.py", "train.py"}
"""Python files that are not ours: those that exports write, and scripts of the reader's own."""
HEADS = {
    "net": "ffebm.runtime.executor.Executor",
    "plan": "ffebm.plan.plan.Plan",
    "Executor": "ffebm.runtime.executor.Executor",
    "Plan": "ffebm.plan.plan.Plan",
    "Hardware": "ffebm.hardware.description.Hardware",
    "Settle": "ffebm.plan.plan.Settle",
    "Equilibrium": "ffebm.runtime.blocks.settling.settling.Equilibrium",
    "Trainer": "ffebm.training.trainer.Trainer",
}
"""Classes that documents speak of, by the word that stands for one of them."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
PATH = re.compile(r"(?<![\w./])(?:ffebm|tests|docs|examples|benchmarks|\.ci)/[\w./-]*")
DOTTED = re.compile(r"ffebm(?:\.\w+)+")
MEMBER = re.compile(rf"(?<![\w./-])({'|'.join(HEADS)})\.(?!(?:json|md|toml|dot|svg|onnx|run)\b)([a-z_]\w*)")
CALLED = re.compile(r"(?:ffebm|python)(?: +|-compile )[^`|&;]*")
CAMEL = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+|[a-z]\w*_\w+")
"""Names of more than one word, which no prose has."""


def text_of(document: Path) -> str:
    """What people wrote: lists that a command writes, and another test holds, are left out."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.sub(r"<!-- begin figures -->.*?<!-- end figures -->", "", text, flags=re.DOTALL)


def fenced(text: str) -> list[tuple[str, str]]:
    """Blocks of code, each with its language."""
    return [(found[1], found[2]) for found in FENCE.finditer(text)]


def spans(text: str) -> list[str]:
    """Code within sentences."""
    return CODE.findall(FENCE.sub("", text))


def anchors(path: Path) -> set[str]:
    """Headings of a document, as GitHub makes links of them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@cache
def defined(path: Path) -> set[str]:
    """What a module defines at its top, and the methods and fields of its classes, as `Class.name`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        found |= names_of(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in names_of(inner)}
    return found


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {leaf.id for target in node.targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


@cache
def words() -> frozenset[str]:
    """Every word of the sources: names that a document uses are among them."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    kinds = {".py", ".toml", ".js", ".html", ".npz"}
    paths = [ROOT / line for line in listed.splitlines() if Path(line).suffix in kinds - {".npz"}]
    own = Path(__file__).name
    found: set[str] = set()
    for path in paths or list((ROOT / "ffebm").rglob("*.*")):
        if path.is_file() and path.suffix in kinds and path.name != own:
            found.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return frozenset(found)


def resolve(dotted: str) -> object:
    """What a dotted name stands for; AttributeError or ImportError if nothing."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AttributeError(dotted)


def has_member(head: str, name: str) -> bool:
    """Whether objects of a class have a name: of the class, a field, or one that its constructor sets."""
    module, _, kind = HEADS[head].rpartition(".")
    cls = getattr(importlib.import_module(module), kind)
    if hasattr(cls, name) or hasattr(torch.nn.Module if kind == "Executor" else object, name):
        return True
    source = Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")
    return re.search(rf"self\.{name}\b", source) is not None


# --- what is wrong in a document ---------------------------------------------------------------------


def dead_links(document: Path) -> Iterator[str]:
    text = FENCE.sub("", text_of(document))
    for label, target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / document.parent / path) if path else ROOT / document
        if not place.exists():
            yield f"link to {target}: there is no such file"
        elif anchor and anchor not in anchors(place):
            yield f"link to {target}: no such heading"
        named = re.fullmatch(r"`([\w.]+)`", label)
        if named and place.suffix == ".py" and named[1] not in {*defined(place), place.name}:
            yield f"link to {target}: does not define {named[1]}"


def unknown_paths(document: Path) -> Iterator[str]:
    for span in [*spans(text_of(document)), *(body for _, body in fenced(text_of(document)))]:
        for path in PATH.findall(span):
            if not (ROOT / path.rstrip(".")).exists():
                yield f"{path}: there is no such path"
        is_short = re.fullmatch(r"[\w/]+\.py", span) and not PATH.fullmatch(span) and span not in WRITTEN
        if is_short and not any((folder / span).exists() for folder in (ROOT, ROOT / document.parent)):
            yield f"{span}: a path begins at the top of the repository"


def unknown_names(document: Path) -> Iterator[str]:
    for span in [*spans(text_of(document)), *(body for _, body in fenced(text_of(document)))]:
        for dotted in DOTTED.findall(re.sub(r"[\w.-]*/[\w./-]*|\w+\.ffebm\b", "", span)):
            try:
                resolve(dotted)
            except (AttributeError, ImportError):
                if not is_quoted(dotted):
                    yield f"{dotted}: there is no such name"
        for head, name in MEMBER.findall(span):
            if not has_member(head, name):
                yield f"{head}.{name}: {head} has no such name"


def is_quoted(dotted: str) -> bool:
    """Whether a name is a word of the sources: a group of entry points."""
    return any(f'"{dotted}"' in path.read_text(encoding="utf-8") for path in (ROOT / "ffebm").rglob("*.py"))


def unknown_words(document: Path) -> Iterator[str]:
    known = words() | FOREIGN | {op.name for op in onnx.defs.get_all_schemas()}
    for span in spans(text_of(document)):
        name = span.removesuffix("()")
        if CAMEL.fullmatch(name) and name not in known and not hasattr(builtins, name):
            yield f"{name}: no source has such a name"


def options(command: str) -> set[str] | None:
    """Options of a command of ffebm; None if there is none of that name."""
    group = typer.main.get_command(cli.command_line([command]))
    found = getattr(group, "commands", {}).get(command)
    if found is None:
        return None
    return {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}


def commands(text: str) -> Iterator[list[str]]:
    """Command lines in a document, as words."""
    for language, body in fenced(text):
        if language in {"", "sh", "bash", "console", "shell"}:
            for line in re.sub(r"\\\n", " ", body).splitlines():
                yield from split(line.removeprefix("$ ").partition(" #")[0])
    for span in spans(text):
        yield from split(span)


def split(line: str) -> Iterator[list[str]]:
    for part in re.split(r"&&|;|\|", line.replace("ffebm-compile ", "ffebm compile ")):
        if CALLED.match(part.strip()):
            try:
                yield shlex.split(part)
            except ValueError:
                yield part.split()


def unknown_commands(document: Path) -> Iterator[str]:
    for line in commands(text_of(document)):
        given = [word.partition("=")[0] for word in line if re.match(r"--?[a-zA-Z]", word)]
        if line[0] == "python":
            yield from unknown_script(line, given)
        elif len(line) > 1 and re.fullmatch(r"[a-z]+", line[1]):
            known = options(line[1])
            if known is None:
                yield f"{' '.join(line)}: no command {line[1]}"
            else:
                yield from (f"ffebm {line[1]}: no option {o}" for o in given if o not in known | {"--help"})


def unknown_script(line: list[str], given: list[str]) -> Iterator[str]:
    script = next((word for word in line[1:] if word.endswith(".py")), None)
    if script is None or script in WRITTEN:
        return
    if not (ROOT / script).exists():
        yield f"{script}: there is no such script"
        return
    source = (ROOT / script).read_text(encoding="utf-8")
    beside = [
        (ROOT / script).with_name(f"{name}.py") for name in re.findall(r"(?m)^from (\w+) import", source)
    ]
    source += "".join(path.read_text(encoding="utf-8") for path in beside if path.exists())
    yield from (f"{script}: no option {o}" for o in given if f'"{o}"' not in source)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_a_document_is_true(document: Path) -> None:
    checks = (dead_links, unknown_paths, unknown_names, unknown_words, unknown_commands)
    assert sorted({problem for check in checks for problem in check(document)}) == []


def examples(document: Path) -> list[doctest.Example]:
    """What a document shows as a session of Python."""
    blocks = [body for language, body in fenced(text_of(document)) if language == "python"]
    return doctest.DocTestParser().get_examples("\n".join(blocks), str(document))


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if examples(d)], ids=str)
def test_sessions_in_a_document_say_what_they_show(document: Path) -> None:
    test = doctest.DocTest(examples(document), {}, str(document), str(document), 0, None)
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ffebm.NotSettledWarning)  # read noise keeps states moving
        failed, tried = doctest.DocTestRunner().run(test, out=told.append)
    assert (failed, "".join(told)) == (0, "")
    assert tried > 1


def test_the_bounds_that_are_named_are_those_of_the_code() -> None:
    held = {
        (limit.variable, f"{limit.value:,} {limit.unit}")
        for limit in vars(limits).values()
        if isinstance(limit, limits.Limit)
    }
    assert {*re.findall(r"^\| `(\w+)` \| (.+) \|$", text_of(Path("SECURITY.md")), re.MULTILINE)} == held


def test_the_versions_of_files_are_those_of_the_code() -> None:
    assert text_of(Path("docs/plan.md")).startswith(f"# The plan format, version {schema.SCHEMA}\n")
    told = re.findall(r"^\| ([^|]+) \| (\d+) \|$", text_of(Path("docs/stability.md")), re.MULTILINE)
    assert dict(told) == {
        "`plan.json` of a plan": str(schema.SCHEMA),
        "hardware description": str(ffebm.load_hardware("reference").schema),
        "record and checkpoint of a training run": str(training_record.SCHEMA),
        "certificate of `ffebm gradcheck`": str(certificate.SCHEMA),
        "record of `ffebm sensitivity`": str(sensitivity_record.SCHEMA),
    }


def test_the_first_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(digits_model(), "model.onnx")
    (lines,) = [body for language, body in fenced(text_of(Path("README.md"))) if language == "python"]
    names = {"x": torch.rand(4, 1, 8, 8), "target": torch.arange(4)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ffebm.NotSettledWarning)  # read noise keeps states moving
        exec(compile(lines, "README.md", "exec"), names)
    before, after = (weights(onnx.load(name)) for name in ("model.onnx", "trained.onnx"))
    assert before.keys() == after.keys()
    assert not np.array_equal(before["conv2.weight"], after["conv2.weight"])


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_the_newcomers_path_is_at_most_ten_screens() -> None:
    assert len(text_of(Path("docs/architecture.md")).splitlines()) <= 10 * SCREEN


def test_the_newcomers_path_names_every_folder() -> None:
    told = text_of(Path("docs/architecture.md"))
    folders = {path.parent.name for path in (ROOT / "ffebm").glob("*/__init__.py")}
    assert {*re.findall(r"^\| `ffebm/(\w+)/` \|", told, re.MULTILINE)} == folders | {"files"}
