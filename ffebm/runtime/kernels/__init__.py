"""The digital kernels: one function an op, in torch."""

from ffebm import plugins
from ffebm.graph.own_ops import own_op
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
from ffebm.runtime.kernels.machine_learning import MACHINE_LEARNING
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
from ffebm.runtime.kernels.trees import TREES

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
    **MACHINE_LEARNING,
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
    **TREES,
}
"""By ONNX's op name; an op of another domain than the default one is `domain.Name`."""


def kernel_of(op: str) -> Kernel:
    """The kernel of an op, of an installed package's too; an op that has none is torch's own."""
    known = KERNELS.get(op)
    if known is not None:
        return known
    own = own_op(op)
    if own is None:
        return torch_op
    found: Kernel = plugins.imported(plugins.KERNELS, op, own.kernel)  # type: ignore[assignment] # as offered
    return found


__all__ = ["KERNELS", "Call", "Kernel", "Subgraph", "kernel_of"]
