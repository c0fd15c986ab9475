"""Holds our kernels against the backend test cases that the onnx package carries.

python -m tests.conformance            prints the figures and what does not pass
python -m tests.conformance --update   also rewrites the list of what passes, and docs/ops.md
"""

import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import load_model_tests
from torch import Tensor

from ffebm import Executor
from ffebm import compile as compile_plan
from ffebm.graph.ops import OPS
from ffebm.runtime.kernels.dtypes import wide
from tests.models import as_tuple
from tests.onnx_interpreter import op_name, run_model, to_torch

RTOL, ATOL = 1e-3, 1e-5
MODEL_KINDS = ("pytorch-converted", "pytorch-operator", "simple")
ROOT = Path(__file__).parents[1]
PASSING = ROOT / "tests/golden/onnx_cases_that_pass.txt"
DOC = ROOT / "docs/ops.md"


@dataclass(frozen=True, eq=False)
class Case:
    """A model with inputs and the outputs to expect.

    Attributes:
        kind: "node", or the folder of the model in the onnx package.
        name: ONNX's name of the case.
        model: The model.
        data: Pairs of inputs and outputs, protobuf tensors or arrays.
    """

    kind: str
    name: str
    model: ModelProto
    data: Sequence[tuple[Sequence[object], Sequence[object]]]

    @property
    def arrays(self) -> bool:
        """All data are numpy arrays: ONNX's count of cases with tensors, which most backends are held to."""
        return all(isinstance(x, np.ndarray) for pair in self.data for part in pair for x in part)


def cases() -> Iterator[Case]:
    """Every case whose inputs and outputs are tensors, by their type or in all of its data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # generating the cases divides by zero and overflows on purpose
        nodes = collect_testcases(None)
    for node in nodes:
        if node.model is None or node.data_sets is None:
            continue
        case = Case("node", node.name, node.model, node.data_sets)
        if case.arrays or _tensors_only(node.model.graph):  # an optional that holds a tensor is one
            yield case
    for kind in MODEL_KINDS:
        for test in load_model_tests(kind=kind):
            assert test.model_dir is not None
            folder = Path(test.model_dir)
            model = onnx.load(folder / "model.onnx")
            if _tensors_only(model.graph):
                yield Case(kind, test.name, model, _stored(folder))


def _tensors_only(graph: GraphProto) -> bool:
    return all(value.type.HasField("tensor_type") for value in [*graph.input, *graph.output])


def _stored(folder: Path) -> list[tuple[list[TensorProto], list[TensorProto]]]:
    def read(data: Path, what: str) -> list[TensorProto]:
        files = sorted(data.glob(f"{what}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
        return [onnx.load_tensor(file) for file in files]

    return [(read(data, "input"), read(data, "output")) for data in sorted(folder.glob("test_data_set_*"))]


def fault(case: Case) -> str:
    """Why a case does not pass; empty if it does."""
    try:
        torch.manual_seed(0)
        for inputs, expected in case.data:
            outputs = run_model(case.model, [to_torch(x) for x in inputs])
            compare(outputs, [to_torch(x) for x in expected])
    except Exception as error:  # noqa: BLE001 - whatever it is, the case does not pass
        return _cause(case.model.graph, error)
    return ""


def fault_in_plan(case: Case, *, constants: bool) -> str:
    """Why a case does not pass when it is compiled and its plan runs; empty if it does.

    Args:
        case: A node case.
        constants: Its inputs are constants of the model; all of it is computed in the compilation.
    """
    inputs, expected = case.data[0]
    ports = [(port, x) for port, x in zip(case.model.graph.input, inputs, strict=False) if x is not None]
    model = _with_constants(case.model, ports) if constants else case.model
    try:
        torch.manual_seed(0)
        net = Executor(compile_plan(model, hardware="ideal"))
        with torch.no_grad():
            results = net(**({} if constants else {port.name: to_torch(x) for port, x in ports}))
        compare(as_tuple(results), [to_torch(x) for x in expected])
    except Exception as error:  # noqa: BLE001 - whatever it is, the case does not pass
        return _cause(case.model.graph, error)
    return ""


def _with_constants(model: ModelProto, ports: Sequence[tuple[ValueInfoProto, object]]) -> ModelProto:
    """The model without inputs; what it is fed is among its initializers."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.input[:]
    for port, x in ports:
        tensor = TensorProto()
        tensor.CopyFrom(x if isinstance(x, TensorProto) else numpy_helper.from_array(np.asarray(x)))
        tensor.name = port.name
        fixed.graph.initializer.append(tensor)
    return fixed


def compare(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raise AssertionError unless types, shapes and values agree."""
    assert len(outputs) == len(expected), "number of outputs"
    for y, want in zip(outputs, expected, strict=True):
        assert y.dtype == want.dtype, "element type"
        torch.testing.assert_close(wide(y), wide(want), rtol=RTOL, atol=ATOL, equal_nan=True)


def _cause(graph: GraphProto, error: Exception) -> str:
    nodes = list(_nodes(graph))
    types = [value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]]
    missing = sorted({op_name(node) for node in nodes} - set(OPS))
    if TensorProto.STRING in types:
        return "strings are no tensors in torch"
    if missing:
        return f"no kernel for {', '.join(missing)}"
    if any(OPS[op_name(node)].random for node in nodes):
        return "expects the random numbers of another generator"
    if isinstance(error, AssertionError) and types[-1] in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return "differs in the last bits of a half-precision result, which are coarser than the tolerance"
    return (str(error).strip() or repr(error)).splitlines()[0]


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for attr in node.attribute:
            if attr.HasField("g"):
                yield from _nodes(attr.g)


def report(faults: dict[Case, str]) -> str:
    """The figures, and what does not pass by cause, as Markdown."""
    lines = ["| cases | pass | of |", "| --- | ---: | ---: |"]
    groups = {kind: [case for case in faults if case.kind == kind] for kind in ("node", *MODEL_KINDS)}
    groups["node, all data numpy arrays"] = [case for case in groups["node"] if case.arrays]
    for title, members in groups.items():
        lines.append(f"| {title} | {sum(not faults[case] for case in members)} | {len(members)} |")
    causes: dict[str, list[str]] = defaultdict(list)
    for case, cause in faults.items():
        if cause:
            causes[cause].append(case.name.removeprefix("test_"))
    for cause, names in sorted(causes.items(), key=lambda item: (-len(item[1]), item[0])):
        lines += ["", f"**{len(names)}: {cause}.** " + ", ".join(f"`{name}`" for name in sorted(names))]
    return "\n".join(lines)


def op_list() -> str:
    """All ops by kind, as Markdown."""
    lines = []
    for kind, members in groupby(
        sorted(OPS, key=lambda op: (OPS[op].kind.name, op)), lambda op: OPS[op].kind
    ):
        names = list(members)
        lines.append(f"- **{kind.name}** ({len(names)}; {kind.value}): " + ", ".join(f"`{n}`" for n in names))
    return f"{len(OPS)} ops.\n\n" + "\n".join(lines)


def documented(faults: dict[Case, str]) -> str:
    """docs/ops.md with its generated parts renewed."""
    text = DOC.read_text()
    for mark, part in (("ops", op_list()), ("figures", report(faults))):
        begin, end = f"<!-- begin {mark} -->", f"<!-- end {mark} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.split(end)[1]}"
    return text


def passing(faults: dict[Case, str]) -> list[str]:
    """Names of the cases that pass."""
    return sorted(f"{case.kind}/{case.name}" for case, cause in faults.items() if not cause)


def all_faults() -> dict[Case, str]:
    """What every case's fault is."""
    return {case: fault(case) for case in cases()}


def main() -> None:
    """Print the report; with --update, renew what is derived from it."""
    faults = all_faults()
    print(report(faults))  # noqa: T201 - this is a command
    if "--update" in sys.argv[1:]:
        PASSING.write_text("\n".join(passing(faults)) + "\n")
        DOC.write_text(documented(faults))


if __name__ == "__main__":
    main()
