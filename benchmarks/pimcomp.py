"""PIMCOMP-NN's mappings of its own networks beside ours, on the machine that its back end assumes.

PIMCOMP-NN is fetched and built apart (its README says how: cmake, make) and run on the networks that it holds
as JSON, with its balanced replication. The same JSON becomes an ONNX model with random weights here, which is
compiled for the shipped description `pimcomp`, with at most as many tiles as it takes crossbars, and matrix
products on these alone.

The slowest layer is that with the most to do for one sample, by the same rules for both: windows of a replica
times 0.8 us, and for each core the products that it starts for the layer, 200 ns apart. A product takes a row
of up to 128 values to all crossbars that read it.

Latency and interval are those of whole schedules: of theirs as its evaluation tells, of the element pipeline
and of the batch pipeline; of ours as the plan says.

python benchmarks/pimcomp.py ~/PIMCOMP-NN --networks squeezenet
"""

import argparse
import dataclasses
import json
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ffebm
from ffebm.plan.mapping import Objective

NETWORKS = ("resnet18", "googlenet", "mobilenetv2", "squeezenet")
OBJECTIVES: tuple[Objective, ...] = ("analog", "latency", "throughput")
READ_S = 0.8e-6
"""One product of a crossbar, as its back end runs."""
ISSUE_S = 200e-9
"""Between two products that a core starts."""
REPLICAS = 4096
"""More copies of a weight than any machine here has room for."""
PRODUCTS = {"Conv", "Gemm", "MatMul"}
"""What crossbars alone do there: a core has no other unit for matrix products."""


# --- a network of its as ONNX ------------------------------------------------------------------------


class _Model:
    """Builds an ONNX model from the nodes of PIMCOMP's JSON; weights are random."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def array(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        drawn = self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:], initial=1))
        return self.array(name, drawn.astype(np.float32))

    def node(self, op: str, reads: list[str], makes: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, reads, [makes], name=makes, **attributes))


def as_onnx(network: dict[str, Any]) -> onnx.ModelProto:
    """A network of PIMCOMP's as an ONNX model, [1, channels, height, width] to its last node."""
    model = _Model()
    nodes = network["node_list"]
    for node in nodes[1:]:
        _add(model, node)
    graph = helper.make_graph(model.nodes, "pimcomp", [_port(nodes[0])], [_port(nodes[-1])], model.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def _port(node: dict[str, Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(node["name"], TensorProto.FLOAT, node["output_dim"])


def _add(model: _Model, node: dict[str, Any]) -> None:
    """One node; what follows a layer there (an activation) is a node of its own here."""
    name, reads, kind = node["name"], list(node["provider"]), node["operation"].removeprefix("OP_")
    out = f"{name}:linear" if node.get("with_act") else name
    if kind in PLAIN:
        op, attributes = PLAIN[kind]
        model.node(op, reads, out, **attributes)
    elif kind in ADDED:
        ADDED[kind](model, node, out)
    else:
        raise SystemExit(f"{name}: what {kind} is here is not known")
    if out != name:
        model.node("Relu", [out], name)


def _add_dense(model: _Model, node: dict[str, Any], out: str) -> None:
    name, size = node["name"], node["param"]
    weight = model.weight(f"{name}.weight", size["num_output"], size["num_input"])
    bias = model.weight(f"{name}.bias", size["num_output"])
    model.node("Gemm", [*node["provider"], weight, bias], out, transB=1)


def _add_clip(model: _Model, node: dict[str, Any], out: str) -> None:
    size = node["param"]
    ends = [model.array(f"{out}.{end}", np.array(size[end], np.float32)) for end in ("min", "max")]
    model.node("Clip", [*node["provider"], *ends], out)


def _add_conv(model: _Model, node: dict[str, Any], out: str) -> None:
    name, size = node["name"], node["param"]
    groups = size.get("group", 1)
    channels = node["input_dim"][1] // groups
    kernel = (size["kernel_h"], size["kernel_w"])
    weight = model.weight(f"{name}.weight", size["output_channel"], channels, *kernel)
    bias = model.weight(f"{name}.bias", size["output_channel"])
    model.node(
        "Conv",
        [*node["provider"], weight, bias],
        out,
        group=groups,
        kernel_shape=kernel,
        strides=(size["stride_h"], size["stride_w"]),
        pads=(size["pad_h0"], size["pad_w0"], size["pad_h1"], size["pad_w1"]),
    )


def _add_pool(model: _Model, node: dict[str, Any], out: str) -> None:
    reads, size = list(node["provider"]), node["param"]
    kind = "AveragePool" if size["pool_method"] else "MaxPool"
    if size["global"]:
        model.node(f"Global{kind}", reads, out)
        return
    model.node(
        kind,
        reads,
        out,
        kernel_shape=(size["kernel_h"], size["kernel_w"]),
        strides=(size["stride_h"], size["stride_w"]),
        pads=(size["pad_h0"], size["pad_w0"], size["pad_h1"], size["pad_w1"]),
    )


PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "ELTWISE": ("Add", {}),
    "CONCAT": ("Concat", {"axis": 1}),
    "RELU": ("Relu", {}),
    "LRN": ("LRN", {"size": 5}),
    "DROPOUT": ("Identity", {}),
    "RESHAPE": ("Flatten", {}),
    "FLATTEN": ("Flatten", {}),
    "SOFTMAX": ("Softmax", {"axis": 1}),
}
ADDED = {"CONV": _add_conv, "FC": _add_dense, "CLIP": _add_clip, "POOL": _add_pool}


# --- both sides --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One mapping of one network.

    Attributes:
        network: Its name.
        whose: "PIMCOMP-NN", or the objective of ours.
        crossbars: In use, a number.
        layers: Layers on crossbars of all that have weights.
        replicas: The most copies of a layer, and the copies of all layers together.
        slowest: The layer that takes longest, by name.
        slowest_s: How long, seconds.
        latency_s: Of one inference, seconds.
        interval_s: Between inferences, seconds.
        cpu: Seconds of a processor.
    """

    network: str
    whose: str
    crossbars: int
    layers: tuple[int, int]
    replicas: tuple[int, int]
    slowest: str
    slowest_s: float
    latency_s: float
    interval_s: float
    cpu: float

    def text(self) -> str:
        """As a line of Markdown."""
        cells = (
            self.network,
            self.whose,
            f"{self.crossbars:,}",
            f"{self.layers[0]} of {self.layers[1]}",
            f"{self.replicas[0]:,}; {self.replicas[1]:,}",
            f"{1e6 * self.slowest_s:.1f} us ({self.slowest})",
            f"{1e6 * self.latency_s:.1f} us",
            f"{1e6 * self.interval_s:.1f} us",
            f"{self.cpu:.1f}",
        )
        return f"| {' | '.join(cells)} |"


def evaluated(folder: Path, network: str, pipeline: str) -> float:
    """What PIMCOMP-NN's own evaluation says of a pipeline, seconds; its mapping is written beside."""
    command = ["./PIMCOMP-NN", f"-m={network}", "-r=balance", f"-p={pipeline}", "-i=YES"]
    ran = subprocess.run(command, cwd=folder / "build", check=True, stdout=subprocess.PIPE)
    _, found, rest = ran.stdout.decode(errors="replace").partition("practical (ns)\n")
    if not found:
        raise SystemExit(f"PIMCOMP-NN tells no time for {network} by its {pipeline} pipeline")
    return 1e-9 * float(rest.splitlines()[0])


def theirs(folder: Path, network: str) -> Row:
    """Run PIMCOMP-NN, and read what it has written of its mapping."""
    found = folder / "output/IntermediateInfo.json"
    start = time.perf_counter()
    latency = evaluated(folder, network, "element")
    interval = evaluated(folder, network, "batch")
    seconds = time.perf_counter() - start
    mapping = json.loads(found.read_text(encoding="utf-8"))

    starts: dict[int, Counter[int]] = defaultdict(Counter)  # products that a core starts for a window
    windows: dict[int, int] = {}
    copies: dict[int, int] = {}
    for core, held in enumerate(mapping["PIMCOMP_4_virtual_core_AG_map"]["core_list"]):
        for row in held["AG_list"]:
            layer = row["node_index"]
            starts[layer][core] += 1
            copies[layer] = row["replication_num"]
            windows[layer] = -(-row["input_cycle_in_total"] // copies[layer])
    takes = {
        layer: max(windows[layer] * READ_S, (windows[layer] * max(cores.values()) - 1) * ISSUE_S + READ_S)
        for layer, cores in starts.items()
    }
    slowest = max(takes, key=lambda layer: takes[layer])
    return Row(
        network=network,
        whose="PIMCOMP-NN",
        crossbars=len(mapping["PIMCOMP_2_virtual_crossbar"]),
        layers=(len(takes), len(takes)),
        replicas=(max(copies.values()), sum(copies.values())),
        slowest=mapping["node_list"][slowest]["name"],
        slowest_s=takes[slowest],
        latency_s=latency,
        interval_s=interval,
        cpu=seconds,
    )


def machine() -> ffebm.Hardware:
    """The shipped description with a digital unit that does all but matrix products."""
    hardware = ffebm.load_hardware("pimcomp")
    rest = sorted({schema.name for schema in onnx.defs.get_all_schemas()} - PRODUCTS)
    (unit,) = hardware.digital
    return msgspec.structs.replace(hardware, digital=(msgspec.structs.replace(unit, ops=tuple(rest)),))


def ours(folder: Path, network: str, objective: Objective, tiles: int) -> Row:
    """Compile the same network for as many tiles."""
    described = json.loads((folder / "models/JSON" / f"{network}.json").read_text(encoding="utf-8"))
    model = as_onnx(described)
    start = time.process_time()
    plan = ffebm.compile(model, hardware=machine(), objective=objective, tiles=tiles, replicas=REPLICAS)
    cpu = time.process_time() - start
    takes: dict[str, float] = defaultdict(float)
    read: dict[str, float] = {}  # behind the last products that cores start
    for step in plan.inference.steps:
        if step.kind == "free":
            takes[step.name] += step.free_s - step.start_s
            read[step.name] = step.lag
    takes = {layer: seconds + read[layer] for layer, seconds in takes.items()}
    slowest = max(takes, key=lambda layer: takes[layer])
    copies: dict[str, int] = {}
    for _, piece in plan.pieces():
        copies[piece.weight] = max(copies.get(piece.weight, 0), piece.replica + 1)
    return Row(
        network=network,
        whose=f"ours, {objective}",
        crossbars=len(plan.tiles),
        layers=(len(copies), sum(node.op_type in PRODUCTS for node in model.graph.node)),
        replicas=(max(copies.values()), sum(copies.values())),
        slowest=slowest,
        slowest_s=takes[slowest],
        latency_s=plan.inference.makespan_s,
        interval_s=plan.inference.interval_s,
        cpu=cpu,
    )


def rows_of(folder: Path, networks: list[str], objectives: list[Objective]) -> Iterator[Row]:
    """Theirs, then ours on as many tiles, network by network."""
    for network in networks:
        first = theirs(folder, network)
        yield first
        for objective in objectives:
            yield ours(folder, network, objective, first.crossbars)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of PIMCOMP-NN, built in its folder `build`")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    options = parser.parse_args()
    heads = (
        "network",
        "mapping",
        "crossbars",
        "layers",
        "most copies of one; of all",
        "slowest layer",
        "latency",
        "interval",
        "CPU s",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows_of(options.folder, options.networks, options.objectives):
        print(row.text(), flush=True)


if __name__ == "__main__":
    main()
