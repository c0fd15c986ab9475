"""Damages hardware descriptions in ways that a seed repeats.

python -m tests.mutate_hardware 1000 [seed]     checks so many mutants and prints what is wrong
"""

import random
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from io import StringIO
from pathlib import Path

import torch
from rich.console import Console

import ffebm
from ffebm.errors import FfebmError, InternalError
from ffebm.hardware.description import load_hardware, shipped_hardware
from ffebm.plan.plan import load_plan
from ffebm.report.facts.facts import facts
from ffebm.report.terminal.sections import SECTIONS, View
from tests.mutants import Finding, check_apart, main, place
from tests.mutate_toml import mutant as toml_mutant
from tests.training.test_trainer import SETTLE, tiny_model

PARTS = """
update = {bounds = "soft", pulse = {value = 0.001, unit = "1", source = "s"}, pulses = 100, asymmetry = {value = 0.1, unit = "1", source = "s"}, noise = {value = 0.2, unit = "1", source = "s"}, range = {value = 1.0, unit = "1", source = "s"}, time = {value = 1e-6, unit = "s", source = "s"}, energy = {value = 1e-12, unit = "J", source = "s"}, remedy = {type = "transfer", every = 3, rate = {value = 0.5, unit = "1", source = "s"}}}
wires = {row = {value = 5.0, unit = "Ohm", source = "s"}, column = {value = 5.0, unit = "Ohm", source = "s"}, solver = "fast"}
mismatch = {value = 0.01, unit = "1", source = "s"}
mapping = "offset"
scale = "column"
slices = 3
rows = 4
cols = 3
"""  # noqa: E501 - a table is a line
"""Parts that few shipped descriptions have."""


@cache
def shipped() -> dict[str, str]:
    """Text of the shipped descriptions, by name."""
    folder = resources.files("ffebm") / "hardware"
    return {name: (folder / f"{name}.toml").read_text(encoding="utf-8") for name in shipped_hardware()}


def mutant(seed: int) -> tuple[str, bytes]:
    """The damaged description of a seed, and the name of the one that it was."""
    rng = random.Random(seed)
    texts = shipped()
    name = rng.choice(sorted(texts))
    parts = [tomllib.loads(PARTS), *map(tomllib.loads, texts.values())]
    document = texts[name]
    return name, toml_mutant(document, parts, rng)


def examine(data: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of a description: compiled for, saved, loaded, explained, run and learnt on."""
    path = folder / "mutant.toml"
    path.write_bytes(data)
    try:
        hardware = load_hardware(path)
        plan = ffebm.compile(tiny_model(), hardware=hardware, block_size=2, settle=SETTLE)
        plan.save(folder / "mutant.plan")
        if load_plan(folder / "mutant.plan") != plan:
            return "other result", "the loaded plan is another one"
        view = View(facts(plan), Console(file=StringIO(), width=100))
        for section in SECTIONS.values():
            view.console.print(*section(view))
        x, y = torch.linspace(-1, 1, 64).reshape(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
        net = ffebm.Executor(plan)
        net(x)
        torch.autograd.backward(net.loss(x, y, torch.nn.functional.cross_entropy))
        torch.optim.SGD(net.parameters(), lr=0.01).step()
        net(x)
    except InternalError as error:
        return "traceback", f"{place(error)} {error}"
    except FfebmError as error:
        return "refused", str(error)
    return "accepted", ""


def check(seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Examine mutants with limits of time and memory."""
    return check_apart(mutant, lambda data: examine(data, folder), seeds)


if __name__ == "__main__":
    main(check)
