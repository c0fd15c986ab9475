"""Which module may import which; read from the source, so lazy imports count too."""

import ast
import subprocess
import sys
from pathlib import Path

import networkx as nx
import onnx

import ffebm
from tests.models import Builder

ROOT = Path(ffebm.__file__).parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "visible", "limits"),
    (
        "quantity",
        "loading_factor",
        "crossbar",
        "decoded",
        "lock",
        "exchange",
        "scratch",
        "folder",
        "hardware",
        "step",
        "structure",
        "program",
        "chart",
        "training",
        "write_file",
        "certificate",
        "run_record",
    ),
    ("ir",),
    ("ops", "work", "monotone", "conductance", "tensor_file", "torch_ops", "program_check", "programming"),
    ("plan",),
    ("passes", "backends", "runtime", "recipes"),
    ("compiler", "report"),
    ("commands",),
    ("cli", "__main__"),
)
"""From the ground up; the public names (`ffebm/__init__.py`) stand above all of them."""
FOLDERS = {"passes", "backends", "runtime", "recipes", "compiler", "report", "commands"}
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["ffebm", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, *, lazy: bool = True) -> set[str]:
    """Modules of ffebm that a module imports."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if lazy else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {module}
    return {module for module in found if module.split(".")[0] == "ffebm"}


def area(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_module_has_a_layer() -> None:
    assert sorted(m for m in MODULES if area(m) and area(m) not in HEIGHT) == []


def test_imports_point_down() -> None:
    wrong = []
    for module in MODULES:
        here = area(module)
        for target in imports(module) if here else ():
            there = area(target)
            allowed = HEIGHT[there] < HEIGHT[here] if there in HEIGHT else False
            inside = there == here and here in FOLDERS
            flat = there != here and HEIGHT.get(there) == HEIGHT[here] and not {here, there} & FOLDERS
            if not (allowed or inside or flat):
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_the_compiler_does_not_see_the_runtime() -> None:
    """But for the driver, which lends the runtime's kernels to the pass that folds constants."""
    seen = {m: imports(m) for m in MODULES if area(m) in {"compiler", "passes", "backends"}}
    seen["ffebm.compiler.driver"] -= {"ffebm.runtime.constant_evaluator"}
    assert [m for m, targets in seen.items() if any(area(t) == "runtime" for t in targets)] == []


def test_no_import_cycle() -> None:
    graph = nx.DiGraph((m, target) for m in MODULES if m != "ffebm" for target in imports(m, lazy=False))
    assert [c for c in nx.strongly_connected_components(graph) if len(c) > 1] == []
    assert list(nx.selfloop_edges(graph)) == []


def loaded(code: str, *arguments: str) -> set[str]:
    """Which of the slow packages a fresh process has loaded after some code."""
    check = "import sys; print([m for m in ('torch', 'onnx', 'networkx', 'typer') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    return set(ast.literal_eval(done.stdout.strip().splitlines()[-1]))


def test_importing_ffebm_loads_neither_torch_nor_onnx() -> None:
    assert loaded("import ffebm; ffebm.load_plan; ffebm.Hardware; ffebm.load_hardware('ideal')") == set()


def test_importing_the_commands_loads_neither_torch_nor_onnx() -> None:
    assert loaded("import ffebm.cli") & {"torch", "onnx"} == set()


def test_compiling_loads_no_torch(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 1, 2), 2))
    onnx.save(b.model(y), tmp_path / "model.onnx")
    code = (
        "import sys, ffebm; "
        "ffebm.compile(sys.argv[1]).save(sys.argv[2]); print(ffebm.load_plan(sys.argv[2]).summary())"
    )
    assert "torch" not in loaded(code, str(tmp_path / "model.onnx"), str(tmp_path / "plan"))
