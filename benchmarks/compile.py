"""How fast models compile, and whether that grows with their size.

Chains and branching graphs of 1,000, 3,000 and 10,000 nodes are compiled for `reference`; the baseline of
each ratio is the smallest graph of its kind in the same run. Then what commands take on small models, as
processor time of fresh processes beside that of the packages that they cannot do without; and the peak of
memory over the weights, of fresh processes too. Last a Llama-like model of 1.1 billion weights, for cost and
schedules alone and with its weights: 10 GB of a temporary folder for as long as it takes.

python benchmarks/compile.py [growth] [latency] [memory] [llama]
"""

import compileall
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from fresh_process import Used, least_used_by, used_by
from llama import Llama
from onnx import TensorProto, helper, numpy_helper

import ffebm
from examples.digits_model import digits_model
from ffebm.compiler.driver import compile_model

SIZES = (1000, 3000, 10_000)


def chain(n_nodes: int) -> onnx.ModelProto:
    """Gemm and Relu in turn."""
    nodes, weights, value = [], [], "x"
    for index in range(n_nodes // 2):
        weights.append(numpy_helper.from_array(np.full((8, 8), 0.1, np.float32), f"w{index}"))
        nodes.append(helper.make_node("Gemm", [value, f"w{index}"], [f"u{index}"], f"gemm{index}"))
        nodes.append(helper.make_node("Relu", [f"u{index}"], [f"s{index}"], f"relu{index}"))
        value = f"s{index}"
    return _model(nodes, weights, value)


def branching(n_nodes: int) -> onnx.ModelProto:
    """Units of two branches that meet in a sum, with a skip around each: seven nodes a unit."""
    nodes, weights, value = [], [], "x"
    for index in range(n_nodes // 7):
        for branch in "ab":
            name = f"{branch}{index}"
            weights.append(numpy_helper.from_array(np.full((8, 8), 0.1, np.float32), f"w{name}"))
            nodes.append(helper.make_node("Gemm", [value, f"w{name}"], [f"u{name}"], f"gemm_{name}"))
            nodes.append(helper.make_node("Relu", [f"u{name}"], [f"s{name}"], f"relu_{name}"))
        nodes.append(helper.make_node("Add", [f"sa{index}", f"sb{index}"], [f"m{index}"], f"meet{index}"))
        nodes.append(helper.make_node("Add", [f"m{index}", value], [f"k{index}"], f"skip{index}"))
        nodes.append(helper.make_node("Tanh", [f"k{index}"], [f"t{index}"], f"tanh{index}"))
        value = f"t{index}"
    return _model(nodes, weights, value)


def _model(nodes: list[onnx.NodeProto], weights: list[TensorProto], output: str) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in ("x", output)]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def full_resnet50(path: Path) -> None:
    """light_resnet50 with random weights in place of its constant ones."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    model = onnx.load(folder / "light_resnet50.onnx")
    rng = np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        shape = [int(size) for size in shapes[node.input[0]]]
        array = np.abs(rng.standard_normal(shape) * 0.05).astype(np.float32)
        model.graph.node.remove(node)
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        model.graph.input.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, shape))
    onnx.save(model, path)


def two_layers(path: Path) -> None:
    """Two dense layers of a few weights: what a command takes before it does anything."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w1", (4, 6)), ("w2", (6, 3)))
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["u"], "hidden"),
        helper.make_node("Relu", ["u"], ["s"], "relu"),
        helper.make_node("MatMul", ["s", "w2"], ["y"], "readout"),
    ]
    shapes = {"x": ["N", 4], "y": ["N", 3]}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "two_layers", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def growth() -> None:
    """Time a node of graphs of three sizes."""
    for make in (chain, branching):
        base = 0.0
        for size in SIZES:
            model = make(size)
            started = time.perf_counter()
            plan = compile_model(model, hardware="reference")
            seconds = time.perf_counter() - started
            per_node = seconds / len(plan.nodes)
            base = base or per_node
            print(
                f"{make.__name__:<10} {len(plan.nodes):>6} nodes  {seconds:6.2f} s  "
                f"{1 / per_node:8.0f} nodes/s  {per_node / base:.2f} x the time a node of the smallest"
            )


def latency(folder: Path) -> None:
    """Processor time of commands on small models, and of what they cannot do without."""
    compileall.compile_dir(Path(ffebm.__file__).parent, quiet=1)  # as an installation does
    small, digits = folder / "two_layers.onnx", folder / "digits.onnx"
    two_layers(small)
    onnx.save(digits_model(), digits)
    rows = {
        "python alone": ["-c", "pass"],
        "  and typer, its options, numpy and onnx": ["-c", "import typer.rich_utils, pydantic, numpy, onnx"],
        "import ffebm": ["-c", "import ffebm"],
        "ffebm --help": ["-m", "ffebm", "--help"],
    }
    for model in (small, digits):
        plan = str(model.with_suffix(".plan"))
        rows |= {
            f"ffebm compile, {model.stem}": ["-m", "ffebm", "compile", str(model), "-o", plan],
            f"ffebm show, {model.stem}": ["-m", "ffebm", "show", plan],
            f"ffebm report, {model.stem}": ["-m", "ffebm", "report", plan, "-o", str(folder / "r.html")],
        }
    for name, words in rows.items():
        used = least_used_by(words)
        print(f"{name:<42} {used.processor:5.2f} s of processor time, {used.wall:5.2f} s, the least of 5")


def feed_forward(path: Path, depth: int, width: int, words: int) -> None:
    """An embedding and residual blocks of two dense layers, as transformers have them; weights beside it."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(0.02 * rng.standard_normal(shape, dtype=np.float32), name)

    weights = [weight("embedding", words, width)]
    nodes = [helper.make_node("Gather", ["embedding", "ids"], ["h0"], "embed")]
    for index in range(depth):
        weights += [weight(f"up{index}", width, 4 * width), weight(f"down{index}", 4 * width, width)]
        chain = (("MatMul", [f"h{index}", f"up{index}"], "u"), ("Relu", [f"u{index}"], "r"))
        chain += (("MatMul", [f"r{index}", f"down{index}"], "d"),)
        nodes += [
            helper.make_node(op, read, [f"{made}{index}"], f"{made}{index}_") for op, read, made in chain
        ]
        nodes.append(helper.make_node("Add", [f"d{index}", f"h{index}"], [f"h{index + 1}"], f"add{index}"))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 16])
    y = helper.make_tensor_value_info(f"h{depth}", TensorProto.FLOAT, [1, 16, width])
    model = helper.make_model(
        helper.make_graph(nodes, "feed_forward", [ids], [y], weights),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    onnx.save(model, path, save_as_external_data=True, location=f"{path.stem}.data")


def memory(folder: Path) -> None:
    """Peak of a process that compiles a model, and what its plan takes, over the weights."""
    models = {
        "resnet50": full_resnet50,
        "feed_forward": lambda path: feed_forward(path, depth=8, width=768, words=16_000),
        "feed_forward_twice": lambda path: feed_forward(path, depth=18, width=768, words=30_000),
    }
    for name, make in models.items():
        path = folder / f"{name}.onnx"
        make(path)
        size = sum(file.stat().st_size for file in folder.glob(f"{name}.*"))
        for hardware in ("reference", "hermes"):
            print(f"{name:<18} {size / 2**20:4.0f} MiB of weights, {_told(path, size, hardware)}", flush=True)


def llama(folder: Path) -> None:
    """The same of a model that many machines could not hold twice, and what its cost alone takes."""
    path = folder / "llama.onnx"
    count = Llama().write(path)
    size = 4 * count
    print(f"llama: {count:,} weights, {size / 2**30:.2f} GiB", flush=True)
    print(f"  cost alone, {_told(path, size, 'reference', '--no-weights')}", flush=True)
    for hardware in ("reference", "hermes"):
        print(f"  {_told(path, size, hardware)}", flush=True)


def _told(path: Path, size: int, hardware: str, *options: str) -> str:
    """What a compilation takes; its plan is deleted."""
    plan = path.with_suffix(".plan")
    words = ["compile", str(path), "-o", str(plan), "--hardware", hardware, *options]
    used: Used = used_by(["-m", "ffebm", *words])
    held = sum(file.stat().st_size for file in plan.rglob("*") if file.is_file())
    shutil.rmtree(plan)
    return (
        f"{hardware:<9}: peak {used.peak / 2**20:,.0f} MiB, {used.peak / size:.2f} times; "
        f"plan {held / 2**20:,.1f} MiB, {held / size:.2f} times; "
        f"{used.processor:.1f} s of processor time, {used.wall:.1f} s"
    )


def main() -> None:
    parts = sys.argv[1:] or ["growth", "latency", "memory", "llama"]
    if "growth" in parts:
        growth()
    with tempfile.TemporaryDirectory() as scratch:
        if "latency" in parts:
            latency(Path(scratch))
        if "memory" in parts:
            memory(Path(scratch))
        if "llama" in parts:
            llama(Path(scratch))


if __name__ == "__main__":
    main()
