"""Runs that a checkpoint repeats in its backward pass, and which must draw the same random numbers again.

`torch.utils.checkpoint` sets torch's own source of random numbers back before it repeats a run, and knows of
no other. So a run that may be repeated draws one number from that source, and all its randomness follows from
it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_stack

import torch
from torch.utils.checkpoint import CheckpointFunction

from ffebm.errors import UsageError
from ffebm.runtime.tiles.noise import machine_source


def may_be_repeated() -> bool:
    """Somebody keeps what autograd saves in another way: a checkpoint keeps nothing and repeats the run."""
    # torch has no public name for it
    return torch.is_grad_enabled() and torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


@contextmanager
def drawing_alike(generators: Mapping[str, torch.Generator], seed: int) -> Iterator[None]:
    """Inside, random numbers follow from torch's own source; behind it, generators go on from before.

    Args:
        generators: The sources of a run, by name.
        seed: Of the run.
    """
    number = int(torch.randint(2**62, ()))
    kept = {name: generator.get_state() for name, generator in generators.items()}
    for name, generator in generators.items():
        generator.manual_seed(machine_source(f"{seed}/{number}/{name}").initial_seed())
    try:
        yield
    finally:
        for name, generator in generators.items():
            generator.set_state(kept[name])


def _is_repeated() -> bool:
    """A re-entrant checkpoint is among the callers, in its backward pass."""
    if torch._C._current_graph_task_id() == -1:  # no backward pass runs
        return False
    repeating = CheckpointFunction.backward.__code__
    return any(frame.f_code is repeating for frame, _ in walk_stack(None))


@contextmanager
def drawing_once(generators: Mapping[str, torch.Generator]) -> Iterator[None]:
    """Inside, nothing may be drawn if a re-entrant checkpoint repeats the run, whose first time it hides.

    Raises:
        UsageError: If something is.
    """
    if not torch.is_grad_enabled() or not _is_repeated():
        yield
        return
    before = {name: generator.get_state() for name, generator in generators.items()}
    yield
    if any(not torch.equal(generator.get_state(), before[name]) for name, generator in generators.items()):
        raise UsageError(
            "a checkpoint repeats a run that draws random numbers, with other ones",
            allowed="checkpoint(…, use_reentrant=False)",
        )
