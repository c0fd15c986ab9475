"""The table of ops: what it says is looked at when it changes."""

from collections.abc import Callable

from ffebm.graph.ops import OPS, Kind, is_activation

FREE = {Kind.LAYOUT, Kind.MOVE, Kind.SHAPE, Kind.CONTROL}


def test_the_table_of_ops(golden: Callable[[str], None]) -> None:
    """By kind: operations an output element, positions of weights and running statistics, randomness."""
    lines = []
    for name, op in sorted(OPS.items(), key=lambda item: (item[1].kind.name, item[0])):
        parts = [f"{op.kind.name:15} {name:45} {op.work:4g}"]
        parts += [f"weights {','.join(map(str, op.weights))}"] if op.weights else []
        parts += [f"buffers {','.join(map(str, op.buffers))}"] if op.buffers else []
        parts += ["random"] if op.random else []
        lines.append(" ".join(parts))
    golden("\n".join(lines) + "\n")


def test_what_computes_nothing_costs_nothing() -> None:
    """But for one that compares each element before it moves it."""
    costly = {name: op.work for name, op in OPS.items() if op.kind in FREE and op.work}
    assert costly == {"ai.onnx.ml.Imputer": 1.0}


def test_activations_are_those_of_the_table() -> None:
    assert {name for name in OPS if is_activation(name)} == {
        name for name, op in OPS.items() if op.kind is Kind.ACTIVATION
    }
    assert not is_activation("none")
