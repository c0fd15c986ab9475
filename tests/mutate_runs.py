"""Damaged run folders: a seeded mutator of what lies in them, below the digests.

Digests protect from accidents only, so what is changed here counts as written by somebody, with digests
of its own.
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
import torch
from msgspec.structs import replace

from ffebm.errors import FfebmError, InternalError
from ffebm.files.folder import SUMS, read_folder
from ffebm.report.facts.measured.run_facts import read_run
from ffebm.runtime.executor import Executor
from ffebm.training.runs.record import RECORD
from ffebm.training.trainer import Trainer
from tests.mutants import Finding, check_apart, main, place
from tests.training.test_trainer import TRAINING, samples, tiny

SETTINGS = replace(TRAINING, epochs=2, optimizer="SGD", momentum=0.9)
CHECKPOINT = "checkpoint.safetensors"
Files = dict[str, bytes]
Arrays = dict[str, np.ndarray[Any, Any]]

VALUES: tuple[object, ...] = (
    None, True, -1, 0, 2, 10**30, 1e308, -0.5, "", "x" * 300, "\ud800".encode("utf-8", "surrogatepass").hex(),
    [], [1], {}, {"a": 1}, [[]],
)  # fmt: skip


def mutants(files: Mapping[str, bytes], n: int, seed: int) -> Iterator[tuple[str, Files]]:
    """Damaged copies of a run folder's files.

    Args:
        files: Of a whole run folder, without its digests.
        n: How many.
        seed: Of the damage.

    Yields:
        What was done, and the files.
    """
    rng = random.Random(seed)
    for number in range(n):
        changed = dict(files)
        what = KINDS[number % len(KINDS)](changed, rng)
        yield f"{number}: {what}", changed


def mutant(files: Mapping[str, bytes], seed: int) -> tuple[str, Files]:
    """The damaged files of a seed, and what was done."""
    changed, rng = dict(files), random.Random(seed)
    return rng.choice(KINDS)(changed, rng), changed


def record_bytes(files: Files, rng: random.Random) -> str:
    files[RECORD] = damaged(files[RECORD], rng)
    return "bytes of the record"


def tensor_bytes(files: Files, rng: random.Random) -> str:
    files[CHECKPOINT] = damaged(files[CHECKPOINT], rng)
    return "bytes of the checkpoint"


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, doubled, or with some of it replaced."""
    where, data = rng.randrange(len(content)), bytearray(content)
    match rng.randrange(5):
        case 0:
            return content[:where]
        case 1:
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            data[where:where] = content[: rng.randrange(64)]
        case 3:
            data[where : where + rng.randrange(1, 16)] = rng.randbytes(rng.randrange(16))
        case _:
            return rng.choice((b"", b"\0" * 9, b"[" * 100_000, b'{"schema": 2}', b"\xff\xfe", b"null"))
    return bytes(data)


def record_structure(files: Files, rng: random.Random) -> str:
    """One place of the record gets another value, goes, or gets a neighbour."""
    document = json.loads(files[RECORD])
    places = list(_places(document))
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder["unknown"] = rng.choice(VALUES)
        case 1:
            holder.append(rng.choice(VALUES))
        case 2 if isinstance(holder[key], int | float):
            holder[key] = rng.choice((holder[key] + 1, -holder[key], holder[key] * 1e300, 2**70))
        case _:
            holder[key] = rng.choice(VALUES)
    files[RECORD] = json.dumps(document).encode()
    return f"record at {key!r}"


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places(document[key])


def tensor_header(files: Files, rng: random.Random) -> str:
    """One place of the header gets another value, or goes."""
    content = files[CHECKPOINT]
    size = int.from_bytes(content[:8], "little")
    document, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    holder, key = rng.choice(list(_places(document)))
    if rng.random() < 0.3:
        del holder[key]
    elif isinstance(holder[key], int):
        holder[key] = rng.choice((holder[key] + rng.randrange(-8, 9), 0, 2**63, -1))
    else:
        holder[key] = rng.choice((*VALUES, "F64", "I8", "BF16", "F8_E5M2", "BOOL", [4, 4], [2**40, 2**40]))
    header = json.dumps(document).encode()
    files[CHECKPOINT] = len(header).to_bytes(8, "little") + header + data
    return f"header at {key!r}"


def tensor_structure(files: Files, rng: random.Random) -> str:
    """One tensor goes, is renamed, reshaped, cast, filled, or gets a neighbour."""
    arrays: Arrays = safetensors.numpy.load(files[CHECKPOINT])
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    what = rng.choice(("gone", "renamed", "reshaped", "cast", "filled", "one", "beside", "none"))
    if what == "none":
        arrays = {}
    elif what == "gone":
        del arrays[name]
    elif what == "renamed":
        other = rng.choice(
            ("", "weights/", "foreign", f"{name}x", name.replace("/", "."), name.partition("/")[2])
        )
        arrays[other] = arrays.pop(name)
    elif what == "reshaped":
        arrays[name] = rng.choice(
            (array.reshape(-1)[:-1], array[None], np.concatenate([array.reshape(-1)] * 2))
        )
    elif what == "cast":
        arrays[name] = array.astype(rng.choice((np.float64, np.float16, np.int32, np.bool_)))
    elif what == "filled":
        arrays[name] = np.full_like(
            array, rng.choice((np.nan, np.inf, -np.inf)) if array.dtype.kind == "f" else 7
        )
    elif what == "one" and array.dtype.kind == "f":
        arrays[name] = array.copy()
        arrays[name].reshape(-1)[rng.randrange(array.size)] = np.nan
    else:
        prefix = rng.choice(("weights/", "optimizer/", "cells/", "other/"))
        arrays[f"{prefix}{rng.choice(('extra', '0.extra', '99.step', '-1.step', 'x.step'))}"] = np.ones(
            3, np.float32
        )
    files[CHECKPOINT] = safetensors.numpy.save(arrays)
    return f"tensor {name!r} {what}"


def files_missing(files: Files, rng: random.Random) -> str:
    """A file is missing, empty, or another one's."""
    name = rng.choice((RECORD, CHECKPOINT))
    match rng.randrange(3):
        case 0:
            del files[name]
        case 1:
            files[name] = b""
        case _:
            other = msgspec.json.encode({"foreign": rng.randrange(9)})
            files[name] = files[CHECKPOINT] if name == RECORD else other
    return f"{name} missing or foreign"


KINDS = (record_bytes, record_structure, tensor_bytes, tensor_header, tensor_structure, files_missing)


# --- checks ------------------------------------------------------------------------------------------


def trained() -> Files:
    """The files of a run of one epoch, without their digests."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        trainer = Trainer(Executor(tiny("ideal")), samples(), replace(SETTINGS, epochs=1), folder)
        list(trainer.run())
        return read_folder(folder, RECORD)


def examine(files: Files, folder: Path) -> tuple[str, str]:
    """What becomes of a run folder: reported, and resumed for another epoch."""
    path = folder / "run"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    sums = ""
    for name, content in files.items():
        (path / name).write_bytes(content)
        sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    (path / SUMS).write_text(sums)
    plan = tiny("ideal")
    trainer = Trainer(Executor(plan), samples(), SETTINGS, path)
    try:
        trainer.resume()
        weights = trainer.net.weights().values()
        if not all(bool(torch.isfinite(weight).all()) for weight in weights):
            return "other result", "resumed with a weight that is not finite"
        read_run(plan, path)
        list(trainer.run())
    except InternalError as error:
        return "traceback", f"{place(error)} {error}"
    except FfebmError as error:
        return "refused", str(error)
    return "accepted", ""


def check(files: Files, seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Examine mutants with limits of time and memory."""
    return check_apart(partial(mutant, files), lambda changed: examine(changed, folder), seeds)


if __name__ == "__main__":
    FILES = trained()
    main(lambda seeds, folder: check(FILES, seeds, folder))
