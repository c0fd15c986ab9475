"""Which module may import which; read from the source, so lazy imports count too."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import networkx as nx
import onnx
import pytest

import ffebm
from ffebm.commands.catalogue import COMMANDS
from tests.models import Builder

ROOT = Path(ffebm.__file__).parent
ROOMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ffebm": (
        ("collection", "errors", "patterns", "visible"),
        ("limits", "plugins"),
        ("files",),
        ("hardware",),
        ("graph",),
        ("plan",),
        ("mapping",),
        ("passes", "scheduling", "backends", "exporters", "runtime"),
        ("compiler", "training"),
        ("recipes", "studies"),
        ("exploration",),
        ("report",),
        ("commands",),
        ("cli",),
        ("__main__",),
    ),
    "ffebm.compiler": (("isolated", "old_opsets", "options", "own_passes"), ("onnx", "torch"), ("driver",)),
    "ffebm.passes": (("forming",),),
    "ffebm.passes.forming": (("linear_maps",), ("terms",), ("grouping",), ("reading",)),
    "ffebm.runtime": (("uncompiled",), ("tiles", "kernels"), ("blocks",)),
    "ffebm.runtime.blocks": (
        ("physics",),
        ("projection", "edge", "circuit_time", "outer_products"),
        ("coupling",),
        ("circuit",),
        ("settling",),
        ("estimators",),
    ),
    "ffebm.training": (("settings",), ("data",)),
    "ffebm.studies": (("inference",), ("gradcheck", "sensitivity")),
    "ffebm.report": (
        ("columns", "plain", "sorting", "units"),
        ("facts",),
        ("pictures", "terminal", "viewers"),
        ("page",),
    ),
}
"""What lies in a folder, from the ground up. A room imports from those below it, never from one beside it;
what is not named here stands above all that is."""
ROOM_FOR = 12
"""Files at the top of a folder, besides those with one file an op or a command."""
LISTS = {"ffebm/runtime/kernels", "ffebm/commands"}
LATE = {
    "ffebm.cli": "each command is imported, by its name, where it is asked for",
    "ffebm": "the public names of the runtime and the compiler load torch or onnx",
    "ffebm.compiler.driver": "a PyTorch model loads torch, and so do the kernels that fold constants",
    "ffebm.exploration.run": "accuracy and gradients are of tiles: they load torch, which prices do without",
    "ffebm.report.facts.measured.sensitivity_facts": "a study is of tiles: they load torch",
    "ffebm.scheduling.bounds.bounds": "compiled loops load numba, which short schedules do without",
    "ffebm.scheduling.order.workload": "compiled loops load numba, which short schedules do without",
    "ffebm.scheduling.memory.offsets": "compiled loops load numba, which short schedules do without",
    "ffebm.report.page": "facts of explorations load Optuna and the compiler; pages of plans do without",
}
"""Modules with imports of ffebm inside functions, and why; a command loads only what its own run needs."""


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ["ffebm", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(name: str, *, lazy: bool = True) -> frozenset[str]:
    """Modules of ffebm that a module imports."""
    tree = parsed(MODULES[name])
    nodes = list(ast.walk(tree)) if lazy else tree.body
    by_name = {f"ffebm.commands.{command}" for command in COMMANDS}
    found = by_name if lazy and name == "ffebm.cli" else set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {module}
    return frozenset(module for module in found if module.split(".")[0] == "ffebm")


def area(module: str, folder: str = "ffebm") -> str:
    """The room of a folder that a module lies in; empty for the folder itself and for what lies elsewhere."""
    inner = module.removeprefix(f"{folder}.")
    return "" if inner == module else inner.split(".")[0]


def heights(folder: str) -> dict[str, int]:
    return {room: height for height, rooms in enumerate(ROOMS[folder]) for room in rooms}


def test_every_module_has_a_layer() -> None:
    known = heights("ffebm")
    assert sorted(m for m in MODULES if area(m) and area(m) not in known) == []


@pytest.mark.parametrize("folder", ROOMS)
def test_imports_point_down(folder: str) -> None:
    known = heights(folder)
    above = len(known)
    wrong = []
    for module in MODULES:
        here = area(module, folder)
        for target in imports(module) if here else ():
            there = area(target, folder)
            if there and there != here and known.get(there, above) >= known.get(here, above + 1):
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_a_room_imports_nothing_from_above_its_folder() -> None:
    """A module in a folder sees its own folder's rooms through imports that point down, and no other way."""
    facade = {m for m in MODULES if m == "ffebm"}
    assert [m for m in MODULES if area(m) and imports(m) & facade] == []


def test_no_folder_is_crowded() -> None:
    crowded = {}
    for folder in sorted({path.parent for path in MODULES.values()}):
        name = str(folder.relative_to(ROOT.parent))
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        if len(files) > ROOM_FOR and name not in LISTS:
            crowded[name] = len(files)
    assert crowded == {}


def test_the_compiler_does_not_see_the_runtime() -> None:
    """But for the driver, which lends the runtime's kernels to the pass that folds constants."""
    seen = {m: imports(m) for m in MODULES if area(m) in {"compiler", "passes", "backends"}}
    seen["ffebm.compiler.driver"] -= {"ffebm.runtime.constant_evaluator"}
    assert [m for m, targets in seen.items() if any(area(t) == "runtime" for t in targets)] == []


def test_no_import_cycle() -> None:
    """Imports inside functions and for types count: a circle is one even if it is walked late."""
    graph = nx.DiGraph((m, target) for m in MODULES for target in imports(m))
    assert [c for c in nx.strongly_connected_components(graph) if len(c) > 1] == []
    assert list(nx.selfloop_edges(graph)) == []


def test_imports_stand_at_the_top() -> None:
    """But for what is slow to load and not always needed."""
    late = {m for m in MODULES if imports(m) - imports(m, lazy=False)}
    assert {m for m in late if area(m) != "commands"} == LATE.keys()


SLOW = ("torch", "onnx", "networkx", "typer", "numpy", "ml_dtypes", "msgspec", "highspy", "jinja2", "optuna")
"""Packages that cost a tenth of a second or more, or that stand for what does."""


def loaded(code: str, *arguments: str) -> set[str]:
    """Which of the slow packages a fresh process has loaded after some code."""
    check = f"import sys; print([m for m in {SLOW} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    return set(ast.literal_eval(done.stdout.strip().splitlines()[-1]))


def test_importing_ffebm_loads_nothing_slow() -> None:
    assert loaded("import ffebm") == set()


def test_a_machine_is_read_without_torch_and_onnx() -> None:
    code = "import ffebm; ffebm.load_plan; ffebm.Hardware; ffebm.load_hardware('ideal')"
    assert loaded(code) & {"torch", "onnx", "networkx", "typer", "highspy"} == set()


def test_listing_the_commands_loads_none_of_them() -> None:
    code = "import sys, ffebm.cli; ffebm.cli._guarded(['--help'])"
    assert loaded(code) == {"typer"}
    held = "print([m for m in sys.modules if m.startswith('ffebm.')])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {held}"], capture_output=True, text=True, check=True
    )
    assert set(ast.literal_eval(done.stdout.strip().splitlines()[-1])) == {
        "ffebm.cli", "ffebm.collection", "ffebm.commands", "ffebm.commands.catalogue",
        "ffebm.commands.console", "ffebm.errors", "ffebm.visible",
    }  # fmt: skip


def test_compiling_loads_no_torch(tmp_path: Path) -> None:
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 1, 2), 2))
    onnx.save(b.model(y), tmp_path / "model.onnx")
    code = (
        "import sys, ffebm; "
        "ffebm.compile(sys.argv[1]).save(sys.argv[2]); print(ffebm.load_plan(sys.argv[2]).summary())"
    )
    found = loaded(code, str(tmp_path / "model.onnx"), str(tmp_path / "plan"))
    assert {"torch", "networkx", "typer"} & found == set()


def test_the_page_of_a_plan_loads_nothing_of_explorations() -> None:
    assert {"torch", "highspy", "optuna"} & loaded("import ffebm.report.page") == set()


def test_a_compile_without_a_choice_loads_no_solver(tmp_path: Path) -> None:
    b = Builder()
    onnx.save(
        b.model(b.node("Relu", b.node("Gemm", b.input("x", 1, 4), b.weight(4, 3)))), tmp_path / "model.onnx"
    )
    code = "import sys, ffebm; ffebm.compile(sys.argv[1], digital=['*']).save(sys.argv[2])"
    assert "highspy" not in loaded(code, str(tmp_path / "model.onnx"), str(tmp_path / "plan"))
    assert {"torch", "networkx", "highspy", "jinja2"} & loaded(
        "import sys, ffebm.cli; ffebm.cli._guarded(['show', sys.argv[1]])", str(tmp_path / "plan")
    ) == set()


def test_no_two_types_share_a_name() -> None:
    """A class or an alias of a type: one name, one concept, wherever in the package it stands."""
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for name in types_of(parsed(path)):
            homes.setdefault(name, []).append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def types_of(tree: ast.Module) -> set[str]:
    """Names of the classes and of the aliases of types that a module defines at its top."""
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return classes | {name for name in assigned if name.lstrip("_")[:1].isupper() and not name.isupper()}


def test_no_tile_is_asked_for_its_class() -> None:
    """Kinds of tiles answer questions, so that a further kind changes nothing elsewhere."""
    kinds = {"Crossbar", "Exact", "CrossbarTile", "IdealTile"}
    asked = [
        f"{name}:{node.lineno}"
        for name, path in MODULES.items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"
        if kinds & {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
    ]
    assert asked == []


TESTED_BY = {
    "commands/catalogue": "test_cli",
    "commands/compile": "test_cli",
    "commands/console": "test_cli",
    "commands/explain": "test_cli",
    "commands/recipe": "test_cli",
    "commands/run": "test_cli",
    "commands/sensitivity": "test_cli",
    "commands/show": "test_cli",
    "commands/training": "commands/test_train",
    "compiler/command": "report/terminal/test_words",
    "compiler/driver": "passes/test_pass_order",
    "compiler/isolated": "compiler/test_hostile_onnx",
    "compiler/onnx/*": "compiler/onnx/test_from_onnx",
    "compiler/torch/*": "compiler/torch/test_from_torch",
    "exporters/catalogue": "commands/test_export",
    "exporters/export": "exporters/test_crosssim",
    "exporters/spice/*": "exporters/spice/test_netlist",
    "exploration/*": "exploration/test_run",
    "exploration/table": "commands/test_explore",
    "graph/energy_block": "graph/test_graph",
    "graph/parse": "graph/test_text",
    "graph/verify": "graph/test_graph",
    "hardware/*": "hardware/test_description",
    "mapping/circuit/equations": "mapping/circuit/test_needs",
    "mapping/solver/*": "mapping/solver/test_choice",
    "mapping/*": "mapping/search/test_search",
    "mapping/search/known": "mapping/search/test_solving",
    "mapping/block_cost": "scheduling/test_schedules",
    "mapping/read_cost": "scheduling/test_schedules",
    "passes/forming/*": "passes/test_energy_blocks",
    "plan/memory/*": "scheduling/memory/test_planned",
    "plan/program": "plan/checks/test_programs",
    "plan/schedule": "scheduling/test_schedules",
    "hardware/devices/cell": "runtime/tiles/devices/test_statistics",
    "hardware/devices/update": "runtime/tiles/devices/test_pulses",
    "plan/schema": "plan/test_plan",
    "plan/twin": "scheduling/test_twin",
    "recipes/catalogue": "recipes/test_deep_resistive",
    "recipes/nodes": "recipes/test_transformer",
    "recipes/recipe": "recipes/test_paper",
    "report/facts/*": "report/facts/test_facts",
    "report/facts/measured/run_facts": "report/test_run_view",
    "report/facts/timeline": "report/terminal/test_activity",
    "report/pictures/certificate": "commands/test_gradcheck",
    "report/pictures/sensitivity": "test_cli",
    "report/terminal/*": "report/terminal/test_sections",
    "runtime/blocks/block_function": "runtime/blocks/test_block_runtime",
    "runtime/blocks/block_run": "runtime/blocks/test_block_runtime",
    "runtime/blocks/circuit_time": "runtime/blocks/settling/test_transient",
    "runtime/*": "runtime/test_executor",
    "runtime/blocks/coupling": "runtime/blocks/settling/test_settling",
    "runtime/blocks/estimators/*": "runtime/blocks/estimators/test_gradient",
    "runtime/blocks/settling/*": "runtime/blocks/settling/test_settling",
    "runtime/constant_evaluator": "passes/test_pass_order",
    "runtime/kernels/*": "runtime/kernels/test_kernels",
    "runtime/kernels/machine_learning": "compiler/onnx/test_machine_learning",
    "runtime/kernels/microsoft": "compiler/onnx/test_contributed",
    "runtime/kernels/torch_op": "compiler/torch/test_from_torch",
    "runtime/kernels/trees": "compiler/onnx/test_machine_learning",
    "runtime/tiles/*": "runtime/tiles/test_tiles",
    "runtime/tiles/unfolding": "runtime/tiles/test_projection",
    "scheduling/bounds/net": "scheduling/bounds/test_bounds",
    "scheduling/kernels/*": "scheduling/kernels/test_kernels",
    "scheduling/memory/*": "scheduling/memory/test_planned",
    "scheduling/order/forwards": "scheduling/kernels/test_kernels",
    "scheduling/order/paces": "scheduling/test_exact",
    "scheduling/order/workload": "scheduling/kernels/test_kernels",
    "studies/circuits": "exporters/spice/test_ngspice",
    "studies/passive_circuits": "exporters/spice/test_passive",
    "studies/gradcheck/*": "studies/gradcheck/test_check",
    "studies/sensitivity/*": "studies/sensitivity/test_study",
    "training/*": "training/test_trainer",
    "training/runs/*": "training/test_trainer",
    "training/runs/checkpoint": "training/runs/test_resuming",
    "training/data/*": "training/data/test_load",
    "training/data/cifar": "training/data/test_published_formats",
    "training/data/imagenet32": "training/data/test_published_formats",
    "training/devices/shared_batch": "training/devices/test_ranks",
    "training/optimization/*": "training/test_trainer",
    "training/optimization/precision": "training/test_long_runs",
}
"""Modules whose tests lie elsewhere: they are parts of what is tested there as a whole, most by oracles of
that whole (onnxruntime, torch, the exact adjoint, golden text). The longest name that fits counts."""


def test_every_module_has_its_tests() -> None:
    """In the file that mirrors it, or in the one that a line of `TESTED_BY` names, which must reach it."""
    graph = nx.DiGraph((m, target) for m in MODULES for target in imports(m))
    tests, missing = Path(__file__).parent, []
    for module, path in MODULES.items():
        inner = path.relative_to(ROOT).with_suffix("")
        if (
            inner.name in {"__init__", "__main__"}
            or (tests / inner.parent / f"test_{inner.name}.py").exists()
        ):
            continue
        line = next((n for n in (str(inner), f"{inner.parent}/*") if n in TESTED_BY), None)
        if line is None or module not in reached(tests / f"{TESTED_BY[line]}.py", graph):
            missing.append(module)
    assert missing == []
    gone = [name for name in TESTED_BY if not any(ROOT.glob(f"{name}.py"))]
    assert gone == []


@cache
def reached(path: Path, graph: nx.DiGraph) -> frozenset[str]:
    """Modules that a test file imports, by way of other files of tests too, and all that these import."""
    tree = parsed(path)
    found = {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names} & MODULES.keys()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= (inner | {module}) & MODULES.keys()
            if module.startswith("tests."):
                found |= reached(Path(__file__).parents[1] / f"{module.replace('.', '/')}.py", graph)
    return frozenset(found.union(*(nx.descendants(graph, m) for m in found if m in graph)))
