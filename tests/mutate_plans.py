"""Damages plan folders in ways that a seed repeats: JSON, tensors, programs, the source, whole files.

Digests protect from accidents only, so what is changed here counts as written by somebody, with digests
of its own.

python -m tests.mutate_plans 1000 [seed]     checks so many mutants and prints what is wrong
"""

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import safetensors
import torch
from onnx import ModelProto

import ffebm
from ffebm.errors import FfebmError, InternalError
from ffebm.exporters.catalogue import EXPORTERS
from ffebm.files.folder import SUMS
from ffebm.graph.ops import OPS
from ffebm.graph.tensor import Array
from ffebm.plan.plan import CROSSBARS, MANIFEST, MODEL, WEIGHTS
from ffebm.plan.schema import Port
from ffebm.plan.tensor_file import pack, unpack
from ffebm.report.facts.facts import facts
from ffebm.runtime.kernels.dtypes import tensor_of
from ffebm.runtime.save_onnx import source_model
from tests.models import Builder
from tests.mutants import Finding, check_apart, lot, main
from tests.mutate_models import damaged_bytes
from tests.mutate_models import mutant as damaged_model

Files = dict[str, bytes]
OP_NAMES = sorted(OPS)
ODD: tuple[object, ...] = (
    None, True, -1, 0, 1, 2, 7, 10**6, 2**31, 2**63, 10**30, 1e308, 1e-308, -0.5, "", "x", "x" * 300,
    "block0", [], [1], [-1], [0, 0], {}, {"a": 1}, [[]],
)  # fmt: skip


# --- plans to damage ---------------------------------------------------------------------------------


def convolutional() -> ModelProto:
    """Convolutions with pooling, a normalisation, a linear map, a softmax."""
    b = Builder()
    x = b.input("x", "N", 1, 8, 8)
    y = b.node("Relu", b.norm(b.conv(x, 1, 4), 4), out="act")
    y = b.clip(b.node("MaxPool", b.conv(y, 4, 4), kernel_shape=[2, 2], strides=[2, 2]))
    y = b.node("Gemm", b.node("Flatten", y), b.weight(64, 5), b.weight(5))
    return b.model(b.node("Softmax", y, name="soft", out="p"))


def shaping() -> ModelProto:
    """Ops that take sizes, axes and indices from constants or attributes."""
    b = Builder()
    x = b.input("x", "N", 4, 6)
    y = b.node("MatMul", x, b.weight(6, 6))
    y = b.node("Expand", y, b.constant(np.array([1, 4, 6])))
    y = b.node("Tile", y, b.constant(np.array([1, 2, 1])))
    y = b.node("Pad", y, b.constant(np.array([0, 1, 0, 0, 1, 0])))
    y = b.node("Slice", y, *(b.constant(np.array([k])) for k in (0, 8, 1, 2)))
    y = b.node("Concat", y, b.node("Transpose", y, perm=[0, 1, 2]), axis=2)
    y = b.node("Gather", y, b.constant(np.array([0, 2, 1])), axis=2)
    y = b.node("Reshape", y, b.constant(np.array([0, -1])))
    return b.model(b.node("ReduceMean", y, b.constant(np.array([1])), keepdims=0))


class Nested(torch.nn.Module):
    """Torch's own ops, and named results."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        """Scores, and what lies before them."""
        h = self.norm(torch.relu(self.one(x)))
        h = torch.nn.functional.pad(h, (0, 2))[:, :8].repeat(1, 2)[:, ::2]
        return {"y": self.two(h), "h": (h.cumsum(1), [torch.roll(h, 1, 1)])}


def seed_plans() -> list[tuple[str, Files]]:
    """The files of small plans of all kinds of machines, without their digests."""
    made = [
        ("reference", ffebm.compile(convolutional(), hardware="reference", block_size=2)),
        ("hermes", ffebm.compile(convolutional(), hardware="hermes", boundary="digital")),
        ("isaac", ffebm.compile(convolutional(), hardware="isaac", block_size=3)),
        ("resistive", ffebm.compile(convolutional(), hardware="resistive", block_size=3)),
        ("ideal", ffebm.compile(shaping(), hardware="ideal")),
        ("torch", ffebm.compile(Nested(), (torch.randn(3, 6),), hardware="reference")),
    ]
    return [(name, _files(plan)) for name, plan in made]


def _files(plan: ffebm.Plan) -> Files:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "plan"
        plan.save(folder)
        found = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
    return {name: found[name] for name in sorted(found) if name != SUMS}


# --- mutations ---------------------------------------------------------------------------------------


def mutant(plans: Sequence[tuple[str, Files]], seed: int) -> tuple[str, Files]:
    """The damaged files of a seed, and the name of the plan that they were with what was done."""
    rng = random.Random(seed)
    name, files = plans[rng.randrange(len(plans))]
    changed, done = dict(files), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        done.append(rng.choice(CHANGES)(changed, rng))
    return f"{name}: {'; '.join(done)}", changed


def change_manifest(files: Files, rng: random.Random) -> str:
    """One place of plan.json; each part of it is as likely, however long it is."""
    document = _document(files, MANIFEST)
    if not document:
        return "no manifest"
    part = rng.choice(sorted(document))
    where = _change(document, rng, part)
    files[MANIFEST] = json.dumps(document).encode()
    return f"{MANIFEST} {where}"


def change_program(files: Files, rng: random.Random) -> str:
    """One place of a digital program."""
    names = [name for name in files if name.startswith("digital/")]
    if not names:
        return "no program"
    name = rng.choice(names)
    document = _document(files, name)
    if not document:
        return "no program"
    where = _change(document, rng, rng.choice(sorted(document)))
    files[name] = json.dumps(document).encode()
    return f"{name} {where}"


def _document(files: Files, name: str) -> dict[str, Any]:
    """A JSON object of a folder; an empty one where it is damaged already."""
    try:
        found = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _change(document: Any, rng: random.Random, part: str) -> str:
    """A place below a part gets another value, goes, or gets a neighbour."""
    holder: Any = document
    key: Any = part
    path = [part]
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.9:
        holder = holder[key]
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        path.append(str(key))
    was = holder[key]
    match rng.randrange(6):
        case 0:
            del holder[key]
            done = "gone"
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
            done = "twice"
        case 2 | 3 if isinstance(was, int | float) and not isinstance(was, bool):
            holder[key] = rng.choice((was + 1, was - 1, -was, was * 1000, was * 10**9, was * 0.5))
            done = str(holder[key])
        case 4 if isinstance(holder, list) and len(holder) > 1:
            other = rng.randrange(len(holder))
            holder[key], holder[other] = holder[other], holder[key]
            done = f"exchanged with {other}"
        case 4 if isinstance(was, str):
            holder[key] = rng.choice(sorted(_words(document)) or ["x"])
            done = holder[key]
        case _:
            holder[key] = rng.choice(ODD)
            done = repr(holder[key])
    return f"{'.'.join(path)} {done}"


def _words(document: Any) -> Iterator[str]:
    """All texts of a document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict | list):
        for item in document.values() if isinstance(document, dict) else document:
            yield from _words(item)


def change_op(files: Files, rng: random.Random) -> str:
    """An instruction and its node become another op, or get an attribute."""
    names = [name for name in files if name.startswith("digital/")]
    if not names:
        return "no program"
    name = rng.choice(names)
    program = _document(files, name).get("program")
    instructions = program.get("instructions") if isinstance(program, dict) else None
    if not isinstance(instructions, list) or not instructions:
        return "no instructions"
    instruction = rng.choice(instructions)
    if not isinstance(instruction, dict):
        return "no instruction"
    if rng.random() < 0.5:
        instruction["op"] = OP_NAMES[lot(rng.getrandbits(32), OP_NAMES)]
    else:
        key = rng.choice(("axis", "axes", "kernel_shape", "perm", "to", "group", "value", "mode", "equation"))
        attrs = instruction.get("attrs")
        instruction["attrs"] = {**(attrs if isinstance(attrs, dict) else {}), key: rng.choice(ODD)}
    files[name] = json.dumps({"id": _document(files, name).get("id"), "program": program}).encode()
    return f"{name} {instruction.get('name')} {instruction.get('op')} {instruction.get('attrs')}"


def change_header(files: Files, rng: random.Random) -> str:
    """One place of the header of a file of tensors."""
    name = rng.choice((WEIGHTS, CROSSBARS))
    content = files.get(name, b"")
    size = int.from_bytes(content[:8], "little")
    try:
        document, data = json.loads(content[8 : 8 + size]), content[8 + size :]
        where = _change(document, rng, rng.choice(sorted(document)))
    except (ValueError, IndexError, AttributeError, TypeError, RecursionError):
        return "no header"
    header = json.dumps(document).encode()
    files[name] = len(header).to_bytes(8, "little") + header + data
    return f"{name} header {where}"


def change_tensor(files: Files, rng: random.Random) -> str:
    """One tensor goes, is renamed, reshaped, cast, filled, negated, exchanged, or gets a neighbour."""
    name = rng.choice((WEIGHTS, WEIGHTS, CROSSBARS))
    try:
        arrays = unpack(files[name])
    except (KeyError, ValueError, safetensors.SafetensorError):
        return "no tensors"
    if not arrays:
        return "no tensors"
    key, what = rng.choice(sorted(arrays)), rng.choice(sorted(TENSORS))
    TENSORS[what](arrays, key, rng)
    files[name] = pack(arrays)
    return f"{name} {key} {what}"


def _fill(arrays: dict[str, Array], key: str, rng: random.Random) -> None:
    odd = rng.choice((0, 1, -1, 7, 100, np.nan, np.inf, -np.inf, 1e30, 2**40))
    with np.errstate(all="ignore"):
        filled = np.broadcast_to(np.asarray(odd), arrays[key].shape)
        arrays[key] = np.nan_to_num(filled).astype("int64") if arrays[key].dtype.kind in "iub" else filled
        arrays[key] = arrays[key].astype("float32" if arrays[key].dtype.kind == "f" else "int64")


def _element(arrays: dict[str, Array], key: str, rng: random.Random) -> None:
    flat: Any = arrays[key].reshape(-1).copy()
    if flat.size:
        place = rng.randrange(flat.size)
        flat[place] = -flat[place] if flat.dtype.kind != "b" else not flat[place]
    arrays[key] = flat.reshape(arrays[key].shape)


def _rename(arrays: dict[str, Array], key: str, rng: random.Random) -> None:
    arrays[f"{key}x"] = arrays.pop(key)


def _exchange(arrays: dict[str, Array], key: str, rng: random.Random) -> None:
    other = rng.choice(sorted(arrays))
    arrays[key], arrays[other] = arrays[other], arrays[key]


TENSORS: dict[str, Callable[[dict[str, Array], str, random.Random], object]] = {
    "gone": lambda arrays, key, _: arrays.pop(key),
    "renamed": _rename,
    "flat": lambda arrays, key, _: arrays.update({key: arrays[key].reshape(-1)}),
    "deeper": lambda arrays, key, _: arrays.update({key: arrays[key][None]}),
    "shorter": lambda arrays, key, _: arrays.update({key: arrays[key].reshape(-1)[:-1]}),
    "empty": lambda arrays, key, _: arrays.update({key: arrays[key].reshape(-1)[:0]}),
    "reversed": lambda arrays, key, _: arrays.update({key: np.ascontiguousarray(arrays[key].T)}),
    "double": lambda arrays, key, _: arrays.update({key: arrays[key].astype("float64")}),
    "whole": lambda arrays, key, _: arrays.update({key: np.zeros(arrays[key].shape, "int32")}),
    "half": lambda arrays, key, _: arrays.update({key: np.zeros(arrays[key].shape, "float16")}),
    "complex": lambda arrays, key, _: arrays.update({key: np.zeros(arrays[key].shape, "complex64")}),
    "filled": _fill,
    "element": _element,
    "exchanged": _exchange,
    "beside": lambda arrays, key, _: arrays.update({"piece99.plus": arrays[key], "other": arrays[key]}),
}


def change_source(files: Files, rng: random.Random) -> str:
    """The source model is cut, damaged or changed."""
    if MODEL not in files:
        files[MODEL] = rng.choice((b"", b"x", b"\x08\x07"))
        return f"{MODEL} for a torch model"
    if rng.random() < 0.5:
        files[MODEL] = damaged_bytes(files[MODEL], rng)
        return f"{MODEL} damaged"
    try:
        model = onnx.load_from_string(files[MODEL])
    except Exception:  # noqa: BLE001 - it is damaged already
        return f"{MODEL} damaged already"
    if not model.graph.node:
        return f"{MODEL} empty already"
    files[MODEL] = damaged_model([("source", model)], rng.randrange(10**6))[1]
    return f"{MODEL} changed"


def change_bytes(files: Files, rng: random.Random) -> str:
    """Bytes of any file."""
    name = rng.choice(sorted(files))
    files[name] = damaged_bytes(files[name], rng) if files[name] else b"x"
    return f"bytes of {name}"


def change_files(files: Files, rng: random.Random) -> str:
    """A file is missing, empty, another one's, or there is one too many."""
    name = rng.choice(sorted(files))
    match rng.randrange(4):
        case 0:
            del files[name]
        case 1:
            files[name] = b""
        case 2:
            files[name] = files[rng.choice(sorted(files))]
        case _:
            files[rng.choice(("digital/segment9999.json", "digital/x/y.json", "notes.txt"))] = files[name]
    return f"{name} missing, foreign or twice"


CHANGES = (
    *(change_manifest,) * 6, *(change_program,) * 4, change_op, change_op, change_header,
    *(change_tensor,) * 3, change_source, change_bytes, change_files,
)  # fmt: skip


# --- checks ------------------------------------------------------------------------------------------


def check(plans: Sequence[tuple[str, Files]], seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Examine mutants in a process of its own, and in another one whenever that is lost."""
    return check_apart(partial(mutant, plans), lambda files: examine(files, folder / "plan"), seeds)


def examine(files: Files, folder: Path) -> tuple[str, str]:
    """What becomes of a folder: refused, or loaded, and all uses work or are refused.

    Returns:
        "refused", "same" or a fault, and a text.
    """
    _write(files, folder)
    try:
        plan = ffebm.load_plan(folder)
    except InternalError as error:
        return "traceback", f"load: {error}"
    except FfebmError as error:
        return "refused", str(error)
    texts = []
    for name, use in uses(plan):
        try:
            use()
        except InternalError as error:
            return "traceback", f"{name}: {error}"
        except FfebmError as error:
            texts.append(f"{name}: {error}")
    return "same", "\n".join(texts)


def uses(plan: ffebm.Plan) -> Iterator[tuple[str, Callable[[], object]]]:
    """What can be done with a plan."""
    yield "summary", plan.summary
    yield "facts", partial(facts, plan)
    for name, export in EXPORTERS.items():
        yield name, partial(export, plan)
    yield "source", partial(source_model, plan, {}, Path("source.onnx"))
    yield "run", partial(_run, plan)


def _run(plan: ffebm.Plan) -> None:
    with torch.no_grad():
        ffebm.Executor(plan)(*(_value(port) for port in plan.inputs))


def _value(port: Port) -> torch.Tensor:
    """Numbers that fit an input, if numbers can."""
    sizes = [size if isinstance(size, int) and 0 < size < 100 else 2 for size in port.type.shape or (2,)]
    try:
        return tensor_of(np.ones(sizes[:8], port.type.dtype))
    except TypeError:
        return torch.ones(sizes[:8])


def _write(files: Files, folder: Path) -> None:
    for old in sorted(folder.rglob("*"), reverse=True):
        old.rmdir() if old.is_dir() else old.unlink()
    sums = ""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMS).write_text(sums)


if __name__ == "__main__":
    main(lambda seeds, folder: check(seed_plans(), seeds, folder))
