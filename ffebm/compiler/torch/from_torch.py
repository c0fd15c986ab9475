"""PyTorch in: a module, a traced module or an exported program becomes a graph.

A module is exported twice, as it trains and as it is evaluated, and the two are merged: what depends on the
mode follows the running network. torch.export's training-level graph is read, where batch normalisation,
dropout and attention are still whole.
"""

import hashlib
import logging
import warnings
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection, export
from torch.utils import _pytree as pytree

from ffebm.compiler.torch.modes import gate, merge
from ffebm.compiler.torch.reader import Copies, Leaf, NotInvertibleError, Reading, read_program
from ffebm.compiler.torch.twins import take_onnx_names
from ffebm.errors import Location, ModelError, UsageError
from ffebm.graph.graph import Graph
from ffebm.graph.text import bytes_of
from ffebm.plan.schema import Source
from ffebm.plan.structure import Nest, Nesting, Structure, structure_problems

BATCH = "batch"
"""Name of the size that is open."""


@dataclass(frozen=True)
class TorchImport:
    """A model that was read.

    Attributes:
        graph: The graph.
        source: Which model it was.
        structure: How its results are nested; None if they are one tensor or a plain tuple.
    """

    graph: Graph
    source: Source
    structure: Structure | None


@dataclass(frozen=True)
class Example:
    """Arguments of one call of the model."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def tensors(self) -> list[Tensor]:
        """Every tensor in them, in order."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]


def from_torch(model: object, example_inputs: object = None) -> TorchImport:
    """Read a torch model.

    Args:
        model: A module (traced ones too) or an exported program.
        example_inputs: A tensor, a tuple of arguments, or a dictionary of named ones; an exported program
            needs none. The first size of the first tensor is the batch, which may be another one later.

    Raises:
        UsageError: If the model is of another kind, or examples are missing.
        ModelError: If it cannot be exported.
    """
    if isinstance(model, ExportedProgram):
        name = "program"
        program, reading = _read_program(model, name)
        gate(reading)
    elif isinstance(model, nn.Module):
        name = type(model).__name__
        program, reading = _read_module(model, _example(example_inputs, name), name)
    else:
        raise UsageError(
            f"a model of type {type(model).__name__}",
            allowed="the path of an ONNX file, onnx.ModelProto, torch.nn.Module, torch.fx.GraphModule or "
            "torch.export.ExportedProgram",
        )
    renamed = take_onnx_names(reading.graph)
    leaves = tuple(renamed.get(leaf, leaf) if isinstance(leaf, str) else leaf for leaf in reading.results)
    return TorchImport(
        reading.graph, _source(reading.graph, name), _structure(program, leaves, reading.graph)
    )


def _example(given: object, name: str) -> Example:
    if given is None:
        raise UsageError(
            "example inputs are missing",
            hint="ffebm.compile(module, example_inputs): a tensor, a tuple of arguments or a dictionary",
            location=Location(name),
        )
    if isinstance(given, Mapping):
        return Example((), dict(given))
    return Example(tuple(given) if isinstance(given, tuple | list) else (given,), {})


# --- exporting ---------------------------------------------------------------------------------------


def _read_module(model: nn.Module, example: Example, name: str) -> tuple[ExportedProgram, Reading]:
    """Both modes of a module; with an open batch if the model allows it."""
    try:
        program, reading = _read_modes(model, _batched(example), name, dynamic=True)
        if _closed_inside(reading.graph):
            _note_batch(reading.graph, example)
            return program, reading
        cause = "another size than the first depends on it"
    except ModelError as error:
        cause = error.found
    program, reading = _read_modes(model, example, name, dynamic=False)
    reading.graph.notes.append(f"the batch is fixed at that of the example inputs: {cause}")
    return program, reading


def _read_modes(
    model: nn.Module, example: Example, name: str, *, dynamic: bool
) -> tuple[ExportedProgram, Reading]:
    copies = Copies()
    program, evaluation = _read_program(_export(model, example, name, dynamic, training=False), name, copies)
    try:
        trains, train = _read_program(_export(model, example, name, dynamic, training=True), name, copies)
        both = merge(train, evaluation)
        cause = "in training the model runs other ops"
    except ModelError as error:
        both, cause = None, f"the model cannot be exported in training mode ({error.found})"
    if both is not None:
        return trains, both
    gate(evaluation)
    evaluation.graph.notes.append(
        f"{cause}: the plan holds what it does in evaluation, with dropout and batch statistics in training"
    )
    averaged = [key for key, part in model.named_modules() if getattr(part, "momentum", 0.0) is None]
    if averaged:
        evaluation.graph.notes.append(
            f"running statistics of {', '.join(averaged)} stay as they are: momentum=None averages over all "
            "batches, which torch.export refuses"
        )
    return program, evaluation


def _read_program(
    program: ExportedProgram, name: str, copies: Copies | None = None
) -> tuple[ExportedProgram, Reading]:
    try:
        return program, read_program(program, name, copies)
    except NotInvertibleError:
        functional = _decomposed(program, name)
    return functional, read_program(functional, name)


def _decomposed(program: ExportedProgram, name: str) -> ExportedProgram:
    """The program without writes in place."""
    with _quiet():
        try:
            functional: ExportedProgram = program.run_decompositions({})
        except Exception as error:  # torch raises whatever its ops raise
            raise ModelError(
                f"torch cannot take its writes in place apart: {_first_line(error)}",
                hint="write it with ops that make new tensors",
                location=Location(name),
            ) from error
    return functional


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _export(
    model: nn.Module, example: Example, name: str, dynamic: bool, *, training: bool
) -> ExportedProgram:
    sizes = ShapesCollection()  # type: ignore[no-untyped-call]
    batch = _batch(example)
    for tensor in example.tensors() if dynamic and batch is not None else []:
        if tensor.ndim and tensor.shape[0] == batch:
            sizes[tensor] = {0: Dim.AUTO}
    with _quiet(), _mode(model, training=training), torch.enable_grad():
        try:
            shapes = _shapes(sizes, model, example) if dynamic else None
            return export(model, example.args, example.kwargs, dynamic_shapes=shapes)
        except Exception as error:  # torch.export raises whatever the model raises
            raise ModelError(
                f"torch.export refuses it: {_first_line(error)}",
                hint="torch.export.export(module, inputs) shows where; Python that branches on values of "
                "tensors can use torch.cond",
                location=Location(name),
            ) from error


def _shapes(sizes: Any, model: nn.Module, example: Example) -> Any:
    return sizes.dynamic_shapes(model, example.args, example.kwargs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about itself, and without what it prints of a model that it refuses."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """A module in training or evaluation mode; afterwards each part is in its own again."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _batch(example: Example) -> int | None:
    first = next(iter(example.tensors()), None)
    return None if first is None or not first.ndim else int(first.shape[0])


def _batched(example: Example) -> Example:
    """With a batch of at least two: torch.export takes a batch of one for a constant."""
    if _batch(example) != 1:
        return example

    def twice(leaf: Any) -> Any:
        wide = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == 1
        return torch.cat([leaf, leaf]).detach() if wide else leaf

    args, kwargs = pytree.tree_map(twice, (example.args, example.kwargs))
    return Example(args, kwargs)


def _closed_inside(graph: Graph) -> bool:
    """Whether linear maps with weights see no open size but the batch."""
    for node in graph.nodes:
        weighted = any(value in graph.constants for value in node.inputs)
        rows = node.op == "aten.linear.default"
        linear = rows or node.op.startswith(("aten.conv", "aten.matmul", "aten.addmm", "aten.mm"))
        for value in [*node.inputs, *node.outputs] if linear and weighted else []:
            first, *rest = [isinstance(size, str) for size in graph.shape(value) or (1,)]
            if sum(rest, first) > 1 or (any(rest) and not rows):
                return False
    return True


def _note_batch(graph: Graph, example: Example) -> None:
    shape = graph.shape(graph.inputs[0]) if graph.inputs else None
    if shape and isinstance(shape[0], int) and _batch(example) is not None:
        graph.notes.append(f"the batch is fixed at {shape[0]}: the model's code depends on it")


# --- what goes with the graph ------------------------------------------------------------------------


def _source(graph: Graph, name: str) -> Source:
    digest = hashlib.sha256(str(graph).encode())
    for key in sorted(graph.constants):
        digest.update(bytes_of(graph.constants[key]))
    return Source(name=name, format="torch", digest=digest.hexdigest())


def _structure(program: ExportedProgram, leaves: tuple[Leaf, ...], graph: Graph) -> Structure | None:
    tree = program.call_spec.out_spec
    if list(leaves) == graph.outputs and (tree.is_leaf() or (len(leaves) > 1 and _plain(tree))):
        return None
    try:
        return Structure(tree=_nest(tree), leaves=leaves)
    except TypeError:
        graph.notes.append(f"results come as a tuple: {tree.type.__name__} cannot be written down")
        return None


def _nest(tree: Any) -> Nest | None:
    """A tree of torch's as containers of the closed set; None for a leaf.

    Raises:
        TypeError: If it holds another container, or keys that are no names or numbers.
    """
    if tree.is_leaf():
        return None
    kind, keys = _kind_and_keys(tree)
    items = tuple(_nest(child) for child in tree.children())
    if not all(isinstance(key, str | bool | int | float) for key in keys):
        raise TypeError("a key is no name and no number")
    name = tree.type.__name__ if kind == "record" else ""
    if kind == "namedtuple":
        name = tree.context.__name__
    nest = Nest(kind=kind, items=items, keys=keys, name=name)
    if next(structure_problems(Structure(tree=nest, leaves=(None,) * tree.num_leaves), ()), None) is not None:
        raise TypeError("its names are no names of Python")
    return nest


def _kind_and_keys(tree: Any) -> tuple[Nesting, tuple[Any, ...]]:
    context = tree.context
    if tree.type in {tuple, list}:
        return ("tuple" if tree.type is tuple else "list"), ()
    if tree.type in {dict, OrderedDict}:
        return "dict", tuple(context)
    if tree.type is defaultdict:
        return "dict", tuple(context[1])
    if tree.type is namedtuple:
        return "namedtuple", tuple(context._fields)
    # classes that are registered with torch: what stands beside the values are their names
    lists = isinstance(context, list | tuple)
    names = context[0] if lists and context and isinstance(context[0], list | tuple) else context
    if not isinstance(names, list | tuple) or len(names) != tree.num_children:
        raise TypeError("no names of its fields are known")
    return "record", tuple(names)


def _plain(tree: Any) -> bool:
    return tree.type is tuple and all(child.is_leaf() for child in tree.children())


__all__ = ["TorchImport", "from_torch"]
