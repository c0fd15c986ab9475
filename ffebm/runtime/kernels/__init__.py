"""The digital kernels: one function an op, in torch."""

from ffebm.runtime.kernels.activation import ACTIVATION
from ffebm.runtime.kernels.attention import ATTENTION
from ffebm.runtime.kernels.call import Call, Kernel, Subgraph
from ffebm.runtime.kernels.cast import CAST
from ffebm.runtime.kernels.control import CONTROL
from ffebm.runtime.kernels.detection import DETECTION
from ffebm.runtime.kernels.elementwise import ELEMENTWISE
from ffebm.runtime.kernels.indexing import INDEXING
from ffebm.runtime.kernels.layout import LAYOUT
from ffebm.runtime.kernels.linear import LINEAR
from ffebm.runtime.kernels.loss import LOSS
from ffebm.runtime.kernels.microsoft import MICROSOFT
from ffebm.runtime.kernels.movement import MOVEMENT
from ffebm.runtime.kernels.normalisation import NORMALISATION
from ffebm.runtime.kernels.pooling import POOLING
from ffebm.runtime.kernels.quantised import QUANTISED
from ffebm.runtime.kernels.random import RANDOM
from ffebm.runtime.kernels.recurrent import RECURRENT
from ffebm.runtime.kernels.reduction import REDUCTION
from ffebm.runtime.kernels.resize import RESIZE
from ffebm.runtime.kernels.shape import SHAPE
from ffebm.runtime.kernels.state import STATE
from ffebm.runtime.kernels.torch_op import torch_op
from ffebm.runtime.kernels.transform import TRANSFORM
from ffebm.runtime.kernels.transformer import TRANSFORMER

KERNELS: dict[str, Kernel] = {
    **ACTIVATION,
    **ATTENTION,
    **CAST,
    **CONTROL,
    **DETECTION,
    **ELEMENTWISE,
    **INDEXING,
    **LAYOUT,
    **LINEAR,
    **LOSS,
    **MICROSOFT,
    **MOVEMENT,
    **NORMALISATION,
    **POOLING,
    **QUANTISED,
    **RANDOM,
    **RECURRENT,
    **REDUCTION,
    **RESIZE,
    **SHAPE,
    **STATE,
    **TRANSFORM,
    **TRANSFORMER,
}
"""By ONNX's op name; an op of another domain than the default one is `domain.Name`."""


def kernel_of(op: str) -> Kernel:
    """The kernel of an op; an op that has none is torch's own."""
    return KERNELS.get(op, torch_op)


__all__ = ["KERNELS", "Call", "Kernel", "Subgraph", "kernel_of"]
