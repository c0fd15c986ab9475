"""An op of one's own domain: `com.example.ScaledSine`, scale sin(x), with an attribute `scale`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ffebm.graph.graph import Attr
from ffebm.graph.own_ops import OwnOp
from ffebm.graph.tensor import TensorType

if TYPE_CHECKING:
    from torch import Tensor

    from ffebm.runtime.kernels.call import Call


def types(attrs: Mapping[str, Attr], inputs: Sequence[TensorType | None]) -> Sequence[TensorType]:
    """The type of the input."""
    return [kind for kind in inputs if kind is not None]


def scaled_sine(call: "Call", x: "Tensor") -> "Tensor":
    """The kernel; the compiler never imports torch for it."""
    return call.number("scale", 1.0) * x.sin()


SCALED_SINE = OwnOp(types, kernel="ffebm_sine:scaled_sine", work=5)
