"""Does every node fit onnx's description of its op: inputs, outputs, attributes and their types."""

import re
from functools import cache
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, NodeProto
from onnx.defs import OpSchema

from ffebm.compiler.onnx.contributed import LEARNING, MICROSOFT, schema_of
from ffebm.compiler.onnx.structure import all_nodes, op_name
from ffebm.errors import Location, ModelError
from ffebm.visible import visible

EQUATION = re.compile(r"{term}(,{term})*(->{term})?".replace("{term}", r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"))
REDUCTIONS: dict[str, frozenset[bytes]] = {
    **dict.fromkeys(
        ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), frozenset({b"mean", b"none", b"sum"})
    ),
    **dict.fromkeys(("ScatterElements", "ScatterND"), frozenset({b"add", b"max", b"min", b"mul", b"none"})),
}
"""What `reduction` may be; of other texts each evaluator makes something else."""
MANY = 2**31 - 1
"""How many inputs onnx gives an op that takes any number."""


def check_nodes(model: ModelProto, name: str) -> None:
    """Check every node, those of subgraphs too, against the schema of its op in the model's opset.

    Args:
        model: The model; its opset is one that onnx knows.
        name: How the user named it.

    Raises:
        ModelError: With the first node that does not fit.
    """
    opsets = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}
    for node, label in all_nodes(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        where = Location(name, label)
        if domain not in opsets:
            raise ModelError(
                f"{op_name(node)} is of domain {domain!r}, which the model does not import",
                allowed=f"it imports {sorted(opsets)}",
                location=where,
            )
        schema = _schema(node.op_type, opsets[domain], domain)
        if schema is not None:
            problem = _problem(node, schema)
            if problem is not None:
                found, allowed = problem
                raise ModelError(f"{node.op_type}: {found}", allowed=allowed, location=where)
        elif not domain:
            raise ModelError(f"opset {opsets['']} has no op {node.op_type}", location=where)


@cache
def _schema(op: str, opset: int, domain: str) -> OpSchema | None:
    if domain == MICROSOFT:
        return schema_of(op)
    try:
        schema = onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated and domain == LEARNING:  # onnxruntime runs them still
        return onnx.defs.get_schema(op, schema.since_version - 1, domain)
    # GroupNormalization was deprecated until it came back with another meaning
    gone = schema.deprecated and onnx.defs.get_schema(op, domain).deprecated
    return None if gone else schema


def _problem(node: NodeProto, schema: OpSchema) -> tuple[str, str] | None:
    """What does not fit, and what is allowed; None if all does."""
    return (
        _wrong_number(len(node.input), schema.min_input, schema.max_input, "inputs")
        or _wrong_number(len(node.output), schema.min_output, schema.max_output, "outputs")
        or _left_out(node, schema)
        or _wrong_attribute(node, schema)
        or _wrong_equation(node)
        or _wrong_reduction(node)
    )


def _wrong_number(count: int, least: int, most: int, what: str) -> tuple[str, str] | None:
    if least <= count <= most:
        return None
    bounds = f"{least}" if least == most else f"{least} or more" if most >= MANY else f"{least} to {most}"
    return f"{count} {what}", f"{bounds} are allowed"


def _left_out(node: NodeProto, schema: OpSchema) -> tuple[str, str] | None:
    for given, formals, what in (
        (node.input, schema.inputs, "input"),
        (node.output, schema.outputs, "output"),
    ):
        for value, formal in zip(given, formals, strict=False):
            if not value and formal.option == OpSchema.FormalParameterOption.Single:
                return f"{what} {formal.name} is left out", "it is needed"
    variadic = OpSchema.FormalParameterOption.Variadic
    if schema.inputs and schema.inputs[-1].option == variadic and "" in node.input[len(schema.inputs) - 1 :]:
        return f"one of its inputs {schema.inputs[-1].name} is left out", "each is needed"
    return None


def _wrong_attribute(node: NodeProto, schema: OpSchema) -> tuple[str, str] | None:
    given: set[str] = set()
    for attr in node.attribute:
        known = _attributes(schema).get(attr.name)
        if attr.name in given:
            return f"attribute {attr.name!r} is given twice", "each once"
        given.add(attr.name)
        if known is None:
            if attr.name.startswith("__"):  # what tools leave for themselves
                continue
            listed = ", ".join(sorted(_attributes(schema))) or "none"
            return f"attribute {visible(attr.name)!r} is unknown", f"its attributes are {listed}"
        if attr.type != known[0]:
            kinds = AttributeProto.AttributeType
            found = kinds.Name(attr.type) if attr.type in kinds.values() else str(attr.type)
            return f"attribute {attr.name!r} is {found}", f"{kinds.Name(known[0])} is needed"
    missing = [key for key, (_, required) in _attributes(schema).items() if required and key not in given]
    return (f"attribute {missing[0]!r} is missing", "it is needed") if missing else None


def _wrong_equation(node: NodeProto) -> tuple[str, str] | None:
    """An Einsum that is no equation, in which onnx's shape inference may not find its way out."""
    for attr in node.attribute if node.op_type == "Einsum" else ():
        text = attr.s.decode("utf-8", "backslashreplace")
        if attr.name == "equation" and not EQUATION.fullmatch(text.replace(" ", "")):
            return f"equation {visible(text)!r}", "letters and '...' between commas, with or without '->'"
    return None


def _wrong_reduction(node: NodeProto) -> tuple[str, str] | None:
    known = REDUCTIONS.get(node.op_type)
    for attr in node.attribute if known else ():
        if known and attr.name == "reduction" and attr.s not in known:
            text = visible(attr.s.decode("utf-8", "backslashreplace"))
            return f"reduction {text!r}", f"one of {sorted(name.decode() for name in known)}"
    return None


def _attributes(schema: OpSchema) -> dict[str, tuple[int, bool]]:
    """Type, and whether it is needed, of each attribute of an op."""
    return _attributes_of(schema.name, schema.since_version, schema.domain)


@cache
def _attributes_of(op: str, version: int, domain: str) -> dict[str, tuple[int, bool]]:
    attributes = onnx.defs.get_schema(op, version, domain).attributes
    return {key: (_number(attr.type), attr.required) for key, attr in attributes.items()}


def _number(kind: Any) -> int:
    """The number that a model gives a type of attribute; onnx does not declare its enumeration."""
    return int(kind.value)
