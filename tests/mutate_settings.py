"""Damages settings of a training run in ways that a seed repeats.

python -m tests.mutate_settings 1000 [seed]     checks so many mutants and prints what is wrong
"""

import random
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ffebm.errors import FfebmError, InternalError
from ffebm.plan.plan import Plan
from ffebm.runtime.executor import Executor
from ffebm.training.estimator import estimator
from ffebm.training.settings import read_settings, training_from
from ffebm.training.trainer import Trainer
from tests.mutants import Finding, check_apart, main, place
from tests.mutate_toml import mutant as toml_mutant
from tests.training.test_trainer import samples, tiny

DOCUMENTS = {
    "few": """
lr = 0.01
""",
    "rates": """
optimizer = "SGD"
momentum = 0.9
weight_decay = 0.001
schedule = "cosine"
schedule_by = "steps"
warmup = 1
min_lr = 0.0001
clip_norm = 1.0
""",
    "drops": """
schedule = "multistep"
milestones = [1, 2]
drop_factor = 0.1
accumulate = 2
ema = 0.9
validation = 0.25
patience = 2
""",
    "plateau": """
schedule = "plateau"
drop_every = 1
precision = "bf16"
gradient = "implicit"
freeze = ["*b*"]
seed = 3
""",
    "loss": """
loss = "cross-entropy"
class_weights = [1.0, 2.0, 0.5]
ignore_label = 2
beta = 0.2
cost = true
""",
    "images": """
mean = [0.1]
std = [2.0]
flip = true
crop = 1
dither = 0.1
pad = true
gradient = "unrolled"
class_weights = "balanced"
""",
}
"""Settings between which every key occurs."""
STEPS = 6
"""Of the optimiser, that a mutant is trained."""


class EnoughError(Exception):
    """A mutant was trained for long enough."""


@cache
def plan() -> Plan:
    """What is trained."""
    return tiny("ideal")


def mutant(seed: int) -> tuple[str, bytes]:
    """The damaged settings of a seed, and the name of those that they were."""
    rng = random.Random(seed)
    name = rng.choice(sorted(DOCUMENTS))
    text = f'data = "made up"\nepochs = 1\nbatch = 16\n{DOCUMENTS[name]}'
    return name, toml_mutant(text, list(map(tomllib.loads, DOCUMENTS.values())), rng)


def examine(data: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of settings: a run of a few steps."""
    path = folder / "mutant.toml"
    path.write_bytes(data)
    seen = []

    def stop(done: int, total: int, loss: float) -> None:
        seen.append((done, total, loss))
        if len(seen) == STEPS:
            raise EnoughError

    try:
        training = training_from({"data": "", **read_settings(path)})
        net = Executor(plan(), gradient=estimator(training), seed=training.seed)
        for number, _ in enumerate(Trainer(net, samples(), training).run(stop)):
            if number == 1:
                break
    except EnoughError:
        return "accepted", ""
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
