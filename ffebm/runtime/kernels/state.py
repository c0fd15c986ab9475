"""Values that a model keeps from one run to the next."""

from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel


def update_buffer(call: Call, old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """The value that a buffer takes when the run is over: `new`, or `old` if only training changes it."""
    fresh = new if call.training or not call.integer("training_only") else old
    return fresh, fresh


STATE: dict[str, Kernel] = {
    "UpdateBuffer": update_buffer,
}
