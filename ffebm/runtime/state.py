"""What an Executor's state dictionary holds beside weights: origin, randomness, cells and calibration.

All of it is tensors, so that it can be saved in any way in which weights are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from ffebm.errors import UsageError

MACHINE = "machine"
"""The name of the origin, JSON as bytes."""

RANDOM = "random:"
"""Begins the names of the states of generators."""

TILE = "tile:"
"""Begins the names of what the tiles of a weight hold: `tile:<weight>/<name>`."""


class Origin(msgspec.Struct, frozen=True):
    """Where a state comes from.

    Attributes:
        seed: Of the runs' randomness, in digits.
        machine: Name of the machine, from which its devices' nature follows.
        device: Where the randomness is drawn.
        programmed: Weights whose tiles have been programmed.
        cells: What a conductance means on the tiles of each weight.
        batches: Batches seen in training.
    """

    seed: str
    machine: str
    device: str
    programmed: tuple[str, ...]
    cells: dict[str, str]
    batches: int

    def as_tensor(self) -> Tensor:
        """JSON as bytes."""
        return torch.frombuffer(bytearray(msgspec.json.encode(self)), dtype=torch.uint8)


def origin_of(tensor: Tensor) -> Origin | None:
    """The inverse of `Origin.as_tensor`; None if it is no such thing."""
    try:
        found = msgspec.json.decode(bytes(tensor.to("cpu", torch.uint8).tolist()), type=Origin)
        int(found.seed)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError):
        return None
    return found


@dataclass
class Findings:
    """What a state dictionary lacks, has too much of, or has wrong; as torch reports them."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def compare(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str) -> bool:
        """Hold names and shapes against what they should be; whether they are."""
        before = len(self.missing) + len(self.errors)
        self.missing += [prefix + key for key in expected if key not in found]
        self.unexpected += [prefix + key for key in found if key not in expected]
        self.errors += [
            f"size mismatch for {prefix + key}: copying {list(found[key].shape)} from the state dictionary, "
            f"these tiles have {list(tensor.shape)}"
            for key, tensor in expected.items()
            if key in found and found[key].shape != tensor.shape
        ]
        return len(self.missing) + len(self.errors) == before


def is_own(name: str) -> bool:
    """A name in a state dictionary that is not a weight's."""
    return name == MACHINE or name.startswith((RANDOM, TILE))


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of a state whose names begin so, without the beginning."""
    return {key.removeprefix(prefix): t for key, t in state.items() if key.startswith(prefix)}


def restore_generator(
    generator: torch.Generator, state: Mapping[str, Tensor], name: str, findings: Findings
) -> None:
    """Set a generator to a state that a dictionary holds under a name."""
    if name not in state:
        findings.missing.append(name)
        return
    try:
        generator.set_state(state[name].to("cpu", torch.uint8))
    except RuntimeError as error:
        findings.errors.append(f"{name} is not the state of a generator: {error}")


def known_device(name: str) -> torch.device:
    """A device by its name; the processor where there is no such device."""
    try:
        torch.Generator(name)
        return torch.device(name)
    except (RuntimeError, AssertionError):
        return torch.device("cpu")


def torch_state(module: nn.Module, learnt: Mapping[str, Tensor], batches: int) -> dict[str, Any]:
    """The state dictionary of a module with what was learnt in place of its own.

    Args:
        module: The one that a plan was compiled from.
        learnt: Weights and running statistics by their names there.
        batches: What counters of batch normalisations are to be ahead.

    Raises:
        UsageError: If the module lacks what was learnt.
    """
    own = dict(module.state_dict())
    lacking = [name for name in learnt if name not in own]
    if lacking:
        raise UsageError(
            f"the module holds no {lacking[0]!r}",
            allowed="a module like the one that the plan was compiled from",
            hint="a plan from ONNX gives its model back with save_onnx",
        )
    # names of one tied tensor share its memory
    at = {_place(own[name]): tensor for name, tensor in learnt.items() if own[name].numel()}
    found = {name: at.get(_place(t), t) if isinstance(t, Tensor) else t for name, t in own.items()}
    found |= learnt
    for name in own:
        owner, _, last = name.rpartition("num_batches_tracked")
        if not last and f"{owner}running_mean" in learnt:
            found[name] = own[name] + batches
    return {name: t.detach() if isinstance(t, Tensor) else t for name, t in found.items()}


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
