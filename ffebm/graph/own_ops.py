"""What installed packages offer of ops, told without torch: ops of one's own domain, and activations."""

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


@dataclass(frozen=True)
class OwnActivation:
    """An op that is a monotone activation, so that a layer of an energy block can have it.

    Attributes:
        form: Where its numbers lie, `module:attribute`, an `ActivationForm`, which is imported when a block
            that has it first runs.
        alpha: What the node's attribute `alpha` is where it is left out.
        beta: What the node's attribute `beta` is where it is left out.
    """

    form: str
    alpha: float = 0.0
    beta: float = 0.0


def own_activation(op: str) -> OwnActivation | None:
    """The activation that a package offers for an op; None if none does.

    Raises:
        UsageError: If it cannot be loaded, or is none.
    """
    package = plugins.package_of(plugins.ACTIVATIONS, op)
    if package is None:
        return None
    found = plugins.load(plugins.ACTIVATIONS, op)
    if not isinstance(found, OwnActivation):
        raise UsageError(f"package {package} offers {found!r} as activation {op}", allowed="an OwnActivation")
    return found
