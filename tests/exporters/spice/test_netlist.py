"""Netlists: what they say, what is never in them, and which blocks have none."""

import re
import string

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.errors import FfebmError, UsageError
from ffebm.exporters.spice.circuit import block_circuit
from ffebm.exporters.spice.export import circuits, export_spice, netlist, seeded, spice_export
from ffebm.exporters.spice.names import plain, shown
from ffebm.exporters.spice.stimulus import Stimulus
from tests.exporters.spice.models import conv_plan, dense_plan
from tests.machines import with_tiles
from tests.models import Builder

EVIL = (
    "a\n.control\nshell touch /tmp/x\n.endc",
    "*# shell touch /tmp/x",
    "$(id) `id` ; quit | id",
    ".include /etc/passwd",
    "Ünïcode‮ '\" \\ {v(1)}",
    "A",
    "a",
    "",
    "x" * 300,
)
KNOWN = frozenset(
    ["set", "save", "alter", "tran", "write", "echo", "meas", "let", "print", "if", "end", "quit", "*"]
) | {""}


def evil_model(names: tuple[str, ...]) -> Builder:
    b = Builder()
    x = b.input(names[0] or "in", "N", 3)
    for name in names[1:]:
        x = b.node("Tanh", b.node("MatMul", x, b.weight(3, 3, gain=0.3)), out=name or "none")
    b.nodes[-1].output[0] = "y"
    return b


def test_nothing_that_a_model_says_is_read_as_spice() -> None:
    names = tuple(name for name in EVIL if name)
    plan = compile_model(evil_model(names).model("y"), hardware="resistive", block_size=9)
    (name, text), *_ = sorted(export_spice(plan).files.items())
    assert name == "block0.cir"
    circuit, _, rest = text.decode("ascii").partition(".control\n")
    assert "*#" not in circuit
    control, _, tail = rest.partition(".endc\n")
    assert tail == ".end\n"
    for line in circuit.splitlines():
        assert line.isprintable()
        assert line[0] in "*+" or re.match(r"(\.subckt|\.ends|\.options) |[RCVIGEFBX]\w+ ", line), line
    words = {line.split(" ")[0] for line in control.splitlines()}
    assert words <= {
        *["set", "save", "alter", "tran", "write", "echo", "meas", "let", "print", "if", "end", "quit", "*"],
        "",
    }


@pytest.mark.parametrize("name", EVIL)
def test_names_are_of_plain_characters(name: str) -> None:
    assert set(plain(name)) <= set(string.ascii_lowercase + string.digits + "_")
    assert plain(name)
    assert "\n" not in shown(name)
    assert shown(name).isascii()


def test_values_whose_names_differ_in_case_alone_have_nodes_of_their_own() -> None:
    plan = compile_model(evil_model(("x", "A", "a", "y")).model("y"), hardware="resistive", block_size=3)
    text = export_spice(plan).files["block0.cir"].decode()
    made = re.findall(r"^Rn_(\S+)", text, re.MULTILINE)
    assert len(made) == len({name.lower() for name in made}) == 9


def test_a_netlist_has_each_cell_of_the_plan_once_a_direction() -> None:
    plan = dense_plan([4, 3, 2], ["Clip", ""])
    (circuit,) = circuits(plan)
    text = export_spice(plan).files["block0.cir"].decode()
    ohms = [float(line.split()[3]) for line in text.splitlines() if re.match(r"R\d+_\d+[pm] ", line)]
    _, first = next(plan.pieces())
    plus, minus = (side.astype(np.float64) for side in plan.conductances(first))
    assert circuit.cells == len(ohms) == 2 * (4 * 3 + 2 * 3 * 2)
    np.testing.assert_allclose(1 / np.array(ohms[:12]), plus.reshape(-1), rtol=1e-6)
    np.testing.assert_allclose(1 / np.array(ohms[12:24]), minus.reshape(-1), rtol=1e-6)


def test_the_header_says_what_stands_for_what() -> None:
    head = export_spice(dense_plan([4, 3, 2], ["Clip", ""])).files["block0.cir"].decode().split(".subckt")[0]
    assert "0.1 V stand for 1 in the model" in head
    assert "* x0_x = clamped input 'x' [4]\n" in head
    assert re.search(r"\* l0_\w+ = layer '\w+' \[3\], Clip\n", head)
    assert "gain 10000, 1000000000 Hz one-pole amplifiers" in head


def pooled() -> Builder:
    b = Builder()
    x = b.node("MaxPool", b.conv(b.input("x", "N", 1, 4, 4), 1, 2), kernel_shape=[2, 2], strides=[2, 2])
    b.clip(x)
    return b


def test_what_has_no_circuit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = compile_model(pooled().model("v2"), hardware="reference")
    with pytest.raises(UsageError, match="block0 settles by clocked reads on 'tiles' of machine"):
        export_spice(clocked)
    with pytest.raises(UsageError, match=r"block0 has 'v2': a MaxPool drives it"):
        export_spice(compile_model(pooled().model("v2"), hardware="resistive"))
    plan = dense_plan([4, 3, 2], ["Clip", ""])
    with pytest.raises(UsageError, match="--block 3; one of its 1 blocks"):
        circuits(plan, 3)
    group = plan.hardware.analog[0]
    for fields, found in (({"mapping": "offset"}, "'offset' arrays"), ({"scale": "column"}, "digital scale")):
        machine = with_tiles(plan.hardware, tile=replace(group.tile.crossbar(), **fields))
        with pytest.raises(UsageError, match=found):
            block_circuit(replace(plan, hardware=machine), plan.blocks[0])
    monkeypatch.setenv("FFEBM_MAX_CIRCUIT_CELLS", "47")
    with pytest.raises(FfebmError, match="block0 is a circuit of 48 cells; at most 47 cells"):
        export_spice(plan)


def test_every_cell_of_a_netlist_is_one_of_a_piece() -> None:
    """Windows and transposes too: each piece is an instance, named by the tile that it lies on."""
    plan = conv_plan()
    (circuit,) = circuits(plan)
    assert circuit.cells == 2 * sum(piece.n_in * piece.n_out for _, piece in plan.pieces())
    text = export_spice(plan).files["block0.cir"].decode()
    named = re.findall(r"^\* window \d+: piece (\d+) on tile (\d+)$", text, re.MULTILINE)
    named += re.findall(r"^\* piece (\d+) on tile (\d+)", text, re.MULTILINE)
    assert sorted((int(piece), int(tile)) for piece, tile in named) == sorted(
        (piece.id, tile.id) for tile, piece in plan.pieces()
    )


def test_more_samples_than_a_circuit_is_driven_with_are_refused() -> None:
    plan = dense_plan([4, 3], ["Clip"])
    (circuit,) = circuits(plan)
    many = Stimulus({"x": np.zeros((17, 4))}, {circuit.block.outputs[0]: np.ones((17, 3))})
    with pytest.raises(UsageError, match="17 samples; at most 16"):
        netlist(plan, circuit, many)


def test_what_a_netlist_leaves_out_is_said() -> None:
    plan = conv_plan()
    (circuit,) = circuits(plan)
    notes = spice_export(plan, [netlist(plan, circuit, seeded(circuit))]).notes
    assert any("variation between cells, mismatch" in note for note in notes)
    assert "each window of a convolution has arrays of its own, most in block0 4" in notes
