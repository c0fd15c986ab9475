"""How fast models compile, and whether that grows with their size.

Chains and branching graphs of 1,000, 3,000 and 10,000 nodes are compiled for `reference`; the baseline of
each ratio is the smallest graph of its kind in the same run. Then light_resnet50 of the onnx package with
full-size random weights, as a whole process from the command line.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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


def main() -> None:
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
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "resnet50.onnx"
        full_resnet50(path)
        command = [sys.executable, "-c", "from ffebm.cli import main_compile; main_compile()"]
        started = time.perf_counter()
        arguments = [*command, str(path), "-o", str(path.with_suffix(".plan"))]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = path.stat().st_size / 2**20
    print(f"light_resnet50, {size:.0f} MiB of weights, whole process: {seconds:.2f} s, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
