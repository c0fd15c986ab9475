"""Ops of one's own domain, which installed packages offer: what they are, without torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ffebm import plugins
from ffebm.errors import UsageError
from ffebm.graph.graph import Attr
from ffebm.graph.tensor import TensorType

Types = Callable[[Mapping[str, Attr], Sequence[TensorType | None]], Sequence[TensorType]]
"""From attributes and the types of inputs, None where one is left out, to the types of outputs."""


@dataclass(frozen=True)
class OwnOp:
    """A digital op of one's own.

    Attributes:
        types: Types of its outputs; sizes are numbers, or names of open ones.
        kernel: Where its kernel lies, `module:function`, which is imported when it first runs: called with a
            `Call` and the input tensors, it returns a tensor or a tuple. Gradients are torch's.
        work: Digital operations an output element.
        weights: Input positions that hold trainable weights when they are constant.
        random: The result depends on random numbers, so it is not folded.
    """

    types: Types
    kernel: str
    work: float = 1.0
    weights: tuple[int, ...] = ()
    random: bool = False


def own_op(name: str) -> OwnOp | None:
    """The op that a package offers by a name, `domain.Name`; None if none does.

    Raises:
        UsageError: If it cannot be loaded, or is none.
    """
    package = plugins.package_of(plugins.KERNELS, name)
    if package is None:
        return None
    found = plugins.load(plugins.KERNELS, name)
    if not isinstance(found, OwnOp):
        raise UsageError(f"package {package} offers {found!r} as op {name}", allowed="an OwnOp")
    return found
